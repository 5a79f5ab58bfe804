/* kernels.h - the arithmetic that is timed and that quality is measured with.
 * A kernel set is one instruction set's implementation of every operation below.  The plain C
 * reference set is always built and is the oracle; a fast set is offered only after it has
 * reproduced the reference on a fixed input at start-up (kernels_select).  Kernels never allocate,
 * never check their input and know nothing but pointers and shapes.
 *
 * Packed activations.  A weight format fixes what it is multiplied with when activations have
 * 8 bits (ACT_Q8): the K-quants take groups of 256 with an f32 scale, the 32-block formats groups
 * of 32 with an f16 scale; codes and scales are the numbers of ggml's Q8_K and Q8_0.  Their layout
 * is the same in every set, for every format of a block size, and private to the kernels
 * (act_pack.h): x packed for Q4_K serves Q2_K too.  A value that is not finite makes the products
 * of its group NaN.
 *
 * With ACT_FLOAT the packed activation is the float vector, and products are those of floats, but
 * for one freedom: with quantized weights a set may round an activation by up to 2^-22 of the
 * largest of its group of 16 (or 2^-123, if that is more).  A value that is not finite leaves no
 * finite product.  Matrix tiles (ISA_AMX, from 16 columns on) besides take values below 2^-126 for
 * zero, within sums too, and activations from 2^128 - 2^119 on for infinite. */
#ifndef KERF_KERNELS_H
#define KERF_KERNELS_H

#include "space/format.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

/* AVX512 means F, BW, VL, DQ and VNNI; AMX means it with tiles of int8 and bf16 for many columns.
 */
enum isa { ISA_REF, ISA_AVX2, ISA_AVX512, ISA_AMX, N_ISAS };

/* Bytes of a packed activation vector of n_in values for (weights, act): n_in * 4 for ACT_FLOAT, a
 * multiple of 64 for ACT_Q8.  Packed vectors are best 64-byte aligned; 4 bytes suffice. */
size_t kernels_act_bytes(enum format weights, enum act_format act, size_t n_in);

/* Pack x[n_in] for multiplication with rows in a given weight format. */
typedef void kernel_pack_fn(const float *x, size_t n_in, void *packed);

/* out[c * out_stride + r] = sum_i W[r][i] * x_c[i]  for r < n_rows, c < n_cols.
 *   w       rows of `row_bytes` bytes each, n_in weights a row (a multiple of the format's block)
 *   act     n_cols packed activations, act_bytes apart
 * One column is decode, many are prefill: the set blocks over columns so that a weight block is
 * unpacked once for several of them.  A product does not depend on the other rows of the call, so
 * any division of the rows among threads gives the same bits (multiples of 32 rows are fastest); it
 * may depend on the number of columns.  `w` may have any alignment; nothing outside the rows and
 * columns is read or written. */
typedef void kernel_matmul_fn(const void *w, size_t row_bytes, size_t n_rows, size_t n_in,
                              const void *act, size_t act_bytes, size_t n_cols, float *out,
                              size_t out_stride);

/* y[n] = the weights of one row (or any whole number of blocks) as floats. */
typedef void kernel_unpack_fn(const void *w, size_t n, float *y);

/* Second moments of inputs that were floats, widened to double (hessian.h lays them out):
 *   c[i][j] += sum_t a_t[i] * b_t[j]   for i < MOMENTS_STRIP, j < MOMENTS_PANEL, t = 0, 1, ...
 * `a` and `b` have n_rows rows MOMENTS_PANEL apart, c rows c_stride apart.  A product of two floats
 * is exact in double and each c[i][j] takes them in the order of t, so every set gives the same
 * bits, whatever pieces the rows come in. */
enum { MOMENTS_STRIP = 8, MOMENTS_PANEL = 24 };
typedef void kernel_moments_fn(const double *a, const double *b, size_t n_rows, double *c,
                               size_t c_stride);

/* Formats of the KV cache (format_is_cache), whose rows are the keys or values of one position.
 *
 * row = x[n], a whole number of blocks, rounded as ggml's reference quantizer does: its bytes for
 * numbers.  A block with an element that is not finite becomes NaN. */
typedef void kernel_store_fn(const float *x, size_t n, void *row);

