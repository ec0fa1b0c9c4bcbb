/* Two nearly equal token sequences, matched in four steps a range: equal ends are taken off; a
 * small rest is compared cell by cell; a larger one is parted at n-grams that are unique on both
 * sides (patience diff: the longest ascending chain of them stands); one without any is parted in
 * proportion. So time stays near n log n, whatever the texts.
 *
 * The small comparison also joins and splits: a word broken over two lines on the page, with or
 * without its hyphen, or several run into one.
 *
 * Invariants: a token is in at most one span; spans of one call do not cross. */
#include "read/align.h"

#include <string.h>

#define MAX_CELLS 250000 /* flow tokens by raw tokens of one small comparison */
#define MAX_JOIN 12      /* tokens of one side that one span may join */
#define MAX_BYTES ((size_t)1 << 30)
#define MIN_RUN 3       /* strict: tokens in a row */
#define MIN_RUN_BYTES 8 /* and their bytes */
#define CHUNK 400       /* tokens of a range parted in proportion */

/* ---- folding ------------------------------------------------------------------------------- */

static bool is_passed_over(uint32_t c) {
    return c == 0xAD || (c >= 0x200B && c <= 0x200F) || (c >= 0x202A && c <= 0x202E) ||
           (c >= 0x2060 && c <= 0x2069) || c == 0xFEFF || (c >= 0xFE00 && c <= 0xFE0F);
}

size_t align_fold(uint32_t out[TEXT_FOLD_MAX], uint32_t c) {
    if (is_passed_over(c))
        return 0;
    if (c == 0x2018 || c == 0x2019 || c == 0x201A || c == 0x201B || c == 0x2032 || c == 0xB4)
        c = '\'';
    else if (c == 0x201C || c == 0x201D || c == 0x201E || c == 0x201F || c == 0x2033)
        c = '"';
    else if ((c >= 0x2010 && c <= 0x2015) || c == 0x2212)
        c = '-';
    int n = text_fold(out, c);
    return n > 0 ? (size_t)n : 0;
}

static bool grow(struct align *align, void **items, size_t n, size_t *cap, size_t size) {
    if (n < *cap)
        return true;
    size_t more = *cap == 0 ? 256 : *cap * 2;
    void *grown = mem_try_grow(*items, more, size, MAX_BYTES);
    if (grown == NULL) {
        align->failed = true;
        return false;
    }
    *items = grown;
    *cap = more;
    return true;
}

static void end_token(struct align *align, struct align_side *side, struct align_token *token,
                      size_t end) {
    token->len = (uint32_t)end - token->off;
    token->fold_len = (uint32_t)(side->folded.len - token->fold_off);
    if (token->fold_len == 0 ||
        !grow(align, (void **)&side->tokens, side->n, &side->cap, sizeof(*token)))
        return;
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (uint32_t i = 0; i < token->fold_len; i++)
        hash = (hash ^ (unsigned char)side->folded.data[token->fold_off + i]) * 16777619u;
    token->hash = hash;
    side->tokens[side->n++] = *token;
}

void align_add_word(struct align *align, struct align_side *side, uint32_t word, const char *text,
                    size_t len) {
    struct align_token token = {.word = word, .fold_off = (uint32_t)side->folded.len};
    bool was_cjk = false;
    for (size_t pos = 0; pos < len;) {
        size_t start = pos;
        uint32_t c = utf8_next(text, len, &pos);
        bool cjk = text_is_cjk(c);
        if (start > token.off && (cjk || was_cjk)) {
            end_token(align, side, &token, start);
            token.off = (uint32_t)start;
            token.fold_off = (uint32_t)side->folded.len;
        }
        was_cjk = cjk;
        uint32_t folded[TEXT_FOLD_MAX];
        size_t n = align_fold(folded, c);
        for (size_t i = 0; i < n; i++) {
            char utf8[4];
            buf_append(&side->folded, utf8, utf8_put(utf8, folded[i]));
        }
    }
    end_token(align, side, &token, len);
    align->failed = align->failed || side->folded.failed;
}

