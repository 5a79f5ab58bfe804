/* kernels_check.c - the known-answer test of a kernel set.
 *
 * The input is fixed: pseudo-random bytes as weight blocks (every bit pattern of codes and scales
 * is a legal block) with factors of ordinary size, pseudo-random activations.
 *
 * Tolerance.  Packing must agree bit for bit.  Products may differ by rounding only: the integer
 * parts are exact in every set, so what remains is float addition of at most a few hundred partial
 * sums, each within 2^-24 of its magnitude.  1e-5 of the sum of magnitudes leaves room for any
 * order of addition and none for a wrong code, scale or minimum. */
#include "evaluator/kernels/act_pack.h"
#include "evaluator/kernels/kernel_sets.h"
#include "space/base/err.h"
#include "space/base/rng.h"

#include <math.h>
#include <pthread.h>

enum {
    N_IN = 1536, /* six blocks of 256: more than one pass of every kernel's inner loop */
    ROWS = 19,   /* a full tile of 16 rows and a ragged rest */
    COLS = 15,   /* with 8, 16 and 20 of them every width of a tile */
    WIDE = 37,   /* of matrix tiles a pair and a ragged one */
    STRIDE = ROWS + 3,
    HEAD_DIM = 96, /* of a row of the KV cache: three blocks, which no power of two divides */
    HEAD_STRIDE = HEAD_DIM + 3,
    ROOM = 1 << 16, /* kernels_attend_bytes(HEAD_DIM) and more */
};

/* Everything the test needs; static because it is too large for a small stack.  Sets are built
 * under pthread_once, one at a time in practice; a lock in kernels_check makes sure. */
static struct bench {
    uint8_t w[ROWS * N_IN * sizeof(float)];
    float x[WIDE * N_IN];
    uint8_t packed[2][WIDE * N_IN * sizeof(float)];
    float out[2][WIDE * STRIDE];
    float attended[2][COLS * HEAD_STRIDE];
    float queries[COLS * HEAD_STRIDE];
    float y[2][N_IN];
    _Alignas(64) float room[ROOM];
    double magnitude[ROWS][N_IN]; /* of each weight before cancellation of its minimum */
} t;

static void fill_factor(uint8_t *f16, struct rng *rng)
{
    uint16_t h = kernels_f32_to_f16((float)(0.001 + 0.01 * rng_double(rng)));
    memcpy(f16, &h, sizeof h);
}

static void fill_weights(enum format format, struct rng *rng)
{
    size_t block = format_block(format), bytes = format_block_bytes(format);
    size_t n_blocks = ROWS * N_IN / block;
    for (size_t b = 0; b < n_blocks; b++) {
        uint8_t *p = t.w + b * bytes;
        if (!format_is_quantized(format)) {
            float w = (float)rng_normal(rng);
            uint16_t half = format == FORMAT_F16 ? kernels_f32_to_f16(w) : kernels_f32_to_bf16(w);
            memcpy(p, bytes == 2 ? (void *)&half : (void *)&w, bytes);
            continue;
        }
        for (size_t i = 0; i < bytes; i++)
            p[i] = (uint8_t)rng_u32(rng);
        /* Factors stand first in the 32-blocks, Q4_K and Q5_K, last in the others. */
        bool two = format == FORMAT_Q2_K || format == FORMAT_Q4_K || format == FORMAT_Q5_K;
        bool last = format == FORMAT_Q2_K || format == FORMAT_Q3_K || format == FORMAT_Q6_K;
        uint8_t *factor = last ? p + bytes - (two ? 4 : 2) : p;
        fill_factor(factor, rng);
        if (two)
            fill_factor(factor + 2, rng);
    }
}

static void fill_magnitudes(enum format format)
{
    size_t block = format_block(format), bytes = format_block_bytes(format);
    for (size_t i = 0; i < ROWS * N_IN; i += block) {
        const uint8_t *p = t.w + i / block * bytes;
        double *m = &t.magnitude[i / N_IN][i % N_IN];
        if (format_is_quantized(format)) {
            struct exploded e;
            block_explode(format, p, &e);
            for (size_t j = 0; j < block; j++)
                m[j] = fabs((double)e.d * e.scale[j / GROUP] * e.code[j]) +
                       fabs((double)e.dmin * e.min[j / GROUP]);
        } else {
            float w;
            kernels_reference()->unpack[format](p, 1, &w);
            *m = fabs((double)w);
        }
    }
}

static int differs(struct err *err, const char *what, const char *name)
{
    err_set(err, ERR_INTERNAL, "%s of %s does not reproduce the reference", what, name);
    return -1;
}

