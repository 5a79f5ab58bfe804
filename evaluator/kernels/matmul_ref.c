/* matmul_ref.c - the oracle: packing, unpacking and multiplication in plain C for every format.
 * Integer parts are exact and sums over blocks are kept in double, so that what differs from a fast
 * kernel is the rounding of that kernel alone. */
#include "evaluator/kernels/act_pack.h"
#include "evaluator/kernels/kernel_sets.h"

#include <assert.h>
#include <math.h>

/* Columns that share one unpacking of a weight block. */
enum { COLUMNS = 16, CHUNK = 256 };

/* ---- packing ---- */

/* The largest magnitude, taken on the bit patterns, where NaN and infinity come out on top. */
static float largest(const float *x, size_t n)
{
    uint32_t max = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = load_u32(x + i) & 0x7fffffff;
        max = bits > max ? bits : max;
    }
    float amax;
    memcpy(&amax, &max, sizeof amax);
    return amax;
}

/* One group: codes and their sums; returns the scale.  A group that is not finite gets the scale
 * NaN, so that it shows in the product; one too small for its inverse counts as zero. */
static float pack_group(const float *x, size_t group, int8_t *q, int16_t *sums)
{
    float amax = largest(x, group);
    float inverse = isfinite(amax) && amax >= ACT_TINY ? 127.0f / amax : 0;
    for (size_t i = 0; i < group; i++)
        q[i] = inverse > 0 ? (int8_t)rintf(x[i] * inverse) : 0;
    for (size_t j = 0; j < group / GROUP; j++) {
        int sum = 0;
        for (size_t i = 0; i < GROUP; i++)
            sum += q[j * GROUP + i];
        sums[j] = (int16_t)sum;
    }
    return act_scale(amax, inverse, group);
}

static void pack_q8(const float *x, size_t n_in, size_t group, void *packed)
{
    struct act_view v = act_view(packed, n_in, group);
    int8_t *q = (int8_t *)v.q;
    float *d = (float *)v.d;
    int16_t *sums = (int16_t *)v.sums;
    for (size_t g = 0; g < n_in / group; g++)
        d[g] = pack_group(x + g * group, group, q + g * group, sums + g * (group / GROUP));
    act_pack_pad(packed, n_in, group);
}

static void pack_q8_32_ref(const float *x, size_t n_in, void *packed)
{
    pack_q8(x, n_in, BLOCK_32, packed);
}

static void pack_q8_k_ref(const float *x, size_t n_in, void *packed)
{
    pack_q8(x, n_in, BLOCK_K, packed);
}

void pack_float(const float *x, size_t n_in, void *packed)
{
    memcpy(packed, x, n_in * sizeof *x);
}

/* ---- unpacking ---- */

static void unpack_block(enum format format, const char *block, float *y)
{
    struct exploded e;
    block_explode(format, block, &e);
    for (size_t i = 0; i < format_block(format); i++) {
        size_t g = i / GROUP;
        y[i] = e.d * (float)e.scale[g] * (float)e.code[i] - e.dmin * (float)e.min[g];
    }
}

static void unpack(enum format format, const void *w, size_t n, float *y)
{
    const char *p = w;
    if (format == FORMAT_F32) {
        memcpy(y, p, n * sizeof *y);
    } else if (format == FORMAT_F16) {
        for (size_t i = 0; i < n; i++)
            y[i] = kernels_f16_to_f32(load_u16(p + 2 * i));
    } else if (format == FORMAT_BF16) {
        for (size_t i = 0; i < n; i++)
            y[i] = kernels_bf16_to_f32(load_u16(p + 2 * i));
    } else {
        size_t block = format_block(format), bytes = format_block_bytes(format);
        for (size_t b = 0; b < n / block; b++)
            unpack_block(format, p + b * bytes, y + b * block);
    }
}

/* ---- multiplication ---- */

/* sum over a block of weight times activation, both still scaled: exact but for the two factors. */
static double block_dot(const struct exploded *e, size_t block, const int8_t *q,
                        const int16_t *sums)
{
    int64_t scaled = 0, minima = 0;
    for (size_t g = 0; g < block / GROUP; g++) {
        int dot = 0;
        for (size_t i = 0; i < GROUP; i++)
            dot += e->code[g * GROUP + i] * q[g * GROUP + i];
        scaled += (int64_t)dot * e->scale[g];
        minima += (int64_t)sums[g] * e->min[g];
    }
    return (double)e->d * (double)scaled - (double)e->dmin * (double)minima;
}

