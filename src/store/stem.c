/* English stemming: M. F. Porter, "An algorithm for suffix stripping", Program 14(3), 1980, with
 * the two departures of his own later text: "logi" becomes "log", and "bli" becomes "ble".
 *
 * Words here are runs of a..z. The measure m of a stem is the number of vowel-consonant sequences
 * in it; `y` is a vowel where it follows a consonant. */
#include "store/internal.h"

#include <string.h>

struct word {
    char *text;
    size_t len;
};

static bool is_consonant(const char *text, size_t i) {
    switch (text[i]) {
    case 'a':
    case 'e':
    case 'i':
    case 'o':
    case 'u':
        return false;
    case 'y':
        return i == 0 || !is_consonant(text, i - 1);
    default:
        return true;
    }
}

static int measure(const char *text, size_t len) {
    int m = 0;
    size_t i = 0;
    while (i < len && is_consonant(text, i))
        i++;
    while (i < len) {
        while (i < len && !is_consonant(text, i))
            i++;
        if (i == len)
            break;
        m++;
        while (i < len && is_consonant(text, i))
            i++;
    }
    return m;
}

static bool has_vowel(const char *text, size_t len) {
    for (size_t i = 0; i < len; i++) {
        if (!is_consonant(text, i))
            return true;
    }
    return false;
}

static bool ends_double(const char *text, size_t len) {
    return len >= 2 && text[len - 1] == text[len - 2] && is_consonant(text, len - 1);
}

/* Consonant, vowel, consonant, the last none of w, x, y: hop, not snow. */
static bool ends_cvc(const char *text, size_t len) {
    return len >= 3 && is_consonant(text, len - 3) && !is_consonant(text, len - 2) &&
           is_consonant(text, len - 1) && !strchr("wxy", text[len - 1]);
}

struct suffix {
    const char *text;
    size_t len;
};
#define SUFFIX(text) ((struct suffix){text, sizeof(text) - 1})

static bool ends_with(const struct word *word, struct suffix suffix, size_t *stem_len) {
    size_t n = suffix.len;
    if (n > word->len || word->text[word->len - 1] != suffix.text[n - 1] ||
        memcmp(word->text + word->len - n, suffix.text, n) != 0)
        return false;
    *stem_len = word->len - n;
    return true;
}

static void set_end(struct word *word, size_t stem_len, const char *suffix) {
    size_t n = strlen(suffix);
    memcpy(word->text + stem_len, suffix, n);
    word->len = stem_len + n;
}

struct rule {
    struct suffix suffix;
    const char *into;
};
#define RULE(from, into)                                                                           \
    { {from, sizeof(from) - 1}, into }

/* The first rule whose suffix the word has decides, whether or not its condition holds. */
static void apply(struct word *word, const struct rule *rules, size_t n, int more_than) {
    size_t stem_len;
    for (size_t i = 0; i < n; i++) {
        if (!ends_with(word, rules[i].suffix, &stem_len))
            continue;
        if (measure(word->text, stem_len) > more_than)
            set_end(word, stem_len, rules[i].into);
        return;
    }
}

static void plurals(struct word *word) {
    size_t stem_len;
    if (ends_with(word, SUFFIX("sses"), &stem_len) || ends_with(word, SUFFIX("ies"), &stem_len))
        word->len -= 2;
    else if (!ends_with(word, SUFFIX("ss"), &stem_len) && ends_with(word, SUFFIX("s"), &stem_len))
        word->len--;
}

static void past_and_gerund(struct word *word) {
    size_t stem_len;
    if (ends_with(word, SUFFIX("eed"), &stem_len)) {
        if (measure(word->text, stem_len) > 0)
            word->len--;
        return;
    }
    if (!(ends_with(word, SUFFIX("ed"), &stem_len) || ends_with(word, SUFFIX("ing"), &stem_len)) ||
        !has_vowel(word->text, stem_len))
        return;
    word->len = stem_len;
    if (ends_with(word, SUFFIX("at"), &stem_len) || ends_with(word, SUFFIX("bl"), &stem_len) ||
        ends_with(word, SUFFIX("iz"), &stem_len))
        set_end(word, word->len, "e");
    else if (ends_double(word->text, word->len) && !strchr("lsz", word->text[word->len - 1]))
        word->len--;
    else if (measure(word->text, word->len) == 1 && ends_cvc(word->text, word->len))
        set_end(word, word->len, "e");
}

