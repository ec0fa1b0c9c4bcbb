/* read, pages: this process's one MuPDF context, its memory and its clock. */
#ifndef DOCUSEARCH_READ_PAGES_CONTEXT_H
#define DOCUSEARCH_READ_PAGES_CONTEXT_H

#include <mupdf/fitz.h>

#include "base/base.h"

#define PAGES_STORE_BYTES ((size_t)64 << 20)
#define PAGES_MEMORY_BYTES ((size_t)1200 << 20) /* all that MuPDF may hold */

/* Made on first use and kept; NULL without memory. */
fz_context *pages_context(void);
void pages_context_drop(void);
/* From now until deadline_ms (time_mono_ms), work under cookie may go on; past it the work is
 * aborted at its next allocation or mark. One at a time; pages_watch_end tells whether it was
 * aborted. */
void pages_watch_begin(fz_cookie *cookie, int64_t deadline_ms);
bool pages_watch_end(void);
/* Lets the clock be read also when this device draws, which takes no memory for each mark. One
 * device at a time. */
void pages_watch_device(fz_device *device);

#endif
