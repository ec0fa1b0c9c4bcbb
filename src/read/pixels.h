/* read, pixels: a picture file -> its pixels, in the reader child. libpng and libtiff are seen here
 * alone. */
#ifndef DOCUSEARCH_READ_PIXELS_H
#define DOCUSEARCH_READ_PIXELS_H

#include "read/internal.h"

/* Decodes task's data and sends SIZE and ROWS. On failure perhaps some of them were sent. */
bool pixels_send(struct read_task *task, struct error *err);

#endif
