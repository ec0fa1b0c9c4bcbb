/* corpus, inside: whether what was put into the shared store is still there. The shared thread
 * alone calls these. */
#ifndef DOCUSEARCH_CORPUS_STANDING_H
#define DOCUSEARCH_CORPUS_STANDING_H

#include "corpus/older.h"

/* One look at all records. */
struct standing {
    int64_t epoch;
    struct buf seen;   /* what the store was seen to have before the look */
    int64_t n_rows[2]; /* that their records tell of, by enum item_kind */
    int64_t n_records; /* and rows of the records' collection */
};
bool corpus_standing_begin(struct standing *out, struct corpus *corpus, int64_t epoch,
                           struct error *err);
void corpus_standing_meet(struct standing *standing, const struct chroma_record *record);
/* What was not met is not seen there any more: its epoch is 0. */
bool corpus_standing_end(struct standing *standing, struct shared *shared, struct error *err);
void corpus_standing_free(struct standing *standing);

/* A document was removed, or the store is another one: that rows went says nothing until all
 * records were looked at again. */
void corpus_rows_forget(struct shared *shared);
/* Where there are fewer rows than there were, all records are to be looked at. */
void corpus_rows_look(struct shared *shared);
/* Each round: where rows have been missing for two looks, every document is looked at. */
bool corpus_rows_judge(struct shared *shared, struct error *err);

#endif
