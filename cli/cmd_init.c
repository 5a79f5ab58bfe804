#include "cli/commands.h"
#include "cli/reading.h"
#include "evaluator/parent.h"
#include "space/base/err.h"
#include "space/study.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct option_row rows[] = {
    {"model", 'm', OPTION_TEXT, "FILE", "the parent: a GGUF of architecture llama", NULL},
    {"calibration", 0, OPTION_TEXT, "FILE",
     "text that compression looks at, or an importance matrix of llama.cpp (*.gguf, *.dat)", NULL},
    {"heldout", 0, OPTION_TEXT, "FILE", "other text, that quality is measured on", NULL},
    {"separator", 0, OPTION_TEXT, "TEXT", "what stands between documents of those texts", ""},
    {"tasks", 0, OPTION_TEXT, "DIR", "folder of multiple-choice tasks (*.jsonl)", NULL},
    {"profile", 0, OPTION_TEXT, "NAME", "gguf, gguf-hetero or native: what the result must load in",
     "gguf"},
    {"quick", 0, OPTION_FLAG, NULL, "small budgets, for a first look", NULL},
    {0}};

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The *.jsonl files of a folder, sorted; each yours to free. */
static int list_tasks(const char *dir, char **task, uint32_t *n_tasks, struct err *err)
{
    *n_tasks = 0;
    if (dir == NULL)
        return 0;
    DIR *folder = opendir(dir);
    if (folder == NULL) {
        err_set(err, ERR_MISSING, "--tasks %s: no such folder", dir);
        return -1;
    }
    const struct dirent *entry;
    while ((entry = readdir(folder)) != NULL && *n_tasks < STUDY_MAX_TASKS) {
        size_t length = strlen(entry->d_name);
        if (length > 6 && strcmp(entry->d_name + length - 6, ".jsonl") == 0 &&
            asprintf(&task[*n_tasks], "%s/%s", dir, entry->d_name) >= 0)
            (*n_tasks)++;
    }
    closedir(folder);
    if (*n_tasks == 0) {
        err_set(err, ERR_MISSING, "--tasks %s: holds no .jsonl file", dir);
        return -1;
    }
    qsort(task, *n_tasks, sizeof *task, by_name);
    return 0;
}

static int check_required(const struct options *options, struct err *err)
{
    static const char *const required[] = {"model", "calibration", "heldout", NULL};
    for (int i = 0; required[i] != NULL; i++)
        if (option_text(options, required[i]) == NULL) {
            err_set(err, ERR_USAGE, "kerf init: --%s is missing; usage: %s", required[i],
                    cmd_init.usage);
            return -1;
        }
    return 0;
}

static int init_study(const struct options *options, struct err *err)
{
    const char *dir = options->arg[0];
    struct study_template wanted = {
        .model = option_text(options, "model"),
        .calibration = option_text(options, "calibration"),
        .heldout = option_text(options, "heldout"),
        .separator = option_text(options, "separator"),
        .profile = profile_parse(option_text(options, "profile")),
        .quick = option_flag(options, "quick"),
    };
    if (wanted.profile == N_PROFILES) {
        err_set(err, ERR_USAGE, "--profile %s: unknown; gguf, gguf-hetero or native",
                option_text(options, "profile"));
        return -1;
    }
    /* A model that cannot be searched is said now, not after the first hour. */
    struct parent *parent = parent_open(wanted.model, err);
    if (parent == NULL)
        return -1;
    char shape[160];
    geometry_describe(parent_geometry(parent), shape);
    int status = parent_check_profile(parent, wanted.profile, err);
    parent_close(parent);
    if (status != 0)
        return -1;

    char *task[STUDY_MAX_TASKS];
    status = list_tasks(option_text(options, "tasks"), task, &wanted.n_tasks, err);
    wanted.tasks = (const char *const *)task;
    if (status == 0)
        status = study_init(dir, &wanted, err);
    for (uint32_t i = 0; i < wanted.n_tasks; i++)
        free(task[i]);
    struct study study;
    if (status == 0)
        status = study_read(&study, dir, err);
    if (status == 0)
        printf("%s/study.json: %s\nnext: kerf search -C %s\n", dir, shape, dir);
    return status;
}

static int run(const struct command *command, int argc, char **argv)
{
    struct err err = {0};
    struct options options;
    int go = option_parse(command, argc, argv, &options, &err);
    if (go == 0)
        return 0;
    if (go < 0 || check_required(&options, &err) != 0 || init_study(&options, &err) != 0)
        return command_fail(&err);
    return 0;
}

const struct command cmd_init = {
    .name = "init",
    .summary = "make a study directory with a commented config",
    .usage = "kerf init DIR --model F --calibration F --heldout F [--tasks DIR] [--profile NAME]",
    .example = "kerf init study --model model.gguf --calibration c.txt --heldout h.txt",
    .rows = rows,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
