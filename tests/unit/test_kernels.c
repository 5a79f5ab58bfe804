/* Kernels: every set that this machine offers against the reference and against sums in double. */
#include "space/base/err.h"
#include "tests/tap.h"
#include "tests/unit/kernel_fixture.h"

#include <float.h>
#include <stdlib.h>

/* Shapes: from one block up; rows and columns around every tile size. */
enum { MAX_ROWS = 37 };

/* ---- half floats ---- */

static void test_half_floats(void)
{
    bool back = true, near_f16 = true, near_bf16 = true;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = kernels_f16_to_f32((uint16_t)h), b = kernels_bf16_to_f32((uint16_t)h);
        back = back && (isnan(f) || kernels_f32_to_f16(f) == h);
        back = back && (isnan(b) || kernels_f32_to_bf16(b) == h);
    }
    ok(back, "every f16 and bf16 that is a number survives the way to f32 and back");

    /* Nearest, and even on ties: the error is at most half the gap of the neighbours. */
    struct rng rng = rng_make(1, 1);
    for (int i = 0; i < 20000; i++) {
        float f = (float)ldexp(rng_normal(&rng), (int)rng_below(&rng, 40) - 26);
        uint16_t h = kernels_f32_to_f16(f), b = kernels_f32_to_bf16(f);
        float near = kernels_f16_to_f32(h);
        for (int step = -1; step <= 1 && isfinite(near); step += 2) {
            float other = kernels_f16_to_f32((uint16_t)(h + step));
            near_f16 = near_f16 && !(fabsf(other - f) < fabsf(near - f));
            other = kernels_bf16_to_f32((uint16_t)(b + step));
            near_bf16 = near_bf16 && !(fabsf(other - f) < fabsf(kernels_bf16_to_f32(b) - f));
        }
    }
    ok(near_f16, "f32 to f16 takes the nearest, subnormals included");
    ok(near_bf16, "f32 to bf16 takes the nearest");
    ok(kernels_f32_to_f16(1.0f + 0x1p-11f) == 0x3c00 &&
           kernels_f32_to_f16(1.0f + 3 * 0x1p-11f) == 0x3c02,
       "ties go to even");
    ok(kernels_f32_to_f16(65519.9f) == 0x7bff && kernels_f32_to_f16(65520.0f) == 0x7c00,
       "f16 overflows to infinity half a step above its largest number");
    ok(isnan(kernels_f16_to_f32(kernels_f32_to_f16(NAN))) &&
           isnan(kernels_bf16_to_f32(kernels_f32_to_bf16(NAN))),
       "NaN stays NaN");
}

/* ---- known blocks ---- */

