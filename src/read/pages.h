/* read, pages: what the reader child does for pages.c before it locks itself up. */
#ifndef DOCUSEARCH_READ_PAGES_H
#define DOCUSEARCH_READ_PAGES_H

#include "read/internal.h"

/* A raw word of an annotation's contents that is not drawn on the page; beside raw_style. */
#define RAW_NOTE 32u

/* Makes the MuPDF context of this process. Not needed for it to work later: MuPDF's fonts are in
 * the program, and it opens no file. */
void read_pages_preload(void);
/* Gives everything back that is kept between documents (for leak checks). */
void read_pages_unload(void);

#endif