static void last_y(struct word *word) {
    size_t stem_len;
    if (ends_with(word, SUFFIX("y"), &stem_len) && has_vowel(word->text, stem_len))
        word->text[stem_len] = 'i';
}

static void long_suffixes(struct word *word) {
    static const struct rule rules[] = {
        RULE("ational", "ate"), RULE("tional", "tion"), RULE("enci", "ence"),
        RULE("anci", "ance"),   RULE("izer", "ize"),    RULE("bli", "ble"),
        RULE("alli", "al"),     RULE("entli", "ent"),   RULE("eli", "e"),
        RULE("ousli", "ous"),   RULE("ization", "ize"), RULE("ation", "ate"),
        RULE("ator", "ate"),    RULE("alism", "al"),    RULE("iveness", "ive"),
        RULE("fulness", "ful"), RULE("ousness", "ous"), RULE("aliti", "al"),
        RULE("iviti", "ive"),   RULE("biliti", "ble"),  RULE("logi", "log"),
    };
    apply(word, rules, BASE_COUNT(rules), 0);
}

static void middle_suffixes(struct word *word) {
    static const struct rule rules[] = {
        RULE("icate", "ic"), RULE("ative", ""), RULE("alize", "al"), RULE("iciti", "ic"),
        RULE("ical", "ic"),  RULE("ful", ""),   RULE("ness", ""),
    };
    apply(word, rules, BASE_COUNT(rules), 0);
}

static void last_suffixes(struct word *word) {
    static const struct suffix suffixes[] = {
        {"ement", sizeof "ement" - 1}, {"ance", sizeof "ance" - 1}, {"ence", sizeof "ence" - 1},
        {"able", sizeof "able" - 1},   {"ible", sizeof "ible" - 1}, {"ment", sizeof "ment" - 1},
        {"ant", sizeof "ant" - 1},     {"ent", sizeof "ent" - 1},   {"ion", sizeof "ion" - 1},
        {"ism", sizeof "ism" - 1},     {"ate", sizeof "ate" - 1},   {"iti", sizeof "iti" - 1},
        {"ous", sizeof "ous" - 1},     {"ive", sizeof "ive" - 1},   {"ize", sizeof "ize" - 1},
        {"al", sizeof "al" - 1},       {"er", sizeof "er" - 1},     {"ic", sizeof "ic" - 1},
        {"ou", sizeof "ou" - 1},
    };
    size_t stem_len;
    for (size_t i = 0; i < BASE_COUNT(suffixes); i++) {
        if (!ends_with(word, suffixes[i], &stem_len))
            continue;
        bool fits = strcmp(suffixes[i].text, "ion") != 0 ||
                    (stem_len > 0 && strchr("st", word->text[stem_len - 1]));
        if (fits && measure(word->text, stem_len) > 1)
            word->len = stem_len;
        return;
    }
}

static void tidy(struct word *word) {
    if (word->text[word->len - 1] == 'e') {
        size_t stem_len = word->len - 1;
        int m = measure(word->text, stem_len);
        if (m > 1 || (m == 1 && !ends_cvc(word->text, stem_len)))
            word->len = stem_len;
    }
    if (word->text[word->len - 1] == 'l' && ends_double(word->text, word->len) &&
        measure(word->text, word->len) > 1)
        word->len--;
}

size_t stem_english(char *text, size_t len) {
    if (len < 3)
        return len;
    struct word word = {text, len};
    plurals(&word);
    past_and_gerund(&word);
    last_y(&word);
    long_suffixes(&word);
    middle_suffixes(&word);
    last_suffixes(&word);
    tidy(&word);
    return word.len;
}
