/* sensitivity_parts.h - the table in memory, for sensitivity.c (the table) and sensitivity_json.c
 * (the file). */
#ifndef KERF_SENSITIVITY_PARTS_H
#define KERF_SENSITIVITY_PARTS_H

#include "results/sensitivity.h"

/* A row by the genome it stands for. */
struct sensitivity_name {
    struct id128 id;
    uint32_t gene, level;
};

struct sensitivity {
    const struct study *study;
    const struct space *space;
    char method[64], kernels[32];
    struct id128 base_id;
    double base_kld, base_kld_se;
    size_t n_rows;
    struct sensitivity_name *name; /* [n_rows] ascending by id, then gene, then level */
    struct sensitivity_row (*row)[SPACE_MAX_LEVELS]; /* [n_genes] */
};

/* The first name with this id, or behind the last one with a smaller id. */
size_t sensitivity_find(const struct sensitivity *table, struct id128 id);
/* Enter `row` wherever `id` stands and nothing is known; how many rows that were. */
size_t sensitivity_enter(struct sensitivity *table, struct id128 id,
                         const struct sensitivity_row *row);

#endif
