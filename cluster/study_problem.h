/* study_problem.h - a study as the search sees it: the space's genes as plain levels, costs of a
 * unit from the forecast and the accounts, losses from the sensitivity table. */
#ifndef KERF_STUDY_PROBLEM_H
#define KERF_STUDY_PROBLEM_H

#include "cluster/forecast.h"
#include "results/sensitivity.h"
#include "search/problem.h"
#include "space/study.h"

/* Objectives in the order of `struct problem`. */
enum { OBJECTIVE_KLD, OBJECTIVE_DECODE, OBJECTIVE_PREFILL, OBJECTIVE_BYTES, N_OBJECTIVES };

/* Above this KLD a model answers something else than its parent: of no use at any latency. */
#define OBJECTIVE_KLD_MAX 1.0
/* The smallest KLD that is told apart from 0: objectives must be positive. */
#define OBJECTIVE_KLD_MIN 1e-7

struct study_problem {
    struct problem problem;
    const struct space *space;  /* borrowed */
    const struct study *study;  /* borrowed */
    const struct forecast *forecast; /* borrowed */
    uint32_t n_levels[SPACE_MAX_GENES];
    uint32_t unit[SPACE_MAX_GENES];
    struct genome genome, with, without; /* scratch of the costs */
};

void study_problem_init(struct study_problem *self, const struct study *study,
                        const struct space *space, const struct forecast *forecast);

/* What a measured row counts at least: below it a loss is noise, and seeds need a positive one. */
#define SMALLEST_LOSS 1e-7

/* loss[n_genes][SPACE_MAX_LEVELS] of a table whose rows are all known; 0 at a gene's last level. */
void study_losses(const struct sensitivity *table, double (*loss)[SPACE_MAX_LEVELS]);

#endif
