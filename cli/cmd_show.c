#include "cli/commands.h"
#include "cli/reading.h"
#include "space/base/err.h"
#include <stdlib.h>

static const struct option_row rows[] = {READING_ROWS, {0}};

static int run(const struct command *command, int argc, char **argv)
{
    struct err err = {0};
    struct options options;
    struct reading reading;
    enum show_format format;
    int go = reading_begin(&reading, &options, &format, command, argc, argv, &err);
    if (go <= 0)
        return go == 0 ? 0 : command_fail(&err);

    int status = 0;
    const struct front_member *member =
        front_resolve(&reading.front, reading.archive, options.arg[0], &err);
    struct evaluation newest;
    char *details = NULL;
    if (member == NULL || archive_get_evaluation(reading.archive, &member->candidate.id, &newest,
                                                 &details, &err) != 0)
        status = command_fail(&err);
    else
        show_candidate(stdout, format, &reading.study, member, details);
    free(details);
    reading_close(&reading);
    return status;
}

const struct command cmd_show = {
    .name = "show",
    .summary = "one candidate: layer by layer, with every metric and its interval",
    .usage = "kerf show [-C DIR] ID   (a prefix of an id, or @best @knee @30ms @parent)",
    .example = "kerf show -C demo @knee",
    .rows = rows,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
