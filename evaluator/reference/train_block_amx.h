/* train_block_amx.h - blocks of train_tiles.h on AMX tiles.  Only for a file built with the AMX
 * flags and called where train_backend_amx found the tiles usable. */
#ifndef TRAIN_BLOCK_AMX_H
#define TRAIN_BLOCK_AMX_H

#include "evaluator/reference/train_tiles.h"

/* Every tile is 16 rows of 64 bytes: 0..3 accumulate, 4 and 5 hold A, 6 and 7 hold B. */
static inline void tile_begin(void)
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

static inline void tile_end(void)
{
    _tile_release();
}

static inline void tile_multiply(size_t n_steps, const uint16_t *a, const uint16_t *b)
{
    for (size_t s = 0; s < n_steps; s++, a += TILE_STEP, b += TILE_STEP) {
        _tile_loadd(4, a, 64);
        _tile_loadd(6, b, 64);
        _tile_loadd(5, a + TILE_VALUES, 64);
        _tile_loadd(7, b + TILE_VALUES, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
}

static inline void tile_store(float *c, size_t ldc)
{
    _tile_stored(0, c, ldc * 4);
    _tile_stored(1, c + 16, ldc * 4);
    _tile_stored(2, c + 16 * ldc, ldc * 4);
    _tile_stored(3, c + 16 * ldc + 16, ldc * 4);
}

/* c[32][ldc] = A B over n_steps k-steps. */
static inline void tile_block(size_t n_steps, const uint16_t *a, const uint16_t *b, float *c,
                              size_t ldc)
{
    /* The tile loads do not tell the compiler that they read memory. */
    __asm__ volatile("" : : : "memory");
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    tile_multiply(n_steps, a, b);
    tile_store(c, ldc);
}

/* c[32][ldc] += A B. */
static inline void tile_block_add(size_t n_steps, const uint16_t *a, const uint16_t *b, float *c,
                                  size_t ldc)
{
    __asm__ volatile("" : : : "memory");
    _tile_loadd(0, c, ldc * 4);
    _tile_loadd(1, c + 16, ldc * 4);
    _tile_loadd(2, c + 16 * ldc, ldc * 4);
    _tile_loadd(3, c + 16 * ldc + 16, ldc * 4);
    tile_multiply(n_steps, a, b);
    tile_store(c, ldc);
}

#endif
