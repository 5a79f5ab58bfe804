/* test_units.c - what is read, what is refused and with which advice, what is shown. */
#include "space/base/err.h"
#include "space/base/units.h"
#include "tests/tap.h"

static void reads_duration(const char *text, double want)
{
    struct err err = {0};
    double got = NAN;

    ok(units_parse_duration(text, &got, &err) == 0 && got == want, "'%s' is %.9g s", text, want);
}

static void reads_size(const char *text, uint64_t want)
{
    struct err err = {0};
    uint64_t got = 1;

    ok(units_parse_size(text, &got, &err) == 0 && got == want, "'%s' is %llu bytes", text,
       (unsigned long long)want);
}

static void reads_count(const char *text, uint64_t want)
{
    struct err err = {0};
    uint64_t got = 1;

    ok(units_parse_count(text, &got, &err) == 0 && got == want, "'%s' is %llu", text,
       (unsigned long long)want);
}

/* Refused with ERR_USAGE, a sentence that quotes the text and holds `advice`, nothing written. */
static void refuses(char kind, const char *text, const char *advice)
{
    struct err err = {0};
    double seconds = 42;
    uint64_t n = 42;
    int result = kind == 'd'   ? units_parse_duration(text, &seconds, &err)
                 : kind == 's' ? units_parse_size(text, &n, &err)
                               : units_parse_count(text, &n, &err);

    bool held = result == -1 && err.code == ERR_USAGE && strstr(err.text, text) != NULL &&
                strstr(err.text, advice) != NULL && seconds == 42 && n == 42;
    if (!ok(held, "'%s' is refused with '%s'", text, advice))
        printf("# said '%s'\n", err.text);
}

static void test_read(void)
{
    reads_duration("30ms", 0.03);
    reads_duration("250us", 250e-6);
    reads_duration("7ns", 7e-9);
    reads_duration("0.1ms", 1e-4);
    reads_duration("2s", 2);
    reads_duration("1.5h", 5400);
    reads_duration("5 min", 300);
    reads_duration("1d", 86400);
    reads_size("512B", 512);
    reads_size("0B", 0);
    reads_size("64KiB", 65536);
    reads_size("200MB", 200000000);
    reads_size("1.5GiB", UINT64_C(1610612736));
    reads_size("18.3 MB", 18300000);
    reads_size("1.1GiB", UINT64_C(1181116006));
    reads_size("18446744073709551615B", UINT64_MAX);
    reads_size("9007199254740993B", UINT64_C(9007199254740993)); /* 2^53 + 1 */
    reads_count("4096", 4096);
    reads_count("16Ki", 16384);
    reads_count("2k", 2000);
    reads_count("1.5k", 1500);
    reads_count("3.0", 3);
    reads_count("256Mi", UINT64_C(268435456));
}

static void test_refused(void)
{
    refuses('d', "30", "30ms");
    refuses('d', "30", "(units: ns, us, ms, s, min, h, d)");
    refuses('d', "30sec", "did you mean 30s?");
    refuses('d', "30m", "did you mean 30min?");
    refuses('d', "30MS", "did you mean 30ms?");
    refuses('d', "30parsec", "(units: ns");
    refuses('d', "0s", "more than 0");
    refuses('d', "0.0ms", "more than 0");
    refuses('d', "-3ms", "write a number and a unit, such as 30ms");
    refuses('d', "", "such as 30ms");
    refuses('d', "ms", "such as 30ms");
    refuses('d', ".5ms", "such as 30ms");
    refuses('d', "5.ms", "such as 30ms");
    refuses('d', "inf s", "such as 30ms");
    refuses('d', "1e3s", "unknown unit 'e3s'");
    refuses('d', "0x10s", "unknown unit");
    refuses('d', "30ms x", "unknown unit");
    refuses('d', "99999999999h", "1000000000 s");
    refuses('s', "512", "512MiB");
    refuses('s', "512K", "did you mean 512KiB?");
    refuses('s', "1.5gib", "did you mean 1.5GiB?");
    refuses('s', "3ms", "units: B, KiB");
    refuses('s', "18446744073709551616B", "does not fit 64 bits");
    refuses('s', "16777216TiB", "does not fit 64 bits");
    refuses('s', "99999999.5TiB", "does not fit 64 bits");
    refuses('c', "1.5", "not a whole number");
    refuses('c', "1.3Ki", "not a whole number");
    refuses('c', "16K", "did you mean 16Ki?");
    refuses('c', "many", "such as 4096 or 16Ki");
    refuses('c', "18446744073709551616", "does not fit 64 bits");

    /* A number of many digits must neither overflow nor take the sentence along. */
    char digits[3000];
    uint64_t n;
    struct err err = {0};
    memset(digits, '9', sizeof digits - 1);
    digits[sizeof digits - 1] = '\0';
    ok(units_parse_count(digits, &n, &err) == -1 && err.code == ERR_USAGE,
       "3000 digits are refused");
    ok(units_parse_size("1", &n, NULL) == -1, "a caller may do without the reason");
}

static void test_shown(void)
{
    static const struct {
        double seconds;
        const char *want;
    } durations[] = {{0.00153, "1.53 ms"}, {0.0153, "15.3 ms"},    {0.153, "153 ms"},
                     {0.9996, "1.00 s"},   {999.4e-6, "999 us"},   {3.2e-8, "32.0 ns"},
                     {59, "59.0 s"},       {59.99, "1.00 min"},    {7200, "2.00 h"},
                     {0, "0 s"},           {-0.00153, "-1.53 ms"}, {NAN, "nan"},
                     {INFINITY, "inf"},    {36000000, "10000 h"},  {9.996e-6, "10.0 us"}};
    static const struct {
        double n_bytes;
        const char *want;
    } sizes[] = {{0, "0 B"},         {999, "999 B"},    {999.7, "1.00 kB"}, {18300000, "18.3 MB"},
                 {1.5e9, "1.50 GB"}, {2e15, "2000 TB"}, {NAN, "nan"}};
    char text[32];

    for (size_t i = 0; i < sizeof durations / sizeof durations[0]; i++)
        is_text(units_format_duration(durations[i].seconds, text), durations[i].want,
                "%g s as '%s'", durations[i].seconds, durations[i].want);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        is_text(units_format_size(sizes[i].n_bytes, text), sizes[i].want, "%g bytes as '%s'",
                sizes[i].n_bytes, sizes[i].want);
}

/* What is shown reads back, within the three digits. */
static void test_round_trip(void)
{
    double worst = 0;
    int n_refused = 0;
    char text[32];

    for (double seconds = 1.1e-9; seconds < 1e8; seconds *= 1.37) {
        double back = 0;
        n_refused += units_parse_duration(units_format_duration(seconds, text), &back, NULL) != 0;
        worst = fmax(worst, fabs(back / seconds - 1));
    }
    for (double n_bytes = 100; n_bytes < 1e15; n_bytes *= 1.73) {
        uint64_t back = 0;
        n_refused += units_parse_size(units_format_size(n_bytes, text), &back, NULL) != 0;
        worst = fmax(worst, fabs((double)back / n_bytes - 1));
    }
    ok(n_refused == 0 && worst <= 0.00501, "what is shown reads back (worst %.4f)", worst);
}

int main(void)
{
    test_read();
    test_refused();
    test_shown();
    test_round_trip();
    return tap_done();
}
