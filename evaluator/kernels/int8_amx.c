/* int8_amx.c - sixteen columns and more of 8-bit activations times packed rows, in matrix tiles.
 *
 * Rows are unpacked as for registers (strips_avx512.h), and what comes out is the B of a tile as it
 * stands: four weights of sixteen rows to 64 bytes.  The A of a tile are the codes of sixteen
 * columns where they lie, packed.  A product gives the integer sums of a group, sixteen columns by
 * sixteen rows; they are scaled and added up in the order of tile_avx512.c, so that results are the
 * same to the bit.
 *
 * A product takes one group, 16 or 32 deep, where a tile would hold 64, because each group has a
 * scale of its own.  Counted per 16 x 16 sums, for a processor that adds 1024 products of bytes a
 * cycle, loads two registers and stores one:
 *
 *   product            at most 16 cycles; if the half that is empty costs nothing, 8 or 4
 *   loads of A and B   12 (group of 32) or 10
 *   store of the sums  16, and their conversion and scaling 16: two operations on sixteen registers
 *
 * All overlap, so that some 16 to 20 cycles do what takes tile_avx512.c 16 columns * 10 or 6
 * operations / 2 = 80 or 48.  The alternative is to multiply codes and integer scales beforehand:
 * products of Q2_K and Q3_K fit a byte, of the other K-quants two, and four or eight full products
 * would serve 256 weights with a store or two.  Eight groups of 32 take about as long as that;
 * sixteen groups of 16 take two to three times as long, but need no other unpacking and no further
 * pass over every tile, and round as vectors do.  32-blocks, whose scales are floats on both sides,
 * have no choice.
 *
 * Minima are one more product: the sums of 16 activations are int16, and of their bytes the low
 * ones count as unsigned and the high ones, with 256 times the weight, as signed.
 *
 * These counts are arithmetic, not measurements. */
#include "evaluator/kernels/kernel_sets.h"
#include "evaluator/kernels/strips_avx512.h"
#include "evaluator/kernels/tiles_amx.h"

_Static_assert((int)ROWS == (int)TILE_ROWS, "a strip is as wide as a tile");

enum { DEEP = 4 }; /* groups multiplied before their sums are read: products take long to finish */

typedef int32_t tile_sums[TILE_ROWS][ROWS];

/* Up to sixteen columns from the tile's first weight on. */
struct block {
    const char *q, *sums;
    const char *d[TILE_ROWS]; /* behind the last column, that of the last */
    size_t n, apart;
};

/* Tile `c` becomes the products of group g of the activations with those of the weights; a and b
 * are the tiles for both. */
#define GROUP_PRODUCT(c, a, b, g)                                                                  \
    do {                                                                                           \
        _tile_zero(c);                                                                             \
        _tile_loadd(a, x->q + (g)*group, x->apart);                                                \
        _tile_loadd(b, codes[(g)*group / 4], TILE_ROW_BYTES);                                      \
        _tile_dpbssd(c, a, b);                                                                     \
    } while (0)

/* The integer sums of the groups from `g` on, n of them: DEEP or one. */
INLINE void products(const step_codes *codes, const struct block *x, size_t group, size_t g, int n,
                     tile_sums sums[DEEP])
{
    GROUP_PRODUCT(0, 4, 6, g);
    if (n == DEEP) {
        GROUP_PRODUCT(1, 5, 7, g + 1);
        GROUP_PRODUCT(2, 4, 6, g + 2);
        GROUP_PRODUCT(3, 5, 7, g + 3);
    }
    _tile_stored(0, sums[0], TILE_ROW_BYTES);
    if (n == DEEP) {
        _tile_stored(1, sums[1], TILE_ROW_BYTES);
        _tile_stored(2, sums[2], TILE_ROW_BYTES);
        _tile_stored(3, sums[3], TILE_ROW_BYTES);
    }
}

/* Codes as vpdpbusd wants them become what they stand for. */
INLINE void subtract(int offset, struct tile *t, size_t n_weights)
{
    step_codes *codes = t->codes[0];
    for (size_t s = 0; offset != 0 && s < n_weights / 4; s++)
        _mm512_store_si512(
            codes[s], _mm512_sub_epi8(_mm512_load_si512(codes[s]), _mm512_set1_epi8((char)offset)));
}

