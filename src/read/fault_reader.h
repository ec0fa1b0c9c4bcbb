/* read, inside, test builds only: a reader that behaves badly when a file asks for it. */
#ifndef DOCUSEARCH_READ_FAULT_READER_H
#define DOCUSEARCH_READ_FAULT_READER_H

#include "read/internal.h"

/* With DOCUSEARCH_READER_FAULT set, a file that begins "FAULT " is obeyed: crash, abort, hang, spin,
 * memory, stack, lie-pages, lie-length, lie-picture, short, endless, syscall, open, exit. False:
 * no such file. True, if it returns at all: the reading has been answered. */
bool fault_reader(struct read_task *task);

#endif
