/* cache_avx512.c - rows of the KV cache with 512-bit registers.
 *
 * Mixing takes 64 rows at a time, which stay in the first cache, and of those 32 values of a row:
 * two registers, times a broadcast weight, into two sums a column.  With few columns several rows
 * run side by side, or each sum would wait for itself; with many, the rows are unpacked once for
 * all columns. */
#include "evaluator/kernels/cache_rows.h"
#include "evaluator/kernels/codes_avx512.h"
#include "evaluator/kernels/float_avx512.h"
#include "evaluator/kernels/kernel_sets.h"

enum { ROWS = 64, COLUMNS = 8 };

/* ---- writing ---- */

static void store_f16(const float *x, size_t n, void *row)
{
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 mask = tail_mask(n - i);
        __m256i half =
            _mm512_cvtps_ph(_mm512_maskz_loadu_ps(mask, x + i), _MM_FROUND_CUR_DIRECTION);
        _mm256_mask_storeu_epi16((uint16_t *)row + i, mask, half);
    }
}

/* 32 values and the largest magnitude among them, on bit patterns. */
struct group {
    __m512 low, high;
    __m512i low_bits, high_bits; /* without the sign */
    int most;
};

INLINE struct group group_load(const float *x)
{
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    struct group g = {.low = _mm512_loadu_ps(x), .high = _mm512_loadu_ps(x + 16)};
    g.low_bits = _mm512_and_si512(_mm512_castps_si512(g.low), magnitude);
    g.high_bits = _mm512_and_si512(_mm512_castps_si512(g.high), magnitude);
    g.most = _mm512_reduce_max_epi32(_mm512_max_epi32(g.low_bits, g.high_bits));
    return g;
}

static void store_q8_0(const float *x, size_t n, void *row)
{
    struct block_q8_0 *b = row;
    for (size_t i = 0; i < n / BLOCK_32; i++, b++, x += BLOCK_32) {
        struct group g = group_load(x);
        struct cache_scale s = cache_scale_q8_0(cache_float_of((uint32_t)g.most));
        __m512 inverse = _mm512_set1_ps(s.inverse);
        __mmask16 any = s.inverse != 0 ? 0xffff : 0; /* nothing times a NaN */
        __m512i low = _mm512_maskz_cvtps_epi32(any, _mm512_mul_ps(g.low, inverse));
        __m512i high = _mm512_maskz_cvtps_epi32(any, _mm512_mul_ps(g.high, inverse));
        cache_put_factor(b->d, s.d);
        _mm_storeu_si128((void *)b->qs, _mm512_cvtepi32_epi8(low));
        _mm_storeu_si128((void *)(b->qs + 16), _mm512_cvtepi32_epi8(high));
    }
}

/* Codes 0 to 15 of 16 values; 8 means zero. */
INLINE __m128i codes_of(__m512 x, float inverse)
{
    __m512 v = _mm512_add_ps(_mm512_mul_ps(x, _mm512_set1_ps(inverse)), _mm512_set1_ps(8.5f));
    __m512i code = inverse != 0 ? _mm512_cvttps_epi32(v) : _mm512_set1_epi32(8);
    return _mm512_cvtepi32_epi8(_mm512_min_epi32(code, _mm512_set1_epi32(15)));
}

static void store_q4_0(const float *x, size_t n, void *row)
{
    struct block_q4_0 *b = row;
    for (size_t i = 0; i < n / BLOCK_32; i++, b++, x += BLOCK_32) {
        struct group g = group_load(x);
        __m512i most = _mm512_set1_epi32(g.most);
        uint32_t at = _mm512_cmpeq_epi32_mask(g.low_bits, most) |
                      (uint32_t)_mm512_cmpeq_epi32_mask(g.high_bits, most) << 16;
        struct cache_scale s = cache_scale_q4_0(x[__builtin_ctz(at)]);
        __m128i high = _mm_slli_epi16(codes_of(g.high, s.inverse), 4);
        cache_put_factor(b->d, s.d);
        _mm_storeu_si128((void *)b->qs, _mm_or_si128(codes_of(g.low, s.inverse), high));
    }
}

/* ---- mixing ---- */

/* 32 values; the lanes behind the end of the row are zero. */
struct pair {
    __m512 low, high;
};

