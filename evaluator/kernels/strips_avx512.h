/* strips_avx512.h - rows of any 8-bit format, strip after strip of sixteen unpacked into tiles, and
 * a loop over kinds of tiles to multiply each with all columns: what the files that multiply in
 * registers (tile_avx512.c) and in matrix tiles (int8_amx.c) share.  Each of them defines
 *
 *   multiply_all(kind, tile, n_weights, columns, n_cols, first, mask, out, out_stride)
 *
 * the tile's n_weights weights of each row times those of n_cols columns, added to out unless it is
 * the `first` tile of the rows; out[c * out_stride + r] where bit r of the mask is set.  Then
 * KINDS(MULTIPLY) makes a function for each kind, and TILES(...) one for each format. */
#ifndef KERF_STRIPS_AVX512_H
#define KERF_STRIPS_AVX512_H

#include "evaluator/kernels/act_pack.h"
#include "evaluator/kernels/tile_fill_avx512.h"

/* Packed columns, `apart` bytes from each other, from the tile's first weight on. */
struct columns {
    const char *q;    /* int8 */
    const char *sums; /* int16 of each 16 */
    const char *d;    /* float */
    size_t apart;
};

/* What distinguishes the inner loops; constants wherever it is used. */
struct kind {
    int group; /* 16 or 32; 0 for the 32-blocks */
    bool min;
    int offset;
};

#define KINDS(KIND)                                                                                \
    KIND(group16_min, 16, true, 0)                                                                 \
    KIND(group32_min, 32, true, 0)                                                                 \
    KIND(group16_offset4, 16, false, 4)                                                            \
    KIND(group16_offset32, 16, false, 32)                                                          \
    KIND(32_offset8, 0, false, 8)                                                                  \
    KIND(32_offset16, 0, false, 16)                                                                \
    KIND(32_offset128, 0, false, 128)

#define MULTIPLY(name, ...)                                                                        \
    static void multiply_##name(struct tile *t, size_t n_weights, const struct columns *a,         \
                                size_t n_cols, bool first, __mmask16 mask, float *out,             \
                                size_t out_stride)                                                 \
    {                                                                                              \
        multiply_all((struct kind){__VA_ARGS__}, t, n_weights, *a, n_cols, first, mask, out,       \
                     out_stride);                                                                  \
    }

/* Activations that stay in a core's own cache. */
enum { FEW_BYTES = 128 << 10 };

INLINE void prefetch(const uint8_t *p, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i += 64)
        _mm_prefetch((const char *)p + i, _MM_HINT_T0);
}

/* Many columns: 1024 weights at a time of all rows, strip after strip of 16, for so much of the
 * activations stays in the core's own cache while the strips go by, which whole columns would not.
 * Few columns: strip after strip of whole rows, which lie one behind the other, so that memory is
 * read in one stream and the next strip can be asked for in its order.  A ragged last strip
 * repeats its last row, unstored. */
#define STRIPS(function, group, block_bytes, kind, fill_call)                                      \
    void function(const void *w, size_t row_bytes, size_t n_rows, size_t n_in, const void *act,    \
                  size_t act_bytes, size_t n_cols, float *out, size_t out_stride)                  \
    {                                                                                              \
        struct tile t;                                                                             \
        struct act_view view = act_view(act, n_in, group);                                         \
        bool few = n_cols * act_bytes <= FEW_BYTES;                                                \
        size_t piece = few ? n_in : BLOCKS * BLOCK_K, tile = few ? BLOCK_K : piece;                \
        for (size_t from = 0; from < n_in; from += piece) {                                        \
            size_t to = n_in - from < piece ? n_in : from + piece;                                 \
            for (size_t r = 0; r < n_rows; r += ROWS) {                                            \
                struct strip strip;                                                                \
                size_t n = n_rows - r < ROWS ? n_rows - r : ROWS;                                  \
                for (size_t i = 0; i < ROWS; i++)                                                  \
                    strip.row[i] = (const uint8_t *)w + (r + (i < n ? i : n - 1)) * row_bytes;     \
                for (size_t begin = from; begin < to; begin += tile) {                             \
                    size_t end = to - begin < tile ? to : begin + tile;                            \
                    struct columns a = {.q = (const char *)(view.q + begin),                       \
                                        .sums = (const char *)(view.sums + begin / GROUP),         \
                                        .d = (const char *)(view.d + begin / (group)),             \
                                        .apart = act_bytes};                                       \
                    for (size_t at = begin; at < end; at += BLOCK_K) {                             \
                        size_t k = (at - begin) / BLOCK_K, byte = at / (group) * (block_bytes);    \
                        size_t n_blocks = (end - at < BLOCK_K ? end - at : BLOCK_K) / (group);     \
                        if (few)                                                                   \
                            prefetch(strip.row[0] + ROWS * (row_bytes + byte),                     \
                                     ROWS * n_blocks * (block_bytes));                             \
                        fill_call;                                                                 \
                    }                                                                              \
                    multiply_##kind(&t, end - begin, &a, n_cols, begin == 0,                       \
                                    (__mmask16)((1u << n) - 1), out + r, out_stride);              \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
    }

/* TILE(format, weights of a block, bytes of a block, kind, how to fill) */
#define TILES(TILE)                                                                                \
    TILE(Q2_K, BLOCK_K, 84, group16_min, fill_q2_k(&strip, byte, &t, k))                           \
    TILE(Q3_K, BLOCK_K, 110, group16_offset4, fill_q3_k(&strip, byte, &t, k))                      \
    TILE(Q4_K, BLOCK_K, 144, group32_min, fill_q4_k(&strip, byte, &t, k))                          \
    TILE(Q5_K, BLOCK_K, 176, group32_min, fill_q5_k(&strip, byte, &t, k))                          \
    TILE(Q6_K, BLOCK_K, 210, group16_offset32, fill_q6_k(&strip, byte, &t, k))                     \
    TILE(IQ4_NL, BLOCK_32, 18, 32_offset128, FILL_32(steps_iq4_nl, 18))                            \
    TILE(Q4_0, BLOCK_32, 18, 32_offset8, FILL_32(steps_q4_0, 18))                                  \
    TILE(Q5_0, BLOCK_32, 22, 32_offset16, FILL_32(steps_q5_0, 22))                                 \
    TILE(Q8_0, BLOCK_32, 34, 32_offset128, FILL_32(steps_q8_0, 34))
#define FILL_32(steps, bytes) fill_32(steps, bytes, &strip, byte, n_blocks, &t, k)

#endif
