/* Numbers as a spreadsheet's format code shows them (ECMA-376 part 1, 18.8.30 and 18.8.31).
 *
 * A code has up to four sections (positive; negative; zero; text). Fractions are shown as decimals;
 * the rest of what codes commonly say is followed. */
#include "read/ooxml.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const struct {
    long id;
    const char *code;
} builtins[] = {
    {1, "0"},
    {2, "0.00"},
    {3, "#,##0"},
    {4, "#,##0.00"},
    {9, "0%"},
    {10, "0.00%"},
    {11, "0.00E+00"},
    {12, "# ?/?"},
    {13, "# ?\?/?\?"},
    {14, "mm/dd/yy"},
    {15, "d-mmm-yy"},
    {16, "d-mmm"},
    {17, "mmm-yy"},
    {18, "h:mm AM/PM"},
    {19, "h:mm:ss AM/PM"},
    {20, "h:mm"},
    {21, "h:mm:ss"},
    {22, "m/d/yy h:mm"},
    {37, "#,##0 ;(#,##0)"},
    {38, "#,##0 ;(#,##0)"},
    {39, "#,##0.00;(#,##0.00)"},
    {40, "#,##0.00;(#,##0.00)"},
    {44, "$#,##0.00"},
    {45, "mm:ss"},
    {46, "[h]:mm:ss"},
    {47, "mm:ss.0"},
    {48, "##0.0E+0"},
    {49, "@"},
};

const char *ooxml_number_builtin(long id) {
    for (size_t i = 0; i < BASE_COUNT(builtins); i++) {
        if (builtins[i].id == id)
            return builtins[i].code;
    }
    return "General";
}

static void put_general(struct buf *out, double value) {
    if (value == floor(value) && fabs(value) < 1e15)
        buf_printf(out, "%.0f", value == 0 ? 0.0 : value);
    else
        buf_printf(out, "%.10g", value);
}

/* ---- dates --------------------------------------------------------------------------------- */

struct moment {
    int year, month, day, weekday;
    int64_t seconds; /* of the day */
    double value;
    double fraction; /* of the second */
};

/* Serial days to the calendar (days from civil, in reverse: H. Hinnant, "chrono-Compatible
 * Low-Level Date Algorithms"). Day 60 of the 1900 system never was: those before it are one late.
 */
static bool moment_of(struct moment *out, double value, bool date_1904, bool tenths) {
    if (!(value >= 0 && value < 2958466))
        return false;
    int64_t days = (int64_t)floor(value);
    double seconds = (value - floor(value)) * 86400;
    int64_t whole = (int64_t)(tenths ? floor(seconds + 1e-6) : floor(seconds + 0.5));
    if (whole >= 86400) {
        days++;
        whole -= 86400;
    }
    out->value = value;
    out->seconds = whole;
    out->fraction = seconds > (double)whole ? seconds - (double)whole : 0;
    if (!date_1904 && days < 60)
        days++;
    int64_t z = days - (date_1904 ? 24107 : 25569) + 719468;
    int64_t era = z / 146097, doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    out->day = (int)(doy - (153 * mp + 2) / 5 + 1);
    out->month = (int)(mp < 10 ? mp + 3 : mp - 9);
    out->year = (int)(yoe + era * 400) + (out->month <= 2);
    out->weekday = (int)((z + 3) % 7); /* 0: Sunday */
    return true;
}

static const char *const months[] = {"January",   "February", "March",    "April",
                                     "May",       "June",     "July",     "August",
                                     "September", "October",  "November", "December"};
static const char *const weekdays[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                       "Thursday", "Friday", "Saturday"};

static size_t run_of(const char *code, size_t len, size_t i) {
    size_t n = 1;
    while (i + n < len && (code[i + n] | 0x20) == (code[i] | 0x20))
        n++;
    return n;
}

static void put_month(struct buf *out, const struct moment *at, size_t n) {
    const char *name = months[at->month - 1];
    if (n <= 2)
        buf_printf(out, n == 2 ? "%02d" : "%d", at->month);
    else if (n == 3)
        buf_append(out, name, 3);
    else if (n == 5)
        buf_append(out, name, 1);
    else
        buf_puts(out, name);
}