bool align_begin(struct align *align) {
    struct align_side *sides[2] = {&align->flow, &align->raw};
    for (int i = 0; i < 2; i++) {
        size_t n = sides[i]->n;
        sides[i]->match = mem_try(n == 0 ? 1 : n, sizeof(int32_t), MAX_BYTES);
        if (sides[i]->match == NULL)
            align->failed = true;
        for (size_t k = 0; sides[i]->match != NULL && k < n; k++)
            sides[i]->match[k] = -1;
    }
    align->scores = mem_try(MAX_CELLS, sizeof(*align->scores), MAX_BYTES);
    align->failed = align->failed || align->scores == NULL;
    return !align->failed;
}

void align_fini(struct align *align) {
    struct align_side *sides[2] = {&align->flow, &align->raw};
    for (int i = 0; i < 2; i++) {
        mem_free(sides[i]->tokens);
        mem_free(sides[i]->match);
        buf_fini(&sides[i]->folded);
    }
    mem_free(align->spans);
    mem_free(align->scores);
    memset(align, 0, sizeof(*align));
}

/* ---- one range ----------------------------------------------------------------------------- */

struct range {
    size_t f0, f1, r0, r1; /* of the caller's lists */
    int depth;
};
struct job {
    struct align *align;
    const uint32_t *f, *r; /* token numbers */
    struct range *stack;
    size_t n_stack, cap_stack;
};

static const char *folded_text(const struct align_side *side, uint32_t token) {
    return side->folded.data + side->tokens[token].fold_off;
}

static bool is_same(const struct job *job, size_t fi, size_t ri) {
    const struct align_token *a = &job->align->flow.tokens[job->f[fi]];
    const struct align_token *b = &job->align->raw.tokens[job->r[ri]];
    return a->hash == b->hash && a->fold_len == b->fold_len &&
           memcmp(folded_text(&job->align->flow, job->f[fi]),
                  folded_text(&job->align->raw, job->r[ri]), a->fold_len) == 0;
}

/* A span joins only tokens that adjoin in the documents themselves. */
static bool add_span(struct job *job, size_t fi, size_t ri, size_t nf, size_t nr) {
    struct align *align = job->align;
    if (!grow(align, (void **)&align->spans, align->n_spans, &align->cap_spans,
              sizeof(*align->spans)))
        return false;
    int32_t number = (int32_t)align->n_spans;
    align->spans[align->n_spans++] = (struct align_span){
        .flow = job->f[fi], .raw = job->r[ri], .n_flow = (uint16_t)nf, .n_raw = (uint16_t)nr};
    for (size_t i = 0; i < nf; i++)
        align->flow.match[job->f[fi + i]] = number;
    for (size_t i = 0; i < nr; i++)
        align->raw.match[job->r[ri + i]] = number;
    return true;
}

static void push(struct job *job, size_t f0, size_t f1, size_t r0, size_t r1, int depth) {
    if (f0 >= f1 || r0 >= r1)
        return;
    if (!grow(job->align, (void **)&job->stack, job->n_stack, &job->cap_stack, sizeof(*job->stack)))
        return;
    job->stack[job->n_stack++] = (struct range){
        .f0 = f0, .f1 = f1, .r0 = r0, .r1 = r1, .depth = depth};
}

/* ---- small ranges -------------------------------------------------------------------------- */

/* The fewest tokens from fi and ri on that spell the same, or 0. A hyphen that ends a raw token
 * inside the group is passed over: the page put it there. */
static size_t join(const struct job *job, const struct range *range, size_t fi, size_t ri,
                   size_t *nf, size_t *nr) {
    const struct align *align = job->align;
    size_t a = 0, b = 0, n_bytes = 0;
    const struct align_token *ft = &align->flow.tokens[job->f[fi]];
    const struct align_token *rt = &align->raw.tokens[job->r[ri]];
    const char *fp = align->flow.folded.data + ft->fold_off, *fe = fp + ft->fold_len;
    const char *rp = align->raw.folded.data + rt->fold_off, *re = rp + rt->fold_len;
    for (;;) {
        while (fp < fe && rp < re && *fp == *rp) {
            fp++;
            rp++;
            n_bytes++;
        }
        if (rp + 1 == re && *rp == '-' && n_bytes > 0 && (fp < fe ? *fp != '-' : false))
            rp++;
        if (fp == fe && rp == re) {
            *nf = a + 1;
            *nr = b + 1;
            return n_bytes;
        }
        if (fp == fe) {
            if (++a >= MAX_JOIN || fi + a >= range->f1 || job->f[fi + a] != job->f[fi] + a)
                return 0;
            ft = &align->flow.tokens[job->f[fi + a]];
            fp = align->flow.folded.data + ft->fold_off;
            fe = fp + ft->fold_len;
        } else if (rp == re) {
            if (++b >= MAX_JOIN || ri + b >= range->r1 || job->r[ri + b] != job->r[ri] + b)
                return 0;
            rt = &align->raw.tokens[job->r[ri + b]];
            rp = align->raw.folded.data + rt->fold_off;
            re = rp + rt->fold_len;
        } else {
            return 0;
        }
    }
}