/* Values `at`, ... of a row, `n` of which are left. */
typedef struct pair load_fn(const char *row, size_t at, size_t n);

INLINE __mmask16 high_mask(size_t n)
{
    return n > 16 ? tail_mask(n - 16) : 0;
}

INLINE struct pair row_f32(const char *row, size_t at, size_t n)
{
    const float *p = (const float *)(const void *)row + at;
    return (struct pair){_mm512_maskz_loadu_ps(tail_mask(n), p),
                         _mm512_maskz_loadu_ps(high_mask(n), p + 16)};
}

INLINE struct pair row_f16(const char *row, size_t at, size_t n)
{
    const char *p = row + 2 * at;
    return (struct pair){load_f16_16(p, tail_mask(n)), load_f16_16(p + 32, high_mask(n))};
}

INLINE struct pair scaled(__m512i low, __m512i high, const uint8_t *d)
{
    __m512 factor = _mm512_set1_ps(f16_load(d));
    return (struct pair){_mm512_mul_ps(_mm512_cvtepi32_ps(low), factor),
                         _mm512_mul_ps(_mm512_cvtepi32_ps(high), factor)};
}

INLINE struct pair row_q8_0(const char *row, size_t at, size_t n)
{
    const struct block_q8_0 *b = (const struct block_q8_0 *)(const void *)row + at / BLOCK_32;
    (void)n;
    return scaled(_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)b->qs)),
                  _mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)(b->qs + 16))), b->d);
}

INLINE struct pair row_q4_0(const char *row, size_t at, size_t n)
{
    const struct block_q4_0 *b = (const struct block_q4_0 *)(const void *)row + at / BLOCK_32;
    const __m128i nibble = _mm_set1_epi8(15), eight = _mm_set1_epi8(8);
    __m128i q = _mm_loadu_si128((const void *)b->qs);
    __m128i low = _mm_sub_epi8(_mm_and_si128(q, nibble), eight);
    __m128i high = _mm_sub_epi8(_mm_and_si128(_mm_srli_epi16(q, 4), nibble), eight);
    (void)n;
    return scaled(_mm512_cvtepi8_epi32(low), _mm512_cvtepi8_epi32(high), b->d);
}

/* The rows of one call, or the piece of them that is unpacked. */
struct rows {
    const char *w;
    size_t row_bytes, n;
    const float *weights; /* of the first row */
    size_t weight_stride;
};

/* `n_cols` columns of values at, ..., `side` rows running side by side. */
INLINE void mix_columns(load_fn *load, const struct rows *rows, size_t at, size_t left, int n_cols,
                        int side, bool first, float *out, size_t out_stride)
{
    struct pair sum[4][COLUMNS];
    __mmask16 low = tail_mask(left), high = high_mask(left);
#pragma GCC unroll 4
    for (int s = 0; s < side; s++)
#pragma GCC unroll 8
        for (int c = 0; c < n_cols; c++)
            sum[s][c] = (struct pair){_mm512_setzero_ps(), _mm512_setzero_ps()};
    size_t r = 0;
    for (; r + (size_t)side <= rows->n; r += (size_t)side) {
#pragma GCC unroll 4
        for (int s = 0; s < side; s++) {
            struct pair v = load(rows->w + (r + (size_t)s) * rows->row_bytes, at, left);
#pragma GCC unroll 8
            for (int c = 0; c < n_cols; c++) {
                __m512 weight =
                    _mm512_set1_ps(rows->weights[(size_t)c * rows->weight_stride + r + (size_t)s]);
                sum[s][c].low = _mm512_fmadd_ps(v.low, weight, sum[s][c].low);
                sum[s][c].high = _mm512_fmadd_ps(v.high, weight, sum[s][c].high);
            }
        }
    }
    for (; r < rows->n; r++) {
        struct pair v = load(rows->w + r * rows->row_bytes, at, left);
#pragma GCC unroll 8
        for (int c = 0; c < n_cols; c++) {
            __m512 weight = _mm512_set1_ps(rows->weights[(size_t)c * rows->weight_stride + r]);
            sum[0][c].low = _mm512_fmadd_ps(v.low, weight, sum[0][c].low);
            sum[0][c].high = _mm512_fmadd_ps(v.high, weight, sum[0][c].high);
        }
    }
#pragma GCC unroll 8
    for (int c = 0; c < n_cols; c++) {
        float *o = out + (size_t)c * out_stride + at;
#pragma GCC unroll 4
        for (int s = 1; s < side; s++) {
            sum[0][c].low = _mm512_add_ps(sum[0][c].low, sum[s][c].low);
            sum[0][c].high = _mm512_add_ps(sum[0][c].high, sum[s][c].high);
        }
        if (!first) {
            sum[0][c].low = _mm512_add_ps(sum[0][c].low, _mm512_maskz_loadu_ps(low, o));
            sum[0][c].high = _mm512_add_ps(sum[0][c].high, _mm512_maskz_loadu_ps(high, o + 16));
        }
        _mm512_mask_storeu_ps(o, low, sum[0][c].low);
        _mm512_mask_storeu_ps(o + 16, high, sum[0][c].high);
    }
}

