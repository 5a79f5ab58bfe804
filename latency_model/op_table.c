#include "latency_model/op_table_parts.h"
#include "space/base/err.h"
#include "space/base/log.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct op_table *op_table_new(const struct geometry *geometry, const struct device_class *device,
                              struct err *err)
{
    struct op_table *table = calloc(1, sizeof *table);
    if (table == NULL) {
        err_set(err, ERR_MEMORY, "op table: out of memory");
        return NULL;
    }
    table->geometry = *geometry;
    table->device = *device;
    return table;
}

void op_table_destroy(struct op_table *table)
{
    if (table == NULL)
        return;
    free(table->entry);
    free(table);
}

const struct op_entry *op_table_find(const struct op_table *table, const struct op *op)
{
    for (size_t i = 0; i < table->n; i++)
        if (account_op_equal(&table->entry[i].op, op))
            return &table->entry[i];
    return NULL;
}

int64_t op_table_add(struct op_table *table, const struct op *op, struct err *err)
{
    const struct op_entry *there = op_table_find(table, op);
    if (there != NULL)
        return there - table->entry;
    if (table->n == table->room) {
        size_t room = table->room > 0 ? 2 * table->room : 64;
        struct op_entry *more = realloc(table->entry, room * sizeof *more);
        if (more == NULL) {
            err_set(err, ERR_MEMORY, "op table: out of memory");
            return -1;
        }
        table->entry = more;
        table->room = room;
    }
    table->entry[table->n] = (struct op_entry){.op = *op};
    table->entry[table->n].op.count = 1;
    return (int64_t)table->n++;
}

size_t op_table_n(const struct op_table *table)
{
    return table->n;
}

const struct op_entry *op_table_at(const struct op_table *table, size_t index)
{
    return &table->entry[index];
}

const char *op_class_name(int class)
{
    return class == OP_CLASS_ATTENTION ? "attention"
           : class == OP_CLASS_OTHER   ? "other"
                                       : format_name((enum format) class);
}

static int class_of(const struct op *op)
{
    return op->kind == OP_MATMUL      ? (int)op->format
           : op->kind == OP_ATTENTION ? OP_CLASS_ATTENTION
                                      : OP_CLASS_OTHER;
}

/* Near and far apart. */
struct apart {
    double near_ns[N_OP_CLASSES], far_ns[N_OP_CLASSES];
    double weight_bytes;
    uint32_t n_matmuls;
};

static void add_op(struct apart *apart, const struct op *op, const struct op_entry *entry,
                   const struct geometry *geometry)
{
    int class = class_of(op);
    apart->near_ns[class] += op->count * entry->near_ns;
    apart->far_ns[class] += op->count * entry->ns;
    if (op->kind != OP_MATMUL)
        return;
    apart->n_matmuls += op->count;
    apart->weight_bytes += op->count * (double)account_op_bytes(op, geometry);
}

static bool sum_apart(const struct op_table *table, const struct genome *genome,
                      const struct geometry *geometry, const struct workload *workload,
                      struct apart *apart)
{
    struct op *ops = malloc(ACCOUNT_MAX_OPS * sizeof *ops);
    size_t n = ops != NULL ? account_ops(genome, geometry, workload, ops) : 0;
    bool all = n > 0;
    memset(apart, 0, sizeof *apart);
    for (size_t i = 0; i < n && all; i++) {
        const struct op_entry *entry = op_table_find(table, &ops[i]);
        all = entry != NULL;
        if (all)
            add_op(apart, &ops[i], entry, geometry);
        else
            log_debug("op-table", "not timed: %s %s %ux%u, %u columns", op_kind_name(ops[i].kind),
                      ops[i].format == FORMAT_NONE ? "-" : format_name(ops[i].format), ops[i].n_out,
                      ops[i].n_in, ops[i].n_cols);
    }
    free(ops);
    return all;
}

/* How much of a model with so many bytes of weights counts as near. */
static double near_share(const struct op_table *table, double weight_bytes)
{
    double most = OP_TABLE_FAR * (double)op_table_near_bytes(table);
    return weight_bytes > most ? most / weight_bytes : 1;
}

/* What `with` has beyond `without`, in a model of so many bytes. */
static void join(const struct op_table *table, const struct apart *with,
                 const struct apart *without, double whole_bytes, struct op_sums *sums)
{
    double near = near_share(table, whole_bytes);
    for (int class = 0; class < N_OP_CLASSES; class ++)
        sums->ns[class] = near * (with->near_ns[class] - without->near_ns[class]) +
                          (1 - near) * (with->far_ns[class] - without->far_ns[class]);
    sums->weight_bytes = with->weight_bytes - without->weight_bytes;
    sums->whole_bytes = whole_bytes;
    sums->n_matmuls = (double)with->n_matmuls - without->n_matmuls;
}

bool op_table_sums(const struct op_table *table, const struct genome *genome,
                   const struct geometry *geometry, const struct workload *workload,
                   struct op_sums *sums)
{
    const struct apart nothing = {0};
    struct apart apart;
    if (!sum_apart(table, genome, geometry, workload, &apart))
        return false;
    join(table, &apart, &nothing, apart.weight_bytes, sums);
    return true;
}

double op_table_predict(const struct op_table *table, const struct genome *genome,
                        const struct geometry *geometry, const struct workload *workload)
{
    struct op_sums sums;
    double sum = 0;
    if (!op_table_sums(table, genome, geometry, workload, &sums))
        return NAN;
    for (int class = 0; class < N_OP_CLASSES; class ++)
        sum += sums.ns[class];
    return sum;
}

bool op_table_unit_sums(const struct op_table *table, const struct genome *genome,
                        const struct geometry *geometry, const struct workload *workload,
                        uint32_t unit, struct op_sums *sums)
{
    struct genome *pair = malloc(2 * sizeof *pair);
    struct apart whole, with, without = {0};
    if (pair == NULL)
        return false;
    bool both = account_unit_pair(genome, unit, &pair[0], &pair[1]);
    bool known = sum_apart(table, genome, geometry, workload, &whole) &&
                 sum_apart(table, &pair[0], geometry, workload, &with) &&
                 (!both || sum_apart(table, &pair[1], geometry, workload, &without));
    free(pair);
    if (known)
        join(table, &with, &without, whole.weight_bytes, sums);
    return known;
}

size_t op_table_near_bytes(const struct op_table *table)
{
    return table->device.private_bytes / 2;
}

size_t op_table_last_bytes(const struct op_table *table)
{
    return table->device.last_bytes / 2;
}

double op_table_read_bandwidth(const struct op_table *table)
{
    double least = NAN;
    for (int format = 0; format < N_FORMATS; format++)
        if (table->read_bandwidth[format] > 0)
            least = fmin(least, table->read_bandwidth[format]);
    return least;
}

double op_table_bandwidth_share(const struct op_table *table, enum format format,
                                enum act_format act)
{
    double bytes = 0, ns = 0;
    for (size_t i = 0; i < table->n; i++) {
        const struct op_entry *entry = &table->entry[i];
        if (entry->op.kind != OP_MATMUL || entry->op.format != format || entry->op.act != act ||
            !(entry->bandwidth > 0))
            continue;
        bytes += (double)account_op_bytes(&entry->op, &table->geometry);
        ns += entry->ns;
    }
    return ns > 0 && table->read_bandwidth[format] > 0 ? bytes / ns / table->read_bandwidth[format]
                                                       : NAN;
}
