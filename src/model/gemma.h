/* siglip, gemma: the two halves of PaliGemma (Beyer et al. 2024), which colpali.c joins. Both ask
 * weights for their tensors, under names that begin with vision_tower and language_model, and
 * borrow what they are given. */
#ifndef DOCUSEARCH_MODEL_GEMMA_H
#define DOCUSEARCH_MODEL_GEMMA_H

#include "model/internal.h"

/* ---- siglip.c ------------------------------------------------------------------------------- */

struct siglip;
/* config: SiglipVisionConfig. */
bool siglip_open(struct siglip **out, struct model *model, struct weights *weights,
                 const struct config *config, struct error *err);
void siglip_close(struct siglip *siglip); /* NULL is fine */
int siglip_width(const struct siglip *siglip);
int siglip_image_size(const struct siglip *siglip); /* of a side, in pixels */
int siglip_grid_side(const struct siglip *siglip);  /* patches in a row, and rows of them */
int siglip_n_patches(const struct siglip *siglip);
/* Of n pictures of image_size², one after another: the last hidden state after its norm, n ×
 * n_patches rows; the caller's (tensor_free). */
struct siglip_pixels {
    const uint8_t *rgb;
    float mean[3], std[3];
};
bool siglip_forward(struct tensor **out, const struct siglip *siglip,
                    const struct siglip_pixels *pixels, int n, const struct model_between *between,
                    struct error *err);

/* ---- gemma.c -------------------------------------------------------------------------------- */

struct gemma;
/* config: GemmaConfig; vocab: the size said beside it, or 0. */
bool gemma_open(struct gemma **out, struct model *model, struct weights *weights,
                const struct config *config, int vocab, struct error *err);
void gemma_close(struct gemma *gemma); /* NULL is fine */
int gemma_width(const struct gemma *gemma);
int gemma_vocab(const struct gemma *gemma);
int gemma_max_tokens(const struct gemma *gemma);
/* n rows of out from row `at`: the embeddings of ids, times sqrt(width). */
bool gemma_tokens(struct tensor *out, int64_t at, const struct gemma *gemma, const int *ids, int n,
                  struct error *err);
/* x, in place: the layers, every row seeing all of its sequence, and the last norm. */
bool gemma_forward(struct tensor *x, const struct gemma *gemma, const struct sequences *sequences,
                   const struct model_between *between, struct error *err);

#endif
