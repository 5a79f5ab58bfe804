/* screen.h - predicted use of a vector that nobody has evaluated.  Lives for one proposal.
 *
 * The loss is predicted by the additive prior, corrected by what the prior missed nearby:
 *
 *   log loss(x) = log prior(x) + sum_i w_i r_i / (w_0 + sum_i w_i),   r_i = log measured_i /
 * prior_i w_i = exp(-d_i / 0.05 - (log prior(x) - log prior_i)^2 / (2 0.3^2)),   w_0 = 0.1
 *
 * d_i being the mean over genes of the difference in levels, as a share of the gene's range
 * (Nadaraya-Watson with a prior weight).  Without it the region in which the prior is most
 * optimistic would be asked over and over: its promise never comes true, so it never fades. */
#ifndef KERF_SCREEN_H
#define KERF_SCREEN_H

#include "search/search_parts.h"

#define SCREEN_N_NICHES 8

struct screen {
    const struct search *search; /* borrowed */
    float *residual, *prior;     /* [n_near], r_i and log prior_i of what was told last */
    size_t first_near, n_near;   /* among the told ones */
    uint16_t *gene_step;         /* [n_genes], one level as a share of the gene's range */
    struct frontier aims;        /* what was told and what is out, as predicted */
    double reference[PROBLEM_MAX_OBJ];
    double least, most;            /* of the first log cost on the front */
    double count[SCREEN_N_NICHES]; /* out or told recently */
    double quota;
};

/* The search has an additive prior.  -1 without memory; screen_fini in both cases. */
int screen_init(struct screen *screen, const struct search *search, struct err *err);
void screen_fini(struct screen *screen);
/* Log objectives as predicted. */
void screen_predict(const struct screen *screen, const uint8_t *levels, double *point);
/* Hypervolume that `levels` would add, or how far they fall short of adding any, as a number below
 * 0.  *is_crowded: their region has its quota. */
double screen_score(const struct screen *screen, const uint8_t *levels, bool *is_crowded);

#endif
