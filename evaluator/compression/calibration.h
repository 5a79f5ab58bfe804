/* calibration.h - what the parent's linear inputs look like on the calibration text.
 * Per layer and site (inputs of qkv, o, gate/up, down), and for the input of the head: the second
 * moments H = X X' / N and the mean of the inputs, in double sums (hessian.h), and how much each
 * unit changes the residual stream. One run over the text, once per parent and text; deterministic
 * for a processor, with any number of threads.
 *
 * The run goes layer by layer: all tokens through one layer, then through the next.  So the sums of
 * one layer are in memory at a time, beside the residual stream of the text (n_tokens x d_model
 * floats); calibration_make writes each layer away when it is done (calibration_part.h), the two
 * that make a calibration in memory keep all (a quarter of the sums).
 *
 * Diagonal calibrations.  From an importance matrix of llama.cpp (calibration_imatrix.h) only the
 * mean squares are known.  H is then taken as diagonal and the means as 0, and a layer has no
 * cross terms to repair or feed back with: weights are rounded by importance, channels and heads
 * are kept by importance, and what stays is not solved anew.
 *
 * The file, little-endian:
 *   "KERFCALI" | u32 version, n_layers, d_model, n_heads, n_kv_heads, head_dim, d_ff, diagonal |
 *   u64 n_tokens | parent[32] | text[32] | f64 influence[2 * n_layers] |
 *   f32 mean[layer][site][n_in of the site], then of the head | f32 mean square, likewise (the
 *   diagonals of H) | SHA-256 of each layer's triangles [n_layers], of the head's |
 *   SHA-256 of all of it so far | zeros up to a multiple of 64 |
 *   f32 lower triangle of H by rows [layer][site], then the head's; none if diagonal
 * It is mapped: the part up to the second sum (a few hundred KB) is read and checked on load, the
 * triangles of a layer are checked when they are first asked for.  A reader touches the layers it
 * works on and no others. */
#ifndef KERF_CALIBRATION_H
#define KERF_CALIBRATION_H

#include "evaluator/forward.h"
#include "space/base/hash.h"

#include <signal.h>

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

struct calibration_options {
    double checkpoint_s;               /* how long a layer that is done may be lost by a kill */
    const volatile sig_atomic_t *stop; /* ERR_STOPPED soon after this is not 0; may be NULL */
};
#define CALIBRATION_CHECKPOINT_S 10.0

enum calibration_origin { CALIBRATION_FOUND, CALIBRATION_MADE, CALIBRATION_RESUMED };

/* The calibration of the parent with that hash on that text in the file at `path`: the one that is
 * there when it belongs to both and is sound to the last byte, else one that is made, going on
 * where an earlier process was stopped, with the memory of one layer. ERR_DATA: the text has fewer
 * tokens than one sequence; an input is not finite (the message names the tensor and the position
 * that are to blame where it is a weight).  ERR_STOPPED; ERR_RESOURCE while another process makes
 * the file; the codes of file.h. */
int calibration_ensure(const char *path, struct parent *parent, const struct hash256 *parent_hash,
                       const struct kernels *kernels, struct team *team,
                       const struct token_set *tokens, const struct calibration_options *options,
                       enum calibration_origin *origin, struct err *err);

/* Says whose statistics these are (parent_hash).  Needed before calibration_hash and save. */
void calibration_name_parent(struct calibration *calibration, const struct hash256 *parent);
void calibration_destroy(struct calibration *calibration); /* NULL is fine */

/* Mean squared input, [n_in of that site]; d_model, n_heads*hd, d_model, d_ff values: the diagonal
 * of H.  Zeros for a unit that the parent does not have; in a parent whose unit is narrower than
 * its geometry only the first values count. */
const float *calibration_mean_square(const struct calibration *calibration, uint32_t layer,
                                     enum linear_site site);
/* Mean input, likewise; zeros in a diagonal calibration. */
const float *calibration_mean(const struct calibration *calibration, uint32_t layer,
                              enum linear_site site);
/* H of the first `n` inputs of a site (at most its n_in): square[n][n], symmetric, not damped; the
 * caller's memory.  Diagonal in a diagonal calibration.  ERR_DATA when the layer is damaged in the
 * file.  Calls may come from several threads. */
int calibration_hessian(const struct calibration *calibration, uint32_t layer,
                        enum linear_site site, size_t n, double *square, struct err *err);
/* H of what the head multiplies, the stream behind the final norm: square[d_model][d_model]. */
int calibration_head_hessian(const struct calibration *calibration, double *square,
                             struct err *err);
/* As calibration_hessian, of the covariances, C = H - mu mu' (hessian_centre); of the mean squares
 * alone where only those are known. */
int calibration_covariance(const struct calibration *calibration, uint32_t layer,
                           enum linear_site site, size_t n, double *square, struct err *err);
/* Only diagonals are known. */
bool calibration_is_diagonal(const struct calibration *calibration);
/* What it was heard on: the hash of the token set; of the file for a diagonal one. */
struct hash256 calibration_text(const struct calibration *calibration);

struct calibration_summary {
    uint64_t n_tokens;
    size_t n_inputs; /* of all sites of all layers, the head left out */
    size_t n_dead;   /* inputs that were 0 throughout (or belong to a unit that is not there) */
    size_t widest;   /* inputs of the widest site */
    bool is_short;   /* fewer tokens than that: its H is singular, and damped the more */
    bool is_diagonal;
    double damping; /* of the widest site (obs_damping) */
};
void calibration_summarise(const struct calibration *calibration,
                           struct calibration_summary *summary);
uint64_t calibration_n_tokens(const struct calibration *calibration);
/* How much of the residual stream a unit changes: 1 - cosine(input, output), mean over tokens
 * (block influence, ShortGPT); unit = 2 * layer (+ 1 for the FFN).  0 for a unit that is not there.
 * The stream between attention and FFN is seen through the FFN's norm: channels whose gain is 0
 * are left out there. */
double calibration_influence(const struct calibration *calibration, uint32_t unit);
/* Identity of parent, text and algorithm version; part of every variant's key. */
struct hash256 calibration_hash(const struct calibration *calibration);
uint32_t calibration_version(void); /* of that algorithm */
/* SHA-256 over the figures themselves, which may differ in the last bits between kernel sets. */
struct hash256 calibration_values_hash(const struct calibration *calibration);

/* Atomic file; load checks magic, version, sizes, that it belongs to `parent`, and the sum of
 * everything but the triangles. */
int calibration_save(const struct calibration *calibration, const char *path, struct err *err);
struct calibration *calibration_load(const char *path, const struct geometry *geometry,
                                     const struct hash256 *parent, struct err *err);
/* Whether the file begins like a calibration, of whatever version. */
bool calibration_is_file(const char *path);
/* The sums of all layers: reads the whole file. */
int calibration_verify(const struct calibration *calibration, struct err *err);

#endif
