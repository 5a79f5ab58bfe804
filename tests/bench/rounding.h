/* rounding.h - the parent with every matrix rounded in one format by a quantizer that knows less
 * than kerf's own, for comparison:
 *   plain       round to nearest: scales from the largest magnitude (or the range) of their group;
 *               for the 32-blocks the bytes of ggml's reference quantizer, for the K-quants
 *               without the search that ggml's makes
 *   search      the search of quantize.h with every input alike: what a quantizer without a
 *               calibration text can do
 *   importance  the same search, inputs weighted by their mean square on the calibration text: what
 *               llama.cpp does with an importance matrix
 * No weight ever makes up for the error of another. */
#ifndef ROUNDING_H
#define ROUNDING_H

#include "tests/bench/bench_model.h"

enum rounding { ROUNDING_PLAIN, ROUNDING_SEARCH, ROUNDING_IMPORTANCE, N_ROUNDINGS };

struct rounded;

const char *rounding_name(enum rounding rounding);

/* Matrices whose rows do not fit the format take its fallback.  `ends`: embedding and head too,
 * for which `importance` searches as `search` does.  `act`: what the quantized matrices take.  NULL
 * with `err` when a weight cannot be held. */
struct rounded *rounded_create(const struct bench_model *bench, enum rounding rounding,
                               enum format format, enum act_format act, bool ends, struct err *err);
void rounded_destroy(struct rounded *rounded); /* NULL is fine */
const struct model *rounded_model(const struct rounded *rounded);

#endif
