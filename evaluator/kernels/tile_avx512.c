/* tile_avx512.c - many columns times packed rows, bound by vpdpbusd.
 *
 * Sixteen rows are unpacked together, at most 1024 weights each, into a tile in which a register
 * holds four consecutive weights of all sixteen rows.  Multiplying it with four activations of one
 * column, broadcast, gives partial sums for sixteen rows: no sum over lanes is ever needed, scales
 * of the rows are one register, and the tile serves every column, eight at a time.
 *
 *   codes   [step][16 rows][4]  unsigned bytes; 64 steps of 4 weights are a block of 256
 *   scale   [group][16 rows]    float: d * group scale; of a 32-block its d
 *   minima  [pair][16 rows][2]  int16: minima of groups 2*pair and 2*pair + 1, as sums lie
 *   dmin    [block][16 rows]    float
 */
#include "evaluator/kernels/codes_avx512.h"
#include "evaluator/kernels/int8_avx512.h"
#include "evaluator/kernels/transpose_avx512.h"

enum { ROWS = 16, BLOCKS = 4, STEPS = 64, PAIRS = 8 };

struct tile {
    _Alignas(64) uint8_t codes[BLOCKS][STEPS][ROWS][4];
    float scale[BLOCKS][BLOCK_GROUPS][ROWS];
    int32_t minima[BLOCKS][PAIRS][ROWS];
    float dmin[BLOCKS][ROWS];
};

/* ---- filling a tile ---- */

/* Sixteen rows of 64 bytes, `apart` bytes from each other, to sixteen registers at `out`. */
INLINE void transpose_to(const void *in, size_t apart, void *out)
{
    __m512i m[16];
    for (int r = 0; r < 16; r++)
        m[r] = _mm512_loadu_si512((const char *)in + (size_t)r * apart);
    transpose(m);
    for (int i = 0; i < 16; i++)
        _mm512_store_si512((char *)out + 64 * i, m[i]);
}

/* What a row's block of 256 becomes before the rows are woven together. */
struct row_block {
    _Alignas(64) uint8_t codes[BLOCK_K];
    float scale[BLOCK_GROUPS];
    _Alignas(64) int16_t min[32]; /* 16 used; a full register for the transposition */
};

INLINE void put_scales(struct row_block *row, __m128i bytes, float d)
{
    __m512 scale = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
    _mm512_store_ps(row->scale, _mm512_mul_ps(scale, _mm512_set1_ps(d)));
}

INLINE void put_minima(struct row_block *row, __m128i bytes)
{
    _mm512_store_si512(row->min, _mm512_zextsi256_si512(_mm256_cvtepu8_epi16(bytes)));
}

#define PUT_CODES(row, unpack, b)                                                                  \
    for (int v = 0; v < 4; v++)                                                                    \
    _mm512_store_si512((row)->codes + 64 * v, unpack(b, v))

INLINE float row_q2_k(const uint8_t *p, struct row_block *row)
{
    const struct block_q2_k *b = (const void *)p;
    __m128i packed = _mm_loadu_si128((const void *)b->scales), nibble = _mm_set1_epi8(15);
    PUT_CODES(row, codes_q2_k, b);
    put_scales(row, _mm_and_si128(packed, nibble), f16_load(b->d));
    put_minima(row, _mm_and_si128(_mm_srli_epi16(packed, 4), nibble));
    return f16_load(b->dmin);
}

INLINE float row_q3_k(const uint8_t *p, struct row_block *row)
{
    const struct block_q3_k *b = (const void *)p;
    PUT_CODES(row, codes_q3_k, b);
    put_scales(row, scales_q3_k(b), f16_load(b->d));
    return 0;
}

/* Groups of 32: scales stay eight, minima are doubled for the two sums of each group. */
INLINE void put_scales_k4(struct row_block *row, const uint8_t scales[12], float d)
{
    const __m128i twice = _mm_set_epi8(15, 15, 14, 14, 13, 13, 12, 12, 11, 11, 10, 10, 9, 9, 8, 8);
    __m128i packed = scales_k4(scales);
    put_scales(row, packed, d);
    put_minima(row, _mm_shuffle_epi8(packed, twice));
}

INLINE float row_q4_k(const uint8_t *p, struct row_block *row)
{
    const struct block_q4_k *b = (const void *)p;
    PUT_CODES(row, codes_q4_k, b);
    put_scales_k4(row, b->scales, f16_load(b->d));
    return f16_load(b->dmin);
}