static void put_day(struct buf *out, const struct moment *at, size_t n) {
    if (n <= 2)
        buf_printf(out, n == 2 ? "%02d" : "%d", at->day);
    else if (n == 3)
        buf_append(out, weekdays[at->weekday], 3);
    else
        buf_puts(out, weekdays[at->weekday]);
}

/* [h], [mm], [ss]: hours, minutes or seconds since the beginning. */
static void put_elapsed(struct buf *out, const struct moment *at, char unit, size_t n) {
    double seconds = floor(at->value * 86400 + 0.5);
    double amount = unit == 'h' ? seconds / 3600 : unit == 'm' ? seconds / 60 : seconds;
    buf_printf(out, n >= 2 ? "%02.0f" : "%.0f", floor(amount));
}

/* 'm' is minutes beside hours or seconds, else months. */
static bool is_minutes(const char *code, size_t len, size_t i, size_t n, char before) {
    if (before == 'h')
        return true;
    for (size_t k = i + n; k < len; k++) {
        char c = (char)(code[k] | 0x20);
        if (c == 's')
            return true;
        if (c == 'd' || c == 'y' || c == 'h' || c == 'm')
            return false;
    }
    return false;
}

/* A literal of the code at i: "text", \x, _x, *x, or any plain sign. Returns the bytes used. */
static size_t put_literal(struct buf *out, const char *code, size_t len, size_t i) {
    if (code[i] == '"') {
        size_t end = i + 1;
        while (end < len && code[end] != '"')
            end++;
        buf_append(out, code + i + 1, end - i - 1);
        return end < len ? end - i + 1 : end - i;
    }
    if (code[i] == '\\' && i + 1 < len) {
        size_t n = 1;
        while (i + 1 + n < len && ((unsigned char)code[i + 1 + n] & 0xC0) == 0x80)
            n++;
        buf_append(out, code + i + 1, n);
        return n + 1;
    }
    if (code[i] == '_' && i + 1 < len) {
        buf_putc(out, ' ');
        return 2;
    }
    if (code[i] == '*' && i + 1 < len)
        return 2;
    buf_putc(out, code[i]);
    return 1;
}

/* "[$€-407]" gives its sign; colours and conditions nothing. Returns the bytes used. */
static size_t put_bracket(struct buf *out, const char *code, size_t len, size_t i) {
    size_t end = i + 1;
    while (end < len && code[end] != ']')
        end++;
    if (end > i + 2 && code[i + 1] == '$') {
        size_t sign = 0;
        while (i + 2 + sign < end && code[i + 2 + sign] != '-')
            sign++;
        buf_append(out, code + i + 2, sign);
    }
    return end < len ? end - i + 1 : end - i;
}

