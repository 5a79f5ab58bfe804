/* float_avx512.c - weights of any format times float activations.
 *
 * One column: four rows at a time from the four quarters of the matrix, as decode_avx512.c does.
 * Many columns: 32 rows are unpacked to floats, 256 weights at a time, and laid out so that one
 * weight of sixteen rows is a register; two such registers times eight broadcast activations keep
 * sixteen sums in registers with ten loads for sixteen multiply-adds. */
#include "evaluator/kernels/float_avx512.h"
#include "evaluator/kernels/kernel_sets.h"

#include <string.h>

#define INLINE static inline __attribute__((always_inline))

enum { STREAMS = 4, AHEAD = 1536, CHUNK = 256, ROWS = 32 };

/* ---- a few columns, float formats ---- */

typedef __m512 load_fn(const void *p, __mmask16 mask);

INLINE void rows_dot(load_fn *load, size_t element, const char *w, size_t apart, int n, size_t n_in,
                     const float *x, float *out, size_t out_apart)
{
    __m512 sum[STREAMS];
    for (int r = 0; r < n; r++)
        sum[r] = _mm512_setzero_ps();
    for (size_t i = 0; i < n_in; i += 16) {
        __mmask16 mask = tail_mask(n_in - i);
        __m512 xi = _mm512_maskz_loadu_ps(mask, x + i);
        for (int r = 0; r < n; r++) {
            const char *p = w + (size_t)r * apart + i * element;
            _mm_prefetch(p + AHEAD, _MM_HINT_T0);
            sum[r] = _mm512_fmadd_ps(load(p, mask), xi, sum[r]);
        }
    }
    for (int r = 0; r < n; r++)
        out[(size_t)r * out_apart] = _mm512_reduce_add_ps(sum[r]);
}

INLINE void decode_float(load_fn *load, size_t element, const char *w, size_t row_bytes,
                         size_t n_rows, size_t n_in, const char *act, size_t act_bytes,
                         size_t n_cols, float *out, size_t out_stride)
{
    size_t quarter = n_rows / STREAMS;
    for (size_t c = 0; c < n_cols; c++, act += act_bytes, out += out_stride) {
        const float *x = (const void *)act;
        for (size_t r = 0; r < quarter; r++)
            rows_dot(load, element, w + r * row_bytes, quarter * row_bytes, STREAMS, n_in, x,
                     out + r, quarter);
        for (size_t r = STREAMS * quarter; r < n_rows; r++)
            rows_dot(load, element, w + r * row_bytes, 0, 1, n_in, x, out + r, 0);
    }
}

/* ---- many columns ---- */

struct tile {
    _Alignas(64) float w[CHUNK][ROWS];
};

/* Sixteen rows of y[16][CHUNK] to one half of the tile's columns: 16 x 16 blocks turned over. */
static void weave(const float (*y)[CHUNK], size_t n, struct tile *t, size_t half)
{
    for (size_t i = 0; i < n; i += 16) {
        __m512i m[16], s[16];
        for (int r = 0; r < 16; r++)
            m[r] = _mm512_loadu_si512(&y[r][i]);
        for (int r = 0; r < 16; r += 2) {
            s[r] = _mm512_unpacklo_epi32(m[r], m[r + 1]);
            s[r + 1] = _mm512_unpackhi_epi32(m[r], m[r + 1]);
        }
        for (int r = 0; r < 16; r += 4) {
            m[r] = _mm512_unpacklo_epi64(s[r], s[r + 2]);
            m[r + 1] = _mm512_unpackhi_epi64(s[r], s[r + 2]);
            m[r + 2] = _mm512_unpacklo_epi64(s[r + 1], s[r + 3]);
            m[r + 3] = _mm512_unpackhi_epi64(s[r + 1], s[r + 3]);
        }
        for (int r = 0; r < 4; r++) {
            s[r] = _mm512_shuffle_i32x4(m[r], m[r + 4], 0x88);
            s[r + 4] = _mm512_shuffle_i32x4(m[r], m[r + 4], 0xdd);
            s[r + 8] = _mm512_shuffle_i32x4(m[r + 8], m[r + 12], 0x88);
            s[r + 12] = _mm512_shuffle_i32x4(m[r + 8], m[r + 12], 0xdd);
        }
        for (int r = 0; r < 8; r++) {
            _mm512_store_si512(&t->w[i + (size_t)r][16 * half],
                               _mm512_shuffle_i32x4(s[r], s[r + 8], 0x88));
            _mm512_store_si512(&t->w[i + (size_t)r + 8][16 * half],
                               _mm512_shuffle_i32x4(s[r], s[r + 8], 0xdd));
        }
    }
}

static void fill(struct tile *t, kernel_unpack_fn *unpack, const char *const rows[ROWS], size_t at,
                 size_t n)
{
    for (size_t half = 0; half < 2; half++) {
        float y[16][CHUNK];
        for (size_t r = 0; r < 16; r++) {
            unpack(rows[16 * half + r] + at, n, y[r]);
            /* A ragged end is turned over with zeros, which are never multiplied. */
            for (size_t i = n; i % 16 != 0; i++)
                y[r][i] = 0;
        }
        weave((const float(*)[CHUNK])y, n, t, half);
    }
}

