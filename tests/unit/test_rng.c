/* test_rng.c - Philox4x32-10 known answers, streams, distributions. */
#include "space/base/rng.h"
#include "tests/tap.h"

#include <stdlib.h>

/* The known answers that the authors' Random123 library publishes (kat_vectors). */
static void test_known(void)
{
    static const struct {
        uint32_t counter[4], key[2], want[4];
        const char *title;
    } rows[] = {
        {{0, 0, 0, 0},
         {0, 0},
         {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
         "known answer of all zeros"},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
         "known answer of all ones"},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1},
         "known answer of the digits of pi"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct rng rng = {.used = 4};
        memcpy(rng.counter, rows[i].counter, sizeof rng.counter);
        memcpy(rng.key, rows[i].key, sizeof rng.key);
        bool same = true;
        for (int j = 0; j < 4; j++)
            same = (rng_u32(&rng) == rows[i].want[j]) && same;
        ok(same, "%s", rows[i].title);
    }
}

static void test_streams(void)
{
    struct rng a = rng_make(7, 1), b = rng_make(7, 1), c = rng_make(7, 2), d = rng_make(8, 1);
    int n_same = 0, n_stream = 0, n_seed = 0;

    for (int i = 0; i < 1000; i++) {
        uint32_t x = rng_u32(&a);
        n_same += x == rng_u32(&b);
        n_stream += x == rng_u32(&c);
        n_seed += x == rng_u32(&d);
    }
    ok(n_same == 1000, "seed and stream name the numbers");
    ok(n_stream < 5 && n_seed < 5, "another stream or seed gives others");

    struct rng high = rng_make(UINT64_C(1) << 32, UINT64_C(1) << 32), low = rng_make(0, 0);
    ok(rng_u64(&high) != rng_u64(&low), "the upper halves of seed and stream count");

    struct rng edge = rng_make(1, 5);
    edge.counter[0] = UINT32_MAX;
    rng_u32(&edge);
    ok(edge.counter[0] == 0 && edge.counter[1] == 1 && edge.counter[2] == 5,
       "the block number carries into its second word");

    struct rng halves = rng_make(3, 3), whole = halves;
    uint64_t first = rng_u32(&halves), second = rng_u32(&halves);
    ok(rng_u64(&whole) == (first | second << 32), "64 bits are two draws, the low half first");
}

/* Chi-square of 7 equally likely cells, 6 degrees of freedom: 22.46 is exceeded once in 1000. */
static void test_below(void)
{
    struct rng rng = rng_make(11, 0);
    int count[7] = {0};
    bool inside = true;
    double chi = 0;

    for (int i = 0; i < 70000; i++) {
        uint64_t x = rng_below(&rng, 7);
        inside = inside && x < 7;
        count[x % 7]++;
    }
    for (int i = 0; i < 7; i++)
        chi += (count[i] - 10000.0) * (count[i] - 10000.0) / 10000.0;
    ok(inside && chi < 22.46, "rng_below is even over 7 values (chi-square %.1f)", chi);
    ok(rng_below(&rng, 1) == 0, "below 1 there is only 0");

    /* 3/4 of 2^64: taken modulo, the lowest third would come half of the time. */
    uint64_t n = UINT64_C(3) << 62;
    int n_low = 0;
    inside = true;
    for (int i = 0; i < 10000; i++) {
        uint64_t x = rng_below(&rng, n);
        inside = inside && x < n;
        n_low += x < n / 3;
    }
    ok(inside && abs(n_low - 3333) < 240, "a range of 3/4 of 2^64 is unbiased (%d low)", n_low);
}

static void test_reals(void)
{
    struct rng rng = rng_make(5, 9);
    const int n = 100000;
    double sum = 0, sum2 = 0, sum3 = 0, sum4 = 0;
    bool inside = true;

    for (int i = 0; i < n; i++) {
        double u = rng_double(&rng);
        inside = inside && u >= 0 && u < 1;
        sum += u;
        sum2 += u * u;
    }
    /* Standard errors: 0.289 / sqrt(n) and 0.298 / sqrt(n); five of them are allowed. */
    ok(inside, "uniform numbers lie in [0, 1)");
    near(sum / n, 0.5, 0.0046, "their mean is a half");
    near(sum2 / n, 1.0 / 3, 0.0048, "their mean square a third");

    sum = sum2 = 0;
    for (int i = 0; i < n; i++) {
        double x = rng_normal(&rng);
        sum += x;
        sum2 += x * x;
        sum3 += x * x * x;
        sum4 += x * x * x * x;
    }
    /* Variances of the powers: 1, 2, 15, 96. */
    near(sum / n, 0, 0.016, "normal numbers have mean 0");
    near(sum2 / n, 1, 0.023, "variance 1");
    near(sum3 / n, 0, 0.062, "no skew");
    near(sum4 / n, 3, 0.155, "fourth moment 3");

    struct rng least = {.used = 0, .block = {0, 0, 0, 0}};
    ok(rng_double(&least) == 0, "all bits 0 give 0");
    struct rng most = {.used = 0, .block = {~0u, ~0u, ~0u, ~0u}};
    ok(rng_double(&most) == 1 - 0x1p-53, "all bits 1 give the double below 1");
}

static void test_shuffle(void)
{
    struct rng rng = rng_make(2, 2);
    struct wide {
        char name[100];
    } items[20];
    int seen[20] = {0}, orders[6] = {0};
    double chi = 0;

    for (int i = 0; i < 20; i++)
        snprintf(items[i].name, sizeof items[i].name, "%099d", i);
    rng_shuffle(&rng, items, 20, sizeof items[0]);
    bool moved = false;
    for (int i = 0; i < 20; i++) {
        int value = atoi(items[i].name + 90);
        seen[value]++;
        moved = moved || value != i;
    }
    bool once = true;
    for (int i = 0; i < 20; i++)
        once = once && seen[i] == 1;
    ok(once && moved, "a shuffle keeps every wide item once and moves some");

    for (int i = 0; i < 6000; i++) {
        int p[3] = {0, 1, 2};
        rng_shuffle(&rng, p, 3, sizeof p[0]);
        orders[p[0] * 2 + (p[1] > p[2])]++;
    }
    for (int i = 0; i < 6; i++)
        chi += (orders[i] - 1000.0) * (orders[i] - 1000.0) / 1000.0;
    /* 5 degrees of freedom, once in 1000: 20.52. */
    ok(chi < 20.52, "the six orders of three are equally likely (chi-square %.1f)", chi);
    int one[1] = {4};
    rng_shuffle(&rng, one, 1, sizeof one[0]);
    rng_shuffle(&rng, one, 0, sizeof one[0]);
    ok(one[0] == 4, "one item or none stays");
}

int main(void)
{
    test_known();
    test_streams();
    test_below();
    test_reals();
    test_shuffle();
    return tap_done();
}