static bool products_agree(enum format format, enum act_format act, const struct kernels *set,
                           const struct kernels *reference, size_t n_cols)
{
    const struct kernels *both[2] = {reference, set};
    size_t act_bytes = kernels_act_bytes(format, act, N_IN);
    for (int s = 0; s < 2; s++) {
        for (size_t i = 0; i < WIDE * STRIDE; i++)
            t.out[s][i] = NAN;
        both[s]->matmul[format][act](t.w, format_row_bytes(format, N_IN), ROWS, N_IN, t.packed[0],
                                     act_bytes, n_cols, t.out[s], STRIDE);
    }
    for (size_t c = 0; c < WIDE; c++) {
        for (size_t r = 0; r < STRIDE; r++) {
            double want = (double)t.out[0][c * STRIDE + r], got = (double)t.out[1][c * STRIDE + r];
            if (r >= ROWS || c >= n_cols) {
                if (!isnan(got))
                    return false; /* wrote where it must not */
                continue;
            }
            double scale = 0;
            for (size_t i = 0; i < N_IN; i++)
                scale += t.magnitude[r][i] * fabs((double)t.x[c * N_IN + i]);
            if (!(fabs(got - want) <= 1e-5 * scale))
                return false;
        }
    }
    return true;
}

static int check_act(enum format format, enum act_format act, const struct kernels *set,
                     const struct kernels *reference, struct err *err)
{
    if (reference->matmul[format][act] == NULL)
        return 0;
    size_t act_bytes = kernels_act_bytes(format, act, N_IN);
    for (size_t c = 0; c < WIDE; c++) {
        reference->pack[format][act](t.x + c * N_IN, N_IN, t.packed[0] + c * act_bytes);
        set->pack[format][act](t.x + c * N_IN, N_IN, t.packed[1] + c * act_bytes);
    }
    if (memcmp(t.packed[0], t.packed[1], WIDE * act_bytes) != 0)
        return differs(err, "the packing", format_name(format));
    /* Fewer columns than tiles are for are those of a set that was tested before. */
    static const size_t n_cols[] = {1, 2, 3, 4, 8, COLS, 16, 20, WIDE};
    size_t n_narrow = sizeof n_cols / sizeof *n_cols - 1;
    size_t first = set->isa == ISA_AMX ? n_narrow : 0, n = set->isa == ISA_AMX ? 1 : n_narrow;
    for (size_t k = first; k < first + n; k++)
        if (!products_agree(format, act, set, reference, n_cols[k]))
            return differs(err, n_cols[k] == 1 ? "decode" : "prefill", format_name(format));
    return 0;
}

/* Heads of one position, or seven at two of which the first sees a key less.  Scores are of order
 * 1, so weights and outputs differ by some units in the last place of such values. */
static bool attention_agrees(enum format format, const struct kernels *set,
                             const struct kernels *reference, size_t n_heads, size_t n_positions)
{
    const struct kernels *both[2] = {reference, set};
    float log_sums[2][COLS];
    struct attention a = {.keys = t.w,
                          .values = t.w + ROWS * format_row_bytes(format, HEAD_DIM),
                          .queries = t.queries,
                          .head_dim = HEAD_DIM,
                          .n_heads = n_heads,
                          .n_positions = n_positions,
                          .see = ROWS - n_positions + 1,
                          .queries_stride = COLS * HEAD_DIM / 2,
                          .out_stride = COLS * HEAD_DIM / 2};
    for (size_t i = 0; i < COLS * HEAD_STRIDE; i++)
        t.queries[i] = 0.1f * t.x[i];
    for (int s = 0; s < 2; s++) {
        for (size_t i = 0; i < COLS * HEAD_STRIDE; i++)
            t.attended[s][i] = NAN;
        a.out = t.attended[s];
        a.log_sums = n_positions == 1 ? log_sums[s] : NULL;
        both[s]->attend[format](&a, t.room);
    }
    for (size_t i = 0; i < COLS * HEAD_STRIDE; i++) {
        double want = (double)t.attended[0][i], got = (double)t.attended[1][i];
        if (isnan(want) ? !isnan(got) : !(fabs(got - want) <= 1e-5))
            return false;
    }
    for (size_t h = 0; n_positions == 1 && h < n_heads; h++)
        if (!(fabs((double)log_sums[0][h] - (double)log_sums[1][h]) <= 1e-5))
            return false;
    return true;
}

/* Rows of a KV cache: written to the same bytes, attended to with the same sums. */
static int check_cache(enum format format, const struct kernels *set,
                       const struct kernels *reference, struct err *err)
{
    reference->store[format](t.x, N_IN, t.packed[0]);
    set->store[format](t.x, N_IN, t.packed[1]);
    if (memcmp(t.packed[0], t.packed[1], format_row_bytes(format, N_IN)) != 0)
        return differs(err, "a row of the cache", format_name(format));
    if (!attention_agrees(format, set, reference, 1, 1) ||
        !attention_agrees(format, set, reference, COLS - 1, 1) ||
        !attention_agrees(format, set, reference, COLS / 2, 2))
        return differs(err, "attention", format_name(format));
    return 0;
}

static int check_format(enum format format, const struct kernels *set,
                        const struct kernels *reference, struct rng *rng, struct err *err)
{
    fill_weights(format, rng);
    fill_magnitudes(format);
    reference->unpack[format](t.w, N_IN, t.y[0]);
    set->unpack[format](t.w, N_IN, t.y[1]);
    for (size_t i = 0; i < N_IN; i++)
        if (!(fabs((double)(t.y[0][i] - t.y[1][i])) <= 1e-6 * t.magnitude[0][i]))
            return differs(err, "unpacking", format_name(format));
    for (int act = 0; act < N_ACT_FORMATS; act++)
        if (check_act(format, (enum act_format)act, set, reference, err) != 0)
            return -1;
    return format_is_cache(format) ? check_cache(format, set, reference, err) : 0;
}

