/* cache_avx2.c - rows of the KV cache with 256-bit registers.
 * The plan of cache_avx512.c with 16 values of a row, two registers, and six columns. */
#include "evaluator/kernels/cache_rows.h"
#include "evaluator/kernels/codes_avx2.h"
#include "evaluator/kernels/float_avx2.h"
#include "evaluator/kernels/kernel_sets.h"

enum { ROWS = 64, COLUMNS = 6, PIECE = 16 };

/* ---- writing ---- */

static void store_f16(const float *x, size_t n, void *row)
{
    uint16_t *out = row;
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((void *)(out + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_CUR_DIRECTION));
    if (i < n) {
        uint16_t part[8];
        _mm_storeu_si128((void *)part,
                         _mm256_cvtps_ph(load_f32_8(x + i, n - i), _MM_FROUND_CUR_DIRECTION));
        memcpy(out + i, part, (n - i) * sizeof *part);
    }
}

/* 32 values and the largest magnitude among them, on bit patterns. */
struct group {
    __m256 x[4];
    __m256i bits[4]; /* without the sign */
    int most;
};

INLINE struct group group_load(const float *x)
{
    struct group g;
    __m256i most = _mm256_setzero_si256();
    for (int i = 0; i < 4; i++) {
        g.x[i] = _mm256_loadu_ps(x + 8 * i);
        g.bits[i] = _mm256_and_si256(_mm256_castps_si256(g.x[i]), _mm256_set1_epi32(0x7fffffff));
        most = _mm256_max_epi32(most, g.bits[i]);
    }
    __m128i m = _mm_max_epi32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1));
    g.most = _mm_cvtsi128_si32(m);
    return g;
}

/* Four registers of 32-bit integers as 32 signed bytes in order. */
INLINE __m256i narrowed(const __m256i v[4])
{
    __m256i words0 = _mm256_packs_epi32(v[0], v[1]), words1 = _mm256_packs_epi32(v[2], v[3]);
    return _mm256_permutevar8x32_epi32(_mm256_packs_epi16(words0, words1),
                                       _mm256_set_epi32(7, 3, 6, 2, 5, 1, 4, 0));
}

static void store_q8_0(const float *x, size_t n, void *row)
{
    struct block_q8_0 *b = row;
    for (size_t i = 0; i < n / BLOCK_32; i++, b++, x += BLOCK_32) {
        struct group g = group_load(x);
        struct cache_scale s = cache_scale_q8_0(cache_float_of((uint32_t)g.most));
        __m256i code[4];
        for (int k = 0; k < 4; k++)
            code[k] = s.inverse != 0
                          ? _mm256_cvtps_epi32(_mm256_mul_ps(g.x[k], _mm256_set1_ps(s.inverse)))
                          : _mm256_setzero_si256();
        cache_put_factor(b->d, s.d);
        _mm256_storeu_si256((void *)b->qs, narrowed(code));
    }
}

static void store_q4_0(const float *x, size_t n, void *row)
{
    struct block_q4_0 *b = row;
    for (size_t i = 0; i < n / BLOCK_32; i++, b++, x += BLOCK_32) {
        struct group g = group_load(x);
        uint32_t at = 0;
        __m256i code[4];
        for (int k = 0; k < 4; k++) {
            __m256i same = _mm256_cmpeq_epi32(g.bits[k], _mm256_set1_epi32(g.most));
            at |= (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(same)) << 8 * k;
        }
        struct cache_scale s = cache_scale_q4_0(x[__builtin_ctz(at)]);
        for (int k = 0; k < 4; k++) {
            __m256 v = _mm256_mul_ps(g.x[k], _mm256_set1_ps(s.inverse));
            v = _mm256_add_ps(v, _mm256_set1_ps(8.5f));
            code[k] = s.inverse != 0 ? _mm256_cvttps_epi32(v) : _mm256_set1_epi32(8);
            code[k] = _mm256_min_epi32(code[k], _mm256_set1_epi32(15));
        }
        __m256i bytes = narrowed(code);
        __m128i high = _mm_slli_epi16(_mm256_extracti128_si256(bytes, 1), 4);
        cache_put_factor(b->d, s.d);
        _mm_storeu_si128((void *)b->qs, _mm_or_si128(_mm256_castsi256_si128(bytes), high));
    }
}

/* ---- mixing ---- */

/* 16 values; the lanes behind the end of the row are zero. */
struct pair {
    __m256 low, high;
};

/* Values `at`, ... of a row, `n` of which are left. */
typedef struct pair load_fn(const char *row, size_t at, size_t n);

INLINE size_t left_of(size_t n)
{
    return n > 8 ? n - 8 : 0;
}

INLINE struct pair row_f32(const char *row, size_t at, size_t n)
{
    const float *p = (const float *)(const void *)row + at;
    return (struct pair){load_f32_8(p, n), load_f32_8(p + 8, left_of(n))};
}

INLINE struct pair row_f16(const char *row, size_t at, size_t n)
{
    const char *p = row + 2 * at;
    return (struct pair){load_f16_8(p, n), load_f16_8(p + 16, left_of(n))};
}

INLINE struct pair scaled(__m128i codes, const uint8_t *d)
{
    __m256 factor = _mm256_set1_ps(f16_load(d));
    __m256i low = _mm256_cvtepi8_epi32(codes);
    __m256i high = _mm256_cvtepi8_epi32(_mm_srli_si128(codes, 8));
    return (struct pair){_mm256_mul_ps(_mm256_cvtepi32_ps(low), factor),
                         _mm256_mul_ps(_mm256_cvtepi32_ps(high), factor)};
}