INLINE void mix_piece(load_fn *load, struct rows rows, size_t at, size_t left, size_t n_cols,
                      bool first, float *out, size_t out_stride)
{
#define TAKE(cols, side)                                                                           \
    for (; n_cols >= (cols); n_cols -= (cols)) {                                                   \
        mix_columns(load, &rows, at, left, cols, side, first, out, out_stride);                    \
        rows.weights += (cols)*rows.weight_stride;                                                 \
        out += (cols)*out_stride;                                                                  \
    }
    TAKE(8, 1)
    TAKE(4, 2)
    TAKE(2, 4)
    TAKE(1, 4)
#undef TAKE
}

/* Rows as floats, for more columns than one reading serves. */
static void mix_unpacked(struct rows rows, size_t at, size_t left, size_t n_cols, bool first,
                         float *out, size_t out_stride)
{
    mix_piece(row_f32, rows, 0, left, n_cols, first, out + at, out_stride);
}

INLINE void mix(load_fn *load, bool unpack, const char *w, size_t row_bytes, size_t n_rows,
                size_t n_in, const float *weights, size_t weight_stride, size_t n_cols, float *out,
                size_t out_stride)
{
    _Alignas(64) float y[ROWS][BLOCK_32];
    for (size_t begin = 0; begin < n_rows; begin += ROWS) {
        struct rows rows = {.w = w + begin * row_bytes,
                            .row_bytes = row_bytes,
                            .n = n_rows - begin < ROWS ? n_rows - begin : ROWS,
                            .weights = weights + begin,
                            .weight_stride = weight_stride};
        for (size_t at = 0; at < n_in; at += BLOCK_32) {
            if (!unpack || n_cols <= COLUMNS) {
                mix_piece(load, rows, at, n_in - at, n_cols, begin == 0, out, out_stride);
                continue;
            }
            struct rows floats = rows;
            floats.w = (const char *)y;
            floats.row_bytes = sizeof y[0];
            for (size_t r = 0; r < rows.n; r++) {
                struct pair v = load(rows.w + r * row_bytes, at, n_in - at);
                _mm512_store_ps(y[r], v.low);
                _mm512_store_ps(y[r] + 16, v.high);
            }
            mix_unpacked(floats, at, n_in - at, n_cols, begin == 0, out, out_stride);
        }
    }
}

#define MIX(name, load, unpack)                                                                    \
    static void mix_##name(const void *w, size_t row_bytes, size_t n_rows, size_t n_in,            \
                           const float *weights, size_t weight_stride, size_t n_cols, float *out,  \
                           size_t out_stride)                                                      \
    {                                                                                              \
        mix(load, unpack, w, row_bytes, n_rows, n_in, weights, weight_stride, n_cols, out,         \
            out_stride);                                                                           \
    }
MIX(q4_0, row_q4_0, true)
MIX(q8_0, row_q8_0, true)
MIX(f16, row_f16, true)
MIX(f32, row_f32, false)

void cache_avx512_fill(struct kernels *set)
{
    set->store[FORMAT_Q4_0] = store_q4_0;
    set->store[FORMAT_Q8_0] = store_q8_0;
    set->store[FORMAT_F16] = store_f16;
    set->mix[FORMAT_Q4_0] = mix_q4_0;
    set->mix[FORMAT_Q8_0] = mix_q8_0;
    set->mix[FORMAT_F16] = mix_f16;
    set->mix[FORMAT_F32] = mix_f32;
}
