/* op_table_measure.c - every operation of a space, timed. */
#include "latency_model/op_table_measuring.h"
#include "space/base/err.h"
#include "space/base/log.h"

#define USUAL_ROUNDS 5

struct op_table *op_table_measure(const struct space *space, const struct workload *workloads,
                                  size_t n_workloads, const struct kernels *kernels,
                                  struct team *team, const struct device_class *device,
                                  uint32_t n_rounds, struct err *err)
{
    struct measuring m = {
        .workloads = workloads, .n_workloads = n_workloads, .kernels = kernels, .team = team};
    m.n_rounds = n_rounds < 3                      ? 3
                 : n_rounds > MEASURING_MAX_ROUNDS ? MEASURING_MAX_ROUNDS
                                                   : n_rounds;
    m.table = op_table_new(&space->geometry, device, err);
    int status = m.table == NULL ? -1 : op_table_list(m.table, space, workloads, n_workloads, err);
    if (status == 0)
        status = measuring_prepare(&m, err);
    if (status == 0)
        status = measuring_matmuls(&m, err);
    if (status == 0)
        status = measuring_rests(&m, err);
    measuring_fini(&m);
    if (status == 0)
        return m.table;
    op_table_destroy(m.table);
    return NULL;
}

struct op_table *op_table_ensure(const char *path, const struct space *space,
                                 const struct workload *workloads, size_t n_workloads,
                                 const struct kernels *kernels, struct team *team,
                                 struct quiet *quiet, const struct device_class *device,
                                 struct err *err)
{
    struct op_table *table = op_table_load(path, device, NULL);
    if (table != NULL && op_table_covers(table, space, workloads, n_workloads))
        return table;
    op_table_destroy(table);
    if (quiet_probe_begin(quiet, err) != 0)
        return NULL;
    table =
        op_table_measure(space, workloads, n_workloads, kernels, team, device, USUAL_ROUNDS, err);
    quiet_probe_end(quiet);
    if (table == NULL || op_table_save(table, path, err) != 0) {
        op_table_destroy(table);
        return NULL;
    }
    log_info("op-table", "measured ops=%zu", op_table_n(table));
    return table;
}
