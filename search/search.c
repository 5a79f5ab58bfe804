/* search.c - the order of proposals and the books on what is known. */
#include "search/search_parts.h"

#include "search/hypervolume.h"
#include "search/opening.h"
#include "search/screen.h"
#include "space/base/err.h"
#include "space/base/rng.h"
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Parents before there are children. */
#define PARENTS_MIN 4
/* Tries at something new before the next, blunter way. */
#define CHILD_TRIES  4  /* per screened child */
#define PLAIN_TRIES  32 /* without screening */
#define RANDOM_TRIES 64
/* Results between two refits of the prior. */
#define REFIT_EVERY      16
#define REFERENCE_MARGIN 1.1

const char *search_origin_name(enum search_origin origin)
{
    static const char *const names[] = {"corner", "uniform", "seed", "child", "random", "parent"};
    return names[origin];
}

static int out_of_memory(struct err *err)
{
    err_set(err, ERR_MEMORY, "search: out of memory");
    return -1;
}

void search_log(const struct search *search, const double *objective, double *log_objective)
{
    for (uint32_t j = 0; j < search->problem->n_obj; j++)
        log_objective[j] = log(objective[j] + (j == 0 ? search->options.loss_floor : 0));
}

/* --- life --- */

static int fill_opening(struct search *search, struct err *err)
{
    /* Corners come even where no seeds are wanted. */
    size_t quarter = search->options.n_seeds / 4;
    if (quarter < OPENING_N_CORNERS)
        quarter = OPENING_N_CORNERS;
    if (opening_fill(&search->opening, search->problem, &search->map, quarter, err) != 0)
        return -1;
    search->n_uniform = search->opening.n;
    if (search->additive == NULL || search->options.n_seeds <= search->n_uniform)
        return 0;
    return lagrange_seeds(&search->lagrange, search->options.n_seeds - search->n_uniform,
                          search->options.loss_floor, search->options.loss_cap, &search->opening,
                          err);
}

/* Moves of large genes are drawn more often: most of the costs hangs on them. */
static int init_variation(struct search *search, struct err *err)
{
    double weight[PROBLEM_MAX_GENES];
    for (uint32_t g = 0; search->additive != NULL && g < search->problem->n_genes; g++)
        weight[g] = additive_weight(search->additive, g);
    return variation_init(&search->variation, search->problem, &search->map,
                          search->additive != NULL ? weight : NULL, err);
}

static int init_prior(struct search *search, const struct sensitivity_table *table, struct err *err)
{
    if (table == NULL)
        return 0;
    search->additive = additive_create(search->problem, &search->map, table, err);
    if (search->additive == NULL)
        return -1;
    return lagrange_init(&search->lagrange, search->problem, &search->map, search->additive, err);
}

struct search *search_create(const struct problem *problem, const struct sensitivity_table *table,
                             const struct search_options *options, struct err *err)
{
    assert(options->population >= 8);
    struct search *search = calloc(1, sizeof *search);
    if (search == NULL) {
        out_of_memory(err);
        return NULL;
    }
    search->problem = problem;
    search->options = *options;
    if (!(options->loss_floor > 0))
        search->options.loss_floor = SEARCH_LOSS_FLOOR;
    for (uint32_t j = 0; j < PROBLEM_MAX_OBJ; j++)
        search->reference[j] = -INFINITY;
    if (gene_map_init(&search->map, problem, err) != 0)
        goto undo;
    vector_set_init(&search->opening, problem->n_genes);
    vector_set_init(&search->known, problem->n_genes);
    frontier_init(&search->frontier, problem->n_obj);
    search->cursor = calloc(problem->n_genes, 1);
    if (search->cursor == NULL) {
        out_of_memory(err);
        goto undo;
    }
    if (population_init(&search->population, options->population, problem->n_obj, err) != 0 ||
        init_prior(search, table, err) != 0 || init_variation(search, err) != 0 ||
        fill_opening(search, err) != 0)
        goto undo;
    return search;
undo:
    search_destroy(search);
    return NULL;
}

void search_destroy(struct search *search)
{
    if (search == NULL)
        return;
    free(search->cursor);
    free(search->told);
    free(search->told_vector);
    free(search->out);
    free(search->is_told);
    frontier_fini(&search->frontier);
    population_fini(&search->population);
    vector_set_fini(&search->known);
    vector_set_fini(&search->opening);
    variation_fini(&search->variation);
    additive_destroy(search->additive);
    gene_map_fini(&search->map);
    free(search);
}

/* --- the books --- */

/* Make items[n] writable, in steps of doubling. */
static int grow(void *items, size_t *capacity, size_t n, size_t size, struct err *err)
{
    if (n < *capacity)
        return 0;
    size_t more = *capacity > 0 ? 2 * *capacity : 64;
    void *old;
    memcpy(&old, items, sizeof old);
    void *moved = realloc(old, more * size);
    if (moved == NULL)
        return out_of_memory(err);
    memcpy(items, &moved, sizeof moved);
    *capacity = more;
    return 0;
}

