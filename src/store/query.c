/* What a person typed, taken apart. Grammar, in which nothing is ever wrong:
 *
 *   query   items separated by white space
 *   item    [-] ( "phrase" | word [*] )
 *
 * A quote without its partner is a separator, like every other character that is no word's. What
 * tokenizer.c makes several words of (AB-1234) is those words and, when it holds a digit, their
 * phrase as well. Terms are kept once; the 65th and later ones are left out. */
#include "store/lexical.h"

#include <string.h>

#define MAX_QUERY_BYTES ((size_t)64 << 10)
#define MAX_ITEM_TOKENS 256

struct parse {
    struct arena *arena;
    struct lexical_query *query;
    struct lexical_term excluded[LEXICAL_MAX_TERMS];
    int n_excluded;
};

/* English words that say little of what a text is about. */
static bool is_common(const char *word, size_t len) {
    static const char *const words[] = {
        "a",     "about", "after", "all",  "also",  "am",   "an",    "and",    "any",
        "are",   "as",    "at",    "be",   "been",  "but",  "by",    "can",    "could",
        "did",   "do",    "does",  "for",  "from",  "had",  "has",   "have",   "how",
        "i",     "if",    "in",    "into", "is",    "it",   "its",   "may",    "me",
        "my",    "no",    "not",   "of",   "on",    "or",   "our",   "should", "so",
        "such",  "than",  "that",  "the",  "their", "them", "then",  "there",  "these",
        "they",  "this",  "those", "to",   "was",   "we",   "were",  "what",   "when",
        "where", "which", "who",   "why",  "will",  "with", "would", "you",    "your",
    };
    for (size_t i = 0; i < BASE_COUNT(words); i++) {
        if (strlen(words[i]) == len && memcmp(words[i], word, len) == 0)
            return true;
    }
    return false;
}

static void add_term(struct parse *parse, const struct lexical_term *term) {
    struct lexical_term *terms = term->excluded ? parse->excluded : parse->query->terms;
    int *n = term->excluded ? &parse->n_excluded : &parse->query->n_terms;
    if (parse->query->n_terms + parse->n_excluded == LEXICAL_MAX_TERMS)
        return;
    for (int i = 0; i < *n; i++) {
        if (terms[i].kind == term->kind && strcmp(terms[i].tokens, term->tokens) == 0)
            return;
    }
    terms[(*n)++] = *term;
}

/* ---- tokens of an item ---- */

struct item_token {
    const char *text, *word; /* the arena's; word NULL for CJK and emoji */
    uint32_t start, end;
    bool colocated;
};
struct item {
    struct arena *arena;
    struct item_token tokens[MAX_ITEM_TOKENS];
    int n;
};

static bool keep_token(void *ctx, const struct token *token) {
    struct item *item = ctx;
    if (item->n == MAX_ITEM_TOKENS)
        return false;
    item->tokens[item->n++] = (struct item_token){
        .text = arena_strndup(item->arena, token->text, token->len),
        .word = token->word ? arena_strndup(item->arena, token->word, token->word_len) : NULL,
        .start = token->start,
        .end = token->end,
        .colocated = token->colocated,
    };
    return true;
}

/* The last character of a run of CJK stands in the pair before it already. */
static bool ends_pair(const struct item *item, int i) {
    for (int before = i - 1; before >= 0; before--) {
        if (!item->tokens[before].colocated)
            return item->tokens[before].end >= item->tokens[i].end;
    }
    return false;
}

/* A phrase is its tokens in order, one a position. */
static void add_phrase(struct parse *parse, const struct item *item, bool excluded) {
    struct buf tokens = {0};
    const char *last = NULL;
    int n = 0;
    for (int i = 0; i < item->n && n < LEXICAL_MAX_PHRASE; i++) {
        const struct item_token *token = &item->tokens[i];
        bool is_last = true;
        for (int after = i + 1; after < item->n; after++)
            is_last = is_last && item->tokens[after].colocated;
        if (token->colocated || (is_last && ends_pair(item, i)))
            continue;
        if (n++ > 0)
            buf_putc(&tokens, ' ');
        buf_puts(&tokens, token->text);
        last = token->word;
    }
    struct lexical_term term = {
        .kind = n > 1 ? TERM_PHRASE : TERM_WORD, .excluded = excluded, .n_tokens = n};
    if (n > 0) {
        term.tokens = arena_strndup(parse->arena, tokens.data, tokens.len);
        term.common = n == 1 && last && is_common(last, strlen(last));
        add_term(parse, &term);
    }
    buf_fini(&tokens);
}

/* A number stands for itself, not for its parts; pairs of CJK stand for their characters. */
static bool stands_in_query(const struct item *item, int i) {
    const struct item_token *token = &item->tokens[i];
    if (!token->word)
        return !token->colocated && !ends_pair(item, i);
    for (int other = 0; other < item->n; other++) {
        const struct item_token *whole = &item->tokens[other];
        if (other == i || !whole->colocated || !whole->word)
            continue;
        bool within = token->start >= whole->start && token->end <= whole->end;
        if (within && (!token->colocated || other < i))
            return false;
    }
    return true;
}

