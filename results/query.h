/* query.h - "which model do I run in 30 ms?"
 * The answer is the measured candidate with the lowest KLD whose upper 95 % bound of the median
 * meets the budget; predicted numbers never answer.  "No" is an answer: the nearest points. */
#ifndef KERF_QUERY_H
#define KERF_QUERY_H

#include "results/front.h"

enum query_metric { METRIC_DECODE, METRIC_PREFILL }; /* tpot_ms.p50, ttft_ms.p50 */

struct query {
    double budget_ns;          /* <= 0: no latency limit */
    enum query_metric metric;
    double max_loss;           /* largest ppl_ratio - 1; < 0: no limit */
    uint64_t max_bytes;        /* 0: no limit */
    uint32_t n;                /* answers wanted */
};

#define QUERY_MAX 16

struct query_answer {
    const struct front_member *hit[QUERY_MAX]; /* best quality first */
    uint32_t n_hits;
    const struct front_member *nearest[3];     /* by the metric, when there is no hit */
    uint32_t n_nearest;
    uint32_t n_measured, n_over_budget;
};

/* Members are borrowed from `front`. */
void query_run(const struct front *front, const struct query *query, struct query_answer *answer);

#endif
