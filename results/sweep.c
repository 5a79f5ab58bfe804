#include "results/sweep.h"

#include "space/base/stats.h"

#include <math.h>
#include <stdlib.h>

#define ALPHA_AGAIN     0.005
#define FALSE_DISCOVERY 0.05

static const struct look {
    uint32_t n;
    double alpha, even; /* suspect at most, let go above */
} looks[] = {{10, 0.001, 0.5}, {20, 0.004, 0.2}, {SWEEP_ROUNDS, 0.005, 0}};
#define N_LOOKS (sizeof looks / sizeof looks[0])

void sweep_judge(const double *log_ratio, uint32_t n, struct sweep_judgement *judgement)
{
    double lo, hi;
    double mid = stats_hodges_lehmann(log_ratio, n, &lo, &hi);

    *judgement = (struct sweep_judgement){.n = n,
                                          .p = stats_signed_rank_p(log_ratio, n),
                                          .effect = exp(mid) - 1,
                                          .lo = exp(lo) - 1,
                                          .hi = exp(hi) - 1};
}

static const struct look *look_at(uint32_t n)
{
    for (size_t i = 0; i < N_LOOKS; i++)
        if (looks[i].n == n)
            return &looks[i];
    return NULL;
}

bool sweep_is_look(uint32_t n)
{
    return look_at(n) != NULL;
}

enum sweep_step sweep_look(const struct sweep_judgement *judgement, double min_effect)
{
    const struct look *look = look_at(judgement->n);

    if (look == NULL)
        return SWEEP_MORE;
    if (judgement->p <= look->alpha && judgement->effect > min_effect)
        return SWEEP_SUSPECT;
    return judgement->p > look->even ? SWEEP_EVEN : SWEEP_MORE;
}

size_t sweep_conclude(struct sweep_point *points, size_t n, double min_effect)
{
    double *p = calloc(n + 1, sizeof *p);
    size_t n_slower = 0;

    if (p == NULL)
        return 0;
    for (size_t i = 0; i < n; i++)
        p[i] = points[i].again.n > 0 ? points[i].again.p : points[i].first.p;
    double limit = fmin(ALPHA_AGAIN, stats_discovery_limit(p, n, FALSE_DISCOVERY));
    for (size_t i = 0; i < n; i++) {
        const struct sweep_judgement *again = &points[i].again;
        points[i].slower = again->n > 0 && again->p <= limit && again->effect > min_effect;
        n_slower += points[i].slower;
    }
    free(p);
    return n_slower;
}

bool sweep_exact_holds(const struct sweep_exact *exact)
{
    return exact->genome_id != SWEEP_DIFFERS && exact->weights != SWEEP_DIFFERS &&
           exact->kld != SWEEP_DIFFERS;
}
