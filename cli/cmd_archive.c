/* cmd_archive.c - kerf archive ls|fsck. */
#include "cli/commands.h"
#include "cli/reading.h"
#include "cluster/scratch.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include <stdio.h>
#include <string.h>

static const struct option_row rows[] = {READING_ROWS, {0}};

static int run_ls(const struct options *options, enum show_format format, struct err *err)
{
    struct reading reading;
    if (reading_open(&reading, option_text(options, "study"), err) != 0)
        return command_fail(err);
    show_all(stdout, format, &reading.study, &reading.front);
    reading_close(&reading);
    return 0;
}

static void print_violation(void *arg, const char *line)
{
    (void)arg;
    printf("fsck: %s\n", line);
}

static int run_fsck(const struct options *options, struct err *err)
{
    struct study study;
    char path[STUDY_PATH_MAX];
    const char *dir = option_text(options, "study");
    if (study_read_resolved(&study, dir, err) != 0)
        return command_fail(err);
    if (!file_exists(scratch_path(&study, "archive/data.mdb", path))) {
        err_set(err, ERR_MISSING, "%s: no archive yet; run kerf search -C %s first", path, dir);
        return command_fail(err);
    }
    struct hash256 owner = study_hash(&study);
    struct archive *archive =
        archive_open(scratch_path(&study, "archive", path), ARCHIVE_READ, &owner, err);
    struct archive_counts counts;
    int n = archive == NULL ? -1 : archive_fsck(archive, print_violation, NULL, err);
    if (n < 0 || archive_counts(archive, &counts, err) != 0) {
        archive_close(archive);
        return command_fail(err);
    }
    archive_close(archive);
    printf("%s: %llu candidates, %llu evaluations, %d violations\n", n == 0 ? "clean" : "damaged",
           (unsigned long long)counts.n_candidates, (unsigned long long)counts.n_evaluations, n);
    return n == 0 ? 0 : err_exit_status(ERR_DATA);
}

static int run(const struct command *command, int argc, char **argv)
{
    struct err err = {0};
    struct options options;
    enum show_format format;
    int go = option_parse(command, argc, argv, &options, &err);
    if (go == 0)
        return 0;
    if (go < 0 || reading_format(&options, &format, &err) != 0)
        return command_fail(&err);
    if (strcmp(options.arg[0], "ls") == 0)
        return run_ls(&options, format, &err);
    if (strcmp(options.arg[0], "fsck") == 0)
        return run_fsck(&options, &err);
    err_set(&err, ERR_USAGE, "kerf archive %s: unknown; ls or fsck", options.arg[0]);
    return command_fail(&err);
}

const struct command cmd_archive = {
    .name = "archive",
    .summary = "ls: every measured candidate; fsck: prove the archive sound",
    .usage = "kerf archive ls|fsck [-C DIR]",
    .example = "kerf archive fsck -C demo",
    .rows = rows,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
