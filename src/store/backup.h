/* store: a copy of the database taken while others write it, and documents of such a copy put into
 * another store. What export and import are made of; a further part of its face. */
#ifndef DOCUSEARCH_STORE_BACKUP_H
#define DOCUSEARCH_STORE_BACKUP_H

#include "store/store.h"

/* The database of data_dir as it is at one moment, at path (replaced), by SQLite's online backup:
 * it asks nothing of the process that holds the folder. ERROR_MISSING: there is none;
 * ERROR_UNSUPPORTED: a newer program's, or another's. */
bool store_backup(const char *path, const char *data_dir, struct error *err);
/* What belongs to its folder alone goes from a copy: jobs and facts of the folder. */
bool store_strip(struct store_tx *tx, struct error *err);

/* Every document, those with passages in the passages' order, the rest by age; false from visit
 * ends it. The row lives until visit returns. */
typedef bool (*document_visitor)(void *ctx, const struct document_row *row, struct error *err);
bool store_visit_documents(struct store *store, document_visitor visit, void *ctx,
                           struct error *err);
struct item_row {
    int64_t id;
    int space;
    enum vector_kind kind;
    int item;
};
/* A document's rows of vectors, ascending by id. */
bool store_list_items(struct item_row **out, int *n, struct arena *arena, struct store *store,
                      const char *doc_id, struct error *err);
/* The document as `from` has it: row, sources that no other document has here, reading, passages
 * with their full text; no vectors and no jobs. The id must be unknown here. */
bool store_copy_document(struct store_tx *tx, struct store *from, const char *doc_id,
                         struct error *err);

#endif
