/* predictor.h - latency of a candidate on one workload: the op table's sums by class of operation,
 * each with a factor that was fitted to candidates measured end to end (methods.md C2, time_fit.h):
 *
 *   t = sum over classes factor_c T_c + per_pass + per_layer * layers + per_operation * matmuls
 *       + per_shared_byte * max(0, min(W, 16 N) - N) + per_memory_byte * max(0, W - L),
 *
 * all >= 0, with the W and N of op_table.h and L what the last cache keeps: up to 16 N the table has
 * what computing takes, and every byte beyond N, which the cores' own caches keep, costs something
 * more; beyond L bytes come from memory, of which the table, timed in short stretches, has its best
 * moments.
 *
 * A factor is believed to be 1 until measurements say otherwise, so that a format that was never
 * measured end to end is predicted as the op table has it.  What operations do to each other
 * (caches, barriers, one after another instead of alone) is in the factors and in the two last
 * terms.
 *
 * As a file: JSON, versioned, one object a workload; it holds the points (terms and time of each
 * measured candidate), not the factors: reading it fits anew.  It serves every study of parents of
 * that geometry on that class of machine.
 *   {"schema": 2, "device", "kernels", "geometry", "terms": ["Q4_K", ...],
 *    "workloads": [{"workload": "tg32@b1", "points": [{"id", "ns", "table_ns", "terms": [...]}],
 *                   "held_out": [as points]}]} */
#ifndef KERF_PREDICTOR_H
#define KERF_PREDICTOR_H

#include "latency_model/op_table.h"
#include "latency_model/time_fit.h"
#include "space/base/hash.h"

struct err;

enum {
    PREDICTOR_PASS = N_OP_CLASSES, /* ns of every pass */
    PREDICTOR_LAYER,               /* ns of every layer that is left */
    PREDICTOR_OPERATION,           /* ns of every matmul: what waiting for each other takes */
    PREDICTOR_SHARED,              /* ns of every byte beyond the cores' own caches */
    PREDICTOR_MEMORY,              /* ns of every byte beyond the last cache */
    N_PREDICTOR_TERMS
};
const char *predictor_term_name(int term); /* "Q4_K", "per pass" */

struct predictor_point {
    struct id128 id; /* of the candidate */
    double ns;       /* measured: median */
    double table_ns; /* the plain sum of the op table */
    double term[N_PREDICTOR_TERMS];
};

/* Terms and plain sum of a genome; false as op_table_sums says. */
bool predictor_terms(const struct op_table *table, const struct genome *genome,
                     const struct geometry *geometry, const struct workload *workload,
                     struct predictor_point *point);
/* Those of one unit (account_unit_pair): all units together have the genome's.  The bytes beyond a
 * cache are shared among them by their weights, a layer by its attention and its FFN; a pass is the
 * last unit's. */
bool predictor_unit_terms(const struct op_table *table, const struct genome *genome,
                          const struct geometry *geometry, const struct workload *workload,
                          uint32_t unit, struct predictor_point *point);

struct predictor {
    struct workload workload;
    size_t n, n_held_out;
    struct predictor_point *point, *held_out; /* held out: measured with them, not used */
    struct time_fit fit;
};

/* Points are copied.  Errors of time_fit_make. */
int predictor_fit(struct predictor *predictor, const struct workload *workload,
                  const struct predictor_point *points, size_t n, struct err *err);
/* Points beside those of the fit, copied: for judging it.  ERR_MEMORY. */
int predictor_hold_out(struct predictor *predictor, const struct predictor_point *points, size_t n,
                       struct err *err);
void predictor_fini(struct predictor *predictor); /* a zeroed struct is fine */

/* Which of n candidates to measure so that both workloads' factors become known best: chosen[] as
 * in time_fit_choose, half of what is not given for the sake of the first workload, the rest for
 * the second.  points[w][n]: terms only.  ERR_MEMORY. */
int predictor_choose(const struct predictor_point *const points[2], size_t n, size_t n_given,
                     size_t n_wanted, size_t *chosen, size_t *n_chosen, struct err *err);

/* ns for terms that predictor_terms made, and the interval that holds a measurement with
 * probability `share`. */
double predictor_ns(const struct predictor *predictor, const double term[N_PREDICTOR_TERMS]);
void predictor_interval(const struct predictor *predictor, const double term[N_PREDICTOR_TERMS],
                        double share, double *lo_ns, double *hi_ns);

/* How well times are foretold that the fit has not seen. */
struct predictor_accuracy {
    size_t n;
    double mape, spearman;             /* NAN for n = 0, n < 2 */
    double within_5, within_10;        /* shares of |predicted / measured - 1| */
    double coverage;                   /* share inside their 90 % interval */
    double table_mape, table_spearman; /* the same of the plain sum of the op table */
};
void predictor_judge(const struct predictor *predictor, const struct predictor_point *points,
                     size_t n, struct predictor_accuracy *accuracy);

/* What a file belongs to. */
struct predictor_origin {
    char device[128];
    char kernels[64];
    struct geometry geometry; /* of the parent */
};

/* Decode, prefill.  Atomic; load refuses another device, kernel set or geometry
 * (ERR_RESOURCE, ERR_DATA) and what it cannot read
 * (ERR_DATA). */
int predictor_save(const struct predictor predictor[2], const struct predictor_origin *origin,
                   const char *path, struct err *err);
int predictor_load(struct predictor predictor[2], const struct predictor_origin *origin,
                   const char *path, struct err *err);

#endif