static void add_words(struct parse *parse, const struct item *item, bool excluded, bool prefix) {
    bool digit = false;
    int n = 0;
    for (int i = 0; i < item->n; i++) {
        const char *word = item->tokens[i].word;
        n += stands_in_query(item, i);
        digit = digit || (word && strpbrk(word, "0123456789"));
    }
    /* Of several words, what is left out is the text that has them in a row. */
    if (n > 1 && !prefix && (digit || excluded))
        add_phrase(parse, item, excluded);
    if (n > 1 && !prefix && excluded)
        return;
    for (int i = 0; i < item->n; i++) {
        const struct item_token *token = &item->tokens[i];
        if (!stands_in_query(item, i))
            continue;
        struct lexical_term term = {
            .kind = TERM_WORD, .excluded = excluded, .tokens = token->text, .n_tokens = 1};
        if (prefix && i == item->n - 1 && token->word && strlen(token->word) >= 2) {
            term.kind = TERM_PREFIX;
            term.tokens = token->word;
        } else if (token->word) {
            term.common = is_common(token->word, strlen(token->word));
        }
        add_term(parse, &term);
    }
}

/* ---- items of the query ---- */

/* Length in bytes of a double quote at text[at], 0 when there is none. */
static size_t quote_len(const char *text, size_t len, size_t at) {
    static const char *const quotes[] = {"\"", "\u201c", "\u201d", "\u201e", "\u00ab", "\u00bb"};
    for (size_t i = 0; i < BASE_COUNT(quotes); i++) {
        size_t n = strlen(quotes[i]);
        if (len - at >= n && memcmp(text + at, quotes[i], n) == 0)
            return n;
    }
    return 0;
}

static size_t find_quote(const char *text, size_t len, size_t at) {
    while (at < len && quote_len(text, len, at) == 0)
        at++;
    return at;
}

static bool space_at(const char *text, size_t len, size_t at, size_t *next) {
    *next = at;
    return text_is_space(utf8_next(text, len, next));
}

static void parse_item(struct parse *parse, const char *text, size_t len, bool excluded,
                       bool phrase) {
    struct item *item = mem_alloc(sizeof *item);
    item->arena = parse->arena;
    tokens_visit(text, len, keep_token, item);
    bool prefix = !phrase && len > 1 && text[len - 1] == '*' && item->n > 0 &&
                  item->tokens[item->n - 1].end == len - 1;
    if (phrase)
        add_phrase(parse, item, excluded);
    else if (item->n > 0)
        add_words(parse, item, excluded, prefix);
    mem_free(item);
}

/* An item: where it stands, with its sign and quotes, and the text in it. */
struct span {
    size_t begin, end, text, len;
    bool excluded, phrase;
};

static bool next_item(struct span *out, const char *text, size_t len, size_t at) {
    size_t next;
    while (at < len && space_at(text, len, at, &next))
        at = next;
    if (at >= len)
        return false;
    *out = (struct span){.begin = at};
    out->excluded = text[at] == '-' && at + 1 < len && text[at + 1] != '-' &&
                    !space_at(text, len, at + 1, &next);
    at += out->excluded;
    size_t quote = quote_len(text, len, at);
    size_t close = quote ? find_quote(text, len, at + quote) : len;
    out->text = at + quote;
    out->phrase = close < len;
    size_t end = out->phrase ? close : out->text;
    while (!out->phrase && end < len && !space_at(text, len, end, &next) &&
           !quote_len(text, len, end))
        end = next;
    out->len = end - out->text;
    out->end = out->phrase ? close + quote_len(text, len, close) : end > at ? end : at + 1;
    return true;
}

struct lexical_query *lexical_parse(struct arena *arena, const char *text) {
    struct lexical_query *query = arena_alloc(arena, sizeof *query);
    struct parse *parse = mem_alloc(sizeof *parse);
    parse->arena = arena;
    parse->query = query;
    size_t len = strnlen(text, MAX_QUERY_BYTES);
    struct span item = {0};
    while (next_item(&item, text, len, item.end))
        parse_item(parse, text + item.text, item.len, item.excluded, item.phrase);
    memcpy(query->terms + query->n_terms, parse->excluded,
           (size_t)parse->n_excluded * sizeof parse->excluded[0]);
    query->n_excluded = parse->n_excluded;
    mem_free(parse);
    return query;
}

int lexical_n_terms(const struct lexical_query *query) {
    return query->n_terms;
}

struct lexical_query *lexical_excluded(struct arena *arena, const struct lexical_query *query) {
    if (query->n_excluded == 0)
        return NULL;
    struct lexical_query *out = arena_alloc(arena, sizeof *out);
    out->n_terms = query->n_excluded;
    for (int i = 0; i < out->n_terms; i++) {
        out->terms[i] = query->terms[query->n_terms + i];
        out->terms[i].excluded = false;
        out->terms[i].common = false; /* found like any other */
    }
    return out;
}

char *lexical_wanted(struct arena *arena, const char *text) {
    size_t len = strlen(text), kept = 0;
    char *out = arena_alloc(arena, len + 1);
    bool whole = true;
    struct span item = {0};
    for (size_t from = 0; next_item(&item, text, len, from); from = item.end) {
        whole = whole && !item.excluded;
        if (item.excluded)
            continue;
        if (kept == 0 && from > 0) /* what stood before it is left out, with the blanks */
            from = item.begin;
        memcpy(out + kept, text + from, item.end - from);
        kept += item.end - from;
    }
    out[kept] = '\0';
    return whole ? memcpy(out, text, len + 1) : out;
}

size_t lexical_wanted_place(const char *text, size_t at) {
    size_t len = strlen(text), kept = 0;
    bool whole = true;
    struct span item = {0};
    for (size_t from = 0; next_item(&item, text, len, from); from = item.end) {
        whole = whole && !item.excluded;
        if (item.excluded)
            continue;
        if (kept == 0 && from > 0)
            from = item.begin;
        if (at < kept + (item.end - from))
            return from + (at - kept);
        kept += item.end - from;
    }
    return whole && at < len ? at : len;
}
