/* forward.h - one forward pass at a time over a model, with a KV cache.
 *
 * A `forward` belongs to one sequence, or to a few that go in step: prefill them in batches, decode
 * token by token, reset.  Sequences in step are at one position and get as many tokens in a call;
 * each has a KV cache of its own, and nothing but the weights do they share: products see the
 * columns of all, attention goes sequence by sequence.  The work of one call is split over the
 * members of a team; results do not depend on how the prompt was cut into batches, nor on the
 * sequences beside, beyond float rounding, and are bit-identical for a fixed thread count, kernel
 * set, batch cut and number of sequences.  All memory is one arena sized at creation:
 *
 *   | kv cache: sequences x layers x 2 x groups*hd x n_ctx | rope angles | batch buffers: hidden,
 *     normed, q, k, v, attention out, gate, up, sum, logits [n_batch][...] | packed activations |
 *     for each member: one packed token, the room of the attention kernel, attention of one
 *     token of each sequence over a part of its keys |
 *
 * Residual stream h[n_tokens][d_model] is float32.  Biases (model.h) are added with the output of o
 * or down; those of units that are not there with the output of the unit before them.  Angles of
 * RoPE: position * base^(-2i/hd) for the neighbouring values 2i and 2i+1 of a head; the position is
 * the index in the KV cache.  A NaN or infinity in the logits is found. */
#ifndef KERF_FORWARD_H
#define KERF_FORWARD_H

#include "evaluator/kernels/kernels.h"
#include "evaluator/model.h"
#include "evaluator/team.h"

struct err;
struct forward;

struct forward_options {
    uint32_t n_ctx;       /* room in each KV cache, positions */
    uint32_t n_batch;     /* most tokens in one call, of all sequences together */
    uint32_t d_model;     /* of the widest model to come; the first one's where that is wider */
    uint32_t n_sequences; /* most that go in step; 0 is 1 */
};

/* `model`, `kernels` and `team` are borrowed.  ERR_CONFIG for a KV cache format that heads of this
 * size cannot be kept in. */
struct forward *forward_create(const struct model *model, const struct kernels *kernels,
                               struct team *team, const struct forward_options *options,
                               struct err *err);
void forward_destroy(struct forward *forward); /* NULL is fine */
/* Let its buffers lie in other pages of memory and forget everything as forward_reset does: which
 * pages a buffer happens to have moves the time of a small model by about one per cent.  They are
 * had when they are first written.  -1: no memory, and all is as it was. */
int forward_move(struct forward *forward, struct err *err);

/* Change the model under the same buffers: same parent geometry but for a narrower residual stream,
 * any KV format that fits the heads (F32 only where the first model had it: there is room for F16).
 * Resets (forward_reset). */
void forward_set_model(struct forward *forward, const struct model *model);

/* What it was made with. */
const struct model *forward_model(const struct forward *forward);
struct team *forward_team(const struct forward *forward);
uint32_t forward_n_ctx(const struct forward *forward);
uint32_t forward_n_batch(const struct forward *forward);
size_t forward_bytes(const struct forward *forward); /* of its arena, caches and buffers */

/* Forget everything: the next token is at position 0 of one sequence, the state after creation. */
void forward_reset(struct forward *forward);
/* The same with 1 <= n_sequences <= the most of them: from here to the next reset every call takes
 * its tokens for all of these, position by position, those of one position side by side. */
void forward_begin(struct forward *forward, uint32_t n_sequences);
/* Forget what came after the first `position` tokens (at most forward_position): several
 * continuations share the cache of one beginning. */
void forward_rewind(struct forward *forward, uint32_t position);
uint32_t forward_position(const struct forward *forward);
uint32_t forward_n_sequences(const struct forward *forward); /* in step now */

enum forward_logits { LOGITS_NONE, LOGITS_LAST, LOGITS_ALL };

/* Append n tokens to each sequence, tokens[n][n_sequences], at most n_batch of them.  Logits of the
 * last or of all n positions are then in forward_logits, [n or 1][n_sequences][n_vocab].  ERR_DATA,
 * and the position stays: a token outside the vocabulary, no room in the context, or logits that
 * are not finite (the message names position and layer, and where there are several the sequence,
 * from 0). */
int forward_tokens(struct forward *forward, const int32_t *tokens, uint32_t n,
                   enum forward_logits logits, struct err *err);
const float *forward_logits(const struct forward *forward);

/* The same work in its three steps, for those who keep hidden states (sensitivities, the parent's
 * last states).  hidden is [n][n_sequences][d_model], row-major, the caller's. */
int forward_embed(struct forward *forward, const int32_t *tokens, uint32_t n, float *hidden,
                  struct err *err);
/* Layers [first, last) in place; positions start at forward_position and advance only when
 * `advance` is set (so that a stretch can be run again with another model). */
void forward_layers(struct forward *forward, float *hidden, uint32_t n, uint32_t first,
                    uint32_t last, bool advance);
/* Final norm and head of any n vectors: hidden[n][d_model], logits[n][n_vocab]. */
void forward_head(struct forward *forward, const float *hidden, uint32_t n, float *logits);
/* The same with the final norm and head of another model of the same parent, hidden as wide as its
 * stream. */
void forward_head_of(struct forward *forward, const struct model *model, const float *hidden,
                     uint32_t n, float *logits);

/* What calibration listens to: called after each norm or activation with the input of a linear
 * group, x[n_tokens][n_in] (of all sequences), on the thread that runs the pass.  NULL switches it
 * off. */
enum linear_site { SITE_QKV, SITE_O, SITE_GATE_UP, SITE_DOWN, N_LINEAR_SITES };
typedef void forward_listen_fn(void *arg, uint32_t layer, enum linear_site site, const float *x,
                               uint32_t n_tokens, uint32_t n_in);
void forward_listen(struct forward *forward, forward_listen_fn *listen, void *arg);

#endif