/* Elementwise results: a few units in the last place of exp, one of everything else. */
static bool vectors_agree(size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)t.y[0][i] - (double)t.y[1][i]) <= 1e-6 * fabs((double)t.y[0][i]) + 1e-9))
            return false;
    return true;
}

/* A length with a ragged end for every vector width. */
enum { N_VECTOR = 203 };

static int check_sums(const struct kernels *set, const struct kernels *reference, struct err *err)
{
    const float *x = t.x, *z = t.x + N_IN;
    double scale = 0;
    for (size_t i = 0; i < N_VECTOR; i++)
        scale += fabs((double)x[i] * (double)z[i]);
    double difference = (double)set->dot(x, z, N_VECTOR) - (double)reference->dot(x, z, N_VECTOR);
    if (!(fabs(difference) <= 1e-5 * scale))
        return differs(err, "dot", set->name);

    memcpy(t.y[0], x, sizeof t.y[0]);
    memcpy(t.y[1], x, sizeof t.y[1]);
    float want = reference->softmax(t.y[0], N_VECTOR), got = set->softmax(t.y[1], N_VECTOR);
    if (!(fabs((double)(want - got)) <= 1e-5) || !vectors_agree(N_VECTOR + 1))
        return differs(err, "softmax", set->name);
    return 0;
}

static int check_layer(const struct kernels *set, const struct kernels *reference, struct err *err)
{
    const float *x = t.x, *z = t.x + N_IN;
    const struct kernels *both[2] = {reference, set};
    for (int s = 0; s < 2; s++) {
        memcpy(t.y[s], z, sizeof t.y[s]);
        both[s]->add_scaled(t.y[s], x, 0.37f, N_VECTOR);
    }
    /* Cancellation: compare against the size of the terms, here about 1. */
    for (size_t i = 0; i < N_VECTOR + 1; i++)
        if (!(fabs((double)(t.y[0][i] - t.y[1][i])) <= 1e-6))
            return differs(err, "add_scaled", set->name);
    for (int s = 0; s < 2; s++)
        both[s]->rms_norm(t.y[s], x, z, N_VECTOR, 1e-5f);
    if (!vectors_agree(N_VECTOR + 1))
        return differs(err, "rms_norm", set->name);
    for (int s = 0; s < 2; s++)
        both[s]->silu_mul(t.y[s], x, z, N_VECTOR);
    if (!vectors_agree(N_VECTOR + 1))
        return differs(err, "silu_mul", set->name);
    for (int s = 0; s < 2; s++) {
        memcpy(t.y[s], x, sizeof t.y[s]);
        both[s]->rope(t.y[s], z, N_VECTOR / 2);
    }
    for (size_t i = 0; i < N_VECTOR + 1; i++)
        if (!(fabs((double)(t.y[0][i] - t.y[1][i])) <= 1e-5))
            return differs(err, "rope", set->name);
    return check_sums(set, reference, err);
}

/* The same bits, from any c, in two pieces as in one. */
static int check_moments(const struct kernels *set, const struct kernels *reference,
                         struct err *err)
{
    static double a[ROWS * MOMENTS_PANEL], b[ROWS * MOMENTS_PANEL], c[2][MOMENTS_STRIP][STRIDE + 6];
    for (size_t i = 0; i < ROWS * MOMENTS_PANEL; i++) {
        a[i] = (double)t.x[i];
        b[i] = (double)t.x[i + N_IN];
    }
    for (int s = 0; s < 2; s++)
        for (size_t i = 0; i < MOMENTS_STRIP * (STRIDE + 6); i++)
            c[s][i / (STRIDE + 6)][i % (STRIDE + 6)] = (double)t.x[i];
    reference->moments(a, b, ROWS, c[0][0], STRIDE + 6);
    set->moments(a, b, 7, c[1][0], STRIDE + 6);
    set->moments(a + 7 * MOMENTS_PANEL, b + 7 * MOMENTS_PANEL, ROWS - 7, c[1][0], STRIDE + 6);
    return memcmp(c[0], c[1], sizeof c[0]) == 0 ? 0 : differs(err, "moments", set->name);
}

static int check_all(const struct kernels *set, const struct kernels *reference, struct err *err)
{
    struct rng rng = rng_make(0x6b657266, 1);
    for (size_t i = 0; i < WIDE * N_IN; i++)
        t.x[i] = (float)rng_normal(&rng);
    for (int f = 0; f < N_FORMATS; f++)
        if (check_format((enum format)f, set, reference, &rng, err) != 0)
            return -1;
    if (check_moments(set, reference, err) != 0)
        return -1;
    return check_layer(set, reference, err);
}

int kernels_check(const struct kernels *set, const struct kernels *reference, struct err *err)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock);
    int status = check_all(set, reference, err);
    pthread_mutex_unlock(&lock);
    return status;
}
