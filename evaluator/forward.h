/* forward.h - one forward pass at a time over a model, with a KV cache.
 *
 * A `forward` belongs to one sequence: prefill it in batches, decode token by token, reset it.  The
 * work of one call is split over the members of a team; results do not depend on how the prompt was
 * cut into batches beyond float rounding, and are bit-identical for a fixed thread count, kernel
 * set and batch cut.  All memory is one arena sized at creation:
 *
 *   | kv cache: layers x 2 x n_ctx x groups*hd (f16) | batch buffers: hidden, normed, q, k, v,
 *     attention out, gate, up [n_batch][...] | packed activations | scores | logits |
 *
 * Residual stream h[n_tokens][d_model] is float32.  A NaN or infinity in the logits is found. */
#ifndef KERF_FORWARD_H
#define KERF_FORWARD_H

#include "evaluator/kernels/kernels.h"
#include "evaluator/model.h"
#include "evaluator/team.h"

struct err;
struct forward;

struct forward_options {
    uint32_t n_ctx;   /* room in the KV cache, positions */
    uint32_t n_batch; /* most tokens in one call */
};

/* `model`, `kernels` and `team` are borrowed. */
struct forward *forward_create(const struct model *model, const struct kernels *kernels,
                               struct team *team, const struct forward_options *options,
                               struct err *err);
void forward_destroy(struct forward *forward); /* NULL is fine */

/* Change the model under the same buffers (shapes must fit: same parent geometry). Resets. */
void forward_set_model(struct forward *forward, const struct model *model);

/* Forget the sequence: the next token is at position 0. */
void forward_reset(struct forward *forward);
uint32_t forward_position(const struct forward *forward);

enum forward_logits { LOGITS_NONE, LOGITS_LAST, LOGITS_ALL };

/* Append `n` <= n_batch tokens (each < n_vocab: checked, ERR_DATA).  Logits of the last or of all
 * n positions are then in forward_logits, [n or 1][n_vocab]. */
int forward_tokens(struct forward *forward, const int32_t *tokens, uint32_t n,
                   enum forward_logits logits, struct err *err);
const float *forward_logits(const struct forward *forward);

/* The same work in its three steps, for those who keep hidden states (sensitivities, the parent's
 * last states).  hidden is [n][d_model], row-major, the caller's. */
int forward_embed(struct forward *forward, const int32_t *tokens, uint32_t n, float *hidden,
                  struct err *err);
/* Layers [first, last) in place; positions start at forward_position and advance only when
 * `advance` is set (so that a stretch can be run again with another model). */
void forward_layers(struct forward *forward, float *hidden, uint32_t n, uint32_t first,
                    uint32_t last, bool advance);
/* Final norm and head: logits[n][n_vocab]. */
void forward_head(struct forward *forward, const float *hidden, uint32_t n, float *logits);

/* What calibration listens to: called by forward_layers after each norm or activation with the
 * input of a linear group.  NULL switches it off. */
enum linear_site { SITE_QKV, SITE_O, SITE_GATE_UP, SITE_DOWN, N_LINEAR_SITES };
typedef void forward_listen_fn(void *arg, uint32_t layer, enum linear_site site, const float *x,
                               uint32_t n_tokens, uint32_t n_in);
void forward_listen(struct forward *forward, forward_listen_fn *listen, void *arg);

#endif
