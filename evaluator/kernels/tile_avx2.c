/* tile_avx2.c - many columns times packed rows with 256-bit registers.
 *
 * The plan of tile_avx512.c with eight rows: a register holds four consecutive weights of eight
 * rows and meets four broadcast activations of one column.  maddubs leaves sums of two products in
 * 16 bits; a few of them are added there, as many as cannot overflow, before madd multiplies them
 * by the group scales of the eight rows into 32-bit sums.
 *
 *   codes   [step][8 rows][4]     64 steps are a block of 256
 *   scale   [group][8 rows][2]    int16, twice the same
 *   minima  [pair][8 rows][2]     int16 of groups 2*pair and 2*pair+1; where codes have an offset,
 *                                 offset * scale, which is the same thing
 *   d, dmin [block][8 rows]       float; of a 32-block its d
 */
#include "evaluator/kernels/codes_avx2.h"
#include "evaluator/kernels/int8_avx2.h"

enum { ROWS = 8, BLOCKS = 4, STEPS = 64, PAIRS = 8 };

struct tile {
    _Alignas(32) uint8_t codes[BLOCKS][STEPS][ROWS][4];
    int16_t scale[BLOCKS][BLOCK_GROUPS][ROWS][2];
    int16_t minima[BLOCKS][PAIRS][ROWS][2];
    float d[BLOCKS][ROWS], dmin[BLOCKS][ROWS];
    float d_32[BLOCKS * 8][ROWS];
};

/* ---- filling a tile ---- */

/* Eight rows of 32 bytes, `apart` bytes from each other, to eight registers at out. */
INLINE void transpose_to(const uint8_t *in, size_t apart, void *out)
{
    __m256i m[8], t[8];
    for (int r = 0; r < 8; r++)
        m[r] = load_32(in + (size_t)r * apart);
    for (int r = 0; r < 8; r += 2) {
        t[r] = _mm256_unpacklo_epi32(m[r], m[r + 1]);
        t[r + 1] = _mm256_unpackhi_epi32(m[r], m[r + 1]);
    }
    for (int r = 0; r < 8; r += 4) {
        m[r] = _mm256_unpacklo_epi64(t[r], t[r + 2]);
        m[r + 1] = _mm256_unpackhi_epi64(t[r], t[r + 2]);
        m[r + 2] = _mm256_unpacklo_epi64(t[r + 1], t[r + 3]);
        m[r + 3] = _mm256_unpackhi_epi64(t[r + 1], t[r + 3]);
    }
    for (int r = 0; r < 4; r++) {
        __m256i *o = (__m256i *)out + r;
        _mm256_store_si256(o, _mm256_permute2x128_si256(m[r], m[r + 4], 0x20));
        _mm256_store_si256(o + 4, _mm256_permute2x128_si256(m[r], m[r + 4], 0x31));
    }
}

/* A row's block of 256 before the rows are woven together. */
struct row_block {
    _Alignas(32) uint8_t codes[BLOCK_K];
    int16_t scale[BLOCK_GROUPS], min[BLOCK_GROUPS];
    float d, dmin;
};

INLINE void put_bytes(int16_t out[BLOCK_GROUPS], __m256i words)
{
    _mm256_storeu_si256((void *)out, words);
}

#define PUT_CODES(row, unpack, b)                                                                  \
    _Pragma("GCC unroll 8") for (int v = 0; v < 8; v++)                                            \
        _mm256_store_si256((void *)((row)->codes + 32 * v), unpack(b, v))

INLINE void row_q2_k(const uint8_t *p, struct row_block *row)
{
    const struct block_q2_k *b = (const void *)p;
    __m128i packed = _mm_loadu_si128((const void *)b->scales), nibble = _mm_set1_epi8(15);
    PUT_CODES(row, codes_q2_k, b);
    put_bytes(row->scale, _mm256_cvtepu8_epi16(_mm_and_si128(packed, nibble)));
    put_bytes(row->min, _mm256_cvtepu8_epi16(_mm_and_si128(_mm_srli_epi16(packed, 4), nibble)));
    row->d = f16_load(b->d);
    row->dmin = f16_load(b->dmin);
}

/* Signed scales, and what the offset of the codes makes of them. */
INLINE void put_signed(struct row_block *row, __m128i scales, int log2_offset, float d)
{
    __m256i words = _mm256_cvtepi8_epi16(scales);
    put_bytes(row->scale, words);
    put_bytes(row->min, _mm256_slli_epi16(words, log2_offset));
    row->d = row->dmin = d;
}

