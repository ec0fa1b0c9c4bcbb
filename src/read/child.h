/* read, inside: what the children's programs share. */
#ifndef DOCUSEARCH_READ_CHILD_H
#define DOCUSEARCH_READ_CHILD_H

#include "read/internal.h"
#include "read/wire.h"

void read_child_send_ready(const struct wire_ready *ready);
void read_child_send_failed(const struct error *failure);
/* dir: the private folder, absolute, ours. soffice: start LibreOffice for each file instead of
 * keeping it in this process. */
int read_converter_main(const char *dir, bool soffice);
/* The folder of LibreOffice's programs, or NULL where it is not installed. */
const char *office_program_dir(void);

#endif
