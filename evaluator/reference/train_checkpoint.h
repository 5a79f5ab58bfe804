/* train_checkpoint.h - everything a stopped training needs to go on, in one file.
 *
 *   "KERFTRN1" | u64 header[14]: vocab dim layers heads kv_heads head_size ffn context
 *                                 norm_eps rope_base (bits of double) | steps seed windows
 *                                 seconds (bits of double)
 *   f32 weights[n] | average[n] | moment1[n] | moment2[n]                     little-endian */
#ifndef TRAIN_CHECKPOINT_H
#define TRAIN_CHECKPOINT_H

#include <stdint.h>

#include "evaluator/reference/train_geometry.h"

struct err;
struct train_optimizer;

/* Where the run stands; the step count is the optimizer's. */
struct train_progress {
    uint64_t seed;      /* of the windows */
    uint64_t n_windows; /* drawn so far: the next is number n_windows of the seed's sequence */
    double seconds;     /* of training so far, over all starts */
};

/* Replace the file in one step.  Codes of file_draft_open and file_draft_commit. */
int train_checkpoint_save(const char *path, const struct train_geometry *g,
                          const struct train_optimizer *opt, const struct train_progress *at,
                          struct err *err);
/* Read it into an optimizer of the same geometry.  ERR_DATA when the file is no checkpoint or one
 * of another geometry; then nothing has changed but the optimizer's vectors. */
int train_checkpoint_load(const char *path, const struct train_geometry *g,
                          struct train_optimizer *opt, struct train_progress *at, struct err *err);

#endif
