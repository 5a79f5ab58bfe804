/* Quantization: size of the error, never worse than plain rounding, bad input, stability. */
#include "evaluator/compression/block_write.h"
#include "evaluator/compression/quantize.h"
#include "space/base/err.h"
#include "space/base/rng.h"
#include "tests/tap.h"

#include <stdlib.h>

enum { ROWS = 8, ROW_LEN = 512 };

static float w[ROWS][ROW_LEN], importance[ROW_LEN];
static char packed[ROWS * ROW_LEN * sizeof(float)], again[sizeof packed];

/* Gaussian rows with a few outliers and uneven importance, as layers have. */
static void make_rows(uint64_t seed)
{
    struct rng rng = rng_make(seed, 1);
    for (size_t r = 0; r < ROWS; r++)
        for (size_t i = 0; i < ROW_LEN; i++)
            w[r][i] = (float)(0.02 * rng_normal(&rng)) * (rng_below(&rng, 100) == 0 ? 4 : 1);
    for (size_t i = 0; i < ROW_LEN; i++)
        importance[i] = (float)exp(rng_normal(&rng));
}

static double relative_error(enum format format, const float *x, size_t n, const void *bytes)
{
    float y[ROWS * ROW_LEN];
    double error = 0, norm = 0;
    kernels_reference()->unpack[format](bytes, n, y);
    for (size_t i = 0; i < n; i++) {
        error += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
        norm += (double)x[i] * (double)x[i];
    }
    return sqrt(error / norm);
}

/* Root mean square error of Gaussian rows relative to their own size.  The bounds bracket what an
 * exact layout gives; one wrong bit anywhere lands far above the upper one. */
static void test_error_sizes(void)
{
    static const struct {
        enum format format;
        double lo, hi;
    } want[] = {
        {FORMAT_Q2_K, 0.20, 0.30},      {FORMAT_Q3_K, 0.11, 0.16},    {FORMAT_IQ4_NL, 0.06, 0.09},
        {FORMAT_Q4_0, 0.07, 0.10},      {FORMAT_Q4_K, 0.05, 0.08},    {FORMAT_Q5_0, 0.035, 0.05},
        {FORMAT_Q5_K, 0.025, 0.04},     {FORMAT_Q6_K, 0.012, 0.020},  {FORMAT_Q8_0, 0.003, 0.006},
        {FORMAT_F16, 0.00005, 0.00030}, {FORMAT_BF16, 0.0005, 0.003}, {FORMAT_F32, 0, 0},
    };
    float x[ROW_LEN * 4];
    struct rng rng = rng_make(11, 1);
    for (size_t i = 0; i < ROW_LEN * 4; i++)
        x[i] = (float)rng_normal(&rng);
    for (size_t k = 0; k < sizeof want / sizeof *want; k++) {
        enum format f = want[k].format;
        struct err err;
        ok(quantize_rows(f, x, 4, ROW_LEN, NULL, packed, &err) == 0, "%s packs Gaussian rows",
           format_name(f));
        double error = relative_error(f, x, 4 * ROW_LEN, packed);
        if (!ok(error >= want[k].lo && error <= want[k].hi, "%s: relative error between %g and %g",
                format_name(f), want[k].lo, want[k].hi))
            printf("# got %g\n", error);
    }
}

static void test_never_worse(void)
{
    for (int f = 0; f < N_FORMATS; f++) {
        enum format format = (enum format)f;
        if (!format_is_quantized(format))
            continue;
        size_t row_bytes = format_row_bytes(format, ROW_LEN);
        bool never_worse = true;
        double searched = 0, plain = 0;
        for (int with = 0; with < 2; with++) {
            const float *h = with ? importance : NULL;
            quantize_rows(format, w[0], ROWS, ROW_LEN, h, packed, NULL);
            quantize_rows_plain(format, w[0], ROWS, ROW_LEN, again, NULL);
            for (size_t r = 0; r < ROWS; r++) {
                double s = quantize_row_error(format, w[r], ROW_LEN, h, packed + r * row_bytes);
                double p = quantize_row_error(format, w[r], ROW_LEN, h, again + r * row_bytes);
                never_worse = never_worse && s <= p;
                searched += s;
                plain += p;
            }
        }
        ok(never_worse, "%s: no row is worse than plain rounding", format_name(format));
        ok(searched < 0.9 * plain, "%s: the search saves a tenth of the error at least",
           format_name(format));
        printf("# %s: error %.4g, plain %.4g, ratio %.3f\n", format_name(format), searched, plain,
               searched / plain);
    }
}

/* Weighting must matter: with importance on one half of the inputs, that half gets closer. */
static void test_importance(void)
{
    static const enum format formats[] = {FORMAT_Q2_K, FORMAT_Q3_K, FORMAT_Q4_0, FORMAT_IQ4_NL,
                                          FORMAT_Q4_K};
    float h[ROW_LEN];
    for (size_t i = 0; i < ROW_LEN; i++)
        h[i] = i % 2 ? 100 : 1;
    for (size_t k = 0; k < sizeof formats / sizeof *formats; k++) {
        float y[2][ROW_LEN];
        double odd[2] = {0};
        for (size_t r = 0; r < ROWS; r++) {
            for (int with = 0; with < 2; with++) {
                quantize_rows(formats[k], w[r], 1, ROW_LEN, with ? h : NULL, packed, NULL);
                kernels_reference()->unpack[formats[k]](packed, ROW_LEN, y[with]);
                for (size_t i = 1; i < ROW_LEN; i += 2)
                    odd[with] += pow((double)w[r][i] - (double)y[with][i], 2);
            }
        }
        ok(odd[1] < 0.95 * odd[0], "%s: inputs that matter are kept closer",
           format_name(formats[k]));
    }
}

