/* additive_parts.h - the inside of the additive prior, shared by additive.c and
 * additive_choices.c alone. */
#ifndef KERF_ADDITIVE_PARTS_H
#define KERF_ADDITIVE_PARTS_H

#include "search/additive.h"

/* measured = offset + factor * predicted, with the sums of its least squares. */
struct cost_line {
    double offset, factor;
    double oo, ox, xx, o, x;
};

/* Units whose choices cost the same. */
struct cost_class {
    uint32_t unit;  /* the one that was asked */
    uint32_t n_own; /* combinations of its own genes */
    double *cost;   /* [n_contexts][n_own][n_cost], as the problem gave it */
    double *gone;   /* [n_contexts][n_cost], while its owner is at 0; NULL without an owner */
};

struct choice_list {
    struct choice *choice;
    uint8_t *levels; /* [n][count of the unit] */
    size_t n;
};

struct additive {
    const struct problem *problem;
    const struct gene_map *map;
    uint32_t n_cost, stride;
    double *loss;      /* [n_genes][stride], through the inverse of g */
    double least_loss; /* below it nothing is learnt */
    /* The grid of levels that are looked at: all of them, but where a unit has too many choices. */
    uint8_t *on_grid;    /* [n_genes][256], level to place on the grid */
    uint8_t *grid_level; /* [n_genes][256], and back */
    uint32_t *n_grid;    /* [n_genes] */
    bool *is_context;    /* [n_genes] */
    uint32_t n_contexts;
    struct cost_class *classes; /* [n_classes] */
    uint32_t n_classes;
    uint32_t *class_of;               /* [n_units] */
    double total[ADDITIVE_MAX_COSTS]; /* of the finest vector */
    struct choice_list *lists;        /* [n_contexts][n_units] */
    double *weight;                   /* [n_genes] */
    /* The fit. */
    double *theta;        /* [n_units] */
    double *normal;       /* [n_units][n_units], lower triangle */
    double *answer, *row; /* [n_units] */
    struct cost_line line[ADDITIVE_MAX_COSTS];
    size_t n_learnt;
};

/* The inverse of g; losses of 7 nats and more are read as a little less. */
double additive_unsaturate(double loss);
/* Loss of one unit before theta. */
double additive_unit_loss(const struct additive *additive, const uint8_t *levels, uint32_t unit);
/* Sum of the units' costs, as the problem gave them. */
void additive_raw_costs(const struct additive *additive, const uint8_t *levels, double *cost);
/* Borrowed [n_cost]. */
const double *additive_unit_costs(const struct additive *additive, const uint8_t *levels,
                                  uint32_t context, uint32_t unit);

#endif
