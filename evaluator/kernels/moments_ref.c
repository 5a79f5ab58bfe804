/* moments_ref.c - second moments in plain C: the order of additions that every set keeps. */
#include "evaluator/kernels/kernel_sets.h"

static void moments_ref(const double *a, const double *b, size_t n_rows, double *c, size_t c_stride)
{
    for (size_t t = 0; t < n_rows; t++, a += MOMENTS_PANEL, b += MOMENTS_PANEL)
        for (size_t i = 0; i < MOMENTS_STRIP; i++)
            for (size_t j = 0; j < MOMENTS_PANEL; j++)
                c[i * c_stride + j] += a[i] * b[j];
}

void moments_ref_fill(struct kernels *set)
{
    set->moments = moments_ref;
}
