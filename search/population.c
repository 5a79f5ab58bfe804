/* population.c - steady-state survival by rank and crowding. */
#include "search/population.h"

#include "space/base/dominance.h"
#include "space/base/err.h"
#include "space/base/rng.h"
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

int population_init(struct population *p, size_t capacity, size_t n_obj, struct err *err)
{
    size_t room = capacity + 1;
    *p = (struct population){.capacity = capacity, .n_obj = n_obj};
    p->points = calloc(room * n_obj, sizeof *p->points);
    p->vector = calloc(room, sizeof *p->vector);
    p->rank = calloc(room, sizeof *p->rank);
    p->crowding = calloc(room, sizeof *p->crowding);
    p->scratch = calloc(room, sizeof *p->scratch);
    p->distance = calloc(room, sizeof *p->distance);
    if (p->points != NULL && p->vector != NULL && p->rank != NULL && p->crowding != NULL &&
        p->scratch != NULL && p->distance != NULL)
        return 0;
    population_fini(p);
    err_set(err, ERR_MEMORY, "search: out of memory");
    return -1;
}

void population_fini(struct population *p)
{
    free(p->points);
    free(p->vector);
    free(p->rank);
    free(p->crowding);
    free(p->scratch);
    free(p->distance);
    *p = (struct population){0};
}

/* Ranks of all, then crowding front by front. */
static int rank_all(struct population *p)
{
    if (dominance_ranks(p->points, p->n, p->n_obj, p->rank) != 0)
        return -1;
    for (size_t rank = 0, n_done = 0; n_done < p->n; rank++) {
        size_t n = 0;
        for (size_t i = 0; i < p->n; i++)
            if (p->rank[i] == rank)
                p->scratch[n++] = i;
        if (dominance_crowding(p->points, p->scratch, n, p->n_obj, p->distance) != 0)
            return -1;
        for (size_t i = 0; i < n; i++)
            p->crowding[p->scratch[i]] = p->distance[i];
        n_done += n;
    }
    return 0;
}

static bool is_better(const struct population *p, size_t a, size_t b)
{
    if (p->rank[a] != p->rank[b])
        return p->rank[a] < p->rank[b];
    return p->crowding[a] > p->crowding[b];
}

static void drop_worst(struct population *p)
{
    size_t worst = 0, last = p->n - 1;
    for (size_t i = 1; i < p->n; i++)
        if (!is_better(p, i, worst))
            worst = i;
    /* Order of entry is kept: the state is then a function of what was told alone. */
    size_t n_after = last - worst;
    memmove(p->points + worst * p->n_obj, p->points + (worst + 1) * p->n_obj,
            n_after * p->n_obj * sizeof *p->points);
    memmove(p->vector + worst, p->vector + worst + 1, n_after * sizeof *p->vector);
    p->n--;
}

int population_add(struct population *p, size_t vector, const double *point, struct err *err)
{
    memcpy(p->points + p->n * p->n_obj, point, p->n_obj * sizeof *point);
    p->vector[p->n] = vector;
    p->n++;
    int status = rank_all(p);
    if (status == 0 && p->n > p->capacity) {
        drop_worst(p);
        status = rank_all(p);
    }
    if (status != 0) {
        p->n = p->n > p->capacity ? p->capacity : p->n;
        err_set(err, ERR_MEMORY, "search: out of memory");
    }
    return status;
}

size_t population_pick(const struct population *p, struct rng *rng)
{
    size_t a = (size_t)rng_below(rng, p->n), b = (size_t)rng_below(rng, p->n);
    return p->vector[is_better(p, b, a) ? b : a];
}