static void test_layouts(void)
{
    /* What is written is what is read, for every code and scale. */
    struct rng rng = rng_make(3, 1);
    for (int f = 0; f < N_FORMATS; f++) {
        enum format format = (enum format)f;
        if (!format_is_quantized(format))
            continue;
        bool same = true;
        size_t bytes = format_block_bytes(format);
        for (int round = 0; round < 50; round++) {
            uint8_t block[256], back[256];
            struct exploded e;
            for (size_t i = 0; i < bytes; i++)
                block[i] = (uint8_t)rng_u32(&rng);
            block_explode(format, block, &e);
            if (isnan(e.d) || isnan(e.dmin))
                continue; /* NaN has many patterns */
            block_write(format, &e, back);
            same = same && memcmp(block, back, bytes) == 0;
        }
        ok(same, "%s: taking a block apart and writing it gives the same bytes",
           format_name(format));
    }
}

static void test_special_rows(void)
{
    static const float specials[] = {0.0f, -0.0f, 1.0f, -1.0f, 1e-6f, 1e-20f, 1e-41f, 60000.0f};
    for (int f = 0; f < N_FORMATS; f++) {
        enum format format = (enum format)f;
        bool fine = true;
        for (size_t s = 0; s < sizeof specials / sizeof *specials; s++) {
            float x[256], y[256];
            for (size_t i = 0; i < 256; i++)
                x[i] = specials[s];
            fine = fine && quantize_rows(format, x, 1, 256, NULL, packed, NULL) == 0;
            kernels_reference()->unpack[format](packed, 256, y);
            /* A constant is exact up to f16 steps; below those steps it may become zero. */
            for (size_t i = 0; i < 256; i++)
                fine =
                    fine && fabs((double)y[i] - (double)x[i]) <=
                                0.02 * fabs((double)x[i]) + 0x1p-24 * (double)format_block(format);
        }
        ok(fine, "%s: constant, zero, tiny and huge rows are kept", format_name(format));

        float lone[256] = {0}, y[256];
        lone[77] = -3.0f;
        quantize_rows(format, lone, 1, 256, NULL, packed, NULL);
        kernels_reference()->unpack[format](packed, 256, y);
        bool kept = fabs((double)y[77] + 3) < 0.05;
        for (size_t i = 0; i < 256; i++)
            kept = kept && (i == 77 || fabs((double)y[i]) < 0.05);
        ok(kept, "%s: one weight among zeros is kept", format_name(format));
    }
}

static void test_refusals(void)
{
    struct err err;
    float x[2 * 256];
    for (size_t i = 0; i < 512; i++)
        x[i] = 0.5f;
    for (int f = 0; f < N_FORMATS; f++) {
        x[256 + 9] = NAN;
        ok(quantize_rows((enum format)f, x, 2, 256, NULL, packed, &err) == -1 &&
               err.code == ERR_DATA && strstr(err.text, "row 1 column 9") != NULL,
           "%s: NaN is refused with its place", format_name((enum format)f));
        x[256 + 9] = 0.5f;
    }
    x[0] = -INFINITY;
    ok(quantize_rows_plain(FORMAT_Q4_0, x, 2, 256, packed, &err) == -1 &&
           strstr(err.text, "row 0 column 0") != NULL,
       "infinity is refused without a search too");
    x[0] = 1e6f;
    ok(quantize_rows(FORMAT_F16, x, 2, 256, NULL, packed, &err) == -1 &&
           strstr(err.text, "too large for F16") != NULL,
       "a weight that overflows F16 is refused");
    ok(quantize_rows(FORMAT_BF16, x, 2, 256, NULL, packed, &err) == 0, "BF16 holds it");
    x[0] = 1;
    float h[256] = {0};
    ok(quantize_rows(FORMAT_Q4_K, x, 2, 256, h, packed, &err) == 0,
       "importance of zero everywhere is no reason to fail");
    h[3] = -1;
    ok(quantize_rows(FORMAT_Q4_K, x, 2, 256, h, packed, &err) == -1 &&
           strstr(err.text, "column 3") != NULL,
       "negative importance is refused");
    h[3] = NAN;
    ok(quantize_rows(FORMAT_Q4_K, x, 2, 256, h, packed, NULL) == -1,
       "importance that is not a number is refused");
}

static void test_repeats(void)
{
    bool same = true, apart = true;
    for (int f = 0; f < N_FORMATS; f++) {
        enum format format = (enum format)f;
        size_t row_bytes = format_row_bytes(format, ROW_LEN);
        quantize_rows(format, w[0], ROWS, ROW_LEN, importance, packed, NULL);
        quantize_rows(format, w[0], ROWS, ROW_LEN, importance, again, NULL);
        same = same && memcmp(packed, again, ROWS * row_bytes) == 0;
        quantize_rows(format, w[5], 1, ROW_LEN, importance, again, NULL);
        apart = apart && memcmp(packed + 5 * row_bytes, again, row_bytes) == 0;
    }
    ok(same, "the same input gives the same bytes");
    ok(apart, "a row does not depend on its neighbours");
}

int main(void)
{
    make_rows(5);
    test_layouts();
    test_error_sizes();
    test_never_worse();
    test_importance();
    test_special_rows();
    test_refusals();
    test_repeats();
    return tap_done();
}
