/* corpus, inside: documents of the Python worker, in collections that it made (chroma/legacy.h). */
#ifndef DOCUSEARCH_CORPUS_OLDER_H
#define DOCUSEARCH_CORPUS_OLDER_H

#include "chroma/legacy.h"
#include "corpus/reindex.h"
#include "corpus/shared.h"

#define OLDER_ORIGIN "python-worker" /* of such documents here, and of those brought over */

/* Takes in what is not here yet: rows and passages, which searches then find where they stand; and
 * lets go what is not there any more. One whose file was read anew, by this worker or another,
 * under the path that it has here, is no document here: searches find the new reading, and who
 * removes that removes both. The thread's. */
bool corpus_older_look(struct shared *shared, struct error *err);
/* The same at once, for a document that has just come from path ("": from none). */
bool corpus_older_supersede(struct corpus *corpus, const char *path, struct error *err);
/* As corpus_shared_search, of those alone. Nothing where the model in use is not of their vectors'
 * dimension; *n_unasked counts the documents that it then passes over. */
bool corpus_older_search(struct index_hit **out, int *n, int64_t *n_unasked, struct arena *arena,
                         struct corpus *corpus, const struct chroma_query *query,
                         struct error *err);
bool corpus_older_fit(struct index_fit *out, bool *found, struct arena *arena,
                      struct corpus *corpus, const char *doc_id, enum item_kind kind, int item,
                      const float *query, int n_query, struct error *err);
/* Their vectors into the index here, where they are of the models in use; passages that are not are
 * embedded anew. Then into collections of ours, as every document's. */
bool corpus_older_move(struct reindex *r, struct error *err);
/* How many there are, for a run's total. */
bool corpus_older_count(int64_t *n, struct corpus *corpus, struct error *err);

#endif
