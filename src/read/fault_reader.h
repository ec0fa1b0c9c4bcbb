/* read, inside, test builds only: a reader that behaves badly when a file asks for it. */
#ifndef DOCUSEARCH_READ_FAULT_READER_H
#define DOCUSEARCH_READ_FAULT_READER_H

#include "read/internal.h"

/* With DOCUSEARCH_READER_FAULT set, a file that begins "FAULT " is obeyed and this never returns:
 * crash, abort, stack, hang, spin, memory, memory-ours, lie-pages, lie-length, lie-picture, short,
 * endless, exit, syscall. It returns over any other file. */
void fault_reader(struct read_task *task);

#endif