/* Weights written by hand from the drawings in blocks.h. */
static void test_known_blocks(void)
{
    const struct kernels *ref = kernels_reference();
    float y[256];

    uint8_t q4_0[18] = {0x00, 0x3c, 0x2f}; /* d = 1; w0 = 15 - 8, w16 = 2 - 8 */
    ref->unpack[FORMAT_Q4_0](q4_0, 32, y);
    ok(y[0] == 7 && y[16] == -6 && y[1] == -8, "a Q4_0 block is read as drawn");

    uint8_t q5_0[22] = {0x00, 0x40, 0x01, 0, 0x02, 0, 0x53}; /* d = 2; bits 0 and 17 set */
    ref->unpack[FORMAT_Q5_0](q5_0, 32, y);
    ok(y[0] == 6 && y[16] == -22 && y[17] == 0 && y[1] == -32, "a Q5_0 block is read as drawn");

    uint8_t iq4_nl[18] = {0x00, 0x3c, 0xf0};
    ref->unpack[FORMAT_IQ4_NL](iq4_nl, 32, y);
    ok(y[0] == -127 && y[16] == 113, "an IQ4_NL block is read as drawn");

    struct block_q2_k q2 = {.d = {0, 0x3c}, .dmin = {0, 0x38}}; /* 1 and 0.5 */
    q2.scales[1] = 0x42;                                        /* group 1: scale 2, minimum 4 */
    q2.scales[10] = 0x03;                                       /* group 10: scale 3 */
    q2.qs[16] = 0x02;                                           /* weight 16 */
    q2.qs[32 + 5] = 0x0c;                                       /* weight 128 + 32 + 5 */
    ref->unpack[FORMAT_Q2_K](&q2, 256, y);
    ok(y[16] == 2 && y[17] == -2 && y[165] == 9 && y[0] == 0, "a Q2_K block is read as drawn");

    struct block_q3_k q3 = {.d = {0, 0x3c}};
    q3.scales[1] = 0x30;     /* low bits of scale 9: 3 */
    q3.scales[8 + 1] = 0x20; /* high bits of scale 9: 2, so 35 - 32 = 3 */
    q3.hmask[16] = 0x10;     /* bit 2 of weight 128 + 16 (group 9) */
    q3.qs[32 + 16] = 0x01;   /* its low bits: 1, so code 5 - 4 = 1 */
    ref->unpack[FORMAT_Q3_K](&q3, 256, y);
    ok(y[144] == 3 && y[145] == -12 && y[0] == 128, "a Q3_K block is read as drawn");

    struct block_q4_k q4 = {.d = {0, 0x3c}, .dmin = {0, 0x3c}};
    q4.scales[1] = 0x40 | 7; /* scale 1 = 7; bit 4 of scale 5 */
    q4.scales[5] = 0x80 | 9; /* minimum 1 = 9; bit 5 of minimum 5 */
    q4.scales[9] = 0x21;     /* scale 5 = 16 + 1, minimum 5 = 32 + 2 */
    q4.qs[3] = 0x20;         /* weight 35, group 1 */
    q4.qs[64] = 0x30;        /* weight 160, group 5 */
    ref->unpack[FORMAT_Q4_K](&q4, 256, y);
    ok(y[35] == 14 - 9 && y[36] == -9 && y[160] == 51 - 34, "a Q4_K block is read as drawn");

    struct block_q5_k q5 = {.d = {0, 0x3c}, .dmin = {0, 0x3c}};
    q5.scales[1] = 1;
    q5.qh[3] = 0x02; /* fifth bit of weight 35 */
    q5.qs[3] = 0x20;
    ref->unpack[FORMAT_Q5_K](&q5, 256, y);
    ok(y[35] == 18 && y[3] == 0, "a Q5_K block is read as drawn");

    struct block_q6_k q6 = {.d = {0, 0x3c}};
    memset(q6.scales, 1, sizeof q6.scales);
    q6.scales[12] = -2;
    q6.ql[64] = 0x50; /* weight 128 + 64: low bits 5 */
    q6.qh[32] = 0x30; /* its high bits 3: code 53 - 32 */
    ref->unpack[FORMAT_Q6_K](&q6, 256, y);
    ok(y[192] == -42 && y[193] == 64 && y[0] == -32, "a Q6_K block is read as drawn");
}

/* ---- matrices ---- */

static void test_matmul(const struct kernels *set)
{
    static const size_t n_rows[] = {1, 2, 3, 5, 7, 8, 9, 17, 33, 37};
    static const size_t n_cols[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 17, 33, 35};
    /* Lengths in blocks, so that short rows, ragged tiles and several tiles all occur; float rows
     * take any length. */
    static const size_t k_blocks[] = {1, 2, 3, 4, 5, 11};
    static const size_t small_blocks[] = {1, 2, 3, 7, 8, 9, 17, 31, 33, 65, 89};
    static const size_t lengths[] = {1, 7, 15, 16, 17, 33, 255, 256, 257, 600};
    struct rng rng = rng_make(77, set->isa);
    for (int f = 0; f < N_FORMATS; f++) {
        for (int a = 0; a < N_ACT_FORMATS; a++) {
            enum format format = (enum format)f;
            if (set->matmul[f][a] == NULL)
                continue;
            bool good = true, guarded = true;
            size_t block = format_block(format);
            for (size_t k = 0; k < 24; k++) {
                size_t n_in = block == 256  ? 256 * k_blocks[k % 6]
                              : block == 32 ? 32 * small_blocks[k % 11]
                                            : lengths[k % 10];
                struct problem p;
                size_t cols = k % 3 == 0 ? 1 : n_cols[rng_below(&rng, 12)];
                problem_init(&p, format, (enum act_format)a, n_rows[(k * 3 + 1) % 10], n_in, cols,
                             &rng);
                if (!matches(set, &p, &guarded)) {
                    printf("# rows %zu, length %zu, columns %zu\n", p.n_rows, n_in, cols);
                    good = false;
                }
                problem_fini(&p);
            }
            ok(good, "%s: %s with %s activations multiplies right in every shape", set->name,
               format_name(format), act_format_name((enum act_format)a));
            ok(guarded, "%s: %s writes nothing between the columns", set->name,
               format_name(format));
        }
    }
}

