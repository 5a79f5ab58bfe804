/* op_table.h - the time of each distinct operation on this machine, and their sum as prediction.
 * Weights are streamed from a working set as large as the parent's weights in the op's format, so
 * that they come from where they come from in decoding the parent; and in decoding matmuls once
 * more out of the cores' own caches (near_ns).  Which of the two a candidate meets hangs on the W
 * bytes of weights that a pass of it reads and the N bytes that those caches keep
 * (op_table_near_bytes):
 *
 *   t = n t_near + (1 - n) t_far,   n = min(1, 16 N / W)
 *
 * so that a candidate that is not far beyond those caches counts with what computing takes; what
 * its bytes take beside that is for predictor.h to say.  Each entry also says which share of
 * the read bandwidth of that working set (measured beside it) a decode kernel reaches: below 60 %
 * the format is labelled kernel-bound wherever its latency is shown. */
#ifndef KERF_OP_TABLE_H
#define KERF_OP_TABLE_H

#include "evaluator/kernels/kernels.h"
#include "evaluator/team.h"
#include "latency_model/machine.h"
#include "latency_model/quiet.h"
#include "space/account.h"
#include "space/space.h"

struct op_table;

struct op_entry {
    struct op op; /* count is 1 */
    double ns;    /* p10 of the accepted samples */
    double median_ns;
    double near_ns; /* decode matmuls: p10 with weights in the cores' own caches; else as ns */
    uint32_t n_samples;
    double bandwidth; /* matmuls of decode workloads: bytes of weights per ns; else 0 */
};

#define OP_TABLE_KERNEL_BOUND 0.60

/* Time every operation that some genome of `space` needs for `workloads`.  Interleaved rounds,
 * pinned team.  Takes seconds to minutes: `n_rounds` >= 3,
 * three times as many where they are quick. */
struct op_table *op_table_measure(const struct space *space, const struct workload *workloads,
                                  size_t n_workloads, const struct kernels *kernels,
                                  struct team *team, const struct device_class *device,
                                  uint32_t n_rounds, struct err *err);
/* Whether a table has every operation that some genome of `space` needs; false without memory. */
bool op_table_covers(const struct op_table *table, const struct space *space,
                     const struct workload *workloads, size_t n_workloads);
void op_table_destroy(struct op_table *table); /* NULL is fine */

/* JSON file, versioned, atomic; load refuses another device class than `device` (ERR_RESOURCE);
 * NULL takes any. */
int op_table_save(const struct op_table *table, const char *path, struct err *err);
struct op_table *op_table_load(const char *path, const struct device_class *device,
                               struct err *err);

/* The table at `path` where it is of this device and covers the space; else it is measured, alone
 * on the node, and left there. */
struct op_table *op_table_ensure(const char *path, const struct space *space,
                                 const struct workload *workloads, size_t n_workloads,
                                 const struct kernels *kernels, struct team *team,
                                 struct quiet *quiet, const struct device_class *device,
                                 struct err *err);

size_t op_table_n(const struct op_table *table);
const struct op_entry *op_table_at(const struct op_table *table, size_t index);

/* Operations summed apart: matmuls by their format, attention, and everything else. */
enum { OP_CLASS_ATTENTION = N_FORMATS, OP_CLASS_OTHER, N_OP_CLASSES };
const char *op_class_name(int class); /* "Q4_K", "attention", "other" */

/* The sums over account_ops, per token (decode) or per prompt (prefill), and what they read. */
struct op_sums {
    double ns[N_OP_CLASSES]; /* near and far as above */
    double weight_bytes;     /* of the matmuls */
    double whole_bytes;      /* of the whole model's: W */
    double n_matmuls;
};
/* False, with a word in the log, when an op is not in the table or there is no memory. */
bool op_table_sums(const struct op_table *table, const struct genome *genome,
                   const struct geometry *geometry, const struct workload *workload,
                   struct op_sums *sums);
/* The share of those sums that one unit causes (account_unit_pair); all units have the whole. */
bool op_table_unit_sums(const struct op_table *table, const struct genome *genome,
                        const struct geometry *geometry, const struct workload *workload,
                        uint32_t unit, struct op_sums *sums);
/* What stays in the cores' own caches while a model is walked through again and again: half of
 * their bytes, for the rest is taken by what is computed with and by pages that collide; 0 when
 * the caches are not known. */
size_t op_table_near_bytes(const struct op_table *table);
/* The same of the last cache, which others share. */
size_t op_table_last_bytes(const struct op_table *table);
#define OP_TABLE_FAR 16 /* times as many bytes: from there on t_far takes over */
/* The sum of op_table_sums: ns per token (decode) or per prompt (prefill).  NAN where that is
 * false. */
double op_table_predict(const struct op_table *table, const struct genome *genome,
                        const struct geometry *geometry, const struct workload *workload);

/* Read bandwidth of the working set, bytes per ns, with the table's team. */
double op_table_read_bandwidth(const struct op_table *table);
/* Decode bandwidth share that a format reaches with one kind of activation, over its matmuls
 * (weighted by bytes); NAN unknown. */
double op_table_bandwidth_share(const struct op_table *table, enum format format,
                                enum act_format act);

#endif
