/* tiles_amx.h - the matrix tiles of AMX: eight registers of up to 16 rows of up to 64 bytes.
 *
 * A product adds A * B to C: A has a row for each row of C, B a column for each column of C, four
 * bytes wide; a row of B is four bytes deep in 8 bits, two numbers deep in bf16, and so is a dword
 * of A.  Shapes belong to the thread and are lost with tiles_release; as long as they stand, a
 * change of threads costs the kernel 8 KiB more, so whoever sets shapes releases them.
 *
 * What is built on them here has been tested over tiles in software (tests/unit/test_amx.c) and,
 * with the same checks, in a whole emulated machine (Bochs 3.0, once its signed bytes were signed;
 * before, the known-answer test refused it); by the time of writing it has not run on a processor.
 *
 * Tiles are named by literal numbers.  A compiler may know neither that a tile is loaded from
 * memory nor that all of the shapes is read (GCC 12), hence the fences. */
#ifndef KERF_TILES_AMX_H
#define KERF_TILES_AMX_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

enum { TILE_ROWS = 16, TILE_ROW_BYTES = 64 };

/* As LDTILECFG reads it: palette 1 is that of eight tiles of a KiB. */
struct tile_shapes {
    _Alignas(64) uint8_t palette;
    uint8_t start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};
_Static_assert(sizeof(struct tile_shapes) == 64, "the processor reads 64 bytes");

/* What was written is in memory, for tiles to be loaded from. */
static inline void tiles_fence(void)
{
    __asm__ volatile("" ::: "memory");
}

/* Tiles 0 to 3 are sums of n_rows x 16, tiles 4 and 5 their A, 6 and 7 their B, `depth` bytes deep:
 * a multiple of 4, at most 64.  All become zero. */
static inline void tiles_shape(size_t n_rows, size_t depth)
{
    struct tile_shapes shapes = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        shapes.row_bytes[i] = (uint16_t)(i == 4 || i == 5 ? depth : TILE_ROW_BYTES);
        shapes.rows[i] = (uint8_t)(i < 6 ? n_rows : depth / 4);
    }
    __asm__ volatile("" ::"r"(&shapes) : "memory");
    _tile_loadconfig(&shapes);
}

static inline void tiles_release(void)
{
    _tile_release();
}

#endif