/* Rows longer than any kernel takes at once. */
static void test_long_rows(const struct kernels *set)
{
    static const size_t lengths[] = {8192 + 256, 2 * 8192 + 3 * 256, 4096 + 2048, 8192 + 96};
    struct rng rng = rng_make(83, set->isa);
    for (int f = 0; f < N_FORMATS; f++) {
        for (int a = 0; a < N_ACT_FORMATS; a++) {
            bool good = true, guarded = true;
            if (set->matmul[f][a] == NULL)
                continue;
            for (size_t k = 0; k < 8; k++) {
                struct problem p;
                if (!format_fits((enum format)f, lengths[k / 2]))
                    continue;
                problem_init(&p, (enum format)f, (enum act_format)a, 5, lengths[k / 2], 1 + k % 4,
                             &rng);
                good = good && matches(set, &p, &guarded);
                problem_fini(&p);
            }
            ok(good && guarded, "%s: %s with %s activations multiplies long rows right", set->name,
               format_name((enum format)f), act_format_name((enum act_format)a));
        }
    }
}

/* From 2^-132 to 2^65, with one in 37 a million times as large as its neighbours. */
static void test_wild_activations(const struct kernels *set)
{
    struct rng rng = rng_make(84, set->isa);
    for (int f = 0; f < N_FORMATS; f++) {
        bool good = true;
        for (size_t k = 0; k < 12; k++) {
            struct problem p;
            float out[4 * (MAX_ROWS + GAP)];
            problem_init(&p, (enum format)f, ACT_FLOAT, 9, 512, 1 + k % 4, &rng);
            for (size_t i = 0; i < p.n_cols * p.n_in; i++) {
                int size = (int)k * 15 - 120 + (i % 37 == 0 ? 20 : 0);
                p.x[i] = k == 0 ? 0 : ldexpf(p.x[i], size - (int)rng_below(&rng, 12));
            }
            memcpy(p.packed, p.x, p.n_cols * p.act_bytes);
            set->matmul[f][ACT_FLOAT](p.w, p.row_bytes, p.n_rows, p.n_in, p.packed, p.act_bytes,
                                      p.n_cols, out, p.stride);
            for (size_t c = 0; c < p.n_cols; c++) {
                for (size_t r = 0; r < p.n_rows; r++) {
                    double magnitude, want = exact(&p, r, c, &magnitude);
                    double error = fabs((double)out[c * p.stride + r] - want);
                    good = good && error <= 4e-6 * magnitude + freedom(&p, r, c) + 0x1p-140;
                }
            }
            problem_fini(&p);
        }
        ok(good, "%s: %s takes float activations of any size", set->name,
           format_name((enum format)f));
    }
}

/* Every product that the activation takes part in shows it, and no other. */
static void test_not_finite(const struct kernels *set)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    struct rng rng = rng_make(85, set->isa);
    for (int f = 0; f < N_FORMATS; f++) {
        bool shows = true, alone = true;
        for (size_t k = 0; k < 24; k++) {
            struct problem p;
            float out[5 * (MAX_ROWS + GAP)];
            size_t n_in = format_fits((enum format)f, 96) ? 96 : 512, n_cols = 1 + k % 5;
            problem_init(&p, (enum format)f, ACT_FLOAT, 11, n_in, n_cols, &rng);
            size_t column = rng_below(&rng, n_cols);
            p.x[column * n_in + rng_below(&rng, n_in)] = bad[k % 3];
            memcpy(p.packed, p.x, n_cols * p.act_bytes);
            set->matmul[f][ACT_FLOAT](p.w, p.row_bytes, p.n_rows, n_in, p.packed, p.act_bytes,
                                      n_cols, out, p.stride);
            for (size_t c = 0; c < n_cols; c++)
                for (size_t r = 0; r < p.n_rows; r++)
                    if (c == column)
                        shows = shows && !isfinite(out[c * p.stride + r]);
                    else
                        alone = alone && isfinite(out[c * p.stride + r]);
            problem_fini(&p);
        }
        ok(shows && alone, "%s: %s with a float activation that is not finite shows it", set->name,
           format_name((enum format)f));
    }
}

