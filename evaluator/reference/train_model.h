/* train_model.h - loss and gradient of the model on whole sequences.
 *
 * The model holds what all threads read: the packed weights and the rotation tables.  Each thread
 * has its own workspace (activations of one pass, scratch) and its own gradient vector, so threads
 * meet only when the step is over.  Parameters and gradients have the layout of train_geometry.h.
 */
#ifndef TRAIN_MODEL_H
#define TRAIN_MODEL_H

#include <stddef.h>
#include <stdint.h>

#include "evaluator/reference/train_geometry.h"

struct err;
struct rng;
struct train_backend;
struct train_model;
struct train_workspace;

/* The backend must fit the heads (train_backend_best).  NULL with `err` filled on bad geometry or
 * when memory runs out.  Weights are undefined until the first train_model_pack. */
struct train_model *train_model_create(const struct train_geometry *g,
                                       const struct train_backend *backend, struct err *err);
void train_model_destroy(struct train_model *model); /* NULL is fine */

/* Bring params[n_params] into the backend's form: the share of worker `part` of `n_parts`, which
 * may run at the same time.  The norm gains are copied too, so params may change afterwards. */
void train_model_pack(struct train_model *model, const float *params, size_t part, size_t n_parts);

/* Room for passes of n_seqs sequences. */
struct train_workspace *train_workspace_create(const struct train_model *model, size_t n_seqs,
                                               struct err *err);
void train_workspace_destroy(struct train_workspace *ws); /* NULL is fine */

/* One pass over n_seqs sequences (at most what the workspace has room for).
 * tokens[n_seqs][context + 1], each below vocab: position t predicts token t + 1.
 * Returns the summed loss in nats over n_seqs * context tokens; gradient[n_params] += the gradient
 * of that sum, or nothing when gradient is NULL. */
double train_model_pass(const struct train_model *model, struct train_workspace *ws,
                        const uint16_t *tokens, size_t n_seqs, float *gradient);

/* Normal initial values: 0.02, matrices that write into the residual stream 0.02 / sqrt(2 layers)
 * (Radford et al., 2019), gains 1. */
void train_model_init_params(const struct train_geometry *g, struct rng *rng, float *params);

#endif
