/* sensitivity_fixture.h - a study without files, and tables of sensitivities whose figures follow
 * from gene and level; shared by the tests of the table, of its picture, and by the fuzzer. */
#ifndef KERF_SENSITIVITY_FIXTURE_H
#define KERF_SENSITIVITY_FIXTURE_H

#include "results/sensitivity.h"
#include "space/base/err.h"
#include "tests/unit/space_fixture.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIXTURE_METHOD "calibration 1, order 1, variant 1"

/* Two formats, widths in halves; layer 0 keeps its attention. */
__attribute__((unused)) static void fixture_study(struct study *study, const struct geometry *g)
{
    static const char name[] = "text";
    memset(study, 0, sizeof *study);
    strcpy(study->dir, "/some/where/demo");
    study->geometry = *g;
    study->parent = sha256_of("parent", 6);
    study->calibration_hash = sha256_of(name, 3);
    study->calibration_tokens = 4096;
    study->heldout_hash = sha256_of(name, 4);
    strcpy(study->separator, "\n\n");
    study->sequence = 64;
    study->sensitivity_tokens = 1024;
    space_default_limits(&study->limits, g, PROFILE_GGUF_HETERO);
    study->limits.n_types = 2;
    study->limits.types[0] = FORMAT_Q4_0;
    study->limits.types[1] = FORMAT_Q8_0;
    study->limits.n_embd_types = 2;
    study->limits.embd_types[0] = FORMAT_Q4_0;
    study->limits.embd_types[1] = FORMAT_Q8_0;
    study->limits.kv[0] = FORMAT_F16;
    study->limits.n_kv = 1;
    study->limits.min_ffn = 0.5;
    study->limits.ffn_grid = g->d_ff / 2;
}

/* Deeper layers lose less, higher levels too: from 0.3 nats down. */
__attribute__((unused)) static struct sensitivity_row fixture_row(const struct space *space,
                                                                  uint32_t gene, uint32_t level)
{
    const struct gene *g = &space->gene[gene];
    double kld = 0.3 * pow(0.4, g->layer < 0 ? 0 : g->layer) * pow(0.1, level) / (1 + g->kind);
    return (struct sensitivity_row){kld, kld / 16, kld / 3};
}

/* Everything measured, or what belongs to one unit. */
__attribute__((unused)) static void fixture_fill(struct sensitivity *table, int64_t unit)
{
    const struct space *space = sensitivity_space(table);
    sensitivity_put_base(table, 0.00125, 0.0001, "reference");
    for (uint32_t g = 0; g < space->n_genes; g++)
        for (uint32_t l = 0; l + 1 < space->gene[g].n_levels; l++) {
            struct sensitivity_row row = fixture_row(space, g, l);
            if (unit < 0 || space->gene[g].unit == (uint32_t)unit)
                sensitivity_put(table, g, l, &row);
        }
}

/* The text of a table, yours to free. */
__attribute__((unused)) static char *fixture_text(const struct sensitivity *table)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    if (out == NULL)
        exit(1);
    sensitivity_write(out, table);
    fclose(out);
    return text;
}

#endif