/* `n` columns of x, `apart` bytes from each other, added to out unless this is the first chunk. */
INLINE void multiply(const struct tile *t, size_t n_weights, const char *x, size_t apart, int n,
                     bool first, __mmask32 mask, float *out, size_t out_stride)
{
    __m512 sum[8][2];
    __mmask16 low = (__mmask16)mask, high = (__mmask16)(mask >> 16);
#pragma GCC unroll 8
    for (int c = 0; c < n; c++) {
        const float *o = out + (size_t)c * out_stride;
        sum[c][0] = first ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(low, o);
        sum[c][1] = first ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(high, o + 16);
    }
    for (size_t i = 0; i < n_weights; i++) {
        __m512 a = _mm512_load_ps(t->w[i]), b = _mm512_load_ps(t->w[i] + 16);
#pragma GCC unroll 8
        for (int c = 0; c < n; c++) {
            __m512 xi = _mm512_set1_ps(((const float *)(const void *)(x + (size_t)c * apart))[i]);
            sum[c][0] = _mm512_fmadd_ps(a, xi, sum[c][0]);
            sum[c][1] = _mm512_fmadd_ps(b, xi, sum[c][1]);
        }
    }
#pragma GCC unroll 8
    for (int c = 0; c < n; c++) {
        float *o = out + (size_t)c * out_stride;
        _mm512_mask_storeu_ps(o, low, sum[c][0]);
        if (high != 0)
            _mm512_mask_storeu_ps(o + 16, high, sum[c][1]);
    }
}

static void multiply_all(const struct tile *t, size_t n_weights, const char *x, size_t apart,
                         size_t n_cols, bool first, __mmask32 mask, float *out, size_t out_stride)
{
#define TAKE(n)                                                                                    \
    for (; n_cols >= (n); n_cols -= (n)) {                                                         \
        multiply(t, n_weights, x, apart, n, first, mask, out, out_stride);                         \
        x += (n)*apart;                                                                            \
        out += (n)*out_stride;                                                                     \
    }
    TAKE(8)
    TAKE(4)
    TAKE(2)
    TAKE(1)
#undef TAKE
}

static void tile_float(kernel_unpack_fn *unpack, size_t block, size_t block_bytes, const char *w,
                       size_t row_bytes, size_t n_rows, size_t n_in, const char *x,
                       size_t act_bytes, size_t n_cols, float *out, size_t out_stride)
{
    struct tile t;
    for (size_t r = 0; r < n_rows; r += ROWS) {
        const char *rows[ROWS];
        size_t n = n_rows - r < ROWS ? n_rows - r : ROWS;
        for (size_t i = 0; i < ROWS; i++)
            rows[i] = w + (r + (i < n ? i : n - 1)) * row_bytes;
        for (size_t begin = 0; begin < n_in; begin += CHUNK) {
            size_t n_weights = n_in - begin < CHUNK ? n_in - begin : CHUNK;
            fill(&t, unpack, rows, begin / block * block_bytes, n_weights);
            multiply_all(&t, n_weights, x + begin * sizeof(float), act_bytes, n_cols, begin == 0,
                         (__mmask32)(0xffffffffu >> (ROWS - n)), out + r, out_stride);
        }
    }
}

/* ---- one function a format ---- */

static kernel_unpack_fn *unpack_of[N_FORMATS];

#define MATMUL(name, ggml_type, block, bytes)                                                      \
    static void matmul_##name(const void *w, size_t row_bytes, size_t n_rows, size_t n_in,         \
                              const void *act, size_t act_bytes, size_t n_cols, float *out,        \
                              size_t out_stride)                                                   \
    {                                                                                              \
        if (n_cols > FEW_COLUMNS)                                                                  \
            tile_float(unpack_of[FORMAT_##name], block, bytes, w, row_bytes, n_rows, n_in, act,    \
                       act_bytes, n_cols, out, out_stride);                                        \
        else                                                                                       \
            DECODE_##name(w, row_bytes, n_rows, n_in, act, act_bytes, n_cols, out, out_stride);    \
    }
#define DECODE_Q2_K(...)   decode_float_Q2_K_avx512(__VA_ARGS__)
#define DECODE_Q3_K(...)   decode_float_Q3_K_avx512(__VA_ARGS__)
#define DECODE_IQ4_NL(...) decode_float_IQ4_NL_avx512(__VA_ARGS__)
#define DECODE_Q4_0(...)   decode_float_Q4_0_avx512(__VA_ARGS__)
#define DECODE_Q4_K(...)   decode_float_Q4_K_avx512(__VA_ARGS__)
#define DECODE_Q5_0(...)   decode_float_Q5_0_avx512(__VA_ARGS__)
#define DECODE_Q5_K(...)   decode_float_Q5_K_avx512(__VA_ARGS__)
#define DECODE_Q6_K(...)   decode_float_Q6_K_avx512(__VA_ARGS__)
#define DECODE_Q8_0(...)   decode_float_Q8_0_avx512(__VA_ARGS__)
#define DECODE_F16(...)    decode_float(load_f16_16, 2, __VA_ARGS__)
#define DECODE_BF16(...)   decode_float(load_bf16_16, 2, __VA_ARGS__)
#define DECODE_F32(...)    decode_float(load_f32_16, 4, __VA_ARGS__)
FORMATS(MATMUL)

void float_avx512_fill(struct kernels *set)
{
    unpack_avx512_fill(set);
#define ENTRY(name, ggml_type, block, bytes)                                                       \
    unpack_of[FORMAT_##name] = set->unpack[FORMAT_##name];                                         \
    set->matmul[FORMAT_##name][ACT_FLOAT] = matmul_##name;
    FORMATS(ENTRY)
}
