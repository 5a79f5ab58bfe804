/* search_parts.h - the inside of a search, shared by search.c and screen.c alone.
 *
 * The state is a function of the options and of the tellings in their order: what is out is kept
 * sorted, so neither the order of asking nor that of discarding leaves a trace. */
#ifndef KERF_SEARCH_PARTS_H
#define KERF_SEARCH_PARTS_H

#include "search/additive.h"
#include "search/frontier.h"
#include "search/lagrange.h"
#include "search/population.h"
#include "search/search.h"
#include "search/variation.h"
#include "search/vector_set.h"

struct search {
    const struct problem *problem;
    struct search_options options;
    struct gene_map map;
    struct variation variation;
    struct additive *additive; /* NULL without a table: then no seeds and no screening */
    struct lagrange lagrange;
    struct vector_set opening; /* asked first, in this order */
    size_t n_uniform;          /* of them; the rest are seeds */
    size_t opening_next;
    struct vector_set known; /* told, out or discarded */
    bool *is_told;           /* [known.n] */
    size_t known_capacity;
    size_t *out; /* numbers of those not told, in the order of their bytes */
    size_t n_out, out_capacity;
    struct population population;
    struct frontier frontier; /* of log objectives */
    double *told;             /* [n_told][n_obj] log objectives, in order of telling */
    size_t *told_vector;      /* [n_told], number among `known` */
    size_t n_told, told_capacity, told_vector_capacity;
    double worst[PROBLEM_MAX_OBJ];     /* raw, of the first n_seeds told */
    double reference[PROBLEM_MAX_OBJ]; /* log of 1.1 x worst; fixed when n_seeds are told */
    bool has_reference;
    uint8_t *cursor; /* [n_genes], next vector of the complete enumeration */
    bool is_enumerated;
};

/* Log objectives as the whole search counts them. */
void search_log(const struct search *search, const double *objective, double *log_objective);

#endif
