/* additive_parts.h - the inside of the additive prior, shared by the additive_*.c alone. */
#ifndef KERF_ADDITIVE_PARTS_H
#define KERF_ADDITIVE_PARTS_H

#include "search/additive.h"

#define ADDITIVE_GRID_ROW 256

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

/* What a unit costs more (or less, < 0) when it and a neighbour are both dropped: the small FFN
 * that an engine wants beside an attention goes when the attention does. */
struct cost_pair {
    int32_t own, other; /* the genes that drop them; own is -1 where there is no such pair */
    double more[ADDITIVE_MAX_COSTS];
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
    struct cost_pair *pair;           /* [n_units] */
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
/* Borrowed [n_cost]. */
const double *additive_unit_costs(const struct additive *additive, const uint8_t *levels,
                                  uint32_t context, uint32_t unit);
/* Sum of the units' costs, as the problem gave them. */
void additive_raw_costs(const struct additive *additive, const uint8_t *levels, double *cost);

/* --- the grid --- */

/* Look at every level of `gene`. */
void additive_grid_all(struct additive *additive, uint32_t gene);
/* Halve the finest grid among the unit's genes (those of contexts, or the others) until at most
 * `limit` combinations are left; returns their number. */
uint32_t additive_grid_thin(struct additive *additive, uint32_t unit, bool context, uint32_t limit);
/* Number of the combination that the unit's genes (of contexts, or the others) are nearest to. */
uint32_t additive_combination(const struct additive *additive, const uint8_t *levels, uint32_t unit,
                              bool context);
void additive_set_combination(const struct additive *additive, uint32_t unit, bool context,
                              uint32_t number, uint8_t *levels);
/* The finest vector of a context with one combination of one unit's own genes, repaired. */
void additive_moved(const struct additive *additive, uint32_t context, uint32_t unit,
                    uint32_t combination, uint8_t *levels);

/* --- steps of its making, in this order; `levels` [n_genes] is scratch --- */

int additive_find_contexts(struct additive *additive, uint8_t *levels, struct err *err);
int additive_find_classes(struct additive *additive, uint8_t *levels, struct err *err);
int additive_find_pairs(struct additive *additive, uint8_t *levels, struct err *err);
int additive_fill_list(struct additive *additive, uint32_t context, uint32_t unit, uint8_t *levels,
                       struct err *err);

#endif
