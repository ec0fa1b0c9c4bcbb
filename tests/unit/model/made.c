#include "made.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void made_tensor(struct made *made, const char *name, const char *dtype, const int64_t *dims,
                 int n_dims, const void *bytes, size_t len) {
    if (made->skip && strcmp(made->skip, name) == 0)
        return;
    buf_puts(&made->header, made->header.len ? "," : "{");
    buf_printf(&made->header, "\"%s\":{\"dtype\":\"%s\",\"shape\":[", name, dtype);
    for (int i = 0; i < n_dims; i++)
        buf_printf(&made->header, "%s%lld", i ? "," : "", (long long)dims[i]);
    buf_printf(&made->header, "],\"data_offsets\":[%zu,%zu]}", made->data.len,
               made->data.len + len);
    buf_append(&made->data, bytes, len);
}

void made_random(struct made *made, const char *name, int rows, int cols, float around,
                 float spread) {
    if (made->halved && strcmp(made->halved, name) == 0)
        rows /= 2;
    size_t n = (size_t)rows * (size_t)(cols ? cols : 1);
    float *values = mem_alloc(n * sizeof *values);
    for (size_t i = 0; i < n; i++) {
        made->seed = made->seed * 1664525u + 1013904223u;
        values[i] = around + spread * ((float)(made->seed >> 8) / (float)(1 << 23) - 1);
    }
    if (made->spoilt && strcmp(made->spoilt, name) == 0)
        values[n - 1] = NAN;
    made_tensor(made, name, "F32", (int64_t[]){rows, cols}, cols ? 2 : 1, values,
                n * sizeof *values);
    mem_free(values);
}

void made_file(const char *dir, const char *file, const char *text) {
    char *path = mem_printf("%s/%s", dir, file);
    FILE *out = fopen(path, "wb");
    if (!out || fputs(text, out) < 0 || fclose(out) != 0)
        abort();
    mem_free(path);
}

void made_save(struct made *made, const char *dir, const char *file) {
    char *path = mem_printf("%s/%s", dir, file);
    FILE *out = fopen(path, "wb");
    unsigned char length[8] = {0};
    buf_putc(&made->header, '}');
    while (made->header.len % 8)
        buf_putc(&made->header, ' ');
    for (int i = 0; i < 4; i++)
        length[i] = (unsigned char)(made->header.len >> 8 * i);
    if (!out || fwrite(length, 1, 8, out) != 8 ||
        fwrite(made->header.data, 1, made->header.len, out) != made->header.len ||
        fwrite(made->data.data, 1, made->data.len, out) != made->data.len || fclose(out) != 0)
        abort();
    buf_fini(&made->header);
    buf_fini(&made->data);
    memset(made, 0, sizeof *made);
    mem_free(path);
}

char *made_dir(void) {
    char *dir = mem_strdup("/tmp/docusearch-model-XXXXXX");
    if (!mkdtemp(dir))
        abort();
    return dir;
}

void made_remove(char *dir) {
    dir_remove(dir, NULL);
    mem_free(dir);
}

/* ---- BERT ----------------------------------------------------------------------------------- */

enum { WIDTH = 32, INNER = 48, POSITIONS = 64 };

