/* query.c - answering a budget from what was measured. */
#include "results/query.h"
#include <math.h>
#include <string.h>

const struct measured *query_measured(const struct front_member *member, enum query_metric metric)
{
    return metric == METRIC_PREFILL ? &member->evaluation.prefill : &member->evaluation.decode;
}

/* --- conditions --- */

/* By which share a value lies above its limit; 0 within it. */
static double excess(double value, double limit)
{
    return value > limit ? value / limit - 1 : 0;
}

static bool is_over_budget(const struct front_member *member, const struct query *query)
{
    return query->budget_ns > 0 && query_measured(member, query->metric)->hi_ns > query->budget_ns;
}

/* Sum of the shares by which the conditions are missed; 0: all are met. */
static double shortfall(const struct front_member *member, const struct query *query)
{
    const struct evaluation *e = &member->evaluation;
    double sum = 0;
    if (query->budget_ns > 0)
        sum += excess(query_measured(member, query->metric)->hi_ns, query->budget_ns);
    if (query->max_loss >= 0)
        sum += excess(e->ppl_ratio, 1 + query->max_loss);
    if (query->max_bytes > 0)
        sum += excess((double)e->weight_bytes, (double)query->max_bytes);
    return sum;
}

/* A flagged latency is shown but meets no budget unless that is asked for. */
static bool is_barred(const struct front_member *member, const struct query *query)
{
    uint32_t flag =
        query->metric == METRIC_PREFILL ? EVALUATION_PREFILL_NOISY : EVALUATION_DECODE_NOISY;
    return query->budget_ns > 0 && !query->allow_flagged && (member->evaluation.flags & flag) != 0;
}

/* --- the best --- */

static int compare_kld(const struct front_member *a, const struct front_member *b)
{
    const struct evaluation *x = &a->evaluation, *y = &b->evaluation;
    if (x->kld != y->kld)
        return x->kld < y->kld ? -1 : 1;
    if (x->rung != y->rung)
        return x->rung > y->rung ? -1 : 1;
    if (x->decode.median_ns != y->decode.median_ns)
        return x->decode.median_ns < y->decode.median_ns ? -1 : 1;
    return id128_compare(a->candidate.id, b->candidate.id);
}

/* No worse by more than one standard error of the difference. */
static bool is_within_noise(const struct front_member *verified, const struct front_member *best)
{
    const struct evaluation *x = &verified->evaluation, *y = &best->evaluation;
    return x->kld - y->kld <= sqrt(x->kld_se * x->kld_se + y->kld_se * y->kld_se);
}

static bool is_taken(const struct query_answer *answer, const struct front_member *member)
{
    for (uint32_t i = 0; i < answer->n_hits; i++)
        if (answer->hit[i] == member)
            return true;
    return false;
}

/* The best of those that meet the conditions and are not taken yet; NULL when none is left. */
static const struct front_member *next_best(const struct front *front, const struct query *query,
                                            const struct query_answer *answer)
{
    const struct front_member *best = NULL, *verified = NULL;
    for (size_t i = 0; i < front->n_all; i++) {
        const struct front_member *member = &front->all[i];
        if (shortfall(member, query) > 0 || is_taken(answer, member) || is_barred(member, query))
            continue;
        if (best == NULL || compare_kld(member, best) < 0)
            best = member;
        if (member->evaluation.rung == RUNG_FINAL &&
            (verified == NULL || compare_kld(member, verified) < 0))
            verified = member;
    }
    return verified != NULL && is_within_noise(verified, best) ? verified : best;
}

/* --- the nearest --- */

static bool is_nearer(const struct front_member *a, const struct front_member *b,
                      const struct query *query)
{
    double x = shortfall(a, query), y = shortfall(b, query);
    if (x != y)
        return x < y;
    double t = query_measured(a, query->metric)->hi_ns, u = query_measured(b, query->metric)->hi_ns;
    if (t != u)
        return t < u;
    return id128_compare(a->candidate.id, b->candidate.id) < 0;
}

/* Insert into the short sorted list. */
static void offer_nearest(const struct front_member *member, const struct query *query,
                          struct query_answer *answer)
{
    uint32_t at = answer->n_nearest;
    while (at > 0 && is_nearer(member, answer->nearest[at - 1], query)) {
        if (at < QUERY_NEAREST)
            answer->nearest[at] = answer->nearest[at - 1];
        at--;
    }
    if (at == QUERY_NEAREST)
        return;
    answer->nearest[at] = member;
    if (answer->n_nearest < QUERY_NEAREST)
        answer->n_nearest++;
}

void query_run(const struct front *front, const struct query *query, struct query_answer *answer)
{
    uint32_t wanted = query->n < 1 ? 1 : query->n > QUERY_MAX ? QUERY_MAX : query->n;
    const struct front_member *best;
    memset(answer, 0, sizeof *answer);
    answer->n_measured = (uint32_t)front->n_all;
    answer->parent_meets = front->has_parent && shortfall(&front->parent, query) == 0;
    while (answer->n_hits < wanted && (best = next_best(front, query, answer)) != NULL)
        answer->hit[answer->n_hits++] = best;
    for (size_t i = 0; i < front->n_all; i++) {
        answer->n_over_budget += is_over_budget(&front->all[i], query);
        answer->n_flagged += is_barred(&front->all[i], query);
        if (answer->n_hits == 0)
            offer_nearest(&front->all[i], query, answer);
    }
}