INLINE float row_q5_k(const uint8_t *p, struct row_block *row)
{
    const struct block_q5_k *b = (const void *)p;
    PUT_CODES(row, codes_q5_k, b);
    put_scales_k4(row, b->scales, f16_load(b->d));
    return f16_load(b->dmin);
}

INLINE float row_q6_k(const uint8_t *p, struct row_block *row)
{
    const struct block_q6_k *b = (const void *)p;
    PUT_CODES(row, codes_q6_k, b);
    put_scales(row, _mm_loadu_si128((const void *)b->scales), f16_load(b->d));
    return 0;
}

typedef float row_fn(const uint8_t *block, struct row_block *row);

INLINE void fill_k(row_fn *row_fill, bool with_min, const uint8_t *const rows[ROWS], size_t at,
                   struct tile *t, size_t k)
{
    struct row_block row[ROWS];
    for (int r = 0; r < ROWS; r++)
        t->dmin[k][r] = row_fill(rows[r] + at, &row[r]);
    for (int v = 0; v < 4; v++)
        transpose_to(row[0].codes + 64 * v, sizeof row[0], t->codes[k][16 * v]);
    transpose_to(row[0].scale, sizeof row[0], t->scale[k]);
    if (!with_min)
        return;
    __m512i m[16];
    for (int r = 0; r < ROWS; r++)
        m[r] = _mm512_load_si512(row[r].min);
    transpose(m);
    for (int i = 0; i < PAIRS; i++)
        _mm512_store_si512(t->minima[k][i], m[i]);
}

typedef __m512i pair_fn(const uint8_t *block, const uint8_t *next);

/* Eight 32-blocks, or the `n` that are left. */
INLINE void fill_32(pair_fn *pair, int bytes, const uint8_t *const rows[ROWS], size_t at, size_t n,
                    struct tile *t, size_t k)
{
    struct row_block row[ROWS];
    for (int r = 0; r < ROWS; r++) {
        const uint8_t *p = rows[r] + at;
        for (size_t b = 0; b < n; b += 2) {
            const uint8_t *first = p + b * (size_t)bytes;
            const uint8_t *next = b + 1 < n ? first + bytes : first;
            _mm512_store_si512(row[r].codes + b * BLOCK_32, pair(first, next));
        }
        if (n == 8) {
            _mm256_store_ps(row[r].scale, factors_32(p, bytes));
        } else {
            for (size_t b = 0; b < n; b++)
                row[r].scale[b] = f16_load(p + b * (size_t)bytes);
        }
    }
    /* Where fewer than eight blocks are left, rubbish is moved along and never used. */
    for (int v = 0; v < 4; v++)
        transpose_to(row[0].codes + 64 * v, sizeof row[0], t->codes[k][16 * v]);
    transpose_to(row[0].scale, sizeof row[0], t->scale[k]);
}

/* ---- multiplying a tile ---- */

/* Packed columns, `apart` bytes from each other, from the tile's first weight on. */
struct columns {
    const char *q;    /* int8 */
    const char *sums; /* int16 of each 16 */
    const char *d;    /* float */
    size_t apart;
};

INLINE __m512i four_q(const struct columns *a, int c, size_t at)
{
    return _mm512_set1_epi32((int)load_u32(a->q + (size_t)c * a->apart + at));
}

INLINE __m512i two_sums(const struct columns *a, int c, size_t pair)
{
    return _mm512_set1_epi32((int)load_u32(a->sums + (size_t)c * a->apart + 4 * pair));
}

INLINE __m512 factor(const struct columns *a, int c, size_t i)
{
    float d;
    memcpy(&d, a->d + (size_t)c * a->apart + i * sizeof d, sizeof d);
    return _mm512_set1_ps(d);
}

/* sum[c] over one group: `n_steps` steps of four weights, from `start` on. */
INLINE void group_dot(const uint8_t (*codes)[ROWS][4], const struct columns *a, size_t at,
                      int n_steps, int n, __m512i sum[8])
{
#pragma GCC unroll 8
    for (int s = 0; s < n_steps; s++) {
        __m512i w = _mm512_load_si512(codes[s]);
#pragma GCC unroll 8
        for (int c = 0; c < n; c++)
            sum[c] = _mm512_dpbusd_epi32(sum[c], w, four_q(a, c, at + 4 * (size_t)s));
    }
}