static void row_q8(enum format format, const char *row, size_t n_in, const char *act,
                   size_t act_bytes, size_t n_cols, double *sum)
{
    size_t block = format_block(format), bytes = format_block_bytes(format);
    for (size_t b = 0; b < n_in / block; b++) {
        struct exploded e;
        block_explode(format, row + b * bytes, &e);
        for (size_t c = 0; c < n_cols; c++) {
            struct act_view v = act_view(act + c * act_bytes, n_in, block);
            sum[c] += (double)v.d[b] *
                      block_dot(&e, block, v.q + b * block, v.sums + b * (block / GROUP));
        }
    }
}

static void row_float(enum format format, const char *row, size_t n_in, const char *act,
                      size_t act_bytes, size_t n_cols, double *sum)
{
    for (size_t begin = 0; begin < n_in; begin += CHUNK) {
        float y[CHUNK];
        size_t n = n_in - begin < CHUNK ? n_in - begin : CHUNK;
        size_t offset = begin / format_block(format) * format_block_bytes(format);
        unpack(format, row + offset, n, y);
        for (size_t c = 0; c < n_cols; c++) {
            const char *x = act + c * act_bytes + begin * sizeof(float);
            for (size_t i = 0; i < n; i++) {
                float xi;
                memcpy(&xi, x + i * sizeof xi, sizeof xi);
                sum[c] += (double)y[i] * (double)xi;
            }
        }
    }
}

static void matmul(enum format format, enum act_format kind, const void *w, size_t row_bytes,
                   size_t n_rows, size_t n_in, const void *act, size_t act_bytes, size_t n_cols,
                   float *out, size_t out_stride)
{
    for (size_t r = 0; r < n_rows; r++) {
        const char *row = (const char *)w + r * row_bytes;
        for (size_t c0 = 0; c0 < n_cols; c0 += COLUMNS) {
            size_t n = n_cols - c0 < COLUMNS ? n_cols - c0 : COLUMNS;
            const char *columns = (const char *)act + c0 * act_bytes;
            double sum[COLUMNS] = {0};
            if (kind == ACT_Q8)
                row_q8(format, row, n_in, columns, act_bytes, n, sum);
            else
                row_float(format, row, n_in, columns, act_bytes, n, sum);
            for (size_t c = 0; c < n; c++)
                out[(c0 + c) * out_stride + r] = (float)sum[c];
        }
    }
}

/* The table wants one function for each format. */
#define REF_FUNCTIONS(name, ggml_type, block, bytes)                                               \
    static void matmul_q8_##name(const void *w, size_t row_bytes, size_t n_rows, size_t n_in,      \
                                 const void *act, size_t act_bytes, size_t n_cols, float *out,     \
                                 size_t out_stride)                                                \
    {                                                                                              \
        matmul(FORMAT_##name, ACT_Q8, w, row_bytes, n_rows, n_in, act, act_bytes, n_cols, out,     \
               out_stride);                                                                        \
    }                                                                                              \
    static void matmul_float_##name(const void *w, size_t row_bytes, size_t n_rows, size_t n_in,   \
                                    const void *act, size_t act_bytes, size_t n_cols, float *out,  \
                                    size_t out_stride)                                             \
    {                                                                                              \
        matmul(FORMAT_##name, ACT_FLOAT, w, row_bytes, n_rows, n_in, act, act_bytes, n_cols, out,  \
               out_stride);                                                                        \
    }                                                                                              \
    static void unpack_##name(const void *w, size_t n, float *y)                                   \
    {                                                                                              \
        unpack(FORMAT_##name, w, n, y);                                                            \
    }
FORMATS(REF_FUNCTIONS)

void matmul_ref_fill(struct kernels *set)
{
#define REF_ROW(name, ggml_type, block, bytes)                                                     \
    set->pack[FORMAT_##name][ACT_FLOAT] = pack_float;                                              \
    set->matmul[FORMAT_##name][ACT_FLOAT] = matmul_float_##name;                                   \
    set->unpack[FORMAT_##name] = unpack_##name;                                                    \
    if ((block) > 1) {                                                                             \
        set->pack[FORMAT_##name][ACT_Q8] = (block) == BLOCK_K ? pack_q8_k_ref : pack_q8_32_ref;    \
        set->matmul[FORMAT_##name][ACT_Q8] = matmul_q8_##name;                                     \
    }
    FORMATS(REF_ROW)
}
