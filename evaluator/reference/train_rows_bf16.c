/* train_rows_bf16.c - row kernels over bf16 activations, built with AVX-512 flags. */
#include "evaluator/reference/train_rows.h"

#include <math.h>
#include <string.h>

typedef uint16_t act_t; /* the high half of a float */

static inline float act_get(act_t a)
{
    uint32_t bits = (uint32_t)a << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Round to nearest even.  The trainer stops on a loss that is not finite, so NAN needs no care. */
static inline act_t act_put(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits += 0x7fffu + ((bits >> 16) & 1u);
    return (act_t)(bits >> 16);
}

#define ROWS_TABLE train_rows_bf16
#include "evaluator/reference/train_rows_impl.h"
