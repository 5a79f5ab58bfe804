/* population.h - the best vectors told so far, by (rank, crowding) as in NSGA-II (Deb et al., IEEE
 * Trans. Evol. Comput. 6(2), 2002), kept steady-state: one comes, the worst goes.  Knows vectors by
 * number only. */
#ifndef KERF_POPULATION_H
#define KERF_POPULATION_H

#include <stddef.h>

struct err;
struct rng;

struct population {
    size_t capacity, n, n_obj;
    double *points;   /* [capacity + 1][n_obj], minimised */
    size_t *vector;   /* [capacity + 1] */
    size_t *rank;     /* [capacity + 1], 0 is the front */
    double *crowding; /* [capacity + 1], INFINITY at the ends of a front */
    size_t *scratch;  /* [capacity + 1] */
    double *distance; /* [capacity + 1] */
};

int population_init(struct population *population, size_t capacity, size_t n_obj, struct err *err);
void population_fini(struct population *population); /* a zeroed struct is fine */
/* Enter `vector`, then drop the worst where there is one too many. */
int population_add(struct population *population, size_t vector, const double *point,
                   struct err *err);
/* Number of the vector that wins a binary tournament.  The population is not empty. */
size_t population_pick(const struct population *population, struct rng *rng);

#endif