/* One block of 256 in groups of 16 or 32, with minima or with an offset. */
INLINE void block_k(const struct tile *t, size_t k, const struct columns *a, int group,
                    bool with_min, int offset, int n, __m512 total[8])
{
    __m512 block[8];
#pragma GCC unroll 8
    for (int c = 0; c < n; c++)
        block[c] = _mm512_setzero_ps();
    for (int g = 0; g < BLOCK_K / group; g++) {
        __m512i sum[8];
        /* Of a pair of sums, this group's is the lower or the upper 16 bits. */
        __m512i lift = _mm512_set1_epi32(g & 1 ? -offset * 65536 : -offset & 0xffff);
#pragma GCC unroll 8
        for (int c = 0; c < n; c++)
            sum[c] = offset == 0 ? _mm512_setzero_si512()
                                 : _mm512_dpwssd_epi32(_mm512_setzero_si512(), lift,
                                                       two_sums(a, c, k * PAIRS + (size_t)g / 2));
        group_dot(&t->codes[k][g * group / 4], a, k * BLOCK_K + (size_t)(g * group), group / 4, n,
                  sum);
        __m512 scale = _mm512_load_ps(t->scale[k][g]);
#pragma GCC unroll 8
        for (int c = 0; c < n; c++)
            block[c] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[c]), scale, block[c]);
    }
    if (with_min) {
        __m512i sum[8];
#pragma GCC unroll 8
        for (int c = 0; c < n; c++)
            sum[c] = _mm512_setzero_si512();
        for (size_t i = 0; i < PAIRS; i++) {
            __m512i minima = _mm512_load_si512(t->minima[k][i]);
#pragma GCC unroll 8
            for (int c = 0; c < n; c++)
                sum[c] = _mm512_dpwssd_epi32(sum[c], minima, two_sums(a, c, k * PAIRS + i));
        }
        __m512 dmin = _mm512_load_ps(t->dmin[k]);
#pragma GCC unroll 8
        for (int c = 0; c < n; c++)
            block[c] = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(sum[c]), dmin, block[c]);
    }
#pragma GCC unroll 8
    for (int c = 0; c < n; c++)
        total[c] = _mm512_fmadd_ps(block[c], factor(a, c, k), total[c]);
}

/* One 32-block. */
INLINE void block_32(const struct tile *t, size_t b, const struct columns *a, int offset, int n,
                     __m512 total[8])
{
    __m512i sum[8], lift = _mm512_set1_epi16((short)-offset);
#pragma GCC unroll 8
    for (int c = 0; c < n; c++)
        sum[c] = _mm512_dpwssd_epi32(_mm512_setzero_si512(), lift, two_sums(a, c, b));
    group_dot(&t->codes[b / 8][b % 8 * 8], a, b * BLOCK_32, 8, n, sum);
    __m512 scale = _mm512_load_ps(t->scale[b / 8][b % 8]);
#pragma GCC unroll 8
    for (int c = 0; c < n; c++) {
        __m512 both = _mm512_mul_ps(scale, factor(a, c, b));
        total[c] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[c]), both, total[c]);
    }
}

/* What distinguishes the inner loops; constants wherever it is used. */
struct kind {
    int group; /* 16 or 32; 0 for the 32-blocks */
    bool min;
    int offset;
};

/* `n` columns, added to out unless this is the first tile of the rows. */
INLINE void multiply(struct kind kind, const struct tile *t, size_t n_weights,
                     const struct columns *a, int n, bool first, __mmask16 mask, float *out,
                     size_t out_stride)
{
    __m512 total[8];
#pragma GCC unroll 8
    for (int c = 0; c < n; c++)
        total[c] =
            first ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(mask, out + (size_t)c * out_stride);
    if (kind.group == 0)
        for (size_t b = 0; b < n_weights / BLOCK_32; b++)
            block_32(t, b, a, kind.offset, n, total);
    else
        for (size_t k = 0; k < n_weights / BLOCK_K; k++)
            block_k(t, k, a, kind.group, kind.min, kind.offset, n, total);
#pragma GCC unroll 8
    for (int c = 0; c < n; c++)
        _mm512_mask_storeu_ps(out + (size_t)c * out_stride, mask, total[c]);
}

typedef void multiply_fn(const struct tile *t, size_t n_weights, const struct columns *a,
                         size_t n_cols, bool first, __mmask16 mask, float *out, size_t out_stride);

INLINE void multiply_all(struct kind kind, const struct tile *t, size_t n_weights, struct columns a,
                         size_t n_cols, bool first, __mmask16 mask, float *out, size_t out_stride)
{
#define TAKE(n)                                                                                    \
    for (; n_cols >= (n); n_cols -= (n)) {                                                         \
        multiply(kind, t, n_weights, &a, n, first, mask, out, out_stride);                         \
        a.q += (n)*a.apart;                                                                        \
        a.sums += (n)*a.apart;                                                                     \
        a.d += (n)*a.apart;                                                                        \
        out += (n)*out_stride;                                                                     \
    }
    TAKE(8)
    TAKE(4)
    TAKE(2)
    TAKE(1)
#undef TAKE
}

