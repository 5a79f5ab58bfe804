/* cmd_search.c - kerf search: alone, as a rank of an mpirun, or launching one (--ranks). */
#include "cli/beginning.h"
#include "cli/commands.h"
#include "cli/isa_option.h"
#include "cli/reading.h"
#include "cluster/link.h"
#include "cluster/run.h"
#include "cluster/run_status.h"
#include "space/base/err.h"
#include "space/base/log.h"
#include "space/base/units.h"
#include <stdio.h>

static const struct option_row rows[] = {
    {"study", 'C', OPTION_TEXT, "DIR", "study directory", "."},
    {"evals", 0, OPTION_TEXT, "COUNT", "stop after so many candidates in all", NULL},
    {"time", 0, OPTION_TEXT, "TIME", "stop proposing after so long (10min, 4h)", NULL},
    {"ranks", 'n', OPTION_TEXT, "COUNT", "start mpirun with a master and COUNT - 1 workers", NULL},
    {"threads", 't', OPTION_TEXT, "COUNT", "threads of each worker", NULL},
    {"sensitivity", 0, OPTION_TEXT, "FILE",
     "another study's sensitivities: what fits is taken over", NULL},
    {"scratch", 0, OPTION_TEXT, "DIR", "node-local folder for archive/ and store/", NULL},
    {"max-disk", 0, OPTION_TEXT, "SIZE", "most that store/ may hold on a node (200GiB)", NULL},
    ISA_ROW,
    {"quiet", 'q', OPTION_FLAG, NULL, "warnings and errors only", NULL},
    {"verbose", 'v', OPTION_FLAG, NULL, "say more", NULL},
    {0}};

static int parse_run(const struct options *options, struct run_options *wanted, uint64_t *ranks,
                     struct err *err)
{
    *wanted = (struct run_options){.scratch = option_text(options, "scratch"),
                                   .sensitivity = option_text(options, "sensitivity")};
    uint64_t threads;
    const char *time = option_text(options, "time");
    if (option_count(options, "evals", &wanted->evals, err) != 0 ||
        option_count(options, "threads", &threads, err) != 0 ||
        option_count(options, "ranks", ranks, err) != 0 ||
        option_size(options, "max-disk", &wanted->max_disk, err) != 0)
        return -1;
    if (time != NULL && units_parse_duration(time, &wanted->time_s, err) != 0) {
        err_prefix(err, "--time");
        return -1;
    }
    if (threads > 1024 ||
        (option_text(options, "ranks") != NULL && (*ranks < 2 || *ranks > 4096))) {
        err_set(err, ERR_USAGE,
                threads > 1024 ? "--threads: 1 to 1024"
                               : "--ranks: 2 to 4096 (a master and its workers)");
        return -1;
    }
    wanted->threads = (uint32_t)threads;
    return 0;
}

static int run(const struct command *command, int argc, char **argv)
{
    struct err err = {0};
    struct options options;
    struct run_options wanted;
    struct study study;
    uint64_t ranks;
    int go = option_parse(command, argc, argv, &options, &err);
    if (go == 0)
        return 0;
    if (go < 0 || parse_run(&options, &wanted, &ranks, &err) != 0 ||
        isa_option_apply(&options, &err) != 0)
        return command_fail(&err);
    if (option_flag(&options, "quiet") || option_flag(&options, "verbose"))
        log_setup(option_flag(&options, "quiet") ? LOG_WARN : LOG_DEBUG, -1);
    const char *dir = option_text(&options, "study");

    run_catch_stops();
    if (link_mpi_is_present()) {
        /* The watchdog has frozen the study; under a bare mpirun every rank comes to the same
         * frozen study, or to the same refusal, before MPI is entered. */
        if ((run_is_watched() ? study_read_resolved(&study, dir, &err)
                              : beginning_open(&study, dir, &err)) != 0)
            return command_fail(&err);
        return run_rank(&study, &wanted);
    }
    if (beginning_open(&study, dir, &err) != 0)
        return command_fail(&err);
    return ranks > 0 ? run_launch(&study, &wanted, (uint32_t)ranks) : run_alone(&study, &wanted);
}

const struct command cmd_search = {
    .name = "search",
    .summary = "search, compress and measure; goes on where it was stopped",
    .usage = "kerf search [-C DIR] [--time T] [--evals N] [--ranks N]   (or under mpirun)",
    .example = "kerf search -C demo --ranks 2 --time 10min",
    .rows = rows,
    .run = run,
};