/* Attention of the query heads of one group, n_heads of them, for n_positions positions that follow
 * each other, over rows of the KV cache back to back, position 0 first:
 *   out[t][h] = sum_k p_k values[k],  p = softmax of queries[t][h] * keys[k],  k < see + t
 * Query t begins at queries + t * queries_stride, its heads side by side (head_dim floats each);
 * out likewise.  The scale of the scores is in the queries.  Where the cache is in blocks, queries
 * are rounded to 8 bits first, as activations of that format are.
 *   n_heads * n_positions   at most ATTEND_COLUMNS.  One position (decode) has code of its own,
 *                           fastest with four or eight heads; else 32 columns or a multiple are
 *   see                     at least 1; nothing behind position see + n_positions - 2 is read
 *   log_sums                of one position: log sum_k exp(queries[h] * keys[k]), or NULL
 *   room                    kernels_attend_bytes(head_dim), 64-byte aligned, whatever the context
 * A score that is not finite makes the output of its query NaN; a NaN behind what a query sees may
 * do so too.
 *
 * The keys of one position may be cut in parts, one call each, and the outputs put together: they
 * are to be mixed with the softmax of their log_sums as weights. */
enum { ATTEND_COLUMNS = 128 };
struct attention {
    const void *keys, *values;
    const float *queries;
    float *out;
    float *log_sums; /* [n_heads] */
    size_t head_dim, n_heads, n_positions, see;
    size_t queries_stride, out_stride; /* floats */
};
typedef void kernel_attend_fn(const struct attention *attention, void *room);
size_t kernels_attend_bytes(size_t head_dim);

struct kernels {
    enum isa isa;
    const char *name;                               /* "ref", "avx2", "avx512-vnni", "amx" */
    kernel_pack_fn *pack[N_FORMATS][N_ACT_FORMATS]; /* NULL where the pair makes no sense (float
                                                       weights with ACT_Q8) */
    kernel_matmul_fn *matmul[N_FORMATS][N_ACT_FORMATS];
    kernel_unpack_fn *unpack[N_FORMATS];
    kernel_store_fn *store[N_FORMATS];   /* NULL for what is no format of the KV cache */
    kernel_attend_fn *attend[N_FORMATS]; /* the same */

    kernel_moments_fn *moments;

    /* The rest of a decoder layer, on float vectors of length n. */
    float (*dot)(const float *x, const float *y, size_t n);
    void (*add_scaled)(float *y, const float *x, float scale, size_t n); /* y += scale * x */
    /* y = x / sqrt(mean(x^2) + eps) * gain */
    void (*rms_norm)(float *y, const float *x, const float *gain, size_t n, float eps);
    /* y = silu(gate) * up, silu(g) = g / (1 + exp(-g)) */
    void (*silu_mul)(float *y, const float *gate, const float *up, size_t n);
    /* In place: x = exp(x - max) / sum.  Returns log(sum(exp(x))) = max + log(sum). */
    float (*softmax)(float *x, size_t n);
    /* Rotate `n_pairs` neighbouring pairs (x[2i], x[2i+1]) by the angles given as
     * cos_sin[2i], cos_sin[2i+1]. */
    void (*rope)(float *x, const float *cos_sin, size_t n_pairs);

    /* Read every byte once, in several streams, as fast as this set can, and return the exclusive
     * or of the whole 64-byte lines, folded.  Decode can at best run at this rate: it is measured
     * beside a kernel to tell a slow kernel from slow memory. */
    uint64_t (*read)(const void *p, size_t bytes);
};

/* The reference set: always there. */
const struct kernels *kernels_reference(void);

/* The set for `isa`, or NULL with `err` filled when this machine lacks it or its operating system
 * does not permit it (ERR_RESOURCE), or it did not reproduce the reference on the fixed input
 * (ERR_INTERNAL). */
const struct kernels *kernels_for(enum isa isa, struct err *err);

/* Names a set in the environment: none but that one is chosen, here and in child processes. */
#define KERNELS_VARIABLE "KERF_ISA"

/* The set that KERNELS_VARIABLE names; without it the fastest that passes its known-answer test, at
 * worst the reference.  The choice is logged where a set was refused.  A name that is none, or of a
 * set that is not offered here, is for kernels_check_variable to refuse, before anything else. */
const struct kernels *kernels_select(void);
/* ERR_USAGE for an unknown name, else what kernels_for says. */
int kernels_check_variable(struct err *err);

const char *isa_name(enum isa isa);
/* "auto" is not an isa: the caller handles it.  N_ISAS when unknown. */
enum isa isa_parse(const char *name);

/* f16 and bf16 conversions in plain C, exact and round-to-nearest-even. */
float kernels_f16_to_f32(uint16_t h);
uint16_t kernels_f32_to_f16(float f);
float kernels_bf16_to_f32(uint16_t b);
uint16_t kernels_f32_to_bf16(float f);

#endif