INLINE __m512 as_float(const int32_t *sums)
{
    return _mm512_cvtepi32_ps(_mm512_load_si512(sums));
}

/* ---- blocks of 256 ---- */

/* Of the minima of block k: sums[0] are the products with low bytes, sums[1] with high ones. */
INLINE void minima(const struct tile *t, size_t k, const struct block *x, size_t group,
                   tile_sums sums[2])
{
    _Alignas(64) int32_t high[PAIRS][ROWS];
    const char *act = x->sums + k * BLOCK_GROUPS * sizeof(int16_t);
    for (int i = 0; i < PAIRS; i++)
        _mm512_store_si512(high[i], _mm512_slli_epi32(_mm512_load_si512(t->minima[k][i]), 8));
    tiles_fence();
    _tile_zero(0);
    _tile_zero(1);
    for (size_t at = 0; at < BLOCK_GROUPS * sizeof(int16_t); at += group) {
        _tile_loadd(4, act + at, x->apart);
        _tile_loadd(6, t->minima[k][at / 4], TILE_ROW_BYTES);
        _tile_loadd(7, high[at / 4], TILE_ROW_BYTES);
        _tile_dpbusd(0, 4, 6);
        _tile_dpbssd(1, 4, 7);
    }
    _tile_stored(0, sums[0], TILE_ROW_BYTES);
    _tile_stored(1, sums[1], TILE_ROW_BYTES);
}

/* The sums of block k, before the columns' own factors. */
INLINE void block_k(const struct tile *t, size_t k, const struct block *x, size_t group,
                    bool with_min, tile_sums sums[DEEP], __m512 block[TILE_ROWS])
{
    struct block here = *x;
    here.q += k * BLOCK_K;
#pragma GCC unroll 16
    for (int c = 0; c < TILE_ROWS; c++)
        block[c] = _mm512_setzero_ps();
    for (size_t g = 0; g < BLOCK_K / group; g += DEEP) {
        products(t->codes[k], &here, group, g, DEEP, sums);
        for (size_t i = 0; i < DEEP; i++) {
            __m512 scale = _mm512_load_ps(t->scale[k][g + i]);
#pragma GCC unroll 16
            for (int c = 0; c < TILE_ROWS; c++)
                block[c] = _mm512_fmadd_ps(as_float(sums[i][c]), scale, block[c]);
        }
    }
    if (with_min) {
        __m512 dmin = _mm512_load_ps(t->dmin[k]);
        minima(t, k, x, group, sums);
#pragma GCC unroll 16
        for (int c = 0; c < TILE_ROWS; c++) {
            __m512i high = _mm512_slli_epi32(_mm512_load_si512(sums[1][c]), 8);
            __m512i sum = _mm512_add_epi32(_mm512_load_si512(sums[0][c]), high);
            block[c] = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(sum), dmin, block[c]);
        }
    }
}

/* ---- 32-blocks ---- */

/* n blocks from b on, DEEP or one. */
INLINE void blocks_32(const struct tile *t, size_t b, const struct block *x, int n,
                      tile_sums sums[DEEP], __m512 total[TILE_ROWS])
{
    products(t->codes[0], x, BLOCK_32, b, n, sums);
    for (int i = 0; i < n; i++, b++) {
        __m512 scale = _mm512_load_ps(t->scale[b / 8][b % 8]);
#pragma GCC unroll 16
        for (int c = 0; c < TILE_ROWS; c++) {
            float d;
            memcpy(&d, x->d[c] + b * sizeof d, sizeof d);
            __m512 both = _mm512_mul_ps(scale, _mm512_set1_ps(d));
            total[c] = _mm512_fmadd_ps(as_float(sums[i][c]), both, total[c]);
        }
    }
}

/* ---- all columns ---- */

/* out[c] of the columns that there are; of K-quants `sum` still lacks their factors of block k. */
INLINE void add_to(float *out, size_t out_stride, bool first, __mmask16 mask, const struct block *x,
                   bool factors, size_t k, const __m512 sum[TILE_ROWS])
{
#pragma GCC unroll 16
    for (size_t c = 0; c < TILE_ROWS; c++) {
        float *o = out + c * out_stride, d;
        if (c >= x->n)
            break;
        __m512 total = sum[c];
        if (factors) {
            memcpy(&d, x->d[c] + k * sizeof d, sizeof d);
            __m512 before = first ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(mask, o);
            total = _mm512_fmadd_ps(total, _mm512_set1_ps(d), before);
        }
        _mm512_mask_storeu_ps(o, mask, total);
    }
}

