/* float_avx2.c - weights of any format times float activations with 256-bit registers.
 *
 * A few columns: as meeting.h says; of quantized rows in decode_float_avx2.c.  Many: sixteen rows
 * are unpacked to floats, 256 weights at a time, and laid out so that one weight of eight rows is a
 * register; two such registers times six broadcast activations keep twelve sums in registers. */
#include "evaluator/kernels/float_avx2.h"
#include "evaluator/kernels/kernel_sets.h"
#include "evaluator/kernels/meeting.h"

enum { AHEAD = 1024, CHUNK = 256, ROWS = 16 };

/* ---- a few columns, float formats ---- */

typedef __m256 load_fn(const void *p, size_t n);

/* Columns first, ...: two of them, or one. */
INLINE void add_products(load_fn *load, size_t element, const struct meeting *m, int first, int n,
                         size_t i, size_t left, __m256 sum[2][STREAMS])
{
    __m256 x[2];
#pragma GCC unroll 2
    for (int c = 0; c < n; c++)
        x[c] = load_f32_8(m->act[first + c] + i * sizeof(float), left);
#pragma GCC unroll 4
    for (int r = 0; r < STREAMS; r++) {
        const uint8_t *p = m->w + (size_t)r * m->apart + i * element;
        _mm_prefetch((const char *)p + AHEAD, _MM_HINT_T0);
        __m256 w = load(p, left);
#pragma GCC unroll 2
        for (int c = 0; c < n; c++)
            sum[c][r] = _mm256_fmadd_ps(w, x[c], sum[c][r]);
    }
}

INLINE void rows_columns(load_fn *load, size_t element, const struct meeting *m, int first, int n)
{
    __m256 sum[2][STREAMS];
    size_t i = 0;
    for (int c = 0; c < n; c++)
        for (int r = 0; r < STREAMS; r++)
            sum[c][r] = _mm256_setzero_ps();
    for (; i + 8 <= m->n_in; i += 8)
        add_products(load, element, m, first, n, i, 8, sum);
    if (i < m->n_in)
        add_products(load, element, m, first, n, i, m->n_in - i, sum);
    for (int c = 0; c < n; c++)
        for (int r = 0; r < m->n_rows; r++)
            m->out[(size_t)(first + c) * m->out_stride + (size_t)r * m->out_apart] =
                lanes_sum(sum[c][r]);
}

/* Sums of two columns fill the registers; the next two find the rows in the first cache. */
INLINE void rows_floats(load_fn *load, size_t element, const struct meeting *m)
{
#pragma GCC unroll 2
    for (int c = 0; c < m->n_cols; c += 2)
        rows_columns(load, element, m, c, m->n_cols - c < 2 ? 1 : 2);
}

DECODE(avx2, float_F16, rows_floats(load_f16_8, 2, m))
DECODE(avx2, float_BF16, rows_floats(load_bf16_8, 2, m))
DECODE(avx2, float_F32, rows_floats(load_f32_8, 4, m))

/* ---- many columns ---- */

struct tile {
    _Alignas(32) float w[CHUNK][ROWS];
};

/* Eight rows of y[8][CHUNK] to one half of the tile's columns: 8 x 8 blocks turned over. */
static void weave(const float (*y)[CHUNK], size_t n, struct tile *t, size_t half)
{
    for (size_t i = 0; i < n; i += 8) {
        __m256 m[8], s[8];
        for (int r = 0; r < 8; r++)
            m[r] = _mm256_loadu_ps(&y[r][i]);
        for (int r = 0; r < 8; r += 2) {
            s[r] = _mm256_unpacklo_ps(m[r], m[r + 1]);
            s[r + 1] = _mm256_unpackhi_ps(m[r], m[r + 1]);
        }
        for (int r = 0; r < 8; r += 4) {
            m[r] = _mm256_shuffle_ps(s[r], s[r + 2], 0x44);
            m[r + 1] = _mm256_shuffle_ps(s[r], s[r + 2], 0xee);
            m[r + 2] = _mm256_shuffle_ps(s[r + 1], s[r + 3], 0x44);
            m[r + 3] = _mm256_shuffle_ps(s[r + 1], s[r + 3], 0xee);
        }
        for (size_t r = 0; r < 4; r++) {
            _mm256_store_ps(&t->w[i + r][8 * half], _mm256_permute2f128_ps(m[r], m[r + 4], 0x20));
            _mm256_store_ps(&t->w[i + r + 4][8 * half],
                            _mm256_permute2f128_ps(m[r], m[r + 4], 0x31));
        }
    }
}