static void bert_tokenizer(const char *dir, int *n_ids) {
    static const char *const special[] = {"[PAD]",  "[UNK]",     "[CLS]",    "[SEP]",
                                          "[MASK]", "[unused0]", "[unused1]"};
    struct buf text = {0};
    int n = 0;
    buf_puts(&text, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[");
    for (size_t i = 0; i < 5; i++)
        buf_printf(&text,
                   "%s{\"id\":%zu,\"content\":\"%s\",\"single_word\":false,\"lstrip\":false,"
                   "\"rstrip\":false,\"normalized\":false,\"special\":true}",
                   i ? "," : "", i, special[i]);
    buf_puts(&text,
             "],\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,"
             "\"handle_chinese_chars\":true,\"strip_accents\":null,\"lowercase\":true},"
             "\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\"post_processor\":{"
             "\"type\":\"TemplateProcessing\",\"single\":["
             "{\"SpecialToken\":{\"id\":\"[CLS]\",\"type_id\":0}},"
             "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},"
             "{\"SpecialToken\":{\"id\":\"[SEP]\",\"type_id\":0}}],\"pair\":["
             "{\"SpecialToken\":{\"id\":\"[CLS]\",\"type_id\":0}},"
             "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},"
             "{\"SpecialToken\":{\"id\":\"[SEP]\",\"type_id\":0}},"
             "{\"Sequence\":{\"id\":\"B\",\"type_id\":1}},"
             "{\"SpecialToken\":{\"id\":\"[SEP]\",\"type_id\":1}}],"
             "\"special_tokens\":{\"[CLS]\":{\"id\":\"[CLS]\",\"ids\":[2],\"tokens\":[\"[CLS]\"]},"
             "\"[SEP]\":{\"id\":\"[SEP]\",\"ids\":[3],\"tokens\":[\"[SEP]\"]}}},"
             "\"decoder\":{\"type\":\"WordPiece\",\"prefix\":\"##\",\"cleanup\":true},"
             "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\","
             "\"continuing_subword_prefix\":\"##\",\"max_input_chars_per_word\":100,\"vocab\":{");
    for (size_t i = 0; i < BASE_COUNT(special); i++)
        buf_printf(&text, "%s\"%s\":%d", n ? "," : "", special[i], n), n++;
    for (char c = 'a'; c <= 'z'; c++) {
        buf_printf(&text, ",\"%c\":%d,\"##%c\":%d", c, n, c, n + 1);
        n += 2;
    }
    buf_printf(&text, ",\".\":%d,\",\":%d,\"?\":%d}}}", n, n + 1, n + 2);
    *n_ids = n + 3;
    made_file(dir, "tokenizer.json", text.data);
    buf_fini(&text);
}

static void linear(struct made *made, const char *prefix, const char *name, int n, int k,
                   bool bias) {
    char text[256];
    snprintf(text, sizeof text, "%s%s.weight", prefix, name);
    made_random(made, text, n, k, 0, 1.7f / sqrtf((float)k));
    snprintf(text, sizeof text, "%s%s.bias", prefix, name);
    if (bias)
        made_random(made, text, n, 0, 0, 0.2f);
}

static void norm(struct made *made, const char *prefix, const char *name) {
    char text[256];
    snprintf(text, sizeof text, "%s%s.weight", prefix, name);
    made_random(made, text, WIDTH, 0, 1, 0.3f);
    snprintf(text, sizeof text, "%s%s.bias", prefix, name);
    made_random(made, text, WIDTH, 0, 0, 0.2f);
}

static void table(struct made *made, const char *prefix, const char *name, int n) {
    char text[256];
    snprintf(text, sizeof text, "%s%s.weight", prefix, name);
    made_random(made, text, n, WIDTH, 0, 1);
}

void made_bert(struct made *made, const char *dir, const char *prefix, bool colbert) {
    int n_ids = 0;
    bert_tokenizer(dir, &n_ids);
    char *config = mem_printf(
        "{\"architectures\":[\"%s\"],\"model_type\":\"bert\",\"hidden_size\":%d,"
        "\"num_hidden_layers\":2,\"num_attention_heads\":4,\"intermediate_size\":%d,"
        "\"vocab_size\":%d,\"max_position_embeddings\":%d,\"type_vocab_size\":2,"
        "\"layer_norm_eps\":1e-12,\"hidden_act\":\"gelu\"}",
        colbert ? "HF_ColBERT" : "BertModel", WIDTH, INNER, n_ids, POSITIONS);
    made_file(dir, "config.json", config);
    mem_free(config);
    if (colbert)
        made_file(dir, "artifact.metadata",
                  "{\"query_token_id\":\"[unused0]\",\"doc_token_id\":\"[unused1]\",\"dim\":12,"
                  "\"query_maxlen\":16,\"doc_maxlen\":40,\"mask_punctuation\":true,"
                  "\"attend_to_mask_tokens\":false,\"similarity\":\"cosine\"}");
    table(made, prefix, "embeddings.word_embeddings", n_ids);
    table(made, prefix, "embeddings.position_embeddings", POSITIONS);
    table(made, prefix, "embeddings.token_type_embeddings", 2);
    norm(made, prefix, "embeddings.LayerNorm");
    for (int i = 0; i < 2; i++) {
        char layer[128];
        snprintf(layer, sizeof layer, "%sencoder.layer.%d.", prefix, i);
        linear(made, layer, "attention.self.query", WIDTH, WIDTH, true);
        linear(made, layer, "attention.self.key", WIDTH, WIDTH, true);
        linear(made, layer, "attention.self.value", WIDTH, WIDTH, true);
        linear(made, layer, "attention.output.dense", WIDTH, WIDTH, true);
        norm(made, layer, "attention.output.LayerNorm");
        linear(made, layer, "intermediate.dense", INNER, WIDTH, true);
        linear(made, layer, "output.dense", WIDTH, INNER, true);
        norm(made, layer, "output.LayerNorm");
    }
    linear(made, prefix, "pooler.dense", WIDTH, WIDTH, true);
    if (colbert)
        linear(made, "", "linear", 12, WIDTH, false);
    made_save(made, dir, "model.safetensors");
}

/* ---- ColPali -------------------------------------------------------------------------------- */

enum { VISION = 36, SEEN_INNER = 40, DIM = 8, VOCAB = 300 };

static void colpali_tokenizer(const char *dir) {
    static const char *const special[] = {"<pad>", "<eos>", "<bos>", "<unk>"};
    struct buf text = {0};
    buf_puts(&text, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[");
    for (size_t i = 0; i < 4; i++)
        buf_printf(&text,
                   "%s{\"id\":%zu,\"content\":\"%s\",\"single_word\":false,\"lstrip\":false,"
                   "\"rstrip\":false,\"normalized\":false,\"special\":true}",
                   i ? "," : "", i, special[i]);
    buf_puts(&text,
             "],\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},"
             "\"content\":\"\xe2\x96\x81\"},\"pre_tokenizer\":{\"type\":\"Split\","
             "\"pattern\":{\"String\":\" \"},\"behavior\":\"MergedWithPrevious\","
             "\"invert\":false},\"post_processor\":null,\"decoder\":null,\"model\":{"
             "\"type\":\"BPE\",\"dropout\":null,\"unk_token\":\"<unk>\","
             "\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,\"fuse_unk\":true,"
             "\"byte_fallback\":true,\"ignore_merges\":false,\"vocab\":{"
             "\"<pad>\":0,\"<eos>\":1,\"<bos>\":2,\"<unk>\":3");
    for (int i = 0; i < 256; i++)
        buf_printf(&text, ",\"<0x%02X>\":%d", (unsigned)i, 4 + i);
    buf_puts(&text, ",\"\xe2\x96\x81\":260},\"merges\":[]}}");
    made_file(dir, "tokenizer.json", text.data);
    made_file(dir, "tokenizer_config.json",
              "{\"bos_token\":\"<bos>\",\"pad_token\":{\"content\":\"<pad>\"},"
              "\"model_max_length\":1000000000000000019884624838656}");
    buf_fini(&text);
}

static void gain(struct made *made, const char *prefix, const char *name, float around) {
    char text[256];
    snprintf(text, sizeof text, "%s%s.weight", prefix, name);
    made_random(made, text, WIDTH, 0, around, 0.3f);
}

static void vision(struct made *made, const char *prefix) {
    static const char *const places[] = {"embeddings.position_embedding"};
    char text[256], layer[128];
    snprintf(text, sizeof text, "%sembeddings.patch_embedding.weight", prefix);
    float patches[VISION * 3 * 14 * 14];
    for (size_t i = 0; i < BASE_COUNT(patches); i++)
        patches[i] = (float)((int)(i * 7919 % 1000) - 500) / 12000;
    made_tensor(made, text, "F32", (int64_t[]){VISION, 3, 14, 14}, 4, patches, sizeof patches);
    snprintf(text, sizeof text, "%sembeddings.patch_embedding.bias", prefix);
    made_random(made, text, VISION, 0, 0, 0.1f);
    snprintf(text, sizeof text, "%s%s.weight", prefix, places[0]);
    made_random(made, text, 4, VISION, 0, 0.5f);
    for (int i = 0; i < 2; i++) {
        static const char *const norms[] = {"layer_norm1.", "layer_norm2."};
        snprintf(layer, sizeof layer, "%sencoder.layers.%d.", prefix, i);
        linear(made, layer, "self_attn.q_proj", VISION, VISION, true);
        linear(made, layer, "self_attn.k_proj", VISION, VISION, true);
        linear(made, layer, "self_attn.v_proj", VISION, VISION, true);
        linear(made, layer, "self_attn.out_proj", VISION, VISION, true);
        linear(made, layer, "mlp.fc1", SEEN_INNER, VISION, true);
        linear(made, layer, "mlp.fc2", VISION, SEEN_INNER, true);
        for (int j = 0; j < 4; j++) {
            snprintf(text, sizeof text, "%s%s%s", layer, norms[j / 2], j % 2 ? "bias" : "weight");
            made_random(made, text, VISION, 0, j % 2 ? 0 : 1, 0.2f);
        }
    }
    snprintf(text, sizeof text, "%spost_layernorm.weight", prefix);
    made_random(made, text, VISION, 0, 1, 0.2f);
    snprintf(text, sizeof text, "%spost_layernorm.bias", prefix);
    made_random(made, text, VISION, 0, 0, 0.2f);
}

static void language(struct made *made, const char *prefix) {
    char layer[128];
    snprintf(layer, sizeof layer, "%sembed_tokens.weight", prefix);
    made_random(made, layer, VOCAB, WIDTH, 0, 0.3f);
    for (int i = 0; i < 2; i++) {
        snprintf(layer, sizeof layer, "%slayers.%d.", prefix, i);
        linear(made, layer, "self_attn.q_proj", 4 * 16, WIDTH, false);
        linear(made, layer, "self_attn.k_proj", 16, WIDTH, false);
        linear(made, layer, "self_attn.v_proj", 16, WIDTH, false);
        linear(made, layer, "self_attn.o_proj", WIDTH, 4 * 16, false);
        linear(made, layer, "mlp.gate_proj", INNER, WIDTH, false);
        linear(made, layer, "mlp.up_proj", INNER, WIDTH, false);
        linear(made, layer, "mlp.down_proj", WIDTH, INNER, false);
        gain(made, layer, "input_layernorm", 0);
        gain(made, layer, "post_attention_layernorm", 0);
    }
    gain(made, prefix, "norm", 0);
}

void made_colpali(struct made *made, const char *dir, enum made_names names) {
    static const char *const prefixes[][4] = {
        [MADE_TODAY] = {"vlm.vision_tower.", "vlm.multi_modal_projector.",
                        "vlm.language_model.model.", "embedding_proj_layer"},
        [MADE_PUBLISHED_HF] = {"vlm.vision_tower.vision_model.", "vlm.multi_modal_projector.",
                               "vlm.language_model.model.", "embedding_proj_layer"},
        [MADE_PUBLISHED_MERGED] = {"model.vision_tower.vision_model.",
                                   "model.multi_modal_projector.", "model.language_model.model.",
                                   "custom_text_proj"},
    };
    colpali_tokenizer(dir);
    struct buf config = {0};
    if (names == MADE_PUBLISHED_MERGED)
        buf_puts(&config, "{\"architectures\":[\"ColPali\"],\"model_type\":\"paligemma\",");
    else
        buf_puts(&config, "{\"architectures\":[\"ColPaliForRetrieval\"],\"model_type\":\"colpali\","
                          "\"embedding_dim\":8,\"vlm_config\":{\"model_type\":\"paligemma\",");
    buf_printf(&config,
               "\"text_config\":{\"model_type\":\"gemma\",\"hidden_size\":%d,"
               "\"intermediate_size\":%d,\"num_hidden_layers\":2,\"num_attention_heads\":4,"
               "\"num_key_value_heads\":1,\"head_dim\":16,\"vocab_size\":%d},\"vision_config\":{"
               "\"model_type\":\"siglip_vision_model\",\"hidden_size\":%d,"
               "\"intermediate_size\":%d,\"num_hidden_layers\":2,\"num_attention_heads\":3,"
               "\"image_size\":28,\"patch_size\":14}}%s",
               WIDTH, INNER, VOCAB, VISION, SEEN_INNER, names == MADE_PUBLISHED_MERGED ? "" : "}");
    made_file(dir, "config.json", config.data);
    buf_fini(&config);
    vision(made, prefixes[names][0]);
    linear(made, prefixes[names][1], "linear", WIDTH, VISION, true);
    language(made, prefixes[names][2]);
    linear(made, prefixes[names][3], "", DIM, WIDTH, true);
    if (names == MADE_PUBLISHED_MERGED)
        made_random(made, "model.language_model.lm_head.weight", VOCAB, WIDTH, 0, 1);
    made_save(made, dir, "model.safetensors");
}