INLINE void multiply(struct kind kind, const struct tile *t, size_t n_weights,
                     const struct block *x, bool first, __mmask16 mask, float *out,
                     size_t out_stride)
{
    _Alignas(64) tile_sums sums[DEEP];
    __m512 total[TILE_ROWS];

    if (x->n < TILE_ROWS) /* the rows that no column writes are read all the same */
        memset(sums, 0, sizeof sums);
    if (kind.group != 0) {
        for (size_t k = 0; k < n_weights / BLOCK_K; k++) {
            block_k(t, k, x, (size_t)kind.group, kind.min, sums, total);
            add_to(out, out_stride, first && k == 0, mask, x, true, k, total);
        }
        return;
    }
#pragma GCC unroll 16
    for (size_t c = 0; c < TILE_ROWS; c++)
        total[c] = first || c >= x->n ? _mm512_setzero_ps()
                                      : _mm512_maskz_loadu_ps(mask, out + c * out_stride);
    size_t b = 0;
    for (; b + DEEP <= n_weights / BLOCK_32; b += DEEP)
        blocks_32(t, b, x, DEEP, sums, total);
    for (; b < n_weights / BLOCK_32; b++)
        blocks_32(t, b, x, 1, sums, total);
    add_to(out, out_stride, first, mask, x, false, 0, total);
}

/* Shapes stand for sixteen columns whenever this is called. */
INLINE void multiply_all(struct kind kind, struct tile *t, size_t n_weights, struct columns a,
                         size_t n_cols, bool first, __mmask16 mask, float *out, size_t out_stride)
{
    size_t group = kind.group != 0 ? (size_t)kind.group : BLOCK_32;

    subtract(kind.offset, t, n_weights);
    tiles_fence();
    for (size_t c = 0; c < n_cols; c += TILE_ROWS) {
        struct block x = {.q = a.q + c * a.apart, .sums = a.sums + c * a.apart, .apart = a.apart};
        x.n = n_cols - c < TILE_ROWS ? n_cols - c : TILE_ROWS;
        for (size_t i = 0; i < TILE_ROWS; i++)
            x.d[i] = a.d + (c + (i < x.n ? i : x.n - 1)) * a.apart;
        if (x.n < TILE_ROWS)
            tiles_shape(x.n, group);
        multiply(kind, t, n_weights, &x, first, mask, out + c * out_stride, out_stride);
        if (x.n < TILE_ROWS)
            tiles_shape(TILE_ROWS, group);
    }
}

KINDS(MULTIPLY)

/* ---- one function a format ---- */

/* What the set had before: for fewer columns than a tile has rows. */
static kernel_matmul_fn *narrow[N_FORMATS];

#define DEPTH(kind, group, min, offset) enum { DEPTH_##kind = (group) != 0 ? (group) : BLOCK_32 };
KINDS(DEPTH)

#define TILE(name, block, bytes, kind, fill_call)                                                  \
    static STRIPS(strips_##name, block, bytes, kind, fill_call) static void matmul_##name(         \
        const void *w, size_t row_bytes, size_t n_rows, size_t n_in, const void *act,              \
        size_t act_bytes, size_t n_cols, float *out, size_t out_stride)                            \
    {                                                                                              \
        if (n_cols < TILE_ROWS) {                                                                  \
            narrow[FORMAT_##name](w, row_bytes, n_rows, n_in, act, act_bytes, n_cols, out,         \
                                  out_stride);                                                     \
            return;                                                                                \
        }                                                                                          \
        tiles_shape(TILE_ROWS, DEPTH_##kind);                                                      \
        strips_##name(w, row_bytes, n_rows, n_in, act, act_bytes, n_cols, out, out_stride);        \
        tiles_release();                                                                           \
    }
TILES(TILE)

void int8_amx_fill(struct kernels *set)
{
#define ENTRY(name, ...)                                                                           \
    narrow[FORMAT_##name] = set->matmul[FORMAT_##name][ACT_Q8];                                    \
    set->matmul[FORMAT_##name][ACT_Q8] = matmul_##name;
    TILES(ENTRY)
}
