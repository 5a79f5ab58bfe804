/* cmd_stopwatch.c - the timing child of kerf sweep: kerf stopwatch PARENT_PID THREADS MODEL
 * WORKLOAD...  What it says is told in stopwatch.h. */
#include "cli/commands.h"
#include "cli/reading.h"
#include "cluster/child.h"
#include "latency_model/stopwatch.h"
#include "space/base/err.h"
#include "space/base/log.h"
#include <stdlib.h>

int cmd_stopwatch(int argc, char **argv)
{
    struct err err = {0};
    struct workload workload[STOPWATCH_MAX_WORKLOADS];
    if (argc < 5 || argc > 4 + STOPWATCH_MAX_WORKLOADS) {
        err_set(&err, ERR_USAGE, "kerf stopwatch is started by kerf sweep, not by hand");
        return command_fail(&err);
    }
    log_setup(LOG_WARN, -1);
    struct stopwatch_job job = {.model = argv[3],
                                .n_threads = (uint32_t)strtoul(argv[2], NULL, 10),
                                .workload = workload,
                                .n_workloads = (size_t)argc - 4};
    for (int i = 4; i < argc; i++)
        if (workload_parse(argv[i], &workload[i - 4], &err) != 0)
            return command_fail(&err);
    if (child_tie_to_parent(strtol(argv[1], NULL, 10), &err) != 0)
        return command_fail(&err);
    return stopwatch_serve(&job);
}
