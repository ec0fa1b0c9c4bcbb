/* corpus: a data folder put into a folder of its own, and back. A further part of its face.
 *
 * An export holds the documents of one moment, with their vectors; no jobs, settings or models.
 *
 *   DIR/export.json          written last: {"format":1,"program","created","documents","files",
 *                            "sums": SHA-256 of SHA256SUMS}
 *   DIR/SHA256SUMS           a line a file, as sha256sum writes and checks them, by path
 *   DIR/docusearch.db        the store's database (store.h), of any version up to the program's
 *   DIR/documents/ab/abcd…/  as in the data folder: original and, of a document that was read,
 *                            document.bin and the pages' pictures; of a mirrored document
 *                            (store/shared.h) there is no folder
 *   DIR/vectors/N.items      the blocks (index/backup.h) of the space that the database numbers N,
 *                            ascending by id
 *
 * It is made as DIR.partial and renamed when it is whole and synced; the export that was there
 * before is DIR.old for that moment. Files are hard links where the file system allows: the data
 * folder writes none of them in place.
 *
 * Export reads beside the process that holds the data folder and asks nothing of it: what may be
 * written where is then for the file system to say, not for whoever may call the server. Import is
 * done by that process, from the folder that <data_dir>/import names, which only who may write into
 * the data folder can put there. */
#ifndef DOCUSEARCH_CORPUS_EXPORT_H
#define DOCUSEARCH_CORPUS_EXPORT_H

#include "corpus/corpus.h"

#define CORPUS_EXPORT_FORMAT 1

/* ---- export --------------------------------------------------------------------------------- */

struct export_watch {
    void *ctx; /* documents, then "vectors": pages and passages */
    void (*progress)(void *ctx, const char *stage, int64_t n_done, int64_t n_total);
};
struct export_outcome {
    int64_t n_documents, n_files, n_vectors;
    int64_t n_mirrored; /* of the documents: other workers', without files */
    int64_t n_kept;     /* files taken over from the export that was there */
    int64_t n_lost;     /* documents left out: their original is not in the data folder */
    int64_t n_damaged;  /* pages and passages without their vectors: damaged or missing */
    int64_t n_bytes;    /* of all files */
    bool linked;        /* files share the data folder's blocks */
};
/* The folder is made, or an export that it holds brought up to date. Needs no lock of the data
 * folder. ERROR_CONFLICT not_empty: it holds something else; ERROR_BUSY: another export is writing
 * it; disk_full, also beforehand. */
bool corpus_export(struct export_outcome *out, const char *data_dir, const char *folder,
                   const struct export_watch *watch, struct error *err);

/* ---- import --------------------------------------------------------------------------------- */

/* Names the folder, for the process that holds data_dir. */
bool corpus_import_name(const char *data_dir, const char *folder, struct error *err);
/* Begins the import that is named: the export is checked whole (ERROR_INPUT damaged_export, naming
 * the file; ERROR_UNSUPPORTED: a newer program's), then each document that is unknown here comes
 * in, one transaction each. Mirrored ones come where no store is shared; a store that is tells of
 * its documents itself. Idempotent: after a kill the same import goes on. ERROR_CONFLICT
 * import_running; ERROR_MISSING: nothing is named. */
bool corpus_import(struct corpus *corpus, struct error *err);
enum import_state { IMPORT_IDLE, IMPORT_RUNNING, IMPORT_DONE, IMPORT_FAILED };
struct import_facts {
    enum import_state state;
    const char *stage; /* "checking", "importing"; "" */
    int64_t n_checked, n_files;
    int64_t n_done, n_documents;     /* of the export: imported or known */
    int64_t n_imported, n_known;     /* known: here already, left as they are */
    int64_t n_vectors;               /* pages and passages that came with vectors */
    int64_t n_without;               /* documents that lack some that their rows name */
    int64_t n_queued;                /* imported ones that are yet to be read */
    struct error error;              /* kind 0: none */
    int64_t started_ms, finished_ms; /* wall; 0 not yet */
};
/* Of the import under way, or the last since the start. */
void corpus_import_facts(struct import_facts *out, struct corpus *corpus);

#endif
