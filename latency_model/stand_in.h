/* stand_in.h - models of the right shapes and formats whose weights mean nothing, for timing.
 *
 * How long a pass takes hangs on shapes, formats and where bytes come from, not on their values:
 * the kernels have no branch on a weight.  So a candidate can be timed before anything has been
 * compressed, by a model whose matrices are sound blocks of random weights.  All models of a
 * stand_in lie in the same memory, one region for each format, as large as the candidate needs
 * that has most of it; within a model no two matrices share a byte, so that decoding streams as
 * many bytes as that of the real one.  A model must therefore be walked through once, untimed,
 * before it is timed: else it meets what another left in the caches (latency_study.h does so).
 *
 * Logits are finite, and nothing else is to be expected of them. */
#ifndef KERF_STAND_IN_H
#define KERF_STAND_IN_H

#include "evaluator/model.h"
#include "space/genome.h"

struct err;
struct stand_in;

/* Room for models of any of genomes[n], canonical for `geometry`, the parent's.  The memory has
 * pages of the usual size, as a mapped file has.  ERR_MEMORY with the bytes that are wanted
 * where the machine has not so many to spare. */
struct stand_in *stand_in_create(const struct geometry *geometry, const struct genome *genomes,
                                 size_t n, struct err *err);
void stand_in_destroy(struct stand_in *stand_in); /* NULL is fine */
/* Bytes of all regions. */
size_t stand_in_bytes(const struct stand_in *stand_in);

/* The model of one of those genomes, as stitch_model would make it: same units, shapes, formats and
 * activations, biases and zero FFNs where the genome has them.  Yours to free with model_destroy,
 * before the stand_in. */
struct model *stand_in_model(const struct stand_in *stand_in, const struct genome *genome,
                             struct err *err);

#endif
