/* calibration.h - what the parent's linear inputs look like on the calibration text.
 * Per layer and site (inputs of qkv, o, gate/up, down): the mean square of each input channel, that
 * is diag(X X') / N, in double sums.  This first form keeps the diagonal only; the full Hessian
 * takes its place in the same file with a new version number.  One pass over the text, once per
 * parent and text; deterministic.
 *
 * The file, little-endian:  "KERFCALI" | u32 version, n_layers, d_model, n_heads, n_kv_heads,
 *   head_dim, d_ff, 0 | u64 n_tokens | parent[32] | text[32] | f64 influence[2 * n_layers] |
 *   f32 mean square [layer][site][n_in of the site] | SHA-256 of all of it */
#ifndef KERF_CALIBRATION_H
#define KERF_CALIBRATION_H

#include "evaluator/forward.h"
#include "space/base/hash.h"

struct err;
struct calibration;
struct parent;
struct token_set;

/* Run a model over the token set and listen.  Whose statistics they are is not known yet: tell it
 * with calibration_name_parent, or use calibration_of_parent.  ERR_DATA when an input is not
 * finite, naming layer and site. */
struct calibration *calibration_collect(const struct model *parent, const struct kernels *kernels,
                                        struct team *team, const struct token_set *tokens,
                                        struct err *err);
/* The same for a parent in its own formats, with its name on it. */
struct calibration *calibration_of_parent(struct parent *parent, const struct kernels *kernels,
                                          struct team *team, const struct token_set *tokens,
                                          struct err *err);
/* Says whose statistics these are (parent_hash).  Needed before calibration_hash and save. */
void calibration_name_parent(struct calibration *calibration, const struct hash256 *parent);
void calibration_destroy(struct calibration *calibration); /* NULL is fine */

/* Mean squared input, [n_in of that site]; d_model, n_heads*hd, d_model, d_ff values.  Zeros for a
 * unit that the parent does not have; in a parent whose unit is narrower than its geometry only
 * the first values count. */
const float *calibration_mean_square(const struct calibration *calibration, uint32_t layer,
                                     enum linear_site site);
uint64_t calibration_n_tokens(const struct calibration *calibration);
/* How much of the residual stream a unit changes: 1 - cosine(input, output), mean over tokens
 * (block influence, ShortGPT); unit = 2 * layer (+ 1 for the FFN).  0 for a unit that is not there.
 * The stream between attention and FFN is seen through the FFN's norm: channels whose gain is 0
 * are left out there. */
double calibration_influence(const struct calibration *calibration, uint32_t unit);
/* Identity of parent, text and algorithm version; part of every variant's key. */
struct hash256 calibration_hash(const struct calibration *calibration);
/* SHA-256 over the figures themselves, which may differ in the last bits between kernel sets. */
struct hash256 calibration_values_hash(const struct calibration *calibration);

/* Atomic file; load checks magic, version, sizes, hash and that it belongs to `parent`. */
int calibration_save(const struct calibration *calibration, const char *path, struct err *err);
struct calibration *calibration_load(const char *path, const struct geometry *geometry,
                                     const struct hash256 *parent, struct err *err);

#endif