static bool is_digits(const char *text, size_t len) {
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
    }
    return true;
}

/* Bytes two tokens share at their ends where they are nearly the same: "text." and "text.1" (a
 * footnote's mark), "naive" and "naïve". Else 0. */
static size_t resemble(const struct job *job, size_t fi, size_t ri) {
    const struct align_token *ft = &job->align->flow.tokens[job->f[fi]];
    const struct align_token *rt = &job->align->raw.tokens[job->r[ri]];
    const char *a = folded_text(&job->align->flow, job->f[fi]);
    const char *b = folded_text(&job->align->raw, job->r[ri]);
    size_t la = ft->fold_len, lb = rt->fold_len, longest = la > lb ? la : lb;
    size_t shortest = la < lb ? la : lb, head = 0, tail = 0;
    while (head < shortest && a[head] == b[head])
        head++;
    if (head == la && lb - la <= 3 && la >= 2 && !is_digits(a, la) && is_digits(b + la, lb - la))
        return head;
    while (tail < shortest - head && a[la - 1 - tail] == b[lb - 1 - tail])
        tail++;
    bool near = shortest >= 3 && (head + tail) * 10 >= longest * 7;
    return near && !is_digits(a, la) ? head + tail : 0;
}

/* The best set of spans that do not cross, by the bytes they cover (dynamic programming from the
 * ends; a resemblance counts half). */
static void compare_small(struct job *job, const struct range *range) {
    size_t nf = range->f1 - range->f0, nr = range->r1 - range->r0, width = nr + 1;
    int32_t *scores = job->align->scores;
    memset(scores, 0, (nf + 1) * width * sizeof(*scores));
    for (size_t i = nf; i-- > 0;) {
        for (size_t k = nr; k-- > 0;) {
            int32_t best = scores[(i + 1) * width + k];
            if (scores[i * width + k + 1] > best)
                best = scores[i * width + k + 1];
            size_t a, b, n = join(job, range, range->f0 + i, range->r0 + k, &a, &b);
            int32_t score = 0;
            if (n > 0)
                score = (int32_t)n * 2 + 1 + scores[(i + a) * width + k + b];
            else if ((n = resemble(job, range->f0 + i, range->r0 + k)) > 0)
                score = (int32_t)n + scores[(i + 1) * width + k + 1];
            scores[i * width + k] = score > best ? score : best;
        }
    }
    for (size_t i = 0, k = 0; i < nf && k < nr;) {
        int32_t here = scores[i * width + k];
        size_t a, b, n = join(job, range, range->f0 + i, range->r0 + k, &a, &b);
        if (n > 0 && here == (int32_t)n * 2 + 1 + scores[(i + a) * width + k + b]) {
            if (!add_span(job, range->f0 + i, range->r0 + k, a, b))
                return;
            i += a;
            k += b;
            continue;
        }
        n = n > 0 ? 0 : resemble(job, range->f0 + i, range->r0 + k);
        if (n > 0 && here == (int32_t)n + scores[(i + 1) * width + k + 1]) {
            if (!add_span(job, range->f0 + i, range->r0 + k, 1, 1))
                return;
            i++;
            k++;
        } else if (here == scores[(i + 1) * width + k]) {
            i++;
        } else {
            k++;
        }
    }
}

/* ---- anchors ------------------------------------------------------------------------------- */

struct gram {
    uint64_t hash; /* 0: empty */
    uint32_t f, r;
    uint32_t n_f, n_r; /* 2 means several */
};
struct anchor {
    uint32_t f, r;
};

