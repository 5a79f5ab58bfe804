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

/* sum_v p_v (log p_v - log q_v) in nats, p = softmax(parent), q = softmax(x); never negative.
 * `parent_log_sum` and `log_sum` are those of the rows. */
double logits_divergence(const float *parent, double parent_log_sum, const float *x, double log_sum,
                         uint32_t n);

#endif