INLINE void row_q3_k(const uint8_t *p, struct row_block *row)
{
    const struct block_q3_k *b = (const void *)p;
    PUT_CODES(row, codes_q3_k, b);
    put_signed(row, scales_q3_k(b->scales), 2, f16_load(b->d));
}

INLINE void row_q6_k(const uint8_t *p, struct row_block *row)
{
    const struct block_q6_k *b = (const void *)p;
    PUT_CODES(row, codes_q6_k, b);
    put_signed(row, _mm_loadu_si128((const void *)b->scales), 5, f16_load(b->d));
}

INLINE void put_k4(struct row_block *row, const uint8_t scales[12], float d, float dmin)
{
    __m128i packed = scales_k4(scales);
    put_bytes(row->scale, _mm256_cvtepu8_epi16(packed)); /* the first eight are scales */
    put_bytes(row->min, _mm256_cvtepu8_epi16(minima_k4(packed)));
    row->d = d;
    row->dmin = dmin;
}

INLINE void row_q4_k(const uint8_t *p, struct row_block *row)
{
    const struct block_q4_k *b = (const void *)p;
    PUT_CODES(row, codes_q4_k, b);
    put_k4(row, b->scales, f16_load(b->d), f16_load(b->dmin));
}

INLINE void row_q5_k(const uint8_t *p, struct row_block *row)
{
    const struct block_q5_k *b = (const void *)p;
    PUT_CODES(row, codes_q5_k, b);
    put_k4(row, b->scales, f16_load(b->d), f16_load(b->dmin));
}

typedef void row_fn(const uint8_t *block, struct row_block *row);

INLINE void fill_k(row_fn *row_fill, const uint8_t *const rows[ROWS], size_t at, struct tile *t,
                   size_t k)
{
    struct row_block row[ROWS];
    for (int r = 0; r < ROWS; r++) {
        row_fill(rows[r] + at, &row[r]);
        t->d[k][r] = row[r].d;
        t->dmin[k][r] = row[r].dmin;
        for (int g = 0; g < BLOCK_GROUPS; g++)
            t->scale[k][g][r][0] = t->scale[k][g][r][1] = row[r].scale[g];
        for (int i = 0; i < PAIRS; i++)
            memcpy(t->minima[k][i][r], row[r].min + 2 * i, 2 * sizeof(int16_t));
    }
    for (int v = 0; v < 8; v++)
        transpose_to(row[0].codes + 32 * v, sizeof row[0], t->codes[k][8 * v]);
}

typedef __m256i codes_fn(const uint8_t *block);

/* One 32-block of eight rows: the b-th of the tile. */
INLINE void fill_32(codes_fn *codes, const uint8_t *const rows[ROWS], size_t at, struct tile *t,
                    size_t b)
{
    _Alignas(32) uint8_t row[ROWS][BLOCK_32];
    for (int r = 0; r < ROWS; r++) {
        _mm256_store_si256((void *)row[r], codes(rows[r] + at));
        t->d_32[b][r] = f16_load(rows[r] + at);
    }
    transpose_to(row[0], BLOCK_32, t->codes[b / 8][b % 8 * 8]);
}

/* ---- multiplying a tile ---- */

/* Packed columns, `apart` bytes from each other, from the tile's first weight on. */
struct columns {
    const char *q, *sums, *d;
    size_t apart;
};

INLINE __m256i four_q(const struct columns *a, int c, size_t at)
{
    return _mm256_set1_epi32((int)load_u32(a->q + (size_t)c * a->apart + at));
}

INLINE __m256i two_sums(const struct columns *a, int c, size_t pair)
{
    return _mm256_set1_epi32((int)load_u32(a->sums + (size_t)c * a->apart + 4 * pair));
}

INLINE __m256 factor(const struct columns *a, int c, size_t i)
{
    float d;
    memcpy(&d, a->d + (size_t)c * a->apart + i * sizeof d, sizeof d);
    return _mm256_set1_ps(d);
}

/* 16-bit sums over `n_steps` steps, no more than cannot overflow, times `scale` into sum[c]. */
INLINE void run(const uint8_t (*codes)[ROWS][4], const struct columns *a, size_t at, int n_steps,
                bool is_signed, __m256i scale, int n, __m256i sum[4])
{
    __m256i pairs[4];
#pragma GCC unroll 8
    for (int s = 0; s < n_steps; s++) {
        __m256i w = _mm256_load_si256((const void *)codes[s]);
        __m256i size = is_signed ? _mm256_sign_epi8(w, w) : w;
#pragma GCC unroll 4
        for (int c = 0; c < n; c++) {
            __m256i q = four_q(a, c, at + 4 * (size_t)s);
            __m256i p = _mm256_maddubs_epi16(size, is_signed ? _mm256_sign_epi8(q, w) : q);
            pairs[c] = s == 0 ? p : _mm256_add_epi16(pairs[c], p);
        }
    }
#pragma GCC unroll 4
    for (int c = 0; c < n; c++)
        sum[c] = _mm256_add_epi32(sum[c], _mm256_madd_epi16(pairs[c], scale));
}

