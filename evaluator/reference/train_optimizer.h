/* train_optimizer.h - AdamW (Loshchilov and Hutter, 2019) with clipping by the global norm and a
 * moving average of the weights, in float, split over the threads by ranges of parameters. */
#ifndef TRAIN_OPTIMIZER_H
#define TRAIN_OPTIMIZER_H

#include <stddef.h>
#include <stdint.h>

#include "evaluator/reference/train_geometry.h"

struct err;
struct train_pool;

struct train_optimizer {
    size_t n_params;
    float *weights;   /* [n_params], what is trained */
    float *average;   /* [n_params], their moving average: what is kept */
    float *moment1;   /* [n_params] */
    float *moment2;   /* [n_params] */
    uint64_t n_steps; /* taken so far */
};

struct train_rates {
    double lr;           /* of this step */
    double beta1, beta2; /* decay of the moments */
    double eps;
    double decay;   /* weight decay, on matrices only */
    double clip;    /* largest norm of the gradient */
    double average; /* decay of the moving average; shorter memory in the first steps */
};

/* All four vectors at zero.  0, or -1 without memory. */
int train_optimizer_init(struct train_optimizer *opt, size_t n_params, struct err *err);
void train_optimizer_fini(struct train_optimizer *opt); /* a zeroed struct is fine */

/* One step with the sum of gradients[n_gradients][n_params] times `scale`; all of them are zero
 * afterwards.  Returns the norm of the gradient before clipping; when that is not finite nothing
 * but the gradients has changed. */
double train_optimizer_step(struct train_optimizer *opt, const struct train_geometry *g,
                            struct train_pool *pool, float *const *gradients, size_t n_gradients,
                            double scale, const struct train_rates *rates);

#endif