/* Threads take different rows: where the cut falls must not change a bit. */
static void test_divisions(const struct kernels *set)
{
    struct rng rng = rng_make(82, 1);
    for (int f = 0; f < N_FORMATS; f++) {
        for (int a = 0; a < N_ACT_FORMATS; a++) {
            if (set->matmul[f][a] == NULL)
                continue;
            bool same = true;
            static const size_t columns[] = {1, 2, 3, 4, 6, 11};
            for (size_t k = 0; k < sizeof columns / sizeof *columns; k++) {
                size_t n_cols = columns[k];
                struct problem p;
                float whole[11 * (MAX_ROWS + GAP)], parts[11 * (MAX_ROWS + GAP)];
                problem_init(&p, (enum format)f, (enum act_format)a, MAX_ROWS, 768, n_cols, &rng);
                for (size_t c = 0; c < n_cols; c++)
                    set->pack[f][a](p.x + c * p.n_in, p.n_in, p.packed + c * p.act_bytes);
                set->matmul[f][a](p.w, p.row_bytes, p.n_rows, p.n_in, p.packed, p.act_bytes, n_cols,
                                  whole, p.stride);
                for (size_t r = 0, n = 1; r < p.n_rows; r += n, n = n * 2 + 1) {
                    n = n < p.n_rows - r ? n : p.n_rows - r;
                    set->matmul[f][a](p.w + r * p.row_bytes, p.row_bytes, n, p.n_in, p.packed,
                                      p.act_bytes, n_cols, parts + r, p.stride);
                }
                for (size_t c = 0; c < n_cols; c++)
                    same = same && memcmp(whole + c * p.stride, parts + c * p.stride,
                                          p.n_rows * sizeof *whole) == 0;
                problem_fini(&p);
            }
            ok(same, "%s: %s %s products do not depend on how rows are divided", set->name,
               format_name((enum format)f), act_format_name((enum act_format)a));
        }
    }
}

static void test_unpack(const struct kernels *set)
{
    static const size_t lengths[] = {1, 5, 16, 31, 32, 96, 256, 768, 800};
    struct rng rng = rng_make(78, set->isa);
    for (int f = 0; f < N_FORMATS; f++) {
        bool same = true, guarded = true;
        for (size_t k = 0; k < 9; k++) {
            size_t n = lengths[k];
            if (!format_fits((enum format)f, n))
                continue;
            size_t bytes = format_row_bytes((enum format)f, n);
            uint8_t *w = get(bytes);
            float *y = get((n + 1) * sizeof *y), *want = get(n * sizeof *want);
            random_rows((enum format)f, w, n, &rng);
            y[n] = -77;
            set->unpack[f](w, n, y);
            kernels_reference()->unpack[f](w, n, want);
            same = same && memcmp(y, want, n * sizeof *y) == 0;
            guarded = guarded && y[n] == -77;
            free(w);
            free(y);
            free(want);
        }
        ok(same && guarded, "%s: %s unpacks to the reference's very bits", set->name,
           format_name((enum format)f));
    }
}

