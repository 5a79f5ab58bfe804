/* stitch.h - a genome and a store make a model: stitch, never recompress. */
#ifndef KERF_STITCH_H
#define KERF_STITCH_H

#include "evaluator/compression/store.h"
#include "evaluator/model.h"

/* The model of a canonical genome; weights are borrowed from store and parent.  Norms are the
 * parent's; a zero FFN (genome->zero_ffn columns) is carried where the genome says so.
 * Yours to free with model_destroy. */
struct model *stitch_model(const struct parent *parent, struct store *store,
                           const struct genome *genome, struct err *err);

#endif
