#include "cli/commands.h"
#include "cli/reading.h"
#include "space/base/err.h"

static const struct option_row rows[] = {
    READING_ROWS,
    {"plot", 0, OPTION_FLAG, NULL, "draw decode latency against KLD in the terminal", NULL},
    {"svg", 0, OPTION_FLAG, NULL, "write the same picture as SVG to stdout", NULL},
    {0}};

static int run(const struct command *command, int argc, char **argv)
{
    struct err err = {0};
    struct options options;
    struct reading reading;
    enum show_format format;
    int go = reading_begin(&reading, &options, &format, command, argc, argv, &err);
    if (go <= 0)
        return go == 0 ? 0 : command_fail(&err);

    if (option_flag(&options, "svg"))
        show_svg(stdout, &reading.study, &reading.front);
    else if (option_flag(&options, "plot"))
        show_plot(stdout, &reading.front, 72, 20);
    else
        show_front(stdout, format, &reading.study, &reading.front);
    int status = reading.front.n > 0 ? 0 : err_exit_status(ERR_NO);
    reading_close(&reading);
    return status;
}

const struct command cmd_front = {
    .name = "front",
    .summary = "the measured candidates that nobody beats",
    .usage = "kerf front [-C DIR] [-o table|json|tsv] [--plot|--svg]",
    .example = "kerf front -C demo --plot",
    .rows = rows,
    .run = run,
};
