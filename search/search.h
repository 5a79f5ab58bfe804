/* search.h - ask for candidates, tell what they measured.
 *
 * Strategy of this version (methods.md B1): corners and uniform vectors, then seeds from a
 * Lagrangian sweep over the additive model  sum_units loss(unit) + sum_j lambda_j cost_j(unit),
 * thinned to the most useful by hypervolume, then steady-state NSGA-II (Deb et al. 2002) with level
 * switches (one gene up, another down), uniform and block crossover, and Lagrangian re-solves.
 * Children are screened with the predicted costs and the additive loss, refitted to what was
 * measured; where the problem knows the costs of a whole vector better (problem.h), with those.  It
 * may learn between tellings: then a replay that is to end in the same state has to teach it the
 * same.  Proposal i draws from Philox(seed, i) alone, i being the number of vectors known
 * before it, so a run can be replayed. No vector is proposed twice; any number may be out at the
 * same time.
 *
 * Inside, objectives count by their logarithms, the loss as log(loss + loss_floor): far below the
 * floor one loss is as good as another, and no evaluations go to telling them apart. */
#ifndef KERF_SEARCH_H
#define KERF_SEARCH_H

#include "search/problem.h"
#include <stddef.h>

struct err;
struct search;

struct search_options {
    uint64_t seed;
    uint32_t population; /* of NSGA-II, >= 8 */
    uint32_t n_seeds;    /* asked before the first child; a quarter of them uniform */
    uint32_t n_screened; /* children made per proposal, the best is asked; 1 = no screening */
    double loss_floor;   /* 0: SEARCH_LOSS_FLOOR */
    double loss_cap;     /* a larger objective 0 is of no use to anybody: such points add nothing to
                            a hypervolume and become no seeds; 0: no cap */
};

/* A thousandth of a nat per token: about what the finest quantized format costs. */
#define SEARCH_LOSS_FLOOR 1e-3

enum search_origin {
    ORIGIN_CORNER,
    ORIGIN_UNIFORM,
    ORIGIN_SEED,
    ORIGIN_CHILD,
    ORIGIN_RANDOM,
    ORIGIN_PARENT /* never asked: the dense parent, in records */
};
const char *search_origin_name(enum search_origin origin);

/* `problem` and `table` are borrowed; table may be NULL (no prior: no seeds, no screening).
 * ERR_DATA when a loss is negative or missing or a cost is not finite. */
struct search *search_create(const struct problem *problem, const struct sensitivity_table *table,
                             const struct search_options *options, struct err *err);
void search_destroy(struct search *search); /* NULL is fine */

/* The next vector to evaluate (repaired, new).  1; 0 when the space is exhausted; -1 on error. */
int search_ask(struct search *search, uint8_t *levels, enum search_origin *origin, struct err *err);
/* What it measured: objective[n_obj], all finite and > 0 (else ERR_DATA).  Also takes vectors that
 * were never asked here (replay of an archive, in commit order, brings back the state of a run)
 * and those that were discarded; of two tellings of one vector the first stands. */
int search_tell(struct search *search, const uint8_t *levels, const double *objective,
                struct err *err);
/* A vector that will not be told soon or ever (pending elsewhere, or failed): it is not proposed
 * again.  To the strategy it is the same as one that is out. */
int search_discard(struct search *search, const uint8_t *levels, struct err *err);

size_t search_n_told(const struct search *search);
/* Hypervolume of what was told, in the logarithms above, relative to the fixed reference point
 * (1.1 x the worst of the first told `n_seeds`, objective 0 at most loss_cap); 0 before that is
 * known. */
double search_hypervolume(const struct search *search);
/* Additive prediction of objective 0, NAN without a table. */
double search_predict_loss(const struct search *search, const uint8_t *levels);

#endif
