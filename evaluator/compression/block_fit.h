/* block_fit.h - choosing codes and scales for the weights of one block.
 * A block is described in the common form of kernels/blocks.h; block_write packs what is found.
 * A grid is what a format can express: levels of the codes, range of the integer scales. */
#ifndef KERF_BLOCK_FIT_H
#define KERF_BLOCK_FIT_H

#include "evaluator/kernels/blocks.h"

struct grid {
    enum format format;
    int block;   /* weights per block */
    int group;   /* weights that share a scale */
    int code_lo; /* least and greatest code */
    int code_hi;
    int scale_lo; /* least and greatest group scale; both 1 in the 32-blocks */
    int scale_hi;
    int min_hi;      /* greatest group minimum; 0 in formats without minima */
    bool non_linear; /* the levels of IQ4_NL */
};

/* The grid of a quantized format. */
const struct grid *grid_of(enum format format);

/* Choose everything for x[block] by the search described in quantize.h; weight[block] >= 0. */
void block_fit(const struct grid *grid, const float *x, const float *weight, struct exploded *e);

/* Scales from extreme values, codes by rounding to nearest. */
void block_fit_plain(const struct grid *grid, const float *x, struct exploded *e);

/* sum of weight * (x - value)^2 over the block, values as unpacking gives them. */
double block_error(const struct grid *grid, const float *x, const float *weight,
                   const struct exploded *e);

/* One code by rounding `v` = (weight + minimum) / scale to the nearest level. */
float grid_round(const struct grid *grid, float v);

#endif
