/* polish.h - a candidate's weights made once more, each for the inputs that it really meets.
 *
 * Variants are compressed for the parent's own inputs, so that any two can be joined; behind other
 * compressed parts the inputs are not quite those, and errors add up.  For a candidate that has
 * been chosen the order is known: here its matrices are made anew one after another, in the order
 * in which a token passes them, against the inputs that everything made before them hands on
 * (GPTQ's second half; GPTAQ, 2025; methods.md A2).
 *
 * For one matrix, over the calibration text: the target weights of match.h, x the parent's input, z
 * the candidate's, W' what the variant was rounded from (cut_target); then rows are packed with
 * error feedback against H = Z Z' / N (feedback.h).  Where the new rows are no nearer to the target
 * than the candidate's own, those stay.  Formats, shapes, norms, biases, embedding and head
 * are the candidate's: so are bytes and, that being all that kernels see, latency.
 *
 * What o and down, which write into the residual stream, are asked for besides:
 *     y = drift * (parent's stream - candidate's stream) in front of the unit
 * so that with drift = 1 they make up for what all parts before them have done to the stream, a
 * unit that is gone included; and for what the parent's bias gives that the candidate's does not.
 *
 * Measured on the reference model (tests/bench/bench_polish: every layer alike, KLD on 8,192
 * held-out tokens, after over before, standard errors paired by sequence), 16,384 calibration
 * tokens, alpha 0.5, drift 1:
 *
 *     Q4_0                 0.95 +- 0.01       Q4_K, FFN 768 of 1024    0.98 +- 0.02
 *     Q3_K                 0.99 +- 0.01       Q4_K, FFN 512            0.91 +- 0.02
 *     Q2_K                 0.87 +- 0.04       Q4_K, 2 of 4 KV groups   0.71 +- 0.02
 *     Q2_K, FFN 512 and half of the heads     Q4_K, one FFN of eight
 *                          0.75 +- 0.02       dropped                  0.46 +- 0.06
 *
 * Rounding alone leaves little to correct; what structure was taken away is partly made up for.
 * With 8,192 tokens, so that d_ff is 1/8 of them (standard errors 0.01 to 0.04):
 *
 *     alpha, drift   0.25, 0.25   0.5, 0.5   0.5, 1   1, 1   1, 0
 *     Q4_0              0.96        0.94       -      0.95   0.97
 *     Q3_K              0.98        0.97       -      1.03   0.98
 *     Q2_K              0.90        0.87      0.86    0.91   0.95
 *
 * So the stream is what to aim at, and half of the way is about right: with two of four KV groups,
 * as above, the unit's own output (0.5, 0) gets 0.80 +- 0.02 and all of the way (1, 1) 0.76 +-
 * 0.03.  A larger ridge does no better than alpha (Q2_K at 1, 1: 0.88 with 0.1, 0.92 with 1).
 *
 * The run goes unit by unit, all tokens through one, then through the next.  In memory: the two
 * residual streams (n_tokens x d_model floats each), the moments of one site (match.h), the new
 * weights.  Work: the parent's pass over the text once, the candidate's twice, 2 n_z (n_x + n_z)
 * flop in double per token and site, and the packing.  Deterministic for a processor and a fixed
 * number of threads, as forward.h. */
#ifndef KERF_POLISH_H
#define KERF_POLISH_H

#include "evaluator/compression/variant.h"
#include "evaluator/kernels/kernels.h"
#include "evaluator/model.h"
#include "evaluator/quality/token_set.h"
#include "evaluator/team.h"

struct err;

#define POLISH_ALPHA 0.5
#define POLISH_DRIFT 1.0
#define POLISH_RIDGE 0.01

struct polish_plan {
    double alpha, drift; /* each 0..1 */
    double ridge;        /* the least share of match.h's ridge; more where obs_damping says so */
    /* Called between pieces of work, may be NULL; another answer than 0 ends the run with -1. */
    int (*step)(void *arg, struct err *err);
    void *step_arg;
};

struct polished {
    struct model *model; /* the candidate with its new weights */
    uint32_t n_matrices; /* of the candidate's units */
    uint32_t n_changed;  /* of them made anew; the others kept their bytes */
    double stream_error; /* mean |parent's - candidate's last hidden state|^2 over the text, over
                            the mean square of the parent's */
    void **block;        /* [n_changed] the new weights */
};

/* `candidate` is the model of `genome`, as stitch_model makes it from the variants of `source`; it
 * is not changed, and what it borrows must outlive the polished one.  ERR_CONFIG for a residual
 * stream in another basis than the parent's (genome_is_turned); ERR_DATA when an input is not
 * finite, naming layer and part; ERR_MEMORY. */
int polish_model(struct polished *polished, const struct variant_source *source,
                 const struct genome *genome, const struct model *candidate,
                 const struct kernels *kernels, struct team *team, const struct token_set *text,
                 const struct polish_plan *plan, struct err *err);
void polished_fini(struct polished *polished); /* a zeroed struct is fine */

#endif
