/* corpus, inside: one document's vectors on their way through the owners into the index. */
#ifndef DOCUSEARCH_CORPUS_VECTORS_H
#define DOCUSEARCH_CORPUS_VECTORS_H

#include "corpus/internal.h"

/* Of the thread that reads the document. */
struct doc_vectors;
struct vector_targets;
/* Takes the targets over. next_optional: what the model meets that is to be in use is not the
 * document's failure; its part is left out then. */
struct doc_vectors *corpus_vectors_new(struct corpus *corpus, struct queue_job *job,
                                       struct vector_targets *targets, bool next_optional);
/* Takes back what is on its way; uncommitted vectors are dead bytes. NULL is fine. */
void corpus_vectors_free(struct doc_vectors *vectors);
/* Does a model of the role take part in this document, as it looks now? */
bool corpus_vectors_has(const struct doc_vectors *vectors, enum model_role role);
/* Are the models in use those that they were? Else the document lacks vectors once it is there. */
bool corpus_vectors_current(const struct doc_vectors *vectors);
/* A page's picture is written: it is embedded while the reading goes on. */
void corpus_vectors_page(struct doc_vectors *vectors, int page_no);
/* All passages; chunks must outlive vectors. */
void corpus_vectors_chunks(struct doc_vectors *vectors, const struct doc_chunks *chunks);
/* Until all that was given was embedded, with the job's progress going from `from` to `to`. A model
 * that was refused meanwhile leaves its part out; a page or passage that cannot be embedded is left
 * out with a warning. False: cancelled, or device or disk. */
bool corpus_vectors_wait(struct doc_vectors *vectors, enum model_role role, int n_pages,
                         double from, double to, struct error *err);
/* "" or which pages and passages have no vector, and why. The arena's. */
char *corpus_vectors_warning(struct arena *arena, struct doc_vectors *vectors);
bool corpus_vectors_sync(struct doc_vectors *vectors, struct error *err);
bool corpus_vectors_commit(struct doc_vectors *vectors, struct store_tx *tx, struct error *err);
/* In the document's tx: where the models in use have changed since the vectors were begun, a job
 * that embeds it by them (*put: call queue_wake after the commit). */
bool corpus_embed_later(bool *put, struct corpus *corpus, struct store_tx *tx,
                        const struct doc_vectors *vectors, const struct job_row *row,
                        struct error *err);

#endif
