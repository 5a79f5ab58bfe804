/* train_amx.h - tiles: 32x32 blocks of C = A B on AMX, bf16 in, float out.
 * Only for files built with the AMX and AVX-512 flags.
 *
 * Operands come as panels, contiguous runs of k-steps; a k-step covers 32 values of k in 2 KiB:
 *
 *   A panel, 32 rows:     | tile rows 0..15 | tile rows 16..31 |   tile row i: A[i][k .. k+31]
 *   B panel, 32 columns:  | tile cols 0..15 | tile cols 16..31 |   tile row p: the pairs
 *                         B[k+2p][j], B[k+2p+1][j] for its 16 columns j ("VNNI" order)
 *
 * A dword (pair) transpose turns one kind of tile into the other, so four packers suffice: each
 * operand from its matrix as it lies or transposed.  Rows and columns outside the matrix are
 * packed as zeros, so ragged sizes need no care elsewhere. */
#ifndef TRAIN_AMX_H
#define TRAIN_AMX_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    AMX_SIDE = 32,                   /* rows of an A panel, columns of a B panel, k of a step */
    AMX_TILE = 512,                  /* bf16 values of a tile */
    AMX_STEP = 2 * AMX_TILE,         /* bf16 values of a panel per k-step */
    AMX_BLOCK = AMX_SIDE * AMX_SIDE, /* floats of a block of C */
};

static inline size_t amx_panels(size_t n)
{
    return (n + AMX_SIDE - 1) / AMX_SIDE;
}

/* Every tile is 16 rows of 64 bytes: 0..3 accumulate, 4 and 5 hold A, 6 and 7 hold B. */
static inline void amx_begin(void)
{
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config __attribute__((aligned(64))) = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.row_bytes[i] = 64;
        config.rows[i] = 16;
    }
    /* gcc 12 believes that the instruction reads 8 bytes; this makes it store all 64 before. */
    __asm__ volatile("" : : "m"(config) : "memory");
    _tile_loadconfig(&config);
}

static inline void amx_end(void)
{
    _tile_release();
}

static inline void amx_multiply(size_t n_steps, const uint16_t *a, const uint16_t *b)
{
    for (size_t s = 0; s < n_steps; s++, a += AMX_STEP, b += AMX_STEP) {
        _tile_loadd(4, a, 64);
        _tile_loadd(6, b, 64);
        _tile_loadd(5, a + AMX_TILE, 64);
        _tile_loadd(7, b + AMX_TILE, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
}

static inline void amx_store(float *c, size_t ldc)
{
    _tile_stored(0, c, ldc * 4);
    _tile_stored(1, c + 16, ldc * 4);
    _tile_stored(2, c + 16 * ldc, ldc * 4);
    _tile_stored(3, c + 16 * ldc + 16, ldc * 4);
}

/* c[32][ldc] = A B over n_steps k-steps. */
static inline void amx_block(size_t n_steps, const uint16_t *a, const uint16_t *b, float *c,
                             size_t ldc)
{
    /* The tile loads do not tell the compiler that they read memory. */
    __asm__ volatile("" : : : "memory");
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    amx_multiply(n_steps, a, b);
    amx_store(c, ldc);
}

/* c[32][ldc] += A B. */
static inline void amx_block_add(size_t n_steps, const uint16_t *a, const uint16_t *b, float *c,
                                 size_t ldc)
{
    __asm__ volatile("" : : : "memory");
    _tile_loadd(0, c, ldc * 4);
    _tile_loadd(1, c + 16, ldc * 4);
    _tile_loadd(2, c + 16 * ldc, ldc * 4);
    _tile_loadd(3, c + 16 * ldc + 16, ldc * 4);
    amx_multiply(n_steps, a, b);
    amx_store(c, ldc);
}

/* ---- packing ---- */

/* Bits of the columns [first, first + width) that exist in a matrix of n columns. */
static inline uint32_t amx_mask(size_t n, size_t first, size_t width)
{
    if (first >= n)
        return 0;
    size_t left = n - first < width ? n - first : width;
    return left >= 32 ? UINT32_MAX : (1u << left) - 1;
}

/* 16 rows of 16 dwords, transposed: pairs, then quads, then 128-bit quarters change places. */
static inline void amx_transpose(__m512i r[16])
{
    __m512i t[16];
    for (int i = 0; i < 8; i++) {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 4; i++) {
        r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0x88);
        t[4 + i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0xdd);
        t[8 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0x88);
        t[12 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0xdd);
    }
    for (int i = 0; i < 8; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88);
        r[8 + i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd);
    }
}

