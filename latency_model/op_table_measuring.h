/* op_table_measuring.h - an op table while it is being measured; for the files that do it:
 * op_table_matmul.c (matmuls and read bandwidth), op_table_rest.c (what stands between them),
 * op_table_measure.c (both). */
#ifndef KERF_OP_TABLE_MEASURING_H
#define KERF_OP_TABLE_MEASURING_H

#include "latency_model/op_table_parts.h"

#define MEASURING_MAX_ROUNDS 64

struct measuring {
    struct op_table *table;
    const struct workload *workloads;
    size_t n_workloads;
    const struct kernels *kernels;
    struct team *team;
    unsigned char *weights[N_FORMATS]; /* working sets */
    unsigned char *acts;               /* packed activations, any content that is a number */
    float *out;
    uint32_t n_rounds;
    size_t cursor[N_FORMATS]; /* where the next matrices lie in their working set: what was read
                               * last may still be in a cache */
};

/* Working sets and buffers for the operations that the table lists.  ERR_MEMORY. */
int measuring_prepare(struct measuring *m, struct err *err);
void measuring_fini(struct measuring *m);

/* ns of one product: of n_reps on successive matrices of the working set, or of n_reps on matrices
 * that fit the cores' own caches together, each of them once before the clock starts. */
double measuring_far(struct measuring *m, const struct op *op, size_t n_reps);
double measuring_near(struct measuring *m, const struct op *op, size_t n_reps);

/* Whether an operation is one of a decode pass, as far as its columns tell. */
bool measuring_is_decode(const struct measuring *m, const struct op *op);

/* Fill the table's matmuls and read bandwidths; then what the other operations take.  ERR_MEMORY,
 * errors of forward_create. */
int measuring_matmuls(struct measuring *m, struct err *err);
int measuring_rests(struct measuring *m, struct err *err);

#endif