/* Where in `out` a vector is or belongs. */
static size_t out_place(const struct search *search, const uint8_t *levels)
{
    size_t low = 0, high = search->n_out;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const uint8_t *there = vector_set_at(&search->known, search->out[middle]);
        if (memcmp(there, levels, search->problem->n_genes) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* A new vector becomes known and out. */
static int enter_out(struct search *search, const uint8_t *levels, struct err *err)
{
    if (grow(&search->is_told, &search->known_capacity, search->known.n, sizeof *search->is_told,
             err) != 0 ||
        grow(&search->out, &search->out_capacity, search->n_out, sizeof *search->out, err) != 0)
        return -1;
    size_t number = vector_set_add(&search->known, levels);
    if (number == VECTOR_NONE)
        return out_of_memory(err);
    size_t place = out_place(search, levels);
    memmove(search->out + place + 1, search->out + place,
            (search->n_out - place) * sizeof *search->out);
    search->out[place] = number;
    search->n_out++;
    search->is_told[number] = false;
    return 0;
}

static void leave_out(struct search *search, const uint8_t *levels)
{
    size_t place = out_place(search, levels);
    search->n_out--;
    memmove(search->out + place, search->out + place + 1,
            (search->n_out - place) * sizeof *search->out);
}

/* --- telling --- */

static void note_worst(struct search *search, const double *objective)
{
    if (search->has_reference)
        return;
    uint32_t n_obj = search->problem->n_obj;
    double margined[PROBLEM_MAX_OBJ];
    for (uint32_t j = 0; j < n_obj; j++) {
        search->worst[j] = fmax(search->worst[j], objective[j]);
        margined[j] = REFERENCE_MARGIN * search->worst[j];
    }
    if (search->options.loss_cap > 0)
        margined[0] = fmin(margined[0], search->options.loss_cap);
    search_log(search, margined, search->reference);
    search->has_reference = search->n_told >= search->options.n_seeds;
}

static int check_objectives(const struct search *search, const double *objective, struct err *err)
{
    for (uint32_t j = 0; j < search->problem->n_obj; j++) {
        if (isfinite(objective[j]) && objective[j] > 0)
            continue;
        err_set(err, ERR_DATA, "search: objective %u is %g, not a positive number", j,
                objective[j]);
        return -1;
    }
    return 0;
}

/* What the prior makes of a result. */
static int learn(struct search *search, const uint8_t *levels, const double *objective,
                 struct err *err)
{
    if (search->additive == NULL)
        return 0;
    additive_learn(search->additive, levels, objective);
    return search->n_told % REFIT_EVERY == 0 ? additive_refit(search->additive, err) : 0;
}

int search_tell(struct search *search, const uint8_t *levels, const double *objective,
                struct err *err)
{
    uint8_t repaired[PROBLEM_MAX_GENES];
    double point[PROBLEM_MAX_OBJ];
    uint32_t n_obj = search->problem->n_obj;
    if (check_objectives(search, objective, err) != 0)
        return -1;
    memcpy(repaired, levels, search->problem->n_genes);
    problem_repair(search->problem, repaired);
    if (search_discard(search, repaired, err) != 0)
        return -1;
    size_t number = vector_set_find(&search->known, repaired);
    if (search->is_told[number])
        return 0;
    search_log(search, objective, point);
    if (grow(&search->told, &search->told_capacity, search->n_told, n_obj * sizeof *search->told,
             err) != 0 ||
        grow(&search->told_vector, &search->told_vector_capacity, search->n_told,
             sizeof *search->told_vector, err) != 0 ||
        population_add(&search->population, number, point, err) != 0)
        return -1;
    if (frontier_add(&search->frontier, point) < 0)
        return out_of_memory(err);
    memcpy(search->told + search->n_told * n_obj, point, n_obj * sizeof *point);
    search->told_vector[search->n_told++] = number;
    search->is_told[number] = true;
    leave_out(search, repaired);
    note_worst(search, objective);
    return learn(search, repaired, objective, err);
}

int search_discard(struct search *search, const uint8_t *levels, struct err *err)
{
    uint8_t repaired[PROBLEM_MAX_GENES];
    memcpy(repaired, levels, search->problem->n_genes);
    problem_repair(search->problem, repaired);
    if (vector_set_has(&search->known, repaired))
        return 0;
    return enter_out(search, repaired, err);
}

/* --- asking --- */

static bool is_new(const struct search *search, const uint8_t *levels)
{
    return !vector_set_has(&search->known, levels);
}

static bool ask_opening(struct search *search, uint8_t *levels, enum search_origin *origin)
{
    for (; search->opening_next < search->opening.n; search->opening_next++) {
        size_t at = search->opening_next;
        const uint8_t *planned = vector_set_at(&search->opening, at);
        if (!is_new(search, planned))
            continue;
        memcpy(levels, planned, search->problem->n_genes);
        *origin = at < OPENING_N_CORNERS ? ORIGIN_CORNER
                                         : (at < search->n_uniform ? ORIGIN_UNIFORM : ORIGIN_SEED);
        return true;
    }
    return false;
}

/* One child of the population, new or not. */
static void make_child(const struct search *search, struct rng *rng, uint8_t *levels)
{
    const struct population *population = &search->population;
    const uint8_t *mate = vector_set_at(&search->known, population_pick(population, rng));
    memcpy(levels, vector_set_at(&search->known, population_pick(population, rng)),
           search->problem->n_genes);
    uint64_t percent = rng_below(rng, search->additive != NULL ? 100 : 80);
    if (percent < 40)
        variation_switch(&search->variation, rng, mate, levels);
    else if (percent < 70)
        variation_cross(&search->variation, rng, mate, levels);
    else if (percent < 80)
        variation_cross_block(&search->variation, rng, mate, levels);
    else
        lagrange_solve_perturbed(&search->lagrange, rng, levels);
}

/* Before there are parents the prior alone can speak. */
static bool make_candidate(const struct search *search, struct rng *rng, uint8_t *levels)
{
    if (search->population.n >= PARENTS_MIN) {
        make_child(search, rng, levels);
    } else if (search->additive != NULL) {
        memcpy(levels, search->map.finest, search->problem->n_genes);
        lagrange_solve_perturbed(&search->lagrange, rng, levels);
    } else {
        return false;
    }
    return is_new(search, levels);
}

/* The best of n_screened new children: 1 when there is one, 0 when not, -1 on error. */
static int screen_children(struct search *search, struct rng *rng, uint8_t *levels, struct err *err)
{
    uint8_t child[PROBLEM_MAX_GENES];
    double best = -INFINITY;
    bool best_is_crowded = true;
    uint32_t n_made = 0, n_wanted = search->options.n_screened;
    struct screen screen;
    if (screen_init(&screen, search, err) != 0) {
        screen_fini(&screen);
        return -1;
    }
    for (uint32_t i = 0; i < CHILD_TRIES * n_wanted && n_made < n_wanted; i++) {
        bool is_crowded;
        if (!make_candidate(search, rng, child))
            continue;
        double score = screen_score(&screen, child, &is_crowded);
        if (n_made++ == 0 || is_crowded < best_is_crowded ||
            (is_crowded == best_is_crowded && score > best)) {
            best = score;
            best_is_crowded = is_crowded;
            memcpy(levels, child, search->problem->n_genes);
        }
    }
    screen_fini(&screen);
    return n_made > 0;
}

static int ask_child(struct search *search, struct rng *rng, uint8_t *levels, struct err *err)
{
    if (search->additive != NULL && search->options.n_screened > 1)
        return screen_children(search, rng, levels, err);
    for (int i = 0; i < PLAIN_TRIES; i++)
        if (make_candidate(search, rng, levels))
            return 1;
    return 0;
}

static bool ask_random(struct search *search, struct rng *rng, uint8_t *levels)
{
    for (int i = 0; i < RANDOM_TRIES; i++) {
        if (i % 2 == 0)
            variation_near_uniform(&search->variation, rng, levels);
        else
            variation_random(&search->variation, rng, levels);
        if (is_new(search, levels))
            return true;
    }
    return false;
}

/* Count through all vectors as an odometer; what was passed once is known for good. */
static bool ask_enumerated(struct search *search, uint8_t *levels)
{
    const struct problem *problem = search->problem;
    while (!search->is_enumerated) {
        memcpy(levels, search->cursor, problem->n_genes);
        uint32_t gene = 0;
        while (gene < problem->n_genes && search->cursor[gene] + 1u >= problem->n_levels[gene])
            search->cursor[gene++] = 0;
        if (gene < problem->n_genes)
            search->cursor[gene]++;
        else
            search->is_enumerated = true;
        problem_repair(problem, levels);
        if (is_new(search, levels))
            return true;
    }
    return false;
}

int search_ask(struct search *search, uint8_t *levels, enum search_origin *origin, struct err *err)
{
    struct rng rng = rng_make(search->options.seed, search->known.n);
    /* Without a prior, spread out first; with one, the seeds have done so. */
    bool is_early = search->additive == NULL && search->known.n < search->options.n_seeds;
    if (!ask_opening(search, levels, origin)) {
        int asked = is_early ? 0 : ask_child(search, &rng, levels, err);
        *origin = asked > 0 ? ORIGIN_CHILD : ORIGIN_RANDOM;
        if (asked < 0)
            return -1;
        if (asked == 0 && !ask_random(search, &rng, levels) && !ask_enumerated(search, levels))
            return 0;
    }
    return enter_out(search, levels, err) == 0 ? 1 : -1;
}

/* --- figures --- */

size_t search_n_told(const struct search *search)
{
    return search->n_told;
}

double search_hypervolume(const struct search *search)
{
    if (!search->has_reference)
        return 0;
    return hypervolume(search->frontier.points, search->frontier.n, search->problem->n_obj,
                       search->reference);
}

double search_predict_loss(const struct search *search, const uint8_t *levels)
{
    uint8_t repaired[PROBLEM_MAX_GENES];
    if (search->additive == NULL)
        return NAN;
    memcpy(repaired, levels, search->problem->n_genes);
    problem_repair(search->problem, repaired);
    return additive_loss(search->additive, repaired);
}
