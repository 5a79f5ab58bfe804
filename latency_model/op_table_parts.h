/* op_table_parts.h - what the files of the op table share: op_table.c (the sum), op_table_ops.c
 * (what a space needs), op_table_json.c (the file) and those of op_table_measuring.h (timing). */
#ifndef KERF_OP_TABLE_PARTS_H
#define KERF_OP_TABLE_PARTS_H

#include "latency_model/op_table.h"

struct op_table {
    struct device_class device;
    struct geometry geometry;
    double read_bandwidth[N_FORMATS]; /* bytes per ns over the working set of a format; 0: none */
    size_t working_set[N_FORMATS];    /* bytes */
    struct op_entry *entry;
    size_t n, room;
};

struct op_table *op_table_new(const struct geometry *geometry, const struct device_class *device,
                              struct err *err);
/* The entry of an op, its count aside; NULL where there is none. */
const struct op_entry *op_table_find(const struct op_table *table, const struct op *op);
/* Add an entry unless an equal op is there; its index, or -1 without memory. */
int64_t op_table_add(struct op_table *table, const struct op *op, struct err *err);

/* Enter every operation that some genome of `space` needs, untimed.  ERR_MEMORY. */
int op_table_list(struct op_table *table, const struct space *space,
                  const struct workload *workloads, size_t n_workloads, struct err *err);

#endif
