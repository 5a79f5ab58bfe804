#include "cluster/latency_pool.h"

#include "cluster/study_problem.h"
#include "search/search.h"
#include "space/base/err.h"
#include "space/base/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define N_BATCHES  4
#define RNG_STREAM 0x706f6f6c /* "pool" */

static int out_of_memory(struct err *err)
{
    err_set(err, ERR_MEMORY, "latency study: out of memory");
    return -1;
}

/* --- the pool --- */

static bool has(const struct latency_pool *pool, const struct genome *genome)
{
    for (size_t i = 0; i < pool->n; i++)
        if (genome_equal(&pool->genome[i], genome))
            return true;
    return false;
}

static void add(struct latency_pool *pool, size_t room, const struct space *space,
                const uint8_t *levels)
{
    struct genome *genome = &pool->genome[pool->n];

    if (pool->n == room)
        return;
    space_genome(space, levels, genome);
    if (!has(pool, genome))
        pool->n++;
}

/* --- along the axes --- */

enum axis { AXIS_FORMAT, AXIS_WIDTH, AXIS_DEPTH, AXIS_STREAM, N_AXES };

/* The coarsest level of a gene along an axis; its last one where the axis is not its own. */
static uint8_t coarsest(const struct gene *gene, enum axis axis)
{
    uint8_t last = (uint8_t)(gene->n_levels - 1);

    switch (gene->kind) {
    case GENE_QKV:
    case GENE_O:
    case GENE_GATE_UP:
    case GENE_DOWN:
    case GENE_EMBD:
        return axis == AXIS_FORMAT ? 0 : last;
    case GENE_KV_GROUPS:
    case GENE_FFN_WIDTH:
        if (axis == AXIS_WIDTH)
            return gene->value[0] == 0 ? 1 : 0; /* narrow, not gone */
        return axis == AXIS_DEPTH ? 0 : last;
    case GENE_LAYER:
        return axis == AXIS_DEPTH ? 0 : last;
    default:
        return axis == AXIS_STREAM ? 0 : last;
    }
}

/* Repair brings back as many layers as must stay. */
static void add_fixed(struct latency_pool *pool, size_t room, const struct space *space)
{
    uint8_t levels[SPACE_MAX_GENES];

    for (uint32_t g = 0; g < space->n_genes; g++)
        levels[g] = (uint8_t)(space->gene[g].n_levels - 1);
    add(pool, room, space, levels);
    memset(levels, 0, sizeof levels);
    add(pool, room, space, levels);
    for (int axis = 0; axis < N_AXES; axis++) {
        for (uint32_t g = 0; g < space->n_genes; g++)
            levels[g] = coarsest(&space->gene[g], (enum axis)axis);
        add(pool, room, space, levels);
    }
    pool->n_fixed = pool->n;
}

/* --- what a front might look like --- */

/* Nats per token that a level might cost alone.  Formats: a fourth of the error for each bit, as
 * rounding has it, by the share of the layer's weights that the gene decides on; widths by the
 * share that is cut; what is not about weights costs little. */
static double supposed_loss(const struct space *space, const struct gene *gene, uint32_t level)
{
    const struct geometry *g = &space->geometry;
    double value = gene->value[level], full = gene->value[gene->n_levels - 1];
    double layer = 1.0 / g->n_layers, cut = full > 0 ? 1 - value / full : 0;

    switch (gene->kind) {
    case GENE_QKV:
    case GENE_O:
    case GENE_GATE_UP:
    case GENE_DOWN:
        return 0.3 * layer * pow(4, -format_bits((enum format)gene->value[level]));
    case GENE_EMBD:
        return 0.5 * pow(4, -format_bits((enum format)gene->value[level]));
    case GENE_KV_GROUPS:
    case GENE_FFN_WIDTH:
    case GENE_LAYER:
        return layer * (cut >= 1 ? 1 : 0.4 * pow(cut, 2.3));
    case GENE_KV:
        return 0.2 * pow(4, -format_bits((enum format)gene->value[level]));
    default:
        return 0.004 * (double)(gene->n_levels - 1 - level);
    }
}

static void suppose_losses(const struct space *space, struct rng *rng,
                           double (*loss)[SPACE_MAX_LEVELS])
{
    for (uint32_t g = 0; g < space->n_genes; g++) {
        const struct gene *gene = &space->gene[g];
        uint32_t last = gene->n_levels - 1;
        double factor = exp(rng_normal(rng)), least = supposed_loss(space, gene, last);
        for (uint32_t l = 0; l < last; l++)
            loss[g][l] = fmax(factor * (supposed_loss(space, gene, l) - least), SMALLEST_LOSS);
        loss[g][last] = 0;
    }
}

static int add_seeds(struct latency_pool *pool, size_t room, struct study_problem *problem,
                     const struct search_options *options, struct rng *rng, struct err *err)
{
    const struct space *space = problem->space;
    double(*loss)[SPACE_MAX_LEVELS] = calloc(space->n_genes, sizeof *loss);
    uint8_t levels[SPACE_MAX_GENES];
    enum search_origin origin;

    if (loss == NULL)
        return out_of_memory(err);
    suppose_losses(space, rng, loss);
    struct sensitivity_table table = {.loss = loss[0], .stride = SPACE_MAX_LEVELS};
    struct search *search = search_create(&problem->problem, &table, options, err);
    int asked = search != NULL ? 1 : -1;
    for (uint32_t i = 0; i < options->n_seeds && asked == 1; i++) {
        asked = search_ask(search, levels, &origin, err);
        if (asked == 1 && origin == ORIGIN_SEED)
            add(pool, room, space, levels);
    }
    search_destroy(search);
    free(loss);
    return asked >= 0 ? 0 : -1;
}

int latency_pool_make(struct latency_pool *pool, const struct study *study,
                      const struct space *space, const struct op_table *ops, size_t n_wanted,
                      uint64_t seed, struct err *err)
{
    struct study_problem *problem = malloc(sizeof *problem);
    struct forecast forecast;
    size_t room = n_wanted > LATENCY_POOL_FIXED ? n_wanted : LATENCY_POOL_FIXED;
    struct rng rng = rng_make(seed, RNG_STREAM);
    /* A quarter of what a search opens with is no seed. */
    struct search_options options = {.seed = seed,
                                     .population = 8,
                                     .n_seeds = (uint32_t)(room / N_BATCHES * 4 / 3 + 1),
                                     .n_screened = 1,
                                     .loss_cap = OBJECTIVE_KLD_MAX};

    *pool = (struct latency_pool){.genome = calloc(room, sizeof *pool->genome)};
    int status = problem != NULL && pool->genome != NULL ? 0 : out_of_memory(err);
    if (status == 0) {
        forecast_init(&forecast, study, ops);
        study_problem_init(problem, study, space, &forecast);
        add_fixed(pool, room, space);
    }
    for (int batch = 0; batch < N_BATCHES && status == 0; batch++)
        status = add_seeds(pool, room, problem, &options, &rng, err);
    free(problem);
    if (status != 0)
        latency_pool_fini(pool);
    return status;
}

int latency_pool_add(struct latency_pool *pool, const struct genome *genome, struct err *err)
{
    if (has(pool, genome))
        return 0;
    struct genome *more = realloc(pool->genome, (pool->n + 1) * sizeof *more);
    if (more == NULL)
        return out_of_memory(err);
    pool->genome = more;
    pool->genome[pool->n++] = *genome;
    return 0;
}

void latency_pool_fini(struct latency_pool *pool)
{
    free(pool->genome);
    *pool = (struct latency_pool){0};
}
