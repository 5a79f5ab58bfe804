/* The kernels for matrix tiles, over tiles in software: every format against sums in double,
 * against the reference and, where sums are integers, against the AVX-512 kernels bit for bit. */
#include "evaluator/kernels/kernel_sets.h"
#include "space/base/err.h"
#include "tests/tap.h"
#include "tests/unit/kernel_fixture.h"
#include "tests/unit/software_tiles.h"

#include <float.h>

static struct kernels amx; /* over tiles in software */
static const struct kernels *avx512;

/* ---- the tiles themselves ---- */

struct shapes {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

/* C of 2 x 2, A of 2 x 1, B of 1 x 2 dwords. */
static void test_tiles(void)
{
    struct shapes shapes = {.palette = 1, .row_bytes = {8, 4, 8}, .rows = {2, 2, 1}};
    const uint8_t a[2][4] = {{1, 2, 3, 4}, {255, 128, 0, 127}};
    const uint8_t b[1][8] = {{1, 1, 1, 1, 255, 128, 2, 127}};
    int32_t c[2][2] = {{10, 20}, {30, 40}};
    tiles_configure(&shapes);
    tile_load(0, c, 8);
    tile_load(1, a, 4);
    tile_load(2, b, 8);
    tile_product_ss(0, 1, 2);
    tile_store(0, c, 8);
    ok(c[0][0] == 20 && c[0][1] == 20 - 1 - 256 + 6 + 508, "bytes are multiplied with their signs");
    ok(c[1][0] == 30 - 1 - 128 + 127 && c[1][1] == 40 + 1 + 16384 + 16129, "in A and in B");
    tile_zero(0);
    tile_product_us(0, 1, 2);
    tile_store(0, c, 8);
    ok(c[1][0] == 255 + 128 + 127 && c[1][1] == -255 - 16384 + 16129, "or without those of A");

    /* Pairs of bf16: 2, 3 and 2^-70, 1; times 1.5, 2^-100 and 2^-60, 2^-127. */
    const uint16_t x[2][2] = {{0x4000, 0x4040}, {0x1c80, 0x3f80}};
    const uint16_t y[1][4] = {{0x3fc0, 0x0d80, 0x2180, 0x0040}};
    float sum[2][2] = {{1, 0}, {0x1p-127f, 0x1p-126f}};
    tile_load(0, sum, 8);
    tile_load(1, x, 4);
    tile_load(2, y, 8);
    tile_product_bf16(0, 1, 2);
    tile_store(0, sum, 8);
    ok(sum[0][0] == 4 + 3 * 0x1p-100f, "pairs of bf16 add up");
    ok(sum[0][1] == 2 * 0x1p-60f, "a denormal factor is zero");
    ok(sum[1][0] == 0x1p-70f * 1.5f + 0x1p-100f, "so is a denormal sum");
    ok(sum[1][1] == 0x1p-126f, "and a product too small");
    tiles_forget();
    ok(!tiles_stand(), "released tiles have no shapes");
}

/* ---- products ---- */

static bool uses_tiles(struct problem *p, bool *good, bool *guarded)
{
    size_t before = tiles_products();
    if (!matches(&amx, p, guarded)) {
        printf("# rows %zu, length %zu, columns %zu\n", p->n_rows, p->n_in, p->n_cols);
        *good = false;
    }
    return tiles_products() > before;
}

/* The very sums of the AVX-512 kernels. */
static bool same_as_avx512(const struct problem *p)
{
    float *got = get(p->n_cols * p->stride * sizeof *got);
    float *want = get(p->n_cols * p->stride * sizeof *want);
    for (size_t i = 0; i < p->n_cols * p->stride; i++)
        got[i] = want[i] = -77;
    amx.matmul[p->format][p->act](p->w, p->row_bytes, p->n_rows, p->n_in, p->packed, p->act_bytes,
                                  p->n_cols, got, p->stride);
    avx512->matmul[p->format][p->act](p->w, p->row_bytes, p->n_rows, p->n_in, p->packed,
                                      p->act_bytes, p->n_cols, want, p->stride);
    bool same = memcmp(got, want, p->n_cols * p->stride * sizeof *got) == 0;
    free(got);
    free(want);
    return same;
}

/* Rows, columns and lengths (in blocks of each size) around every border of a tile. */
static const struct shape {
    size_t n_rows, n_cols, k_blocks, small_blocks, length;
} shapes[] = {
    {1, 16, 1, 1, 1},    {16, 17, 1, 3, 31},  {15, 31, 2, 4, 32},   {17, 32, 1, 5, 33},
    {33, 33, 2, 9, 257}, {37, 16, 4, 33, 64}, {32, 48, 5, 37, 300}, {5, 51, 1, 8, 255},
};

static void test_products(void)
{
    struct rng rng = rng_make(91, 1);
    for (int f = 0; f < N_FORMATS; f++) {
        for (int a = 0; a < N_ACT_FORMATS; a++) {
            enum format format = (enum format)f;
            bool good = true, guarded = true, same = true, used = true;
            size_t block = format_block(format);
            if (amx.matmul[f][a] == NULL)
                continue;
            for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) {
                const struct shape *s = &shapes[k];
                struct problem p;
                problem_init(&p, format, (enum act_format)a, s->n_rows,
                             block == BLOCK_K    ? BLOCK_K * s->k_blocks
                             : block == BLOCK_32 ? BLOCK_32 * s->small_blocks
                                                 : s->length,
                             s->n_cols, &rng);
                used = uses_tiles(&p, &good, &guarded) && used;
                if (a == ACT_Q8)
                    same = same_as_avx512(&p) && same;
                problem_fini(&p);
            }
            ok(good && used, "%s with %s activations multiplies right in tiles of every shape",
               format_name(format), act_format_name((enum act_format)a));
            ok(guarded && !tiles_stand(),
               "%s writes nothing between columns and releases its tiles", format_name(format));
            if (a == ACT_Q8)
                ok(same, "%s has the very sums of the AVX-512 kernels", format_name(format));
        }
    }
}