INLINE void block_k(const struct tile *t, size_t k, const struct columns *a, int group, int run_of,
                    int n, __m256 total[4])
{
    __m256i sum[4], minimum[4];
#pragma GCC unroll 4
    for (int c = 0; c < n; c++)
        sum[c] = minimum[c] = _mm256_setzero_si256();
    for (int g = 0; g < BLOCK_K / group; g++) {
        __m256i scale = _mm256_load_si256((const void *)t->scale[k][g]);
#pragma GCC unroll 2
        for (int s = 0; s < group / 4; s += run_of)
            run(&t->codes[k][g * group / 4 + s], a, k * BLOCK_K + (size_t)(g * group + 4 * s),
                run_of, false, scale, n, sum);
    }
    for (size_t i = 0; i < PAIRS; i++) {
        __m256i minima = _mm256_load_si256((const void *)t->minima[k][i]);
#pragma GCC unroll 4
        for (int c = 0; c < n; c++)
            minimum[c] = _mm256_add_epi32(minimum[c],
                                          _mm256_madd_epi16(minima, two_sums(a, c, k * PAIRS + i)));
    }
    __m256 d = _mm256_load_ps(t->d[k]), dmin = _mm256_load_ps(t->dmin[k]);
#pragma GCC unroll 4
    for (int c = 0; c < n; c++) {
        __m256 v = _mm256_mul_ps(_mm256_cvtepi32_ps(sum[c]), d);
        v = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(minimum[c]), dmin, v);
        total[c] = _mm256_fmadd_ps(v, factor(a, c, k), total[c]);
    }
}

INLINE void block_32(const struct tile *t, size_t b, const struct columns *a, int run_of,
                     int offset, int n, __m256 total[4])
{
    __m256i sum[4], lift = _mm256_set1_epi16((short)-offset);
#pragma GCC unroll 4
    for (int c = 0; c < n; c++)
        sum[c] = offset == 0 ? _mm256_setzero_si256() : _mm256_madd_epi16(lift, two_sums(a, c, b));
#pragma GCC unroll 8
    for (int s = 0; s < 8; s += run_of)
        run(&t->codes[b / 8][b % 8 * 8 + (size_t)s], a, b * BLOCK_32 + 4 * (size_t)s, run_of,
            offset == 0, _mm256_set1_epi16(1), n, sum);
    __m256 d = _mm256_load_ps(t->d_32[b]);
#pragma GCC unroll 4
    for (int c = 0; c < n; c++) {
        __m256 both = _mm256_mul_ps(d, factor(a, c, b));
        total[c] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[c]), both, total[c]);
    }
}

/* What distinguishes the inner loops. */
struct kind {
    int group;  /* 16 or 32; 0 for the 32-blocks */
    int run_of; /* steps that 16-bit sums hold: 2 * codes * 127 * run_of < 2^15 */
    int offset; /* of the 32-blocks; 0 means signed codes */
};

/* The rows that are really there; others of the tile are not stored. */
INLINE __m256i row_mask(size_t n_rows)
{
    const __m256i lane = _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n_rows), lane);
}

INLINE void multiply(struct kind kind, const struct tile *t, size_t n_weights,
                     const struct columns *a, int n, bool first, __m256i mask, float *out,
                     size_t out_stride)
{
    __m256 total[4];
#pragma GCC unroll 4
    for (int c = 0; c < n; c++)
        total[c] =
            first ? _mm256_setzero_ps() : _mm256_maskload_ps(out + (size_t)c * out_stride, mask);
    if (kind.group == 0)
        for (size_t b = 0; b < n_weights / BLOCK_32; b++)
            block_32(t, b, a, kind.run_of, kind.offset, n, total);
    else
        for (size_t k = 0; k < n_weights / BLOCK_K; k++)
            block_k(t, k, a, kind.group, kind.run_of, n, total);
#pragma GCC unroll 4
    for (int c = 0; c < n; c++)
        _mm256_maskstore_ps(out + (size_t)c * out_stride, mask, total[c]);
}