#define MULTIPLY(name, ...)                                                                        \
    static void name(const struct tile *t, size_t n_weights, const struct columns *a,              \
                     size_t n_cols, bool first, __mmask16 mask, float *out, size_t out_stride)     \
    {                                                                                              \
        multiply_all((struct kind){__VA_ARGS__}, t, n_weights, *a, n_cols, first, mask, out,       \
                     out_stride);                                                                  \
    }
MULTIPLY(multiply_group16_min, 16, true, 0)
MULTIPLY(multiply_group32_min, 32, true, 0)
MULTIPLY(multiply_group16_offset4, 16, false, 4)
MULTIPLY(multiply_group16_offset32, 16, false, 32)
MULTIPLY(multiply_32_offset8, 0, false, 8)
MULTIPLY(multiply_32_offset16, 0, false, 16)
MULTIPLY(multiply_32_offset128, 0, false, 128)

/* ---- one function a format ---- */

/* 1024 weights at a time of all rows, strip after strip of 16: so much of the activations stays in
 * the core's own cache while the strips go by, which whole columns would not.  A ragged last strip
 * repeats its last row, unstored. */
#define TILE(name, group, block_bytes, multiply_name, fill_call)                                   \
    void tile_##name##_avx512(const void *w, size_t row_bytes, size_t n_rows, size_t n_in,         \
                              const void *act, size_t act_bytes, size_t n_cols, float *out,        \
                              size_t out_stride)                                                   \
    {                                                                                              \
        struct tile t;                                                                             \
        struct act_view view = act_view(act, n_in, group);                                         \
        for (size_t begin = 0; begin < n_in; begin += BLOCKS * BLOCK_K) {                          \
            size_t end = n_in - begin < BLOCKS * BLOCK_K ? n_in : begin + BLOCKS * BLOCK_K;        \
            struct columns a = {.q = (const char *)(view.q + begin),                               \
                                .sums = (const char *)(view.sums + begin / GROUP),                 \
                                .d = (const char *)(view.d + begin / (group)),                     \
                                .apart = act_bytes};                                               \
            for (size_t r = 0; r < n_rows; r += ROWS) {                                            \
                const uint8_t *rows[ROWS];                                                         \
                size_t n = n_rows - r < ROWS ? n_rows - r : ROWS;                                  \
                for (size_t i = 0; i < ROWS; i++)                                                  \
                    rows[i] = (const uint8_t *)w + (r + (i < n ? i : n - 1)) * row_bytes;          \
                for (size_t at = begin; at < end; at += BLOCK_K) {                                 \
                    size_t k = (at - begin) / BLOCK_K, byte = at / (group) * (block_bytes);        \
                    size_t n_blocks = (end - at < BLOCK_K ? end - at : BLOCK_K) / (group);         \
                    (void)n_blocks;                                                                \
                    fill_call;                                                                     \
                }                                                                                  \
                multiply_name(&t, end - begin, &a, n_cols, begin == 0, (__mmask16)((1u << n) - 1), \
                              out + r, out_stride);                                                \
            }                                                                                      \
        }                                                                                          \
    }

#define FILL_K(row, with_min) fill_k(row, with_min, rows, byte, &t, k)
#define FILL_32(pair, bytes)  fill_32(pair, bytes, rows, byte, n_blocks, &t, k)

TILE(Q2_K, BLOCK_K, 84, multiply_group16_min, FILL_K(row_q2_k, true))
TILE(Q3_K, BLOCK_K, 110, multiply_group16_offset4, FILL_K(row_q3_k, false))
TILE(Q4_K, BLOCK_K, 144, multiply_group32_min, FILL_K(row_q4_k, true))
TILE(Q5_K, BLOCK_K, 176, multiply_group32_min, FILL_K(row_q5_k, true))
TILE(Q6_K, BLOCK_K, 210, multiply_group16_offset32, FILL_K(row_q6_k, false))
TILE(IQ4_NL, BLOCK_32, 18, multiply_32_offset128, FILL_32(pair_iq4_nl, 18))
TILE(Q4_0, BLOCK_32, 18, multiply_32_offset8, FILL_32(pair_q4_0, 18))
TILE(Q5_0, BLOCK_32, 22, multiply_32_offset16, FILL_32(pair_q5_0, 22))
TILE(Q8_0, BLOCK_32, 34, multiply_32_offset128, FILL_32(pair_q8_0, 34))
