/* cost.h - what building variants consists of: terms whose work has a formula and whose rate can be
 * measured on one core, and what they add up to for a model that is not here.
 *
 *   term      work                                                          n, r, ...
 *   forward   N P                  multiply-adds   N calibration tokens, P weights in the layers
 *   moments   N n^2 / 2            multiply-adds   n inputs of a site
 *   order     2 n^3                multiply-adds   each greedy run; attention has two, an FFN one
 *   factor    n^3 / 6              multiply-adds   each matrix of each variant, n inputs kept
 *   repair    k^3 / 6 + r k n      multiply-adds   k of n inputs kept, r outputs
 *   feedback  4.5 r n^2            multiply-adds   rounding one after another, and the sweeps
 *   search    r n                  weights         scales, in the row as it is and as it is updated
 *   judge     2 r n^2              multiply-adds   the layer error of a variant
 *   write     bytes                                hash, write, sync, read back
 *
 * Products of linear algebra (linalg.h) are let in one at a time in a process: those terms gain
 * nothing from its threads, and all from more processes. */
#ifndef COST_H
#define COST_H

#include "space/geometry.h"

struct err;

enum cost_term {
    COST_FORWARD,
    COST_MOMENTS,
    COST_ORDER,
    COST_FACTOR,
    COST_REPAIR,
    COST_FEEDBACK,
    COST_SEARCH,
    COST_JUDGE,
    COST_WRITE,
    N_COST_TERMS
};

const char *cost_name(enum cost_term term);
const char *cost_formula(enum cost_term term);
/* Whether it is made of products that one process makes one at a time. */
bool cost_is_serial(enum cost_term term);

double cost_forward(double n_tokens, double n_weights);
double cost_moments(double n_tokens, double n);
double cost_order(double n);
double cost_factor(double n);
double cost_repair(double n_out, double n_kept, double n);
double cost_feedback(double n_out, double n);
double cost_search(double n_out, double n);
double cost_judge(double n_out, double n);

/* Work of every term for all variants of the default space (profile gguf-hetero, the parent's own
 * basis) of a geometry, `n_tokens` of calibration; *n_variants; *builder_bytes: what the largest
 * variant takes while it is built. */
int cost_of_space(const struct geometry *geometry, double n_tokens, double work[N_COST_TERMS],
                  double *n_variants, double *builder_bytes, struct err *err);

#endif