/* Rows and columns of which pieces of 1024 weights are taken at a time. */
static void test_long_rows(void)
{
    struct rng rng = rng_make(98, 1);
    for (int f = 0; f < N_FORMATS; f++) {
        struct problem p;
        bool good = true, guarded = true;
        if (amx.matmul[f][ACT_Q8] == NULL)
            continue;
        size_t n_in = 17 * BLOCK_K + (format_block((enum format)f) == BLOCK_32 ? BLOCK_32 : 0);
        problem_init(&p, (enum format)f, ACT_Q8, 18, n_in, 33, &rng);
        ok(uses_tiles(&p, &good, &guarded) && good && guarded && same_as_avx512(&p),
           "%s multiplies long rows right", format_name((enum format)f));
        problem_fini(&p);
    }
}

static void test_few_columns(void)
{
    struct rng rng = rng_make(92, 1);
    bool good = true, guarded = true, used = false;
    for (int f = 0; f < N_FORMATS; f++)
        for (int a = 0; a < N_ACT_FORMATS; a++)
            for (size_t n_cols = 1; n_cols < 16 && amx.matmul[f][a] != NULL; n_cols += 14) {
                struct problem p;
                problem_init(&p, (enum format)f, (enum act_format)a, 3, 256, n_cols, &rng);
                used = uses_tiles(&p, &good, &guarded) || used;
                problem_fini(&p);
            }
    ok(good && guarded && !used, "fewer columns than a tile has rows need none");
}

/* More columns than are cut into pieces at a time. */
static void test_many_columns(void)
{
    static const enum format formats[] = {FORMAT_Q5_0, FORMAT_BF16};
    struct rng rng = rng_make(93, 1);
    for (size_t k = 0; k < 2; k++) {
        struct problem p;
        bool good = true, guarded = true;
        problem_init(&p, formats[k], ACT_FLOAT, 3, 32, 256 + 17, &rng);
        ok(uses_tiles(&p, &good, &guarded) && good && guarded, "%s takes any number of columns",
           format_name(formats[k]));
        problem_fini(&p);
    }
}

