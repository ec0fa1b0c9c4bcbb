/* Chunks: windows over the document's words, in one pass.
 *
 * A reader walks the elements and gives tokens, the words that are counted: runs without white
 * space, single CJK characters (with the punctuation that follows), pieces of at most
 * DOC_MAX_WORD_BYTES. A window of at most size_words of them slides over the document; what it
 * keeps is what the next chunk repeats. Three cursors only ever move forward (the reader's place,
 * the first placed word of the window, the headings in force), so that the work is linear in the
 * document and in the chunks.
 *
 *   1. Every token of an element that is not DOC_REPEATED is in a chunk.
 *   2. The tokens of a chunk follow one another in the document; the next chunk begins exactly
 *      overlap_words before its end, or at its end where a slide ends.
 *   3. A chunk's text is the document's own bytes from its first token to its last, but for
 *      repeated furniture and long white space left out. */
#include "doc/internal.h"

#include <assert.h>
#include <string.h>

#define CHUNKS_MAX_BYTES ((size_t)2 << 30)
#define GAP_MAX_BYTES 64      /* white space inside a chunk longer than this becomes one space */
#define HEADING_MAX_BYTES 200 /* of one heading in the path */
#define HEADING_LEVELS 7      /* title, headings 1..6 */

struct token {
    uint32_t off, len, element_i, page_i;
    uint32_t out_off; /* in the text of the chunk being made */
    bool new_slide;   /* begins a slide: no chunk holds it and the token before it */
    bool sentence;    /* a sentence, a row or a line of code ends with it */
};

/* ---- tokens --------------------------------------------------------------------------------- */

struct reader {
    const struct document *doc;
    uint32_t element_i, pos; /* the next token is at or after pos */
    uint32_t word_i;         /* the first word that does not end before pos */
    uint32_t page_i;         /* of the last token */
    bool in_element;         /* pos is inside element_i */
    bool any;                /* a token was given */
};

/* The page of text at off: its word's, else the page it was on. */
static uint32_t reader_page(struct reader *reader, uint32_t off, uint32_t end, uint32_t page_i) {
    const struct document *doc = reader->doc;
    while (reader->word_i < doc->n_words &&
           doc->words[reader->word_i].off + doc->words[reader->word_i].len <= off)
        reader->word_i++;
    if (reader->word_i < doc->n_words && doc->words[reader->word_i].off < end)
        return doc->words[reader->word_i].page_i;
    return page_i;
}

/* Where the first word after word_i that lies on another page begins, if before end; else end. */
static uint32_t reader_page_end(const struct reader *reader, uint32_t page_i, uint32_t off,
                                uint32_t end) {
    const struct document *doc = reader->doc;
    for (uint32_t i = reader->word_i; i < doc->n_words && doc->words[i].off < end; i++)
        if (doc->words[i].page_i != page_i && doc->words[i].off > off)
            return doc->words[i].off;
    return end;
}

/* The end of the token that begins at off. */
static uint32_t token_end(const char *text, uint32_t off, uint32_t element_end) {
    size_t len = element_end - off, max = len < DOC_MAX_WORD_BYTES ? len : DOC_MAX_WORD_BYTES;
    size_t pos = 0;
    const char *at = text + off;
    bool cjk = text_is_cjk(utf8_next(at, len, &pos));
    while (pos < len) {
        size_t next = pos;
        uint32_t code_point = utf8_next(at, len, &next);
        if (next > max || text_is_space(code_point) || text_is_cjk(code_point) ||
            (cjk && text_is_word(code_point)))
            break;
        pos = next;
    }
    return off + (uint32_t)pos;
}

