/* block_write.h - the inverse of block_explode: bytes of a block from its codes and scales. */
#ifndef KERF_BLOCK_WRITE_H
#define KERF_BLOCK_WRITE_H

#include "evaluator/kernels/blocks.h"

/* Write one block of a quantized `format`.  d and dmin are rounded to f16; codes, scales and minima
 * must be representable (asserted). */
void block_write(enum format format, const struct exploded *e, void *block);

/* f as f16 holds it. */
static inline float f16_rounded(float f)
{
    return kernels_f16_to_f32(kernels_f32_to_f16(f));
}

#endif
