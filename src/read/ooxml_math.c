/* Office Math as linear text, near to what Word's own linear form writes: fractions a/b, powers
 * x^2, roots, sums with their bounds. Operands of more than one sign are put in parentheses. */
#include "read/ooxml.h"

#include <string.h>

static void walk(struct xml *xml, struct buf *out);

/* "(a+b)" needs no second pair, "(a)(b)" does. */
static bool is_enclosed(const struct buf *text) {
    int depth = 0;
    for (size_t i = 0; i < text->len; i++) {
        depth += (text->data[i] == '(') - (text->data[i] == ')');
        if (depth == 0)
            return i > 0 && i + 1 == text->len;
    }
    return false;
}

/* One operand with what stands before it: "x" or "(x+1)"; nothing where it is empty. */
static void operand(struct xml *xml, const char *before, struct buf *out) {
    struct buf inner = {.max = 1 << 20};
    walk(xml, &inner);
    size_t n_signs = 0;
    for (size_t pos = 0; pos < inner.len && n_signs < 2; n_signs++)
        utf8_next(inner.data, inner.len, &pos);
    bool enclose = n_signs > 1 && !is_enclosed(&inner);
    if (inner.len > 0)
        buf_puts(out, before);
    if (enclose)
        buf_putc(out, '(');
    if (inner.len > 0)
        buf_append(out, inner.data, inner.len);
    if (enclose)
        buf_putc(out, ')');
    buf_fini(&inner);
}

/* Between an element's operands stands what the first matching row says. */
static const struct {
    const char *element, *part, *before;
} forms[] = {
    {"m:f", "m:den", "/"},       {"m:sSup", "m:sup", "^"},         {"m:sSub", "m:sub", "_"},
    {"m:sSubSup", "m:sub", "_"}, {"m:sSubSup", "m:sup", "^"},      {"m:nary", "m:sub", "_"},
    {"m:nary", "m:sup", "^"},    {"m:nary", "m:e", " "},           {"m:sPre", "m:sub", "_"},
    {"m:sPre", "m:sup", "^"},    {"m:limLow", "m:lim", "_"},       {"m:limUpp", "m:lim", "^"},
    {"m:func", "m:e", " "},      {"m:rad", "m:e", "\xE2\x88\x9A"},
};

static void structure(struct xml *xml, struct buf *out) {
    char element[16] = "m:";
    size_t len = strlen(xml->name);
    memcpy(element + 2, xml->name, len < 13 ? len + 1 : 13);
    element[15] = '\0';
    bool is_nary = strcmp(element, "m:nary") == 0, is_delimited = strcmp(element, "m:d") == 0;
    char open[8] = "(", close[8] = ")";
    size_t n_operands = 0;
    int depth = xml->depth;
    while (xml_next(xml, depth)) {
        if (xml_at(xml, "m:chr") && is_nary) {
            const char *sign = xml_attr(xml, "m:val");
            buf_puts(out, sign == NULL ? "\xE2\x88\xAB" : sign);
            is_nary = false;
        } else if (xml_at(xml, "m:begChr") || xml_at(xml, "m:endChr")) {
            const char *sign = xml_attr(xml, "m:val");
            char *to = xml_at(xml, "m:begChr") ? open : close;
            if (sign != NULL && strlen(sign) < sizeof(open))
                memcpy(to, sign, strlen(sign) + 1);
        } else if (xml_at(xml, "m:e") || xml_at(xml, "m:num") || xml_at(xml, "m:den") ||
                   xml_at(xml, "m:sub") || xml_at(xml, "m:sup") || xml_at(xml, "m:lim") ||
                   xml_at(xml, "m:deg") || xml_at(xml, "m:fName")) {
            if (is_nary)
                buf_puts(out, "\xE2\x88\xAB");
            is_nary = false;
            bool limit = strncmp(element, "m:lim", 5) == 0 && xml_at(xml, "m:e");
            if (limit || xml_at(xml, "m:fName")) {
                walk(xml, out);
            } else if (is_delimited) {
                buf_puts(out, n_operands++ == 0 ? open : ", ");
                walk(xml, out);
            } else {
                const char *before = "";
                for (size_t i = 0; i < BASE_COUNT(forms); i++) {
                    if (strcmp(forms[i].element, element) == 0 && xml_at(xml, forms[i].part))
                        before = forms[i].before;
                }
                operand(xml, before, out);
            }
        }
    }
    if (is_delimited)
        buf_puts(out, n_operands == 0 ? "" : close);
}

static void walk(struct xml *xml, struct buf *out) {
    int depth = xml->depth;
    while (xml_next(xml, depth)) {
        if (xml->name == NULL)
            continue;
        if (xml_at(xml, "m:t") || xml_at(xml, "w:t")) {
            int inside = xml->depth;
            while (xml_next(xml, inside))
                buf_puts(out, xml_text(xml));
        } else if (xml_at(xml, "m:mr") || xml_at(xml, "m:eqArr")) {
            buf_putc(out, ' '); /* rows of a matrix stand side by side */
        } else if (xml_at(xml, "m:f") || xml_at(xml, "m:sSup") || xml_at(xml, "m:sSub") ||
                   xml_at(xml, "m:func") || xml_at(xml, "m:sSubSup") || xml_at(xml, "m:sPre") ||
                   xml_at(xml, "m:nary") || xml_at(xml, "m:rad") || xml_at(xml, "m:limLow") ||
                   xml_at(xml, "m:limUpp") || xml_at(xml, "m:d")) {
            structure(xml, out);
        } else if (xml_at(xml, "w:rPr") || xml_at(xml, "m:rPr") || xml_at(xml, "w:del") ||
                   xml_at(xml, "e:Fallback")) {
            xml_skip(xml);
        }
    }
}

void ooxml_math(struct xml *xml, struct flow_text *text) {
    struct buf linear = {.max = 1 << 20};
    walk(xml, &linear);
    if (linear.len > 0)
        flow_text_put(text, linear.data, linear.len);
    buf_fini(&linear);
}
