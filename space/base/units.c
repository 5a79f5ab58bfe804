/* units.c - quantities as people write them: digits, perhaps a fraction, a unit.
 * Whole numbers stay integers all the way, so that 2^64 - 1 bytes is not rounded by a double. */
#include "space/base/units.h"

#include "space/base/err.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct unit_row {
    const char *name;
    double factor; /* seconds, bytes or ones; exact in a double */
};

static const struct unit_row duration_units[] = {
    {"ns", 1e-9}, {"us", 1e-6}, {"ms", 1e-3}, {"s", 1},
    {"min", 60},  {"h", 3600},  {"d", 86400}, {NULL, 0},
};

static const struct unit_row size_units[] = {
    {"B", 1},    {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40}, {"kB", 1e3},
    {"KB", 1e3}, {"MB", 1e6},     {"GB", 1e9},     {"TB", 1e12},    {NULL, 0},
};

static const struct unit_row count_units[] = {
    {"", 1},    {"Ki", 0x1p10}, {"Mi", 0x1p20}, {"Gi", 0x1p30}, {"Ti", 0x1p40},
    {"k", 1e3}, {"M", 1e6},     {"G", 1e9},     {"T", 1e12},    {NULL, 0},
};

/* What people write instead, and what they most likely mean. */
static const struct unit_alias {
    const char *word, *unit;
} unit_aliases[] = {
    {"sec", "s"},   {"secs", "s"},       {"second", "s"},     {"seconds", "s"},
    {"m", "min"},   {"mins", "min"},     {"minute", "min"},   {"minutes", "min"},
    {"hr", "h"},    {"hrs", "h"},        {"hour", "h"},       {"hours", "h"},
    {"day", "d"},   {"days", "d"},       {"msec", "ms"},      {"usec", "us"},
    {"nsec", "ns"}, {"b", "B"},          {"bytes", "B"},      {"byte", "B"},
    {"K", "KiB"},   {"k", "KiB"},        {"Ki", "KiB"},       {"M", "MiB"},
    {"Mi", "MiB"},  {"G", "GiB"},        {"Gi", "GiB"},       {"T", "TiB"},
    {"Ti", "TiB"},  {"\xc2\xb5s", "us"}, {"\xce\xbcs", "us"}, {"K", "Ki"},
    {NULL, NULL},
};

/* One kind of quantity, for parsing and for the sentence when that fails. */
struct unit_kind {
    const char *noun;    /* "duration" */
    const char *choices; /* "ns, us, ms, s, min, h, d" */
    const char *likely;  /* the unit proposed for a bare number */
    const struct unit_row *units;
};

static const struct unit_kind duration_kind = {"duration", "ns, us, ms, s, min, h, d", "ms",
                                               duration_units};
static const struct unit_kind size_kind = {"size", "B, KiB, MiB, GiB, TiB, kB, MB, GB, TB", "MiB",
                                           size_units};
static const struct unit_kind count_kind = {"count", "none, Ki, Mi, Gi, Ti, k, M, G, T", "",
                                            count_units};

/* A text taken apart. */
struct quantity {
    size_t n_number; /* bytes of the number at the start of the text */
    long double value;
    uint64_t whole;   /* the number when it has no fraction */
    bool is_whole;    /* and fits */
    const char *unit; /* the rest of the text */
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* digits [. digits], read here and not by strtod, which would follow the locale and take "inf",
 * "0x1p3" and signs. */
static int number_read(const char *text, struct quantity *q)
{
    const char *c = text;
    long double value = 0, place = 1;
    bool fits = true;
    uint64_t whole = 0;

    for (; is_digit(*c); c++) {
        uint64_t digit = (uint64_t)(*c - '0');
        fits = fits && !__builtin_mul_overflow(whole, 10, &whole) &&
               !__builtin_add_overflow(whole, digit, &whole);
        value = value * 10 + (long double)digit;
    }
    if (c == text)
        return -1;
    q->is_whole = fits;
    if (*c == '.') {
        if (!is_digit(*++c))
            return -1;
        /* Collected as an integer over a power of ten: one rounding for all digits. */
        for (; is_digit(*c); c++) {
            if (*c != '0')
                q->is_whole = false;
            value = value * 10 + (long double)(*c - '0');
            place *= 10;
        }
    }
    q->value = value / place;
    q->whole = whole;
    q->n_number = (size_t)(c - text);
    while (*c == ' ')
        c++;
    q->unit = c;
    return 0;
}

static const struct unit_row *unit_find(const struct unit_kind *kind, const char *word)
{
    for (const struct unit_row *row = kind->units; row->name != NULL; row++)
        if (strcmp(row->name, word) == 0)
            return row;
    return NULL;
}

/* The unit that `word` was meant to be; NULL when it resembles none. */
static const char *unit_guess(const struct unit_kind *kind, const char *word)
{
    for (const struct unit_alias *alias = unit_aliases; alias->word != NULL; alias++)
        if (strcmp(alias->word, word) == 0 && unit_find(kind, alias->unit) != NULL)
            return alias->unit;
    for (const struct unit_row *row = kind->units; row->name != NULL; row++)
        if (strcasecmp(row->name, word) == 0)
            return row->name;
    return NULL;
}

/* Split `text` and find its unit; NULL with a sentence that shows how to write it. */
static const struct unit_row *quantity_parse(const struct unit_kind *kind, const char *text,
                                             struct quantity *q, struct err *err)
{
    if (number_read(text, q) != 0) {
        err_set(err, ERR_USAGE, "'%s' is not a %s: write a number%s%s", text, kind->noun,
                kind->likely[0] != '\0' ? " and a unit, such as 30" : ", such as 4096 or 16Ki",
                kind->likely);
        return NULL;
    }
    const struct unit_row *row = unit_find(kind, q->unit);
    if (row != NULL)
        return row;

