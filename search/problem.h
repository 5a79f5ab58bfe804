/* problem.h - what search sees: integer levels of genes and numbers.  No model, archive or clock.
 * Objective 0 is the measured loss (KLD); objectives 1.. are costs that can be predicted and summed
 * over units (decode ns, prefill ns, bytes).  All are minimised and positive. */
#ifndef KERF_PROBLEM_H
#define KERF_PROBLEM_H

#include <stdint.h>

#define PROBLEM_MAX_GENES 2100
#define PROBLEM_MAX_UNITS 1600
#define PROBLEM_MAX_OBJ   4

struct problem {
    uint32_t n_genes, n_units, n_obj; /* n_obj 2..PROBLEM_MAX_OBJ */
    const uint32_t *n_levels;         /* [n_genes]; level 0 is the cheapest */
    const uint32_t *unit;             /* [n_genes]; genes of a unit are neighbours */
    void *arg;
    /* Bring levels to a canonical, allowed vector; idempotent and deterministic. */
    void (*repair)(void *arg, uint8_t *levels);
    /* cost[0 .. n_obj - 2]: what `unit` adds to objectives 1.. given all levels (repaired). */
    void (*unit_cost)(void *arg, const uint8_t *levels, uint32_t unit, double *cost);
    /* cost[0 .. n_obj - 2] comes in as the sum over the units, fitted to what was told; who knows
     * the whole of repaired `levels` better puts that in its place.  May be NULL. */
    void (*whole_cost)(void *arg, const uint8_t *levels, double *cost);
};

/* loss[gene][level] of the one-dimensional deviations: objective 0 measured with only that gene
 * moved from its last level to `level`; 0 at the last level.  Flat, `stride` levels a gene. */
struct sensitivity_table {
    const double *loss;
    uint32_t stride;
};

#endif
