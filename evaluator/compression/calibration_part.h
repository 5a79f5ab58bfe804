/* calibration_part.h - a calibration that is being made: its file so far, and enough beside it to go
 * on after a kill.
 *
 *   PATH.part         the file to be (calibration.h): the triangles of a layer are written to their
 *                     place when the layer is done, the front comes last, then it is renamed
 *   PATH.part.state   how far it is safe: the front's figures of the layers that are done and the
 *                     residual stream behind them, replaced in one step
 *
 * The state's file: "KERFCPRT" | u32 version, n_done | identity[32] | f64 influence sums |
 *   f32 means | f32 mean squares | sum of each layer's triangles | f32 stream | SHA-256 of all of it
 *
 * The stream is what makes going on cheap.  Without it the layers that are done would have to be run
 * again, and in a large model running a layer costs more than summing it up.  It is n_tokens x
 * d_model floats, a small part of what was computed for it, so it is written when enough time has
 * gone by (calibration_options), and never for a calibration that is quick.
 *
 * A state is only used with the identity it was written for (version, parent, text, kernels) and
 * when the triangles that it vouches for have their sums; else all begins anew. */
#ifndef KERF_CALIBRATION_PART_H
#define KERF_CALIBRATION_PART_H

#include "evaluator/compression/calibration_parts.h"

struct calibration_part {
    int fd; /* of PATH.part, locked against a second process */
    char target[4096], path[4096 + 8], state[4096 + 16];
    struct hash256 identity;
    size_t n_stream;     /* floats */
    bool has_state;      /* there is something to go on from */
    int64_t safe_ns;     /* when the state was written, or the part opened */
    int64_t interval_ns; /* how long a layer that is done may wait for that */
};

/* Take the part of `path` over, or begin it: 0 and *n_done layers, whose figures are in `c` and
 * behind which the residual stream is stream[n_stream]; for *n_done = 0 both are as they were.
 * ERR_RESOURCE while another process makes the same file. */
int calibration_part_open(struct calibration_part *part, const char *path, struct calibration *c,
                          const struct hash256 *identity, double interval_s, float *stream,
                          size_t n_stream, uint32_t *n_done, struct err *err);
/* A layer (or the head) is done: its figures are in `c`, its triangles in c->own, the stream is
 * behind it.  Written; made safe together with the stream when it is time. */
int calibration_part_keep(struct calibration_part *part, const struct calibration *c,
                          uint32_t layer, const float *stream, struct err *err);
/* All layers are done: the front, and the name.  The part is closed in any case. */
int calibration_part_finish(struct calibration_part *part, const struct calibration *c,
                            struct err *err);
/* Leave it for another time; what nobody could go on from is removed. */
void calibration_part_close(struct calibration_part *part);
/* Remove it. */
void calibration_part_drop(struct calibration_part *part);

#endif