/* Threads take different rows: where the cut falls must not change a bit. */
static void test_divisions(void)
{
    enum { N_ROWS = 37, N_COLS = 18 };
    struct rng rng = rng_make(94, 1);
    for (int f = 0; f < N_FORMATS; f++)
        for (int a = 0; a < N_ACT_FORMATS; a++) {
            struct problem p;
            static float whole[N_COLS * (N_ROWS + GAP)], parts[N_COLS * (N_ROWS + GAP)];
            bool same = true;
            kernel_matmul_fn *matmul = amx.matmul[f][a];
            if (matmul == NULL)
                continue;
            problem_init(&p, (enum format)f, (enum act_format)a, N_ROWS, 512, N_COLS, &rng);
            for (size_t c = 0; c < p.n_cols; c++)
                amx.pack[f][a](p.x + c * p.n_in, p.n_in, p.packed + c * p.act_bytes);
            matmul(p.w, p.row_bytes, p.n_rows, p.n_in, p.packed, p.act_bytes, p.n_cols, whole,
                   p.stride);
            for (size_t r = 0, n = 1; r < p.n_rows; r += n, n = n * 2 + 1) {
                n = n < p.n_rows - r ? n : p.n_rows - r;
                matmul(p.w + r * p.row_bytes, p.row_bytes, n, p.n_in, p.packed, p.act_bytes,
                       p.n_cols, parts + r, p.stride);
            }
            for (size_t c = 0; c < p.n_cols; c++)
                same = same && memcmp(whole + c * p.stride, parts + c * p.stride,
                                      p.n_rows * sizeof *whole) == 0;
            ok(same, "%s %s products do not depend on how rows are divided",
               format_name((enum format)f), act_format_name((enum act_format)a));
            problem_fini(&p);
        }
}

/* ---- float activations ---- */

/* What numbers below 2^-126 may cost: of each product its factors' last pieces and all that is
 * smaller, of each sum as much (float_amx.c). */
static double lost(const struct problem *p, size_t r)
{
    double all = 0;
    float *w = get(p->n_in * sizeof *w);
    kernels_reference()->unpack[p->format](p->w + r * p->row_bytes, p->n_in, w);
    for (size_t i = 0; i < p->n_in; i++)
        all += (8 + fabs((double)w[i])) * 0x1p-125;
    free(w);
    return all;
}

/* From 2^-132 to 2^65, with one in 37 a million times as large as its neighbours. */
static void test_wild_activations(void)
{
    struct rng rng = rng_make(95, 1);
    for (int f = 0; f < N_FORMATS; f++) {
        bool good = true;
        for (int k = 0; k < 12; k++) {
            struct problem p;
            static float out[16 * (5 + GAP)];
            problem_init(&p, (enum format)f, ACT_FLOAT, 5, 256, 16, &rng);
            for (size_t i = 0; i < p.n_cols * p.n_in; i++) {
                int size = k * 15 - 120 + (i % 37 == 0 ? 20 : 0);
                p.x[i] = k == 0 ? 0 : ldexpf(p.x[i], size - (int)rng_below(&rng, 12));
            }
            memcpy(p.packed, p.x, p.n_cols * p.act_bytes);
            amx.matmul[f][ACT_FLOAT](p.w, p.row_bytes, p.n_rows, p.n_in, p.packed, p.act_bytes,
                                     p.n_cols, out, p.stride);
            for (size_t c = 0; c < p.n_cols; c++)
                for (size_t r = 0; r < p.n_rows; r++) {
                    double magnitude, want = exact(&p, r, c, &magnitude);
                    double error = fabs((double)out[c * p.stride + r] - want);
                    good = good && error <= 4e-6 * magnitude + lost(&p, r);
                }
            problem_fini(&p);
        }
        ok(good, "%s takes float activations of any size", format_name((enum format)f));
    }
}