static bool ends_sentence(const char *text, uint32_t off, uint32_t end) {
    bool stop = false;
    for (size_t pos = 0, len = end - off; pos < len;) {
        uint32_t c = utf8_next(text + off, len, &pos);
        bool closing = c == '"' || c == '\'' || c == ')' || c == ']' || c == 0xbb || c == 0x2019 ||
                       c == 0x201d || c == 0x300d || c == 0x300f || c == 0xff09;
        if (!closing)
            stop = c == '.' || c == '!' || c == '?' || c == 0x2026 || c == 0x3002 || c == 0xff01 ||
                   c == 0xff1f || c == 0xff0e || c == 0x061f || c == 0x06d4 || c == 0x0964;
    }
    return stop;
}

/* Moves pos over white space to the next token of the element; false at its end. */
static bool skip_space(struct reader *reader, uint32_t end) {
    while (reader->pos < end) {
        size_t pos = 0;
        if (!text_is_space(utf8_next(reader->doc->text + reader->pos, end - reader->pos, &pos)))
            return true;
        reader->pos += (uint32_t)pos;
    }
    return false;
}

static bool reader_next(struct token *out, struct reader *reader) {
    const struct document *doc = reader->doc;
    for (;; reader->element_i++, reader->in_element = false) {
        if (reader->element_i >= doc->n_elements)
            return false;
        const struct doc_element *element = &doc->elements[reader->element_i];
        uint32_t end = element->off + element->len, page_i = reader->page_i;
        if (element_is_repeated(element))
            continue;
        if (!reader->in_element) {
            reader->in_element = true;
            reader->pos = element->off;
            if (element->page_i != DOC_NO_PAGE)
                page_i = element->page_i;
        }
        if (!skip_space(reader, end))
            continue;
        uint32_t off = reader->pos, next = token_end(doc->text, off, end);
        page_i = reader_page(reader, off, next, page_i);
        if (doc->slides)
            next = reader_page_end(reader, page_i, off, next);
        *out = (struct token){
            .off = off,
            .len = next - off,
            .element_i = reader->element_i,
            .page_i = page_i,
            .new_slide = doc->slides && reader->any && page_i != reader->page_i,
            .sentence = ends_sentence(doc->text, off, next) ||
                        ((element->kind == DOC_TABLE || element->kind == DOC_CODE) && next < end &&
                         doc->text[next] == '\n'),
        };
        reader->pos = next;
        reader->page_i = page_i;
        reader->any = true;
        return true;
    }
}

/* ---- heading path --------------------------------------------------------------------------- */

struct headings {
    uint32_t next_i;                    /* elements before it have been looked at */
    uint32_t element_i[HEADING_LEVELS]; /* in force at each level */
    bool in_force[HEADING_LEVELS];
    char *path; /* of these, once asked for; the arena's */
};

static bool is_heading(const struct doc_element *element) {
    return (element->kind == DOC_TITLE || element->kind == DOC_HEADING) &&
           !element_is_repeated(element);
}

/* Takes in the headings up to and with element_i. */
static void headings_advance(struct headings *headings, const struct document *doc,
                             uint32_t element_i) {
    for (; headings->next_i <= element_i; headings->next_i++) {
        const struct doc_element *element = &doc->elements[headings->next_i];
        if (!is_heading(element))
            continue;
        int level = element->kind == DOC_TITLE ? 0 : element->level;
        for (int i = level; i < HEADING_LEVELS; i++)
            headings->in_force[i] = false;
        headings->in_force[level] = true;
        headings->element_i[level] = headings->next_i;
        headings->path = NULL;
    }
}

/* One line of at most HEADING_MAX_BYTES, white space collapsed. */
static void append_heading(struct buf *out, const char *text, size_t len) {
    bool space = false;
    size_t start = out->len;
    for (size_t pos = 0; pos < len && out->len - start < HEADING_MAX_BYTES;) {
        size_t from = pos;
        if (text_is_space(utf8_next(text, len, &pos))) {
            space = out->len > start;
            continue;
        }
        if (space)
            buf_putc(out, ' ');
        space = false;
        buf_append(out, text + from, pos - from);
    }
}