static uint64_t gram_hash(const struct align_side *side, const uint32_t *tokens, size_t k) {
    uint64_t hash = 0x9E3779B97F4A7C15u;
    for (size_t i = 0; i < k; i++) {
        hash = (hash ^ side->tokens[tokens[i]].hash) * 0xFF51AFD7ED558CCDu;
        hash ^= hash >> 32;
    }
    return hash == 0 ? 1 : hash;
}

static struct gram *gram_slot(struct gram *table, size_t mask, uint64_t hash) {
    size_t i = hash & mask;
    while (table[i].hash != 0 && table[i].hash != hash)
        i = (i + 1) & mask;
    table[i].hash = hash;
    return &table[i];
}

/* The longest chain of anchors (ascending by f) whose r ascends too (patience sorting). Returns its
 * length; the chain takes the array's front. */
static size_t longest_chain(struct align *align, struct anchor *anchors, size_t n) {
    uint32_t *tails = mem_try(n + 1, sizeof(*tails), MAX_BYTES);
    uint32_t *before = mem_try(n + 1, sizeof(*before), MAX_BYTES);
    size_t length = 0;
    if (tails == NULL || before == NULL) {
        align->failed = true;
        n = 0;
    }
    for (size_t i = 0; i < n; i++) {
        size_t low = 0, high = length;
        while (low < high) {
            size_t middle = (low + high) / 2;
            if (anchors[tails[middle]].r < anchors[i].r)
                low = middle + 1;
            else
                high = middle;
        }
        before[i] = low > 0 ? tails[low - 1] : UINT32_MAX;
        tails[low] = (uint32_t)i;
        length = low + 1 > length ? low + 1 : length;
    }
    if (length > 0) {
        uint32_t at = tails[length - 1];
        for (size_t i = length; i-- > 0;) {
            tails[i] = at;
            at = before[at];
        }
        for (size_t i = 0; i < length; i++)
            anchors[i] = anchors[tails[i]];
    }
    mem_free(tails);
    mem_free(before);
    return length;
}

/* n-grams that stand once on each side of the range, in a chain. */
static size_t find_anchors(struct job *job, const struct range *range, size_t k,
                           struct anchor **out) {
    size_t nf = range->f1 - range->f0, nr = range->r1 - range->r0;
    *out = NULL;
    if (nf < k || nr < k)
        return 0;
    size_t size = 16;
    while (size < (nf + nr) * 2)
        size *= 2;
    struct gram *table = mem_try(size, sizeof(*table), (size_t)1 << 31);
    struct anchor *anchors = mem_try(nf, sizeof(*anchors), MAX_BYTES);
    size_t n = 0;
    if (table == NULL || anchors == NULL) {
        job->align->failed = true;
    } else {
        const struct align_side *flow = &job->align->flow, *raw = &job->align->raw;
        for (size_t i = 0; i + k <= nf; i++) {
            struct gram *gram = gram_slot(table, size - 1,
                                          gram_hash(flow, job->f + range->f0 + i, k));
            gram->f = (uint32_t)i;
            gram->n_f += gram->n_f < 2;
        }
        for (size_t i = 0; i + k <= nr; i++) {
            struct gram *gram = gram_slot(table, size - 1,
                                          gram_hash(raw, job->r + range->r0 + i, k));
            gram->r = (uint32_t)i;
            gram->n_r += gram->n_r < 2;
        }
        for (size_t i = 0; i + k <= nf; i++) {
            struct gram *gram = gram_slot(table, size - 1,
                                          gram_hash(flow, job->f + range->f0 + i, k));
            if (gram->n_f == 1 && gram->n_r == 1 &&
                is_same(job, range->f0 + i, range->r0 + gram->r))
                anchors[n++] = (struct anchor){.f = (uint32_t)i, .r = gram->r};
        }
    }
    mem_free(table);
    n = longest_chain(job->align, anchors, n);
    if (n == 0) {
        mem_free(anchors);
        return 0;
    }
    *out = anchors;
    return n;
}

