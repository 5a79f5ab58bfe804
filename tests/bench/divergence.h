/* divergence.h - KL divergence of a model to its parent, kept sequence by sequence, so that two
 * models are compared on the very same tokens.
 *
 * A ratio R = sum a_i / sum b_i over sequences i has the standard error of a linearised ratio
 * (Cochran, Sampling Techniques): that of the mean of a_i - R b_i, clustered by sequence, over the
 * mean of b.  What both models find hard cancels in it. */
#ifndef DIVERGENCE_H
#define DIVERGENCE_H

#include "evaluator/compression/store.h"
#include "tests/bench/bench_model.h"

#define DIVERGENCE_MAX_SEQUENCES 256
#define DIVERGENCE_ALL           UINT32_MAX

struct divergence {
    uint32_t n_sequences;
    double mean[DIVERGENCE_MAX_SEQUENCES]; /* nats per token */
    double size[DIVERGENCE_MAX_SEQUENCES]; /* predicted tokens */
    double kld, kld_se;                    /* over all of them */
};

/* Over the first `tokens` held-out tokens of the bench (whole sequences); its forward pass has the
 * parent again afterwards.  Errors of quality_measure; ERR_DATA when there are too many sequences.
 */
int divergence_measure(const struct bench_model *bench, const struct model *model, uint32_t tokens,
                       struct divergence *divergence, struct err *err);
/* The same for a canonical genome, compressed from `source`; its variants are built by all of the
 * team. */
int divergence_of_genome(const struct bench_model *bench, const struct variant_source *source,
                         struct store *store, const struct genome *genome, uint32_t tokens,
                         struct divergence *divergence, struct err *err);

/* What the sequences from `first` on say. */
struct divergence divergence_from(const struct divergence *divergence, uint32_t first);

struct ratio {
    double value, se;
};

/* a / b; both over the same sequences. */
struct ratio divergence_ratio(const struct divergence *a, const struct divergence *b);

#endif