static void fill(struct tile *t, kernel_unpack_fn *unpack, const char *const rows[ROWS], size_t at,
                 size_t n)
{
    for (size_t half = 0; half < 2; half++) {
        float y[8][CHUNK];
        for (size_t r = 0; r < 8; r++) {
            unpack(rows[8 * half + r] + at, n, y[r]);
            /* A ragged end is turned over with zeros, which are never multiplied. */
            for (size_t i = n; i % 8 != 0; i++)
                y[r][i] = 0;
        }
        weave((const float(*)[CHUNK])y, n, t, half);
    }
}

/* `n` columns of x, `apart` bytes from each other, added to out unless this is the first chunk. */
INLINE void multiply(const struct tile *t, size_t n_weights, const char *x, size_t apart, int n,
                     bool first, __m256i low, __m256i high, float *out, size_t out_stride)
{
    __m256 sum[6][2];
#pragma GCC unroll 6
    for (int c = 0; c < n; c++) {
        const float *o = out + (size_t)c * out_stride;
        sum[c][0] = first ? _mm256_setzero_ps() : _mm256_maskload_ps(o, low);
        sum[c][1] = first ? _mm256_setzero_ps() : _mm256_maskload_ps(o + 8, high);
    }
    for (size_t i = 0; i < n_weights; i++) {
        __m256 a = _mm256_load_ps(t->w[i]), b = _mm256_load_ps(t->w[i] + 8);
#pragma GCC unroll 6
        for (int c = 0; c < n; c++) {
            __m256 xi = _mm256_set1_ps(((const float *)(const void *)(x + (size_t)c * apart))[i]);
            sum[c][0] = _mm256_fmadd_ps(a, xi, sum[c][0]);
            sum[c][1] = _mm256_fmadd_ps(b, xi, sum[c][1]);
        }
    }
#pragma GCC unroll 6
    for (int c = 0; c < n; c++) {
        float *o = out + (size_t)c * out_stride;
        _mm256_maskstore_ps(o, low, sum[c][0]);
        _mm256_maskstore_ps(o + 8, high, sum[c][1]);
    }
}

static void multiply_all(const struct tile *t, size_t n_weights, const char *x, size_t apart,
                         size_t n_cols, bool first, size_t n_rows, float *out, size_t out_stride)
{
    __m256i low = tail_mask(n_rows), high = tail_mask(n_rows > 8 ? n_rows - 8 : 0);
#define TAKE(n)                                                                                    \
    for (; n_cols >= (n); n_cols -= (n)) {                                                         \
        multiply(t, n_weights, x, apart, n, first, low, high, out, out_stride);                    \
        x += (n)*apart;                                                                            \
        out += (n)*out_stride;                                                                     \
    }
    TAKE(6)
    TAKE(3)
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
            multiply_all(&t, n_weights, x + begin * sizeof(float), act_bytes, n_cols, begin == 0, n,
                         out + r, out_stride);
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
        if (n_cols > ((block) > 1 ? FEW_COLUMNS : FEW_FLOAT))                                      \
            tile_float(unpack_of[FORMAT_##name], block, bytes, w, row_bytes, n_rows, n_in, act,    \
                       act_bytes, n_cols, out, out_stride);                                        \
        else                                                                                       \
            decode_float_##name##_avx2(w, row_bytes, n_rows, n_in, act, act_bytes, n_cols, out,    \
                                       out_stride);                                                \
    }
FORMATS(MATMUL)

void float_avx2_fill(struct kernels *set)
{
    unpack_avx2_fill(set);
#define ENTRY(name, ggml_type, block, bytes)                                                       \
    unpack_of[FORMAT_##name] = set->unpack[FORMAT_##name];                                         \
    set->matmul[FORMAT_##name][ACT_FLOAT] = matmul_##name;
    FORMATS(ENTRY)
}