/* Rows [row, row + 16) and columns [col, col + 32) of x[n_rows][ld], zeros outside. */
static inline void amx_read_rows(const uint16_t *x, size_t ld, size_t n_rows, size_t n_cols,
                                 size_t row, size_t col, __m512i r[16])
{
    uint32_t mask = amx_mask(n_cols, col, 32);
    for (size_t i = 0; i < 16; i++)
        r[i] = row + i < n_rows ? _mm512_maskz_loadu_epi16(mask, x + (row + i) * ld + col)
                                : _mm512_setzero_si512();
}

/* Rows [row, row + 32) in pairs, columns [col, col + 16): dword j of r[p] is the pair
 * x[row + 2p][col + j], x[row + 2p + 1][col + j]. */
static inline void amx_read_pairs(const uint16_t *x, size_t ld, size_t n_rows, size_t n_cols,
                                  size_t row, size_t col, __m512i r[16])
{
    __mmask16 mask = (__mmask16)amx_mask(n_cols, col, 16);
    for (size_t p = 0; p < 16; p++) {
        const uint16_t *from = x + (row + 2 * p) * ld + col;
        __m256i even = _mm256_setzero_si256(), odd = even;
        if (row + 2 * p < n_rows)
            even = _mm256_maskz_loadu_epi16(mask, from);
        if (row + 2 * p + 1 < n_rows)
            odd = _mm256_maskz_loadu_epi16(mask, from + ld);
        r[p] = _mm512_or_si512(_mm512_cvtepu16_epi32(even),
                               _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd), 16));
    }
}

static inline void amx_write_tile(const __m512i r[16], uint16_t *tile)
{
    for (int i = 0; i < 16; i++)
        _mm512_store_si512(tile + 32 * i, r[i]);
}

/* The panel of A[m][k] = x[m][k] that starts at row `first`; amx_panels(n_k) k-steps. */
static inline void amx_pack_a(const uint16_t *x, size_t ld, size_t n_m, size_t n_k, size_t first,
                              uint16_t *panel)
{
    __m512i r[16];
    for (size_t k = 0; k < n_k; k += 32) {
        for (size_t half = 0; half < 2; half++, panel += AMX_TILE) {
            amx_read_rows(x, ld, n_m, n_k, first + 16 * half, k, r);
            amx_write_tile(r, panel);
        }
    }
}

/* The same of A[m][k] = x[k][m]. */
static inline void amx_pack_a_transposed(const uint16_t *x, size_t ld, size_t n_m, size_t n_k,
                                         size_t first, uint16_t *panel)
{
    __m512i r[16];
    for (size_t k = 0; k < n_k; k += 32) {
        for (size_t half = 0; half < 2; half++, panel += AMX_TILE) {
            amx_read_pairs(x, ld, n_k, n_m, k, first + 16 * half, r);
            amx_transpose(r);
            amx_write_tile(r, panel);
        }
    }
}

/* The panel of B[k][n] = x[k][n] that starts at column `first`. */
static inline void amx_pack_b(const uint16_t *x, size_t ld, size_t n_n, size_t n_k, size_t first,
                              uint16_t *panel)
{
    __m512i r[16];
    for (size_t k = 0; k < n_k; k += 32) {
        for (size_t half = 0; half < 2; half++, panel += AMX_TILE) {
            amx_read_pairs(x, ld, n_k, n_n, k, first + 16 * half, r);
            amx_write_tile(r, panel);
        }
    }
}

/* The same of B[k][n] = x[n][k]. */
static inline void amx_pack_b_transposed(const uint16_t *x, size_t ld, size_t n_n, size_t n_k,
                                         size_t first, uint16_t *panel)
{
    __m512i r[16];
    for (size_t k = 0; k < n_k; k += 32) {
        for (size_t half = 0; half < 2; half++, panel += AMX_TILE) {
            amx_read_rows(x, ld, n_n, n_k, first + 16 * half, k, r);
            amx_transpose(r);
            amx_write_tile(r, panel);
        }
    }
}

/* 32 floats to 32 bf16 values, in order. */
static inline __m512i amx_to_bf16(__m512 low, __m512 high)
{
    return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

#endif
