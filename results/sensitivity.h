/* sensitivity.h - what each single deviation costs: a table that a study measures once and others
 * reuse.
 *
 * The base is the finest vector of a space: every gene at its last level.  A row is one gene at one
 * of its other levels, all others left alone, and says how much larger the divergence from the
 * parent gets by that.  A row is named by content, the genome's id: whatever two spaces have in
 * common, of base and deviation, is measured in one of them and known in both.
 *
 * A table belongs to a parent, a calibration text, a held-out text and a number of tokens
 * (study_grounds), and to the way in which weights are compressed ("method").  The file:
 *
 *   {"schema": 2, "kerf", "method", "kernels",
 *    "grounds": {"/model/sha256": "...", "/quality/heldout/sha256": "...", ...},
 *    "base": {"profile", "genome", "id", "kld": {"mean", "se"}},
 *    "rows": [{"gene": "blk.3.ffn_down", "value": "Q3_K", "unit": 7, "layer_error",
 *              "kld": {"mean", "se"}, "weight_bytes_saved", "kv_bytes_per_token_saved", "id"},
 *             ...]}
 *
 * KLD in nats per token, its standard error by sequence and paired with the base.  One line a row,
 * by gene and level; what is not known is absent; the same measurements make the same bytes. */
#ifndef KERF_SENSITIVITY_H
#define KERF_SENSITIVITY_H

#include "space/study.h"
#include <stdio.h>

struct err;
struct sensitivity;

struct sensitivity_row {
    double kld;         /* above that of the base, may be negative by noise; NAN: not measured */
    double kld_se;      /* NAN where a single sequence was measured */
    double layer_error; /* relative, in the layers that change (variant.h); NAN: no weights do, or
                         * all do, for the stream is in another basis */
};

/* An empty table for the space of a study, both borrowed.  NULL without memory. */
struct sensitivity *sensitivity_create(const struct study *study, const struct space *space,
                                       const char *method, struct err *err);
void sensitivity_destroy(struct sensitivity *table); /* NULL is fine */
const struct space *sensitivity_space(const struct sensitivity *table);

/* The level vector of a row, repaired; the base where `level` is the gene's last one. */
void sensitivity_levels(const struct space *space, uint32_t gene, uint32_t level, uint8_t *levels);

/* `level` is not the gene's last one. */
const struct sensitivity_row *sensitivity_at(const struct sensitivity *table, uint32_t gene,
                                             uint32_t level);
/* Enter a measurement, for all rows that stand for this genome.  What is known stays. */
void sensitivity_put(struct sensitivity *table, uint32_t gene, uint32_t level,
                     const struct sensitivity_row *row);
/* How the base itself fares, and with which kernels: the first word stands. */
void sensitivity_put_base(struct sensitivity *table, double kld, double kld_se,
                          const char *kernels);

/* Whether every row of a unit is known. */
bool sensitivity_has_unit(const struct sensitivity *table, uint32_t unit);
/* Rows known; of how many in *n_rows (may be NULL). */
size_t sensitivity_count(const struct sensitivity *table, size_t *n_rows);
/* What a row takes away from the base. */
void sensitivity_saved(const struct sensitivity *table, uint32_t gene, uint32_t level,
                       double *weight_bytes, double *kv_bytes_per_token);

/* The base as measured, NAN before that; kernels "" then. */
void sensitivity_base(const struct sensitivity *table, double *kld, double *kld_se,
                      const char **kernels);
const char *sensitivity_method(const struct sensitivity *table);

/* Take over what a file knows of this space: every row of the same base and the same deviation.
 * Untrusted.  ERR_MISSING when it is not there; ERR_DATA when it is damaged or belongs to another
 * parent, text or number of tokens, naming the first of these; `table` is then as it was.  A table
 * of an earlier schema or another method is sound and has nothing to take: `why` says so. */
struct sensitivity_taken {
    size_t n_given, n_taken; /* rows of the file, rows of the table */
    char why[200];           /* nothing of it fits; "" where something may */
};
int sensitivity_take(struct sensitivity *table, const char *path, struct sensitivity_taken *taken,
                     struct err *err);
/* The same from memory; `name` is for messages. */
int sensitivity_parse(struct sensitivity *table, const char *name, const char *text, size_t length,
                      struct sensitivity_taken *taken, struct err *err);

/* Atomic.  And the same text to a stream, whose errors are the caller's to look for. */
int sensitivity_save(const struct sensitivity *table, const char *path, struct err *err);
void sensitivity_write(FILE *out, const struct sensitivity *table);

/* Where a study keeps its own. */
#define TABLE_SENSITIVITY "tables/sensitivity.json"

#endif
