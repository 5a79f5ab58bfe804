/* op_table_ops.c - which operations the genomes of a space need. */
#include "latency_model/op_table_parts.h"
#include "space/base/err.h"
#include <stdlib.h>
#include <string.h>

static int add_ops_of(struct op_table *table, const struct genome *genome,
                      const struct workload *workloads, size_t n_workloads, struct op *ops,
                      struct err *err)
{
    for (size_t w = 0; w < n_workloads; w++) {
        size_t n = account_ops(genome, &table->geometry, &workloads[w], ops);
        for (size_t i = 0; i < n; i++)
            if (op_table_add(table, &ops[i], err) < 0)
                return -1;
    }
    return 0;
}

static bool sets_width(const struct gene *gene)
{
    return gene->kind == GENE_KV_GROUPS || gene->kind == GENE_FFN_WIDTH || gene->kind == GENE_LAYER;
}

static bool sets_act(const struct gene *gene)
{
    return gene->kind == GENE_ATTN_ACT || gene->kind == GENE_FFN_ACT;
}

/* Every gene at its finest, but the residual stream at its level `basis`, and activations at their
 * cheapest where `cheap`. */
static void set_base(const struct space *space, uint32_t basis, bool cheap, uint8_t *levels)
{
    int32_t stream = space_gene_of(space, GENE_BASIS, -1);
    for (uint32_t g = 0; g < space->n_genes; g++)
        levels[g] = sets_act(&space->gene[g]) && cheap ? 0 : (uint8_t)(space->gene[g].n_levels - 1);
    if (stream >= 0)
        levels[stream] = (uint8_t)basis;
}

/* Whether an operation's shape and its format hang on these two. */
static bool meet(const struct gene *a, const struct gene *b)
{
    return sets_width(a) && (a->unit == b->unit || a->layer < 0 || b->kind == GENE_KV);
}

/* A matrix's shape depends on the width of the residual stream and on one width gene, its format on
 * one format gene, a KV cache's groups on a width gene and its format on another: every pair of
 * levels of such genes, beside every level of the stream's and of activations (`base`), names every
 * operation of the space. */
static int add_pairs(struct op_table *table, const struct space *space, const uint8_t *base,
                     uint32_t a, uint32_t b, const struct workload *workloads, size_t n_workloads,
                     struct op *ops, struct genome *genome, struct err *err)
{
    uint8_t levels[SPACE_MAX_GENES];
    memcpy(levels, base, space->n_genes);
    for (uint32_t i = 0; i < space->gene[a].n_levels; i++)
        for (uint32_t j = 0; j < space->gene[b].n_levels; j++) {
            levels[a] = (uint8_t)i;
            levels[b] = (uint8_t)j;
            space_genome(space, levels, genome);
            if (add_ops_of(table, genome, workloads, n_workloads, ops, err) != 0)
                return -1;
        }
    return 0;
}

int op_table_list(struct op_table *table, const struct space *space,
                  const struct workload *workloads, size_t n_workloads, struct err *err)
{
    struct op *ops = malloc(ACCOUNT_MAX_OPS * sizeof *ops);
    struct genome *genome = malloc(sizeof *genome);
    int32_t stream = space_gene_of(space, GENE_BASIS, -1);
    uint32_t n_bases = stream >= 0 ? space->gene[stream].n_levels : 1, n_acts = 1;
    int status = ops != NULL && genome != NULL ? 0 : -1;
    if (status != 0)
        err_set(err, ERR_MEMORY, "op table: out of memory");
    for (uint32_t g = 0; g < space->n_genes; g++)
        n_acts = sets_act(&space->gene[g]) ? 2 : n_acts;
    for (uint32_t base = 0; base < n_bases * n_acts && status == 0; base++) {
        uint8_t levels[SPACE_MAX_GENES];
        set_base(space, base / n_acts, base % n_acts == 1, levels);
        for (uint32_t a = 0; a < space->n_genes && status == 0; a++)
            for (uint32_t b = 0; b < space->n_genes && status == 0; b++)
                if (a == b || meet(&space->gene[a], &space->gene[b]))
                    status = add_pairs(table, space, levels, a, b, workloads, n_workloads, ops,
                                       genome, err);
    }
    free(genome);
    free(ops);
    return status;
}

bool op_table_covers(const struct op_table *table, const struct space *space,
                     const struct workload *workloads, size_t n_workloads)
{
    struct op_table *wanted = op_table_new(&space->geometry, &table->device, NULL);
    bool covers = wanted != NULL && op_table_list(wanted, space, workloads, n_workloads, NULL) == 0;
    for (size_t i = 0; covers && i < wanted->n; i++)
        covers = op_table_find(table, &wanted->entry[i].op) != NULL;
    op_table_destroy(wanted);
    return covers;
}