static void put_date(struct buf *out, const struct moment *at, const char *code, size_t len) {
    if (len == 0)
        return;
    bool half = memmem(code, len, "AM/PM", 5) != NULL || memmem(code, len, "am/pm", 5) != NULL ||
                memmem(code, len, "A/P", 3) != NULL;
    int hour = (int)(at->seconds / 3600);
    int shown = !half ? hour : hour % 12 == 0 ? 12 : hour % 12;
    char before = 0;
    for (size_t i = 0; i < len;) {
        char c = (char)(code[i] | 0x20);
        size_t n = run_of(code, len, i);
        if (c == 'y') {
            buf_printf(out, n <= 2 ? "%02d" : "%04d", n <= 2 ? at->year % 100 : at->year);
        } else if (c == 'm' && is_minutes(code, len, i, n, before)) {
            buf_printf(out, n == 1 ? "%d" : "%02d", (int)(at->seconds / 60 % 60));
        } else if (c == 'm') {
            put_month(out, at, n);
        } else if (c == 'd') {
            put_day(out, at, n);
        } else if (c == 'h') {
            buf_printf(out, n == 1 ? "%d" : "%02d", shown);
        } else if (c == 's') {
            buf_printf(out, n == 1 ? "%d" : "%02d", (int)(at->seconds % 60));
        } else if (c == 'a' && len - i >= 5 && (code[i + 1] | 0x20) == 'm') {
            buf_puts(out, hour < 12 ? "AM" : "PM");
            n = 5;
        } else if (c == 'a' && len - i >= 3 && code[i + 1] == '/') {
            buf_puts(out, hour < 12 ? "A" : "P");
            n = 3;
        } else if (code[i] == '[' && i + 1 < len && strchr("hHmMsS", code[i + 1]) != NULL) {
            n = run_of(code, len, i + 1);
            put_elapsed(out, at, (char)(code[i + 1] | 0x20), n);
            c = (char)(code[i + 1] | 0x20);
            n += 2;
        } else if (code[i] == '[') {
            struct buf nothing = {0};
            n = put_bracket(&nothing, code, len, i); /* a locale */
            buf_fini(&nothing);
            c = before;
        } else if (code[i] == '.' && i + 1 < len && code[i + 1] == '0') {
            n = 1 + run_of(code, len, i + 1);
            char digits[16];
            snprintf(digits, sizeof(digits), "%.*f", (int)(n - 1 > 9 ? 9 : n - 1), at->fraction);
            buf_puts(out, digits[0] == '0' ? digits + 1 : ".999");
            c = before;
        } else {
            n = put_literal(out, code, len, i);
            c = before;
        }
        before = c;
        i += n;
    }
}

/* ---- numbers ------------------------------------------------------------------------------- */

struct shape {
    int min_digits, decimals, min_decimals, exponent_digits;
    int percents, thousands; /* thousands: commas that divide */
    bool grouped, exponent, any;
};

/* Steps over what put_literal and put_bracket would print. */
static size_t skip_literal(const char *code, size_t len, size_t i) {
    struct buf nothing = {0};
    size_t n = code[i] == '[' ? put_bracket(&nothing, code, len, i)
                              : put_literal(&nothing, code, len, i);
    buf_fini(&nothing);
    return n;
}

static struct shape shape_of(const char *code, size_t len) {
    struct shape shape = {0};
    bool point = false;
    int commas = 0;
    for (size_t i = 0; i < len;) {
        char c = code[i];
        if (c == '0' || c == '#' || c == '?') {
            shape.any = true;
            if (commas > 0 && !point)
                shape.grouped = true;
            commas = 0;
            if (shape.exponent)
                shape.exponent_digits++;
            else if (point) {
                shape.decimals++;
                shape.min_decimals = c == '0' ? shape.decimals : shape.min_decimals;
            } else if (c == '0') {
                shape.min_digits++;
            }
            i++;
        } else if (c == '.') {
            point = true;
            i++;
        } else if (c == ',') {
            commas += shape.any ? 1 : 0;
            i++;
        } else if (c == '%') {
            shape.percents++;
            i++;
        } else if ((c == 'E' || c == 'e') && i + 1 < len &&
                   (code[i + 1] == '+' || code[i + 1] == '-')) {
            shape.exponent = true;
            i += 2;
        } else {
            i += skip_literal(code, len, i);
        }
    }
    shape.thousands = commas;
    return shape;
}

static void put_digits(struct buf *out, double value, const struct shape *shape) {
    char digits[400];
    int decimals = shape->decimals > 15 ? 15 : shape->decimals;
    if (shape->exponent) {
        snprintf(digits, sizeof(digits), "%.*E", decimals, value);
        buf_puts(out, digits);
        return;
    }
    snprintf(digits, sizeof(digits), "%.*f", decimals, value);
    char *point = strchr(digits, '.');
    size_t n_whole = point == NULL ? strlen(digits) : (size_t)(point - digits);
    if (point != NULL) {
        size_t len = strlen(digits);
        while (len > n_whole + 1 + (size_t)shape->min_decimals && digits[len - 1] == '0')
            digits[--len] = '\0';
    }
    const char *whole = digits;
    if (shape->min_digits == 0 && n_whole == 1 && digits[0] == '0') {
        whole++; /* "#" shows no lonely zero */
        n_whole = 0;
    }
    for (int i = (int)n_whole; i < shape->min_digits && i < 32; i++)
        buf_putc(out, '0');
    for (size_t i = 0; i < n_whole; i++) {
        buf_putc(out, whole[i]);
        if (shape->grouped && (n_whole - i - 1) % 3 == 0 && i + 1 < n_whole)
            buf_putc(out, ',');
    }
    if (point != NULL)
        buf_puts(out, point);
}