INLINE void multiply_all(struct kind kind, const struct tile *t, size_t n_weights, struct columns a,
                         size_t n_cols, bool first, __m256i mask, float *out, size_t out_stride)
{
#define TAKE(n)                                                                                    \
    for (; n_cols >= (n); n_cols -= (n)) {                                                         \
        multiply(kind, t, n_weights, &a, n, first, mask, out, out_stride);                         \
        a.q += (n)*a.apart;                                                                        \
        a.sums += (n)*a.apart;                                                                     \
        a.d += (n)*a.apart;                                                                        \
        out += (n)*out_stride;                                                                     \
    }
    TAKE(4)
    TAKE(1)
#undef TAKE
}

#define MULTIPLY(name, ...)                                                                        \
    static void name(const struct tile *t, size_t n_weights, const struct columns *a,              \
                     size_t n_cols, bool first, __m256i mask, float *out, size_t out_stride)       \
    {                                                                                              \
        multiply_all((struct kind){__VA_ARGS__}, t, n_weights, *a, n_cols, first, mask, out,       \
                     out_stride);                                                                  \
    }
MULTIPLY(multiply_group16_run4, 16, 4, 0) /* Q2_K: codes to 3, Q3_K: to 7 */
MULTIPLY(multiply_group16_run2, 16, 2, 0) /* Q6_K: to 63 */
MULTIPLY(multiply_group32_run8, 32, 8, 0) /* Q4_K: to 15 */
MULTIPLY(multiply_group32_run4, 32, 4, 0) /* Q5_K: to 31 */
MULTIPLY(multiply_32_run8, 0, 8, 8)       /* Q4_0 */
MULTIPLY(multiply_32_run4, 0, 4, 16)      /* Q5_0 */
MULTIPLY(multiply_32_signed, 0, 1, 0)     /* Q8_0, IQ4_NL */

/* ---- one function a format ---- */

#define TILE(name, group, block_bytes, multiply_name, fill_call)                                   \
    void tile_##name##_avx2(const void *w, size_t row_bytes, size_t n_rows, size_t n_in,           \
                            const void *act, size_t act_bytes, size_t n_cols, float *out,          \
                            size_t out_stride)                                                     \
    {                                                                                              \
        struct tile t;                                                                             \
        struct act_view view = act_view(act, n_in, group);                                         \
        for (size_t r = 0; r < n_rows; r += ROWS) {                                                \
            const uint8_t *rows[ROWS];                                                             \
            size_t n = n_rows - r < ROWS ? n_rows - r : ROWS;                                      \
            for (size_t i = 0; i < ROWS; i++)                                                      \
                rows[i] = (const uint8_t *)w + (r + (i < n ? i : n - 1)) * row_bytes;              \
            for (size_t begin = 0; begin < n_in; begin += BLOCKS * BLOCK_K) {                      \
                size_t end = n_in - begin < BLOCKS * BLOCK_K ? n_in : begin + BLOCKS * BLOCK_K;    \
                for (size_t at = begin; at < end; at += (group)) {                                 \
                    size_t k = (at - begin) / (group), byte = at / (group) * (block_bytes);        \
                    fill_call;                                                                     \
                }                                                                                  \
                struct columns a = {.q = (const char *)(view.q + begin),                           \
                                    .sums = (const char *)(view.sums + begin / GROUP),             \
                                    .d = (const char *)(view.d + begin / (group)),                 \
                                    .apart = act_bytes};                                           \
                multiply_name(&t, end - begin, &a, n_cols, begin == 0, row_mask(n), out + r,       \
                              out_stride);                                                         \
            }                                                                                      \
        }                                                                                          \
    }

TILE(Q2_K, BLOCK_K, 84, multiply_group16_run4, fill_k(row_q2_k, rows, byte, &t, k))
TILE(Q3_K, BLOCK_K, 110, multiply_group16_run4, fill_k(row_q3_k, rows, byte, &t, k))
TILE(Q4_K, BLOCK_K, 144, multiply_group32_run8, fill_k(row_q4_k, rows, byte, &t, k))
TILE(Q5_K, BLOCK_K, 176, multiply_group32_run4, fill_k(row_q5_k, rows, byte, &t, k))
TILE(Q6_K, BLOCK_K, 210, multiply_group16_run2, fill_k(row_q6_k, rows, byte, &t, k))
TILE(IQ4_NL, BLOCK_32, 18, multiply_32_signed, fill_32(codes_iq4_nl, rows, byte, &t, k))
TILE(Q4_0, BLOCK_32, 18, multiply_32_run8, fill_32(codes_q4_0, rows, byte, &t, k))
TILE(Q5_0, BLOCK_32, 22, multiply_32_run4, fill_32(codes_q5_0, rows, byte, &t, k))
TILE(Q8_0, BLOCK_32, 34, multiply_32_signed, fill_32(codes_q8_0, rows, byte, &t, k))
