/* dominance.c - Pareto comparison, fronts and crowding.
 * Fronts and crowding: K. Deb, A. Pratap, S. Agarwal, T. Meyarivan, "A fast and elitist
 * multiobjective genetic algorithm: NSGA-II", IEEE Trans. Evol. Comput. 6(2), 2002. */
#include "space/base/dominance.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

/* What could not be measured is as bad as can be. */
static double objective(double x)
{
    return isnan(x) ? INFINITY : x;
}

bool dominance_beats(const double *a, const double *b, size_t n_obj)
{
    bool better = false;

    for (size_t m = 0; m < n_obj; m++) {
        double x = objective(a[m]), y = objective(b[m]);
        if (x > y)
            return false;
        better |= x < y;
    }
    return better;
}

bool dominance_beats_noisy(const double *a, const double *se_a, const double *b, const double *se_b,
                           size_t n_obj, double z)
{
    bool better = false;

    for (size_t m = 0; m < n_obj; m++) {
        double noise_a = se_a != NULL ? se_a[m] : 0, noise_b = se_b != NULL ? se_b[m] : 0;
        double margin = z * sqrt(noise_a * noise_a + noise_b * noise_b);
        /* Inf - Inf is NaN and a NaN margin is unknown noise: neither decides. */
        double difference = objective(a[m]) - objective(b[m]);
        if (difference > margin)
            return false;
        better |= difference < -margin;
    }
    return better;
}

int dominance_ranks(const double *points, size_t n_points, size_t n_obj, size_t *rank)
{
    size_t *n_above =
        calloc(n_points + 1, sizeof *n_above);           /* points that beat i, still unranked */
    size_t *front = calloc(n_points + 1, sizeof *front); /* the fronts, one after another */

    if (n_above == NULL || front == NULL) {
        free(front);
        free(n_above);
        return -1;
    }
    size_t n_ranked = 0;
    for (size_t i = 0; i < n_points; i++) {
        for (size_t j = 0; j < n_points; j++)
            n_above[i] += dominance_beats(points + j * n_obj, points + i * n_obj, n_obj);
        if (n_above[i] == 0) {
            rank[i] = 0;
            front[n_ranked++] = i;
        }
    }
    /* A point enters the next front when the last one above it is taken off; `front` is a queue,
     * so ranks come in order.  Comparing again costs less than n^2 lists of who beats whom. */
    for (size_t taken = 0; taken < n_ranked; taken++) {
        size_t i = front[taken];
        for (size_t j = 0; j < n_points; j++) {
            if (!dominance_beats(points + i * n_obj, points + j * n_obj, n_obj))
                continue;
            if (--n_above[j] == 0) {
                rank[j] = rank[i] + 1;
                front[n_ranked++] = j;
            }
        }
    }
    free(front);
    free(n_above);
    return 0;
}

/* A point of the front seen along one objective. */
struct crowding_item {
    double value;
    size_t place; /* in `index` */
};

/* Ties by place, so that the answer does not depend on the sort. */
static int compare_items(const void *a, const void *b)
{
    const struct crowding_item *p = a, *q = b;

    if (p->value != q->value)
        return p->value > q->value ? 1 : -1;
    return (p->place > q->place) - (p->place < q->place);
}

int dominance_crowding(const double *points, const size_t *index, size_t n, size_t n_obj,
                       double *distance)
{
    struct crowding_item *items = calloc(n + 1, sizeof *items);

    if (items == NULL)
        return -1;
    for (size_t i = 0; i < n; i++)
        distance[i] = n <= 2 ? INFINITY : 0;
    for (size_t m = 0; n > 2 && m < n_obj; m++) {
        for (size_t i = 0; i < n; i++)
            items[i] = (struct crowding_item){objective(points[index[i] * n_obj + m]), i};
        qsort(items, n, sizeof *items, compare_items);
        double range = items[n - 1].value - items[0].value;
        /* All alike (or all infinite) along this objective: it spreads nobody. */
        if (!(range > 0))
            continue;
        distance[items[0].place] = INFINITY;
        distance[items[n - 1].place] = INFINITY;
        for (size_t i = 1; i + 1 < n; i++) {
            double gap = (items[i + 1].value - items[i - 1].value) / range;
            if (isfinite(gap))
                distance[items[i].place] += gap;
        }
    }
    free(items);
    return 0;
}
