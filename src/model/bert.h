/* bert: the encoder that sentence.c and colbert.c share. */
#ifndef DOCUSEARCH_MODEL_BERT_H
#define DOCUSEARCH_MODEL_BERT_H

#include "model/internal.h"

enum { BERT_TOKENS_MIN = 4 }; /* positions: [CLS], a marker, one of the text, [SEP] */

struct bert;
/* What config.json (BertConfig) describes; asks weights for its tensors. The caller may ask for
 * more, then calls weights_finish. Borrows both, which must outlive it. */
bool bert_open(struct bert **out, struct model *model, struct weights *weights, struct error *err);
void bert_close(struct bert *bert); /* NULL is fine */
int bert_width(const struct bert *bert);
int bert_max_tokens(const struct bert *bert); /* positions it has */
/* The names of BertModel, of what is saved with a prefix, and of those of an adapter over it. */
bool bert_names(char out[WEIGHTS_NAME], const char *name);

struct bert_batch {
    const int *ids, *positions; /* n_rows of each */
    int n_rows;
    struct sequences sequences; /* of the first rows, which see those of their own sequence */
    const int *watching; /* of each row after them: the sequence that it sees without being seen */
};
/* Sequences one after another, all of their rows seen; what it points to is the arena's. */
void bert_gather(struct bert_batch *out, struct arena *arena, const struct tokens *texts, int n);
/* The last hidden states, n_rows × width: the caller's (tensor_free). */
bool bert_forward(struct tensor **out, const struct bert *bert, const struct bert_batch *batch,
                  const struct model_between *between, struct error *err);

#endif