static void test_pack(const struct kernels *set)
{
    enum { N = 512 };
    const struct kernels *ref = kernels_reference();
    struct rng rng = rng_make(79, 1);
    static const enum format formats[] = {FORMAT_Q4_K, FORMAT_Q8_0};
    for (size_t k = 0; k < 2; k++) {
        enum format f = formats[k];
        size_t bytes = kernels_act_bytes(f, ACT_Q8, N), group = act_group(f);
        uint8_t *got = get(bytes), *want = get(bytes);
        bool same = true, right = true;
        float x[N];
        for (int round = 0; round < 40; round++) {
            double size = ldexp(1.0, round * 5 - 100);
            for (size_t i = 0; i < N; i++)
                x[i] = round == 0 ? 0 : (float)(size * rng_normal(&rng));
            set->pack[f][ACT_Q8](x, N, got);
            ref->pack[f][ACT_Q8](x, N, want);
            same = same && memcmp(got, want, bytes) == 0;
        }
        ok(same, "%s: groups of %zu are packed to the same bytes at every scale", set->name, group);

        for (size_t i = 0; i < N; i++)
            x[i] = (float)rng_normal(&rng);
        set->pack[f][ACT_Q8](x, N, got);
        struct act_view v = act_view(got, N, group);
        for (size_t i = 0; i < N; i++)
            right = right && fabsf(v.d[i / group] * v.q[i] - x[i]) <=
                                 0.505f * v.d[i / group] + 0.07f * v.d[i / group];
        for (size_t j = 0; j < N / GROUP; j++) {
            int sum = 0;
            for (size_t i = 0; i < GROUP; i++)
                sum += v.q[j * GROUP + i];
            right = right && sum == v.sums[j];
        }
        ok(right, "%s: codes are within half a step of the values, sums are their sums", set->name);

        static const float bad[] = {NAN, INFINITY, -INFINITY};
        bool poisoned = true;
        for (int b = 0; b < 3; b++) {
            x[3] = bad[b];
            set->pack[f][ACT_Q8](x, N, got);
            v = act_view(got, N, group);
            poisoned = poisoned && isnan(v.d[0]) && isfinite(v.d[N / group - 1]);
        }
        ok(poisoned, "%s: a value that is not finite poisons its group and no other", set->name);
        free(got);
        free(want);
    }
}

/* ---- the rest of a layer ---- */

static void test_vectors(const struct kernels *set)
{
    enum { MAX = 300 };
    struct rng rng = rng_make(80, 1);
    float x[MAX], y[MAX + 1], z[MAX];
    bool dots = true, sums = true, norms = true, silus = true, softs = true, ropes = true;
    bool guarded = true;
    for (size_t n = 1; n < MAX; n += n < 70 ? 1 : 23) {
        double dot = 0, size = 0, square = 0;
        for (size_t i = 0; i < n; i++) {
            x[i] = (float)(3 * rng_normal(&rng));
            z[i] = (float)rng_normal(&rng);
            dot += (double)x[i] * (double)z[i];
            size += fabs((double)x[i] * (double)z[i]);
            square += (double)x[i] * (double)x[i];
        }
        y[n] = -77;
        dots = dots && fabs((double)set->dot(x, z, n) - dot) <= 2e-6 * size;

        memcpy(y, z, n * sizeof *y);
        set->add_scaled(y, x, -1.5f, n);
        for (size_t i = 0; i < n; i++)
            sums = sums && fabs((double)y[i] - ((double)z[i] - 1.5 * (double)x[i])) <= 2e-6;

        set->rms_norm(y, x, z, n, 1e-5f);
        double inverse = 1 / sqrt(square / (double)n + 1e-5);
        for (size_t i = 0; i < n; i++) {
            double want = (double)x[i] * inverse * (double)z[i];
            norms = norms && fabs((double)y[i] - want) <= 1e-6 * fabs(want);
        }

        set->silu_mul(y, x, z, n);
        for (size_t i = 0; i < n; i++) {
            double want = (double)x[i] / (1 + exp(-(double)x[i])) * (double)z[i];
            silus = silus && fabs((double)y[i] - want) <= 1e-6 * fabs(want);
        }

        memcpy(y, x, n * sizeof *y);
        double total = 0, biggest = -INFINITY;
        for (size_t i = 0; i < n; i++)
            biggest = fmax(biggest, (double)x[i]);
        for (size_t i = 0; i < n; i++)
            total += exp((double)x[i] - biggest);
        double log_sum = biggest + log(total);
        softs =
            softs && fabs((double)set->softmax(y, n) - log_sum) <= 2e-6 * fmax(1, fabs(log_sum));
        for (size_t i = 0; i < n; i++) {
            double want = exp((double)x[i] - log_sum);
            softs = softs && fabs((double)y[i] - want) <= 2e-6 * want;
        }

        size_t pairs = n / 2;
        memcpy(y, x, n * sizeof *y);
        set->rope(y, z, pairs);
        for (size_t i = 0; i < pairs; i++) {
            double a = (double)x[2 * i], b = (double)x[2 * i + 1];
            double c = (double)z[2 * i], s = (double)z[2 * i + 1];
            ropes = ropes && fabs((double)y[2 * i] - (a * c - b * s)) <= 1e-5 &&
                    fabs((double)y[2 * i + 1] - (a * s + b * c)) <= 1e-5;
        }
        if (n % 2 == 1)
            ropes = ropes && y[n - 1] == x[n - 1];
        guarded = guarded && y[n] == -77;
    }
    ok(dots, "%s: dot products", set->name);
    ok(sums, "%s: scaled sums", set->name);
    ok(norms, "%s: norms", set->name);
    ok(silus, "%s: gated units", set->name);
    ok(softs, "%s: softmax and the logarithm of its sum", set->name);
    ok(ropes, "%s: rotations", set->name);
    ok(guarded, "%s: nothing is written behind the end", set->name);
}

