/* logits.h - what is read off a row of logits: log of the normalising sum, the best token, the
 * divergence of one row from another.  Sums are double; exponentials are accurate to 1e-13, so the
 * result is exact for any purpose here.  The bits are the same on every processor. */
#ifndef KERF_LOGITS_H
#define KERF_LOGITS_H

#include <stdbool.h>
#include <stdint.h>

/* log(sum(exp(x))), without overflow.  The largest (first of equals) is put in *best unless that is
 * NULL.  x must be finite: NAN otherwise. */
double logits_log_sum(const float *x, uint32_t n, uint32_t *best);

/* Two rows side by side. */
struct logits_pair {
    double parent_log_sum, log_sum; /* as logits_log_sum gives them, to the bit */
    uint32_t parent_best, best;
    double kld; /* sum_v p_v (log p_v - log q_v) in nats, p = softmax(parent), q = softmax(x); never
                   negative, 0 for equal rows */
};
void logits_compare(const float *parent, const float *x, uint32_t n, struct logits_pair *pair);

#endif
