/* store: the paths that documents came from. A further part of its face. */
#ifndef DOCUSEARCH_STORE_SOURCES_H
#define DOCUSEARCH_STORE_SOURCES_H

#include "store/store.h"

/* Sources of documents below a folder (its path without a slash at the end), at any depth, those
 * that come after `after` ("": from the first); ascending by bytes, limit at most. Paths are the
 * arena's. */
bool store_list_sources(const char *const **out, int *n, struct arena *arena, struct store *store,
                        const char *folder, const char *after, int limit, struct error *err);

#endif
