/* predictor.h - latency of a candidate on one workload: the op table's sums by class of operation,
 * each with a factor that was fitted to candidates measured end to end (methods.md C2, time_fit.h):
 *
 *   t = sum over classes factor_c T_c(genome) + per_pass + per_layer * layers,   all >= 0
 *
 * A factor is believed to be 1 until measurements say otherwise, so that a format that was never
 * measured end to end is predicted as the op table has it.  What operations do to each other
 * (caches, barriers, one after another instead of alone) is in the factors and in the two last
 * terms.
 *
 * As a file: JSON, versioned, one object a workload; it holds the points (terms and time of each
 * measured candidate), not the factors: reading it fits anew.
 *   {"schema": 1, "device", "kernels", "parent", "workloads": [{"workload": "tg32@b1",
 *    "points": [{"id", "ns", "terms": [...]}]}]} */
#ifndef KERF_PREDICTOR_H
#define KERF_PREDICTOR_H

#include "latency_model/op_table.h"
#include "latency_model/time_fit.h"
#include "space/base/hash.h"

struct err;

enum {
    PREDICTOR_PASS = N_OP_CLASSES, /* ns of every pass */
    PREDICTOR_LAYER,               /* ns of every layer that is left */
    N_PREDICTOR_TERMS
};
const char *predictor_term_name(int term); /* "Q4_K", "per pass" */

/* Terms of a genome; false as op_table_classes says. */
bool predictor_terms(const struct op_table *table, const struct genome *genome,
                     const struct geometry *geometry, const struct workload *workload,
                     double term[N_PREDICTOR_TERMS]);

struct predictor_point {
    struct id128 id; /* of the candidate */
    double ns;       /* measured: median */
    double term[N_PREDICTOR_TERMS];
};

struct predictor {
    struct workload workload;
    size_t n;
    struct predictor_point *point;
    struct time_fit fit;
};

/* Points are copied.  Errors of time_fit_make. */
int predictor_fit(struct predictor *predictor, const struct workload *workload,
                  const struct predictor_point *points, size_t n, struct err *err);
void predictor_fini(struct predictor *predictor); /* a zeroed struct is fine */

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
    struct hash256 parent;
};

/* Decode, prefill.  Atomic; load refuses another device, kernel set or parent (ERR_RESOURCE,
 * ERR_DATA) and what it cannot read (ERR_DATA). */
int predictor_save(const struct predictor predictor[2], const struct predictor_origin *origin,
                   const char *path, struct err *err);
int predictor_load(struct predictor predictor[2], const struct predictor_origin *origin,
                   const char *path, struct err *err);

#endif