static char *headings_path(struct headings *headings, const struct document *doc,
                           struct arena *arena) {
    if (headings->path)
        return headings->path;
    struct buf path = {0};
    for (int i = 0; i < HEADING_LEVELS; i++) {
        if (!headings->in_force[i])
            continue;
        const struct doc_element *element = &doc->elements[headings->element_i[i]];
        if (path.len > 0)
            buf_puts(&path, " > ");
        append_heading(&path, doc->text + element->off, element->len);
    }
    headings->path = arena_strndup(arena, path.data ? path.data : "", path.len);
    buf_fini(&path);
    return headings->path;
}

/* ---- windows -------------------------------------------------------------------------------- */

struct chunker {
    const struct document *doc;
    struct reader reader;
    struct headings headings;
    uint32_t word_i; /* the first placed word that does not end before the window */
    struct token *window;
    size_t n, cap, n_repeated; /* the first n_repeated are in the last chunk already */
    struct token ahead;        /* read, but not yet in the window */
    bool has_ahead, at_end;
    struct doc_chunk *items;
    size_t n_items, items_cap;
    struct arena *arena;
    struct buf text;
    struct doc_word *words; /* of the chunk being made */
    size_t n_words, words_cap;
};

/* A run of the document's bytes that a chunk takes over whole. */
struct run {
    uint32_t off, end, out_off;
};

static bool no_memory(struct error *err) {
    return error_set(err, ERROR_LIMIT, "chunks of more than %zu bytes, or no memory for them",
                     CHUNKS_MAX_BYTES);
}

static bool window_push(struct chunker *chunker, const struct token *token) {
    if (chunker->n == chunker->cap) {
        size_t cap = chunker->cap * 2 + 256;
        struct token *grown = mem_try_grow(chunker->window, cap, sizeof *grown, CHUNKS_MAX_BYTES);
        if (!grown)
            return false;
        chunker->window = grown;
        chunker->cap = cap;
    }
    chunker->window[chunker->n++] = *token;
    return true;
}

/* Fills the window up to size tokens; *whole says that what is there ends a slide or the document.
 */
static bool window_fill(bool *whole, struct chunker *chunker, size_t size) {
    for (;;) {
        if (!chunker->has_ahead && !chunker->at_end) {
            chunker->has_ahead = reader_next(&chunker->ahead, &chunker->reader);
            chunker->at_end = !chunker->has_ahead;
        }
        *whole = chunker->at_end || (chunker->ahead.new_slide && chunker->n > 0);
        if (*whole || chunker->n == size)
            return true;
        if (!window_push(chunker, &chunker->ahead))
            return false;
        chunker->has_ahead = false;
    }
}

/* How many of the window's tokens the chunk takes: up to an element's or a sentence's end in the
 * last fifth, but so many that the next chunk gets on. */
static size_t window_cut(const struct chunker *chunker, size_t overlap) {
    size_t n = chunker->n, sentence_cut = 0;
    size_t min = n - n / 5 > overlap + 1 ? n - n / 5 : overlap + 1;
    for (size_t cut = n; cut >= min; cut--) {
        const struct token *last = &chunker->window[cut - 1];
        const struct token *next = cut < n ? last + 1 : &chunker->ahead;
        const struct doc_element *element = &chunker->doc->elements[last->element_i];
        if (next->element_i != last->element_i && !is_heading(element))
            return cut;
        if (last->sentence && sentence_cut == 0)
            sentence_cut = cut;
    }
    return sentence_cut ? sentence_cut : n;
}

static bool words_push(struct chunker *chunker, struct doc_word word) {
    if (chunker->n_words == chunker->words_cap) {
        size_t cap = chunker->words_cap * 2 + 256;
        struct doc_word *grown = mem_try_grow(chunker->words, cap, sizeof *grown, CHUNKS_MAX_BYTES);
        if (!grown)
            return false;
        chunker->words = grown;
        chunker->words_cap = cap;
    }
    chunker->words[chunker->n_words++] = word;
    return true;
}

