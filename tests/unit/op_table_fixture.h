/* op_table_fixture.h - genomes of many formats and a table in which the time of each of their
 * operations is known. */
#ifndef KERF_OP_TABLE_FIXTURE_H
#define KERF_OP_TABLE_FIXTURE_H

#include "latency_model/op_table_parts.h"
#include "space/base/rng.h"
#include "tests/unit/space_fixture.h"

#include <stdlib.h>

/* Random formats for each matrix. */
static inline void fixture_genomes(const struct geometry *geometry, struct genome *genomes,
                                   size_t n)
{
    static const enum format formats[] = {FORMAT_Q2_K, FORMAT_Q4_K, FORMAT_Q6_K, FORMAT_Q8_0};
    struct rng rng = rng_make(1, 0);
    for (size_t i = 0; i < n; i++) {
        genome_uniform(&genomes[i], geometry, FORMAT_Q8_0);
        for (uint32_t l = 0; l < geometry->n_layers; l++) {
            genomes[i].attn[l].qkv = formats[rng_below(&rng, 4)];
            genomes[i].ffn[l].gate_up = formats[rng_below(&rng, 4)];
            genomes[i].ffn[l].down = formats[rng_below(&rng, 4)];
            if (rng_below(&rng, 4) == 0)
                genomes[i].ffn[l].width = 0;
        }
        genome_canonicalize(&genomes[i], geometry, NULL);
    }
}

/* Every operation of every genome takes 1 ns for 64 flops and 10 ns more. */
static inline struct op_table *fixture_op_table(const struct geometry *geometry,
                                                const struct genome *genomes, size_t n,
                                                const struct workload *decode,
                                                const struct workload *prefill)
{
    struct device_class device = {.name = "nobody's machine"};
    struct op *ops = malloc(ACCOUNT_MAX_OPS * sizeof *ops);
    struct op_table *table = op_table_new(geometry, &device, NULL);
    for (size_t i = 0; i < n; i++) {
        for (int w = 0; w < 2; w++) {
            size_t n_ops = account_ops(&genomes[i], geometry, w == 0 ? decode : prefill, ops);
            for (size_t k = 0; k < n_ops; k++) {
                int64_t at = op_table_add(table, &ops[k], NULL);
                table->entry[at].ns = 10 + account_op_flops(&ops[k], geometry) / 64;
            }
        }
    }
    free(ops);
    return table;
}

#endif
