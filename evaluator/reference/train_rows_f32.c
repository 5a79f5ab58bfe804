/* train_rows_f32.c - row kernels over float activations: the reference, for any processor. */
#include "evaluator/reference/train_rows.h"

#include <math.h>
#include <string.h>

typedef float act_t;

static inline float act_get(act_t a)
{
    return a;
}

static inline act_t act_put(float x)
{
    return x;
}

#define ROWS_TABLE train_rows_f32
#include "evaluator/reference/train_rows_impl.h"
