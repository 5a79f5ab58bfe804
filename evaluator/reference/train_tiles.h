/* train_tiles.h - operands of the 32x32 blocks of C = A B that the trainer multiplies: bf16 in,
 * float out.  Only for files built with AVX-512 flags.  train_block_amx.h and train_block_dot.h
 * multiply.
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
#ifndef TRAIN_TILE_H
#define TRAIN_TILE_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    TILE_SIDE = 32,                     /* rows of an A panel, columns of a B panel, k of a step */
    TILE_VALUES = 512,                  /* bf16 values of a tile */
    TILE_STEP = 2 * TILE_VALUES,        /* bf16 values of a panel per k-step */
    TILE_BLOCK = TILE_SIDE * TILE_SIDE, /* floats of a block of C */
};

static inline size_t tile_panels(size_t n)
{
    return (n + TILE_SIDE - 1) / TILE_SIDE;
}

/* ---- packing ---- */

/* Bits of the columns [first, first + width) that exist in a matrix of n columns. */
static inline uint32_t tile_mask(size_t n, size_t first, size_t width)
{
    if (first >= n)
        return 0;
    size_t left = n - first < width ? n - first : width;
    return left >= 32 ? UINT32_MAX : (1u << left) - 1;
}

/* 16 rows of 16 dwords, transposed: pairs, then quads, then 128-bit quarters change places. */
static inline void tile_transpose(__m512i r[16])
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
static inline void tile_read_rows(const uint16_t *x, size_t ld, size_t n_rows, size_t n_cols,
                                  size_t row, size_t col, __m512i r[16])
{
    uint32_t mask = tile_mask(n_cols, col, 32);
    for (size_t i = 0; i < 16; i++)
        r[i] = row + i < n_rows ? _mm512_maskz_loadu_epi16(mask, x + (row + i) * ld + col)
                                : _mm512_setzero_si512();
}

/* Rows [row, row + 32) in pairs, columns [col, col + 16): dword j of r[p] is the pair
 * x[row + 2p][col + j], x[row + 2p + 1][col + j]. */
static inline void tile_read_pairs(const uint16_t *x, size_t ld, size_t n_rows, size_t n_cols,
                                   size_t row, size_t col, __m512i r[16])
{
    __mmask16 mask = (__mmask16)tile_mask(n_cols, col, 16);
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

static inline void tile_write_tile(const __m512i r[16], uint16_t *tile)
{
    for (int i = 0; i < 16; i++)
        _mm512_store_si512(tile + 32 * i, r[i]);
}

/* The panel of A[m][k] = x[m][k] that starts at row `first`; tile_panels(n_k) k-steps. */
static inline void tile_pack_a(const uint16_t *x, size_t ld, size_t n_m, size_t n_k, size_t first,
                               uint16_t *panel)
{
    __m512i r[16];
    for (size_t k = 0; k < n_k; k += 32) {
        for (size_t half = 0; half < 2; half++, panel += TILE_VALUES) {
            tile_read_rows(x, ld, n_m, n_k, first + 16 * half, k, r);
            tile_write_tile(r, panel);
        }
    }
}

/* The same of A[m][k] = x[k][m]. */
static inline void tile_pack_a_transposed(const uint16_t *x, size_t ld, size_t n_m, size_t n_k,
                                          size_t first, uint16_t *panel)
{
    __m512i r[16];
    for (size_t k = 0; k < n_k; k += 32) {
        for (size_t half = 0; half < 2; half++, panel += TILE_VALUES) {
            tile_read_pairs(x, ld, n_k, n_m, k, first + 16 * half, r);
            tile_transpose(r);
            tile_write_tile(r, panel);
        }
    }
}

/* The panel of B[k][n] = x[k][n] that starts at column `first`. */
static inline void tile_pack_b(const uint16_t *x, size_t ld, size_t n_n, size_t n_k, size_t first,
                               uint16_t *panel)
{
    __m512i r[16];
    for (size_t k = 0; k < n_k; k += 32) {
        for (size_t half = 0; half < 2; half++, panel += TILE_VALUES) {
            tile_read_pairs(x, ld, n_k, n_n, k, first + 16 * half, r);
            tile_write_tile(r, panel);
        }
    }
}

/* The same of B[k][n] = x[n][k]. */
static inline void tile_pack_b_transposed(const uint16_t *x, size_t ld, size_t n_n, size_t n_k,
                                          size_t first, uint16_t *panel)
{
    __m512i r[16];
    for (size_t k = 0; k < n_k; k += 32) {
        for (size_t half = 0; half < 2; half++, panel += TILE_VALUES) {
            tile_read_rows(x, ld, n_n, n_k, first + 16 * half, k, r);
            tile_transpose(r);
            tile_write_tile(r, panel);
        }
    }
}

/* 32 floats to 32 bf16 values, in order. */
static inline __m512i tile_to_bf16(__m512 low, __m512 high)
{
    return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

#endif