static void test_extremes(const struct kernels *set)
{
    float gate[6] = {-1000, -90, -20, 0, 20, 1000}, up[6] = {1, 1, 1, 1, 1, 1}, y[6];
    set->silu_mul(y, gate, up, 6);
    ok(fabsf(y[0]) < 1e-30f && fabsf(y[1]) < 1e-30f && y[3] == 0 && fabsf(y[4] - 20) < 1e-5f &&
           y[5] == 1000,
       "%s: gates far from zero saturate without NaN", set->name);
    gate[2] = NAN;
    set->silu_mul(y, gate, up, 6);
    ok(isnan(y[2]) && !isnan(y[1]), "%s: a gate that is NaN shows", set->name);

    float logits[5] = {1e4f, -1e4f, 1e4f, -INFINITY, 0};
    float log_sum = set->softmax(logits, 5);
    ok(fabsf(logits[0] - 0.5f) < 1e-6f && logits[1] == 0 && logits[3] == 0 && logits[4] == 0 &&
           fabsf(log_sum - 10000.693f) < 0.01f,
       "%s: softmax of large and masked logits", set->name);

    uint8_t *bytes = get(64 * 21 + 13);
    struct rng rng = rng_make(81, 1);
    uint64_t want = 0;
    for (size_t i = 0; i < 64 * 21 + 13; i++)
        bytes[i] = (uint8_t)rng_u32(&rng);
    for (size_t i = 0; i < 64 * 21; i += 8) {
        uint64_t word;
        memcpy(&word, bytes + i, sizeof word);
        want ^= word;
    }
    ok(set->read(bytes, 64 * 21 + 13) == want, "%s: reading touches every whole line", set->name);
    free(bytes);
}

static void test_sets(void)
{
    struct err err;
    for (int i = 0; i < N_ISAS; i++) {
        enum isa isa = (enum isa)i;
        ok(isa_parse(isa_name(isa)) == isa, "the name %s is read back", isa_name(isa));
        const struct kernels *set = kernels_for(isa, &err);
        if (set == NULL) {
            ok(isa != ISA_REF && err.code == ERR_RESOURCE,
               "%s is refused only where the processor lacks it", isa_name(isa));
            printf("# %s\n", err.text);
            continue;
        }
        ok(set->isa == isa && strcmp(set->name, isa_name(isa)) == 0, "%s is offered", set->name);
        test_matmul(set);
        test_long_rows(set);
        test_wild_activations(set);
        test_not_finite(set);
        test_divisions(set);
        test_unpack(set);
        test_pack(set);
        test_vectors(set);
        test_extremes(set);
    }
    ok(isa_parse("auto") == N_ISAS && isa_parse("") == N_ISAS, "other names are no set");
    ok(kernels_select() != NULL, "some set is always selected");
    printf("# selected: %s\n", kernels_select()->name);
}

int main(void)
{
    test_half_floats();
    test_known_blocks();
    test_sets();
    return tap_done();
}
