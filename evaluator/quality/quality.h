/* quality.h - how far a candidate is from its parent on a token set (methods.md D1, D2).
 *   KLD_t = sum_v p_v (log p_v - log q_v), p the parent's, q the candidate's distribution at t
 * Exact: the whole vocabulary in double.  Standard errors are clustered by sequence (NAN with a
 * single sequence); perplexities are over the same tokens.  Deterministic for a fixed thread count
 * and kernel set. */
#ifndef KERF_QUALITY_H
#define KERF_QUALITY_H

#include "evaluator/forward.h"
#include "evaluator/quality/parent_states.h"
#include "evaluator/quality/token_set.h"

/* Tokens that are run and judged at a time, unless the forward's batch is smaller: what is made of
 * so many is still in a core's own cache when it is used. */
#define QUALITY_BATCH 256

struct quality {
    uint32_t n_tokens;  /* predicted ones */
    double kld, kld_se; /* nats per token */
    double kld_p50, kld_p99, kld_max;
    double nll, nll_se; /* the candidate's mean negative log likelihood */
    double parent_nll;
    double ppl, parent_ppl;         /* exp of those */
    double ppl_ratio, ppl_ratio_se; /* ppl / parent_ppl; paired by token, delta method */
    double top1, top1_se;           /* share of tokens where both have the same best token */
};

/* `parent_head` supplies final norm and head for the parent's log probabilities; `forward` runs the
 * candidate and is reset.  `tokens`: at most so many of the set (a nested prefix of whole
 * sequences, at least one).  A sequence longer than QUALITY_BATCH goes in several.
 * ERR_DATA naming sequence, position and layer when the candidate's logits are not finite, or a
 * sequence does not fit the forward's context. */
int quality_measure(struct forward *forward, const struct model *parent_head,
                    const struct parent_states *states, const struct token_set *set,
                    uint32_t tokens, struct quality *quality, struct err *err);

/* The same, and the mean KLD of each of its token_set_n_within(set, tokens) sequences in `kld`
 * (NULL: not wanted). */
int quality_measure_sequences(struct forward *forward, const struct model *parent_head,
                              const struct parent_states *states, const struct token_set *set,
                              uint32_t tokens, struct quality *quality, double *kld,
                              struct err *err);
/* How much larger the KLD per token is in `kld` than in `base`, both by sequence as above, and the
 * standard error of that: paired, so that what makes a sequence hard for both cancels.  NAN without
 * memory. */
double quality_difference(const struct token_set *set, uint32_t tokens, const double *kld,
                          const double *base, double *se);

/* The candidate alone: n_tokens, nll, nll_se, ppl; the rest is NAN. */
int quality_perplexity(struct forward *forward, const struct token_set *set, uint32_t tokens,
                       struct quality *quality, struct err *err);

/* Exact KLD of two logit rows, in nats; for tests and the decode-path check. */
double quality_kld(const float *parent_logits, const float *logits, uint32_t n_vocab);

#endif