static void put_number(struct buf *out, double value, const char *code, size_t len) {
    struct shape shape = shape_of(code, len);
    for (int i = 0; i < shape.percents; i++)
        value *= 100;
    for (int i = 0; i < shape.thousands; i++)
        value /= 1000;
    bool done = false;
    for (size_t i = 0; i < len;) {
        char c = code[i];
        bool exponent = (c == 'E' || c == 'e') && i + 1 < len &&
                        (code[i + 1] == '+' || code[i + 1] == '-');
        if (c == '0' || c == '#' || c == '?' || exponent || (c == '.' && shape.any) || c == ',') {
            if (!done && shape.any && c != ',')
                put_digits(out, value, &shape);
            done = done || c != ',';
            i += exponent ? 2 : 1;
        } else if (c == '%') {
            buf_putc(out, '%');
            i++;
        } else if (c == '[') {
            i += put_bracket(out, code, len, i);
        } else {
            i += put_literal(out, code, len, i);
        }
    }
}

/* ---- a code -------------------------------------------------------------------------------- */

static size_t section_end(const char *code, size_t start) {
    size_t i = start;
    for (bool quoted = false; code[i] != '\0'; i++) {
        if (code[i] == '"')
            quoted = !quoted;
        else if (code[i] == '\\' && !quoted && code[i + 1] != '\0')
            i++;
        else if (code[i] == ';' && !quoted)
            break;
    }
    return i;
}

/* Date, number, text or fraction, by the first sign that tells. */
static char judge(const char *code, size_t len) {
    char found = 0;
    for (size_t i = 0; i < len;) {
        char c = code[i];
        if (c == '[' && i + 1 < len && strchr("hHmMsS", code[i + 1]) != NULL && len - i > 2 &&
            (code[i + 2] == ']' || (code[i + 2] | 0x20) == (code[i + 1] | 0x20)))
            return 'd';
        if (c == '"' || c == '\\' || c == '_' || c == '*' || c == '[') {
            i += skip_literal(code, len, i);
            continue;
        }
        if (strncasecmp(code + i, "General", 7) == 0)
            return 'g';
        if (strchr("yYmMdDhHsS", c) != NULL)
            return 'd';
        if (c == '@')
            return '@';
        if (c == '/' && found == 'n')
            return 'g';
        if (c == '0' || c == '#' || c == '?')
            found = 'n';
        i++;
    }
    return found;
}

void ooxml_number(struct buf *out, double value, const char *format, bool date_1904) {
    if (!isfinite(value))
        return;
    size_t starts[4] = {0}, ends[4] = {0}, n = 0;
    for (size_t i = 0; n < 4;) {
        starts[n] = i;
        ends[n] = section_end(format, i);
        i = ends[n++];
        if (format[i] == '\0')
            break;
        i++;
    }
    size_t use = value < 0 && n > 1 ? 1 : value == 0 && n > 2 ? 2 : 0;
    const char *code = format + starts[use];
    size_t len = ends[use] - starts[use];
    char kind = judge(code, len);
    struct moment at;
    if (kind == 'd') {
        bool tenths = memmem(code, len, ".0", 2) != NULL;
        if (moment_of(&at, value, date_1904, tenths))
            put_date(out, &at, code, len);
        else
            put_general(out, value);
    } else if (kind == 'g' || kind == '@') {
        put_general(out, value);
    } else {
        if (value < 0 && use == 0)
            buf_putc(out, '-');
        put_number(out, fabs(value), code, len);
    }
}
