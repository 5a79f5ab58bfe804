/* cmd_sensitivity.c - kerf sensitivity: the table of a study, measured first where that is asked
 * for. */
#include "cli/beginning.h"
#include "cli/color.h"
#include "cli/commands.h"
#include "cli/isa_option.h"
#include "cli/reading.h"
#include "cluster/run.h"
#include "evaluator/compression/workshop.h"
#include "results/show_sensitivity.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include "space/base/log.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const struct option_row rows[] = {
    READING_ROWS,
    {"measure", 0, OPTION_FLAG, NULL, "measure what is missing first, and nothing else", NULL},
    {"threads", 't', OPTION_TEXT, "COUNT", "threads of the measurement", NULL},
    {"scratch", 0, OPTION_TEXT, "DIR", "node-local folder for archive/ and store/", NULL},
    COLOR_ROW,
    ISA_ROW,
    {"quiet", 'q', OPTION_FLAG, NULL, "warnings and errors only", NULL},
    {"verbose", 'v', OPTION_FLAG, NULL, "say more", NULL},
    {0}};

/* A study's table and the space that it is of. */
struct sensitivities {
    struct study study;
    struct space space;
    struct sensitivity *table;
    struct sensitivity_taken taken;
};

static void release(struct sensitivities *s)
{
    if (s != NULL)
        sensitivity_destroy(s->table);
    free(s);
}

/* What the study's file knows; an empty table where there is no file. */
static int load(struct sensitivities *s, struct err *err)
{
    char path[STUDY_PATH_MAX], method[64];
    sensitivity_destroy(s->table);
    s->table = NULL;
    if (space_init(&s->space, &s->study.geometry, &s->study.limits, err) != 0)
        return -1;
    s->table = sensitivity_create(&s->study, &s->space, workshop_method(method), err);
    if (s->table == NULL)
        return -1;
    study_path(&s->study, TABLE_SENSITIVITY, path);
    if (!file_exists(path) || sensitivity_take(s->table, path, &s->taken, err) == 0)
        return 0;
    if (err->code == ERR_DATA)
        err_prefix(err, "remove it to measure again");
    return -1;
}

/* Exit status. */
static int measure(struct sensitivities *s, const struct options *options, struct err *err)
{
    struct run_options wanted = {.scratch = option_text(options, "scratch"),
                                 .sensitivity_only = true};
    uint64_t threads;
    size_t n_rows;
    if (option_count(options, "threads", &threads, err) != 0)
        return command_fail(err);
    if (threads > 1024) {
        err_set(err, ERR_USAGE, "--threads: 1 to 1024");
        return command_fail(err);
    }
    wanted.threads = (uint32_t)threads;
    if (beginning_open(&s->study, option_text(options, "study"), err) != 0 || load(s, err) != 0)
        return command_fail(err);
    if (sensitivity_count(s->table, &n_rows) == n_rows)
        return 0;
    int status = run_alone(&s->study, &wanted);
    return status == 0 && load(s, err) != 0 ? command_fail(err) : status;
}

/* Exit status. */
static int read_table(struct sensitivities *s, const struct options *options, struct err *err)
{
    const char *dir = option_text(options, "study"), *kernels;
    double kld, kld_se;
    if (study_read_resolved(&s->study, dir, err) != 0 || load(s, err) != 0)
        return command_fail(err);
    sensitivity_base(s->table, &kld, &kld_se, &kernels);
    if (isfinite(kld))
        return 0;
    err_set(err, ERR_MISSING,
            "no sensitivities yet%s%s; kerf sensitivity --measure -C %s measures them",
            s->taken.why[0] != '\0' ? ": of the table that is there " : "", s->taken.why, dir);
    return command_fail(err);
}

static int run(const struct command *command, int argc, char **argv)
{
    struct err err = {0};
    struct options options;
    enum show_format format;
    struct show_heat heat = {.width = color_width()};
    int go = option_parse(command, argc, argv, &options, &err);
    if (go == 0)
        return 0;
    if (go < 0 || reading_format(&options, &format, &err) != 0 ||
        color_choose(&options, &heat.colour, &err) != 0 ||
        isa_option_apply(&options, &err) != 0)
        return command_fail(&err);
    if (option_flag(&options, "quiet") || option_flag(&options, "verbose"))
        log_setup(option_flag(&options, "quiet") ? LOG_WARN : LOG_DEBUG, -1);
    struct sensitivities *s = calloc(1, sizeof *s);
    if (s == NULL) {
        err_set(&err, ERR_MEMORY, "out of memory");
        return command_fail(&err);
    }
    int status = option_flag(&options, "measure") ? measure(s, &options, &err)
                                                  : read_table(s, &options, &err);
    if (status == 0)
        show_sensitivity(stdout, format, &s->study, s->table, &heat);
    release(s);
    return status;
}

const struct command cmd_sensitivity = {
    .name = "sensitivity",
    .summary = "what each choice of each layer costs alone: the table that a search begins with",
    .usage = "kerf sensitivity [-C DIR] [--measure] [-o table|json|tsv] [--color WHEN]",
    .example = "kerf sensitivity -C demo --measure\n"
               "  kerf sensitivity -C demo -o json >table.json   # for kerf search --sensitivity",
    .rows = rows,
    .run = run,
};