/* Matches forward from each anchor; what lies between two is a range of its own. */
static void part_at_anchors(struct job *job, const struct range *range,
                            const struct anchor *anchors, size_t n) {
    size_t f = range->f0, r = range->r0;
    for (size_t i = 0; i < n; i++) {
        size_t af = range->f0 + anchors[i].f, ar = range->r0 + anchors[i].r;
        if (af < f || ar < r)
            continue; /* within an earlier run */
        push(job, f, af, r, ar, range->depth + 1);
        f = af;
        r = ar;
        while (f < range->f1 && r < range->r1 && is_same(job, f, r)) {
            if (!add_span(job, f, r, 1, 1))
                return;
            f++;
            r++;
        }
    }
    push(job, f, range->f1, r, range->r1, range->depth + 1);
}

static void part_in_proportion(struct job *job, const struct range *range) {
    size_t nf = range->f1 - range->f0, nr = range->r1 - range->r0;
    size_t n = (nf > nr ? nf : nr) / CHUNK + 1;
    for (size_t i = 0; i < n; i++) {
        push(job, range->f0 + nf * i / n, range->f0 + nf * (i + 1) / n, range->r0 + nr * i / n,
             range->r0 + nr * (i + 1) / n, range->depth + 1);
    }
}

static void match_range(struct job *job, struct range range) {
    while (range.f0 < range.f1 && range.r0 < range.r1 && is_same(job, range.f0, range.r0))
        if (!add_span(job, range.f0++, range.r0++, 1, 1))
            return;
    while (range.f0 < range.f1 && range.r0 < range.r1 && is_same(job, range.f1 - 1, range.r1 - 1))
        if (!add_span(job, --range.f1, --range.r1, 1, 1))
            return;
    size_t nf = range.f1 - range.f0, nr = range.r1 - range.r0;
    if (nf == 0 || nr == 0)
        return;
    if ((nf + 1) * (nr + 1) <= MAX_CELLS && (nf <= 2 * CHUNK || nr <= 2 * CHUNK)) {
        compare_small(job, &range);
        return;
    }
    for (size_t k = 4; k >= 1 && range.depth < 24; k--) {
        struct anchor *anchors;
        size_t n = find_anchors(job, &range, k, &anchors);
        if (n == 0)
            continue;
        part_at_anchors(job, &range, anchors, n);
        mem_free(anchors);
        return;
    }
    part_in_proportion(job, &range);
}

/* ---- the whole ----------------------------------------------------------------------------- */

/* Undoes matches that stand alone: too short to be more than chance. */
static void drop_chance(struct job *job, size_t nf) {
    struct align *align = job->align;
    for (size_t i = 0; i < nf;) {
        if (align->flow.match[job->f[i]] < 0) {
            i++;
            continue;
        }
        size_t end = i, n_bytes = 0;
        uint32_t next_raw = 0;
        while (end < nf && align->flow.match[job->f[end]] >= 0) {
            const struct align_span *span = &align->spans[align->flow.match[job->f[end]]];
            bool goes_on = end == i || span->flow != job->f[end] || span->raw == next_raw;
            if (!goes_on)
                break;
            next_raw = span->raw + span->n_raw;
            n_bytes += align->flow.tokens[job->f[end]].fold_len;
            end++;
        }
        bool kept = end - i >= MIN_RUN && n_bytes >= MIN_RUN_BYTES;
        for (size_t k = i; k < end && !kept; k++) {
            int32_t number = align->flow.match[job->f[k]];
            const struct align_span *span = &align->spans[number];
            for (size_t m = 0; m < span->n_raw; m++)
                align->raw.match[span->raw + m] = -1;
            align->flow.match[job->f[k]] = -1;
        }
        i = end;
    }
}

void align_pair(struct align *align, uint32_t flow, uint32_t raw) {
    struct job job = {.align = align, .f = &flow, .r = &raw};
    add_span(&job, 0, 0, 1, 1);
}

size_t align_match(struct align *align, const uint32_t *f, size_t nf, const uint32_t *r, size_t nr,
                   bool strict) {
    struct job job = {.align = align, .f = f, .r = r};
    push(&job, 0, nf, 0, nr, 0);
    while (job.n_stack > 0 && !align->failed)
        match_range(&job, job.stack[--job.n_stack]);
    mem_free(job.stack);
    if (strict)
        drop_chance(&job, nf);
    size_t n = 0;
    for (size_t i = 0; i < nf; i++)
        n += align->flow.match[f[i]] >= 0;
    return n;
}