/* One weight times one activation: what is left out, and the rounding of five sums. */
static void test_pieces(void)
{
    struct rng rng = rng_make(96, 1);
    double worst = 0;
    for (int round = 0; round < 8; round++) {
        struct problem p;
        static float out[16 * (37 + GAP)];
        problem_init(&p, FORMAT_F32, ACT_FLOAT, 37, 1, 16, &rng);
        memcpy(p.packed, p.x, p.n_cols * p.act_bytes);
        amx.matmul[FORMAT_F32][ACT_FLOAT](p.w, p.row_bytes, p.n_rows, p.n_in, p.packed, p.act_bytes,
                                          p.n_cols, out, p.stride);
        for (size_t c = 0; c < p.n_cols; c++)
            for (size_t r = 0; r < p.n_rows; r++) {
                double magnitude, want = exact(&p, r, c, &magnitude);
                worst = fmax(worst, fabs((double)out[c * p.stride + r] - want) / magnitude);
            }
        problem_fini(&p);
    }
    printf("# a product of two floats is off by up to 2^%.1f\n", log2(worst));
    ok(worst <= 6 * 0x1p-24, "three pieces each keep all but the last bits of a product of floats");
}

/* Every product that the activation takes part in shows it, and no other. */
static void test_not_finite(void)
{
    uint32_t odd_bits = 0x7fffffff;
    float odd;
    memcpy(&odd, &odd_bits, sizeof odd);
    const float bad[] = {NAN, INFINITY, -INFINITY, odd};
    struct rng rng = rng_make(97, 1);
    for (int f = 0; f < N_FORMATS; f++) {
        bool shows = true, alone = true;
        for (size_t k = 0; k < 8; k++) {
            struct problem p;
            static float out[19 * (11 + GAP)];
            problem_init(&p, (enum format)f, ACT_FLOAT, 11, 256, 19, &rng);
            size_t column = rng_below(&rng, 19);
            p.x[column * p.n_in + rng_below(&rng, p.n_in)] = bad[k % 4];
            memcpy(p.packed, p.x, p.n_cols * p.act_bytes);
            amx.matmul[f][ACT_FLOAT](p.w, p.row_bytes, p.n_rows, p.n_in, p.packed, p.act_bytes,
                                     p.n_cols, out, p.stride);
            for (size_t c = 0; c < p.n_cols; c++)
                for (size_t r = 0; r < p.n_rows; r++)
                    if (c == column)
                        shows = shows && !isfinite(out[c * p.stride + r]);
                    else
                        alone = alone && isfinite(out[c * p.stride + r]);
            problem_fini(&p);
        }
        ok(shows && alone, "%s with a float activation that is not finite shows it",
           format_name((enum format)f));
    }
}

/* ---- the known-answer test ---- */

static void test_known_answers(void)
{
    struct err err = {0};
    size_t before = tiles_products();
    ok(kernels_check(&amx, kernels_reference(), &err) == 0, "the set reproduces the reference");
    ok(tiles_products() > before, "and is asked for enough columns to use its tiles");

    tiles_falsify(true);
    ok(kernels_check(&amx, kernels_reference(), &err) != 0 && err.code == ERR_INTERNAL,
       "tiles with one wrong sum are refused");
    printf("# %s\n", err.text);
    struct kernels floats = *avx512;
    floats.isa = ISA_AMX;
    float_software_fill(&floats);
    ok(kernels_check(&floats, kernels_reference(), &err) != 0, "be they of floats");
    printf("# %s\n", err.text);
    tiles_falsify(false);
}

/* ---- leave to use them ---- */

static void test_permission(void)
{
    struct err err = {0};
    if (amx_permit(&err) == 0)
        ok(amx_is_there(), "the system permits tiles where there are some");
    else
        ok(err.code == ERR_RESOURCE && strstr(err.text, "permit") != NULL,
           "a system that permits no tiles is told of");
    printf("# %s\n", err.text);
}

int main(void)
{
    avx512 = kernels_for(ISA_AVX512, NULL);
    if (avx512 == NULL)
        return tap_skip_all("no AVX-512 here, which matrix tiles build upon");
    amx = *avx512;
    amx.isa = ISA_AMX;
    amx.name = "amx";
    int8_software_fill(&amx);
    float_software_fill(&amx);
    test_tiles();
    test_products();
    test_long_rows();
    test_few_columns();
    test_many_columns();
    test_divisions();
    test_wild_activations();
    test_pieces();
    test_not_finite();
    test_known_answers();
    test_permission();
    return tap_done();
}