/* Appends a run to the chunk's text and its placed words, cut to the run, to the chunk's words. */
static bool append_run(struct chunker *chunker, const struct run *run) {
    const struct document *doc = chunker->doc;
    buf_append(&chunker->text, doc->text + run->off, run->end - run->off);
    /* The cursor stands at the window's first word; runs of this chunk lie after it. */
    uint32_t low = chunker->word_i, high = doc->n_words;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (doc->words[middle].off + doc->words[middle].len <= run->off)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < doc->n_words && doc->words[low].off < run->end; low++) {
        struct doc_word word = doc->words[low];
        uint32_t end = word.off + word.len < run->end ? word.off + word.len : run->end;
        uint32_t off = word.off > run->off ? word.off : run->off;
        word.off = off - run->off + run->out_off;
        word.len = end - off;
        if (!words_push(chunker, word))
            return false;
    }
    return !chunker->text.failed;
}

/* The text and placed words of the window's first n tokens. */
static bool append_tokens(struct chunker *chunker, size_t n) {
    buf_clear(&chunker->text);
    chunker->n_words = 0;
    struct token *tokens = chunker->window;
    tokens[0].out_off = 0;
    struct run run = {tokens[0].off, tokens[0].off + tokens[0].len, 0};
    for (size_t i = 1; i < n; i++) {
        bool joined = tokens[i].element_i == tokens[i - 1].element_i;
        if (joined && tokens[i].off - run.end <= GAP_MAX_BYTES) {
            run.end = tokens[i].off + tokens[i].len;
            tokens[i].out_off = run.out_off + (tokens[i].off - run.off);
            continue;
        }
        if (!append_run(chunker, &run))
            return false;
        buf_putc(&chunker->text, joined ? ' ' : '\n');
        run = (struct run){tokens[i].off, tokens[i].off + tokens[i].len,
                           (uint32_t)chunker->text.len};
        tokens[i].out_off = run.out_off;
    }
    return append_run(chunker, &run);
}

/* The headings in force over the window's first n tokens. The next chunk may begin before the last
 * of them, so that those of the window are taken in on a copy. */
static bool append_headings(struct doc_chunk *chunk, struct chunker *chunker, size_t n) {
    const struct document *doc = chunker->doc;
    const struct token *tokens = chunker->window;
    headings_advance(&chunker->headings, doc, tokens[0].element_i);
    headings_path(&chunker->headings, doc, chunker->arena);
    uint32_t n_headings = 1;
    for (size_t i = 1; i < n; i++)
        n_headings += tokens[i].element_i != tokens[i - 1].element_i &&
                      is_heading(&doc->elements[tokens[i].element_i]);
    chunk->headings = arena_try(chunker->arena, n_headings, sizeof *chunk->headings);
    if (!chunk->headings)
        return false;
    struct headings inside = chunker->headings;
    chunk->headings[chunk->n_headings++].path = inside.path;
    for (size_t i = 1; i < n; i++) {
        if (tokens[i].element_i == tokens[i - 1].element_i ||
            !is_heading(&doc->elements[tokens[i].element_i]))
            continue;
        headings_advance(&inside, doc, tokens[i].element_i);
        struct doc_heading *heading = &chunk->headings[chunk->n_headings++];
        heading->off = tokens[i].out_off;
        heading->path = headings_path(&inside, doc, chunker->arena);
    }
    return true;
}

static struct doc_chunk *chunk_new(struct chunker *chunker) {
    if (chunker->n_items == chunker->items_cap) {
        size_t cap = chunker->items_cap * 2 + 64;
        struct doc_chunk *grown = mem_try_grow(chunker->items, cap, sizeof *grown,
                                               CHUNKS_MAX_BYTES);
        if (!grown)
            return NULL;
        chunker->items = grown;
        chunker->items_cap = cap;
    }
    struct doc_chunk *chunk = &chunker->items[chunker->n_items];
    *chunk = (struct doc_chunk){.ordinal = (uint32_t)chunker->n_items,
                                .first_page_i = DOC_NO_PAGE,
                                .last_page_i = DOC_NO_PAGE};
    chunker->n_items++;
    return chunk;
}

