/* calibration.h - what the parent's linear inputs look like on the calibration text.
 * Per layer and site (inputs of qkv, o, gate/up, down): the mean square of each input channel, that
 * is diag(X X') / N, in double sums.  This first form keeps the diagonal only; the full Hessian
 * takes its place in the same file with a new version number.  One pass over the text, once per
 * parent and text; deterministic. */
#ifndef KERF_CALIBRATION_H
#define KERF_CALIBRATION_H

#include "evaluator/forward.h"
#include "space/base/hash.h"

struct err;
struct calibration;
struct token_set;

/* Run the parent (its own formats) over the token set.  `progress` may be NULL. */
struct calibration *calibration_collect(const struct model *parent, const struct kernels *kernels,
                                        struct team *team, const struct token_set *tokens,
                                        struct err *err);
void calibration_destroy(struct calibration *calibration);

/* Mean squared input, [n_in of that site]; d_model, n_heads*hd, d_model, d_ff values. */
const float *calibration_mean_square(const struct calibration *calibration, uint32_t layer,
                                     enum linear_site site);
uint64_t calibration_n_tokens(const struct calibration *calibration);
/* How much of the residual stream a unit changes: 1 - cosine(input, output), mean over tokens
 * (block influence); unit = 2 * layer (+ 1 for the FFN). */
double calibration_influence(const struct calibration *calibration, uint32_t unit);
/* Identity of parent, text and algorithm version; part of every variant's key. */
struct hash256 calibration_hash(const struct calibration *calibration);

/* Atomic file; load checks magic, version, sizes, hash and that it belongs to `parent`. */
int calibration_save(const struct calibration *calibration, const char *path, struct err *err);
struct calibration *calibration_load(const char *path, const struct geometry *geometry,
                                     const struct hash256 *parent, struct err *err);

#endif
