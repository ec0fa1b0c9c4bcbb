/* corpus: documents shared with other workers. The second part of its face. */
#ifndef DOCUSEARCH_CORPUS_SHARING_H
#define DOCUSEARCH_CORPUS_SHARING_H

#include "chroma/chroma.h"
#include "corpus/corpus.h"

/* With CHROMA_HOST set, documents are put into that ChromaDB, searches by vectors ask it, and what
 * other workers put there is found here; a document is found once all of it is there. The codes of
 * own documents stay in the index here, of which a store that was lost is filled again. */
struct shared_facts {
    bool used;                /* CHROMA_HOST is set; else the rest is empty */
    bool reachable;           /* and known; then why tells of a model whose vectors it refuses */
    const char *why, *worker; /* "" or why not; this worker's name there */
    int64_t own, mirrored;    /* documents of this folder, and of other workers */
    int64_t unshared, untold; /* own documents, and removals, that are on their way there */
    int64_t missing;          /* of other workers' documents: not seen there; to be put again */
    int64_t n_refused;        /* of those: documents that it did not take */
    const char *refused;      /* why, of the last */
    struct chroma_facts store;
};
void corpus_shared_facts(struct shared_facts *out, struct arena *arena, struct corpus *corpus);

/* How a document stands with other workers. */
struct sharing_facts {
    const char *worker; /* that has its files; "" they are here */
    bool waiting;       /* it was read: searches show it once all of it is in the shared store */
};
bool corpus_sharing(struct sharing_facts *out, struct arena *arena, struct corpus *corpus,
                    const char *doc_id, struct error *err);
/* ERROR_MISSING kept_elsewhere: the document's files are with another worker, which the text names.
 */
bool corpus_check_own(struct corpus *corpus, const char *doc_id, struct error *err);

#endif