/* Makes a chunk of the window's first n tokens. */
static bool chunk_emit(struct chunker *chunker, size_t n) {
    const struct document *doc = chunker->doc;
    const struct token *first = &chunker->window[0];
    while (chunker->word_i < doc->n_words &&
           doc->words[chunker->word_i].off + doc->words[chunker->word_i].len <= first->off)
        chunker->word_i++;
    if (!append_tokens(chunker, n))
        return false;
    struct doc_chunk *chunk = chunk_new(chunker);
    if (!chunk)
        return false;
    chunk->n_words = (uint32_t)n;
    chunk->text_len = (uint32_t)chunker->text.len;
    chunk->text = arena_try(chunker->arena, chunker->text.len + 1, 1);
    chunk->n_words_placed = (uint32_t)chunker->n_words;
    chunk->words = arena_try(chunker->arena, chunker->n_words + 1, sizeof *chunk->words);
    if (!chunk->text || !chunk->words)
        return false;
    memcpy(chunk->text, chunker->text.data, chunker->text.len);
    if (chunker->n_words > 0)
        memcpy(chunk->words, chunker->words, chunker->n_words * sizeof *chunk->words);
    for (size_t i = 0; i < n; i++) {
        uint32_t page_i = chunker->window[i].page_i;
        if (page_i == DOC_NO_PAGE)
            continue;
        if (chunk->first_page_i == DOC_NO_PAGE || page_i < chunk->first_page_i)
            chunk->first_page_i = page_i;
        if (chunk->last_page_i == DOC_NO_PAGE || page_i > chunk->last_page_i)
            chunk->last_page_i = page_i;
    }
    return append_headings(chunk, chunker, n);
}

static bool chunk_all(struct chunker *chunker, size_t size, size_t overlap) {
    do {
        bool whole;
        if (!window_fill(&whole, chunker, size))
            return false;
        bool fresh = chunker->n > chunker->n_repeated;
        size_t cut = whole ? chunker->n : window_cut(chunker, overlap);
        if (fresh && !chunk_emit(chunker, cut))
            return false;
        chunker->n_repeated = whole ? 0 : overlap;
        size_t drop = whole ? chunker->n : cut - overlap;
        chunker->n -= drop;
        if (chunker->n > 0)
            memmove(chunker->window, chunker->window + drop, chunker->n * sizeof *chunker->window);
        if (whole)
            chunker->ahead.new_slide = false;
    } while (!chunker->at_end);
    return true;
}

bool doc_chunk(struct doc_chunks **out, const struct document *doc, int size_words,
               int overlap_words, struct error *err) {
    assert(size_words >= 1 && overlap_words >= 0 && overlap_words < size_words);
    struct chunker chunker = {.doc = doc, .reader = {.doc = doc, .page_i = DOC_NO_PAGE}};
    chunker.arena = arena_new(CHUNKS_MAX_BYTES);
    struct doc_chunks *chunks = arena_alloc(chunker.arena, sizeof *chunks);
    bool ok = chunk_all(&chunker, (size_t)size_words, (size_t)overlap_words);
    if (ok && chunker.n_items > 0) {
        chunks->items = arena_try(chunker.arena, chunker.n_items, sizeof *chunks->items);
        ok = chunks->items != NULL;
        if (ok)
            memcpy(chunks->items, chunker.items, chunker.n_items * sizeof *chunks->items);
    }
    mem_free(chunker.window);
    mem_free(chunker.items);
    mem_free(chunker.words);
    buf_fini(&chunker.text);
    if (!ok) {
        arena_free(chunker.arena);
        return no_memory(err);
    }
    chunks->n = (uint32_t)chunker.n_items;
    chunks->arena = chunker.arena;
    *out = chunks;
    return true;
}

void doc_chunks_free(struct doc_chunks *chunks) {
    if (chunks)
        arena_free(chunks->arena); /* chunks itself lies in it */
}