    int n = (int)q->n_number;
    const char *guess = unit_guess(kind, q->unit);
    if (q->unit[0] == '\0')
        err_set(err, ERR_USAGE, "%s '%s' has no unit: write for example %.*s%s (units: %s)",
                kind->noun, text, n, text, kind->likely, kind->choices);
    else if (guess != NULL)
        err_set(err, ERR_USAGE,
                "%s '%s' has an unknown unit '%s': did you mean %.*s%s? (units: %s)", kind->noun,
                text, q->unit, n, text, guess, kind->choices);
    else
        err_set(err, ERR_USAGE, "%s '%s' has an unknown unit '%s' (units: %s)", kind->noun, text,
                q->unit, kind->choices);
    return NULL;
}

int units_parse_duration(const char *text, double *seconds, struct err *err)
{
    struct quantity q;
    const struct unit_row *row = quantity_parse(&duration_kind, text, &q, err);

    if (row == NULL)
        return -1;
    /* A division by a thousand is rounded once, a product with 0.001 twice. */
    double value = row->factor < 1 ? (double)(q.value / roundl(1 / (long double)row->factor))
                                   : (double)(q.value * (long double)row->factor);
    if (!(value > 0)) {
        err_set(err, ERR_USAGE, "duration '%s' must be more than 0", text);
        return -1;
    }
    /* Beyond this, nanoseconds would not fit 64 bits. */
    if (value > 1e9) {
        err_set(err, ERR_USAGE, "duration '%s' is more than 1000000000 s", text);
        return -1;
    }
    *seconds = value;
    return 0;
}

/* Number times factor in 64 bits; `must_be_whole` refuses what has to be rounded. */
static int quantity_ones(const struct unit_kind *kind, const char *text, bool must_be_whole,
                         uint64_t *ones, struct err *err)
{
    struct quantity q;
    uint64_t exact;
    const struct unit_row *row = quantity_parse(kind, text, &q, err);

    if (row == NULL)
        return -1;
    if (q.is_whole && !__builtin_mul_overflow(q.whole, (uint64_t)row->factor, &exact)) {
        *ones = exact;
        return 0;
    }
    long double value = q.value * (long double)row->factor;
    if (q.is_whole || !(value < 0x1p64L - 1)) {
        err_set(err, ERR_USAGE, "%s '%s' does not fit 64 bits", kind->noun, text);
        return -1;
    }
    if (must_be_whole && value != floorl(value)) {
        err_set(err, ERR_USAGE, "%s '%s' is not a whole number", kind->noun, text);
        return -1;
    }
    *ones = (uint64_t)roundl(value);
    return 0;
}

int units_parse_size(const char *text, uint64_t *n_bytes, struct err *err)
{
    return quantity_ones(&size_kind, text, false, n_bytes, err);
}

int units_parse_count(const char *text, uint64_t *count, struct err *err)
{
    return quantity_ones(&count_kind, text, true, count, err);
}

/* Three digits, never an exponent: 1.53, 15.3, 153. */
static int digits_after_point(double value)
{
    value = fabs(value);
    return value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
}

/* `units` ascending; the first in which three digits do not reach `next / unit`. */
static const char *format_scaled(double value, const struct unit_row *units, size_t n_units,
                                 char text[32])
{
    size_t i = 0;

    if (!isfinite(value)) {
        snprintf(text, 32, "%s", isnan(value) ? "nan" : value > 0 ? "inf" : "-inf");
        return text;
    }
    /* Half a digit below the next unit, "1000 us" would be shown for 1.00 ms. */
    while (i + 1 < n_units &&
           fabs(value) / units[i].factor >= units[i + 1].factor / units[i].factor * 0.9995)
        i++;
    double scaled = value / units[i].factor;
    /* The last unit has no next one; what is huge in it is shown short. */
    if (fabs(scaled) >= 1e15)
        snprintf(text, 32, "%.3g %s", scaled, units[i].name);
    else
        snprintf(text, 32, "%.*f %s", digits_after_point(scaled), scaled, units[i].name);
    return text;
}

const char *units_format_duration(double seconds, char text[32])
{
    static const struct unit_row rows[] = {{"ns", 1e-9}, {"us", 1e-6}, {"ms", 1e-3},
                                           {"s", 1},     {"min", 60},  {"h", 3600}};

    if (seconds == 0)
        return strcpy(text, "0 s");
    return format_scaled(seconds, rows, sizeof rows / sizeof rows[0], text);
}

const char *units_format_size(double n_bytes, char text[32])
{
    static const struct unit_row rows[] = {
        {"B", 1}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}};

    /* Bytes come whole. */
    if (fabs(n_bytes) < 999.5) {
        snprintf(text, 32, "%.0f B", n_bytes);
        return text;
    }
    return format_scaled(n_bytes, rows, sizeof rows / sizeof rows[0], text);
}
