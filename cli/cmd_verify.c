#include "cli/commands.h"
#include "cli/reading.h"
#include "evaluator/export.h"
#include "evaluator/parent.h"
#include "space/base/err.h"
#include <stdio.h>

static const struct option_row rows[] = {{0}};

static int run(const struct command *command, int argc, char **argv)
{
    struct err err = {0};
    struct options options;
    int go = option_parse(command, argc, argv, &options, &err);
    if (go == 0)
        return 0;
    if (go < 0 || export_verify(options.arg[0], &err) != 0)
        return command_fail(&err);
    struct parent *parent = parent_open(options.arg[0], &err);
    if (parent == NULL)
        return command_fail(&err);
    char shape[160], hash[HASH256_HEX];
    hash256_hex(parent_hash(parent), hash);
    printf("%s: loads; %s\ntensors sha256:%s\n", options.arg[0],
           geometry_describe(parent_geometry(parent), shape), hash);
    parent_close(parent);
    return 0;
}

const struct command cmd_verify = {
    .name = "verify",
    .summary = "check a GGUF against the loader rules of stock llama.cpp",
    .usage = "kerf verify FILE.gguf",
    .example = "kerf verify small.gguf",
    .rows = rows,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
