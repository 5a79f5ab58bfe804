/* stitch.h - a genome and a store make a model: stitch, never recompress. */
#ifndef KERF_STITCH_H
#define KERF_STITCH_H

#include "evaluator/compression/store.h"
#include "evaluator/model.h"

/* The model of a canonical genome, compressed from `source`; weights are borrowed from the store
 * and the source's parent.  Norms are the parent's; a zero FFN (genome->zero_ffn columns) is
 * carried where the genome says so.  Biases come from a centred source, also in place of dropped
 * units: ERR_CONFIG for a genome with biases and another source, or without them where the parent
 * has some.  Yours to free with model_destroy. */
struct model *stitch_model(const struct variant_source *source, struct store *store,
                           const struct genome *genome, struct err *err);

/* The variant that a genome wants of a part (layer 0 for embedding and head), the mean output that
 * a dropped unit leaves behind being one; false where it has none. */
bool stitch_key(const struct genome *genome, enum part part, uint32_t layer,
                struct variant_key *key);

/* What a model of this genome is made of, for its record: *weights = SHA-256 over the payloads of
 * its parts, layer by layer, the ends last: equal models have equal ones on every node.  `fallback`
 * (may be NULL) is called for each part whose compression had to fall back (cut_loss), with the
 * share of damping, INFINITY for plain rounding.  The parts are looked up, and built where they are
 * not there. */
typedef void stitch_fallback_fn(void *arg, enum part part, uint32_t layer, double damping);
int stitch_record(const struct variant_source *source, struct store *store,
                  const struct genome *genome, struct hash256 *weights,
                  stitch_fallback_fn *fallback, void *arg, struct err *err);

/* What tells `genome` from `base`, seen in the layers alone: the largest relative error (variant.h)
 * among the parts that `genome` keeps otherwise than `base`, 1 for a part that is gone (that of its
 * mean output where one is left behind).  NAN where the two keep all parts alike; a change of basis
 * is not looked at, for it leaves no part as it was. */
int stitch_error(const struct variant_source *source, struct store *store,
                 const struct genome *base, const struct genome *genome, double *error,
                 struct err *err);

#endif