INLINE struct pair row_q8_0(const char *row, size_t at, size_t n)
{
    const struct block_q8_0 *b = (const struct block_q8_0 *)(const void *)row + at / BLOCK_32;
    (void)n;
    return scaled(_mm_loadu_si128((const void *)(b->qs + at % BLOCK_32)), b->d);
}

INLINE struct pair row_q4_0(const char *row, size_t at, size_t n)
{
    const struct block_q4_0 *b = (const struct block_q4_0 *)(const void *)row + at / BLOCK_32;
    __m128i q = _mm_loadu_si128((const void *)b->qs);
    (void)n;
    if (at % BLOCK_32 != 0)
        q = _mm_srli_epi16(q, 4);
    q = _mm_sub_epi8(_mm_and_si128(q, _mm_set1_epi8(15)), _mm_set1_epi8(8));
    return scaled(q, b->d);
}

/* The rows of one call, or the piece of them that is unpacked. */
struct rows {
    const char *w;
    size_t row_bytes, n;
    const float *weights; /* of the first row */
    size_t weight_stride;
};

INLINE struct pair add(struct pair a, struct pair b)
{
    return (struct pair){_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
}

/* `n_cols` columns of values at, ..., `side` rows running side by side. */
INLINE void mix_columns(load_fn *load, const struct rows *rows, size_t at, size_t left, int n_cols,
                        int side, bool first, float *out, size_t out_stride)
{
    struct pair sum[4][COLUMNS];
    __m256i low = tail_mask(left), high = tail_mask(left_of(left));
#pragma GCC unroll 4
    for (int s = 0; s < side; s++)
#pragma GCC unroll 6
        for (int c = 0; c < n_cols; c++)
            sum[s][c] = (struct pair){_mm256_setzero_ps(), _mm256_setzero_ps()};
    size_t r = 0;
    for (; r + (size_t)side <= rows->n; r += (size_t)side) {
#pragma GCC unroll 4
        for (int s = 0; s < side; s++) {
            struct pair v = load(rows->w + (r + (size_t)s) * rows->row_bytes, at, left);
#pragma GCC unroll 6
            for (int c = 0; c < n_cols; c++) {
                __m256 weight =
                    _mm256_set1_ps(rows->weights[(size_t)c * rows->weight_stride + r + (size_t)s]);
                sum[s][c].low = _mm256_fmadd_ps(v.low, weight, sum[s][c].low);
                sum[s][c].high = _mm256_fmadd_ps(v.high, weight, sum[s][c].high);
            }
        }
    }
    for (; r < rows->n; r++) {
        struct pair v = load(rows->w + r * rows->row_bytes, at, left);
#pragma GCC unroll 6
        for (int c = 0; c < n_cols; c++) {
            __m256 weight = _mm256_set1_ps(rows->weights[(size_t)c * rows->weight_stride + r]);
            sum[0][c].low = _mm256_fmadd_ps(v.low, weight, sum[0][c].low);
            sum[0][c].high = _mm256_fmadd_ps(v.high, weight, sum[0][c].high);
        }
    }
#pragma GCC unroll 6
    for (int c = 0; c < n_cols; c++) {
        float *o = out + (size_t)c * out_stride + at;
#pragma GCC unroll 4
        for (int s = 1; s < side; s++)
            sum[0][c] = add(sum[0][c], sum[s][c]);
        if (!first)
            sum[0][c] = add(sum[0][c], (struct pair){_mm256_maskload_ps(o, low),
                                                     _mm256_maskload_ps(o + 8, high)});
        _mm256_maskstore_ps(o, low, sum[0][c].low);
        _mm256_maskstore_ps(o + 8, high, sum[0][c].high);
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
    TAKE(6, 1)
    TAKE(4, 1)
    TAKE(2, 2)
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
    _Alignas(32) float y[ROWS][PIECE];
    for (size_t begin = 0; begin < n_rows; begin += ROWS) {
        struct rows rows = {.w = w + begin * row_bytes,
                            .row_bytes = row_bytes,
                            .n = n_rows - begin < ROWS ? n_rows - begin : ROWS,
                            .weights = weights + begin,
                            .weight_stride = weight_stride};
        for (size_t at = 0; at < n_in; at += PIECE) {
            if (!unpack || n_cols <= COLUMNS) {
                mix_piece(load, rows, at, n_in - at, n_cols, begin == 0, out, out_stride);
                continue;
            }
            struct rows floats = rows;
            floats.w = (const char *)y;
            floats.row_bytes = sizeof y[0];
            for (size_t r = 0; r < rows.n; r++) {
                struct pair v = load(rows.w + r * row_bytes, at, n_in - at);
                _mm256_store_ps(y[r], v.low);
                _mm256_store_ps(y[r] + 8, v.high);
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

void cache_avx2_fill(struct kernels *set)
{
    set->store[FORMAT_Q4_0] = store_q4_0;
    set->store[FORMAT_Q8_0] = store_q8_0;
    set->store[FORMAT_F16] = store_f16;
    set->mix[FORMAT_Q4_0] = mix_q4_0;
    set->mix[FORMAT_Q8_0] = mix_q8_0;
    set->mix[FORMAT_F16] = mix_f16;
    set->mix[FORMAT_F32] = mix_f32;
}
