#include "cli/commands.h"
#include "cli/exporter.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include "space/base/units.h"
#include <stdio.h>

static const struct option_row rows[] = {
    {"study", 'C', OPTION_TEXT, "DIR", "study directory", "."},
    {"force", 'f', OPTION_FLAG, NULL, "replace the file if it exists", NULL},
    EXPORTER_ROWS,
    {0}};

static void put_next(const char *path, enum profile profile, const struct genome *genome)
{
    char options[64];
    /* A native file has what no other engine computes. */
    if (profile == PROFILE_NATIVE) {
        printf("next: kerf probe %s\n", path);
    } else if (profile_cache_options(genome->kv, options)[0] == '\0') {
        printf("next: llama-cli -m %s -p \"Once upon a time\"\n", path);
    } else {
        /* A quantized KV cache is asked for at run time. */
        printf("it was measured with its KV cache in %s\n", format_name(genome->kv));
        printf("next: llama-cli -m %s %s -p \"Once upon a time\"\n", path, options);
        printf("      (-fa alone in builds before September 2025)\n");
    }
}

static int export_member(const struct reading *reading, const struct front_member *member,
                         const char *path, struct err *err)
{
    struct exporter exporter;
    uint64_t weight_bytes;
    if (exporter_open(&exporter, reading, err) != 0)
        return -1;
    int status = exporter_write(&exporter, member, path, &weight_bytes, err);
    exporter_close(&exporter);
    if (status != 0)
        return -1;
    char size[32], candidate[ID128_HEX];
    id128_hex(member->candidate.id, candidate);
    units_format_size((double)weight_bytes, size);
    printf("%s: %s of weights, candidate %.8s, %s\n", path, size, candidate,
           profile_name(reading->study.limits.profile));
    put_next(path, reading->study.limits.profile, &member->genome);
    return 0;
}

static int run(const struct command *command, int argc, char **argv)
{
    struct err err = {0};
    struct options options;
    struct reading reading;
    int go = option_parse(command, argc, argv, &options, &err);
    if (go == 0)
        return 0;
    if (go < 0)
        return command_fail(&err);
    const char *path = options.arg[1];
    if (file_exists(path) && !option_flag(&options, "force")) {
        err_set(&err, ERR_CREATE, "%s: exists already; --force replaces it", path);
        return command_fail(&err);
    }
    if (reading_open(&reading, option_text(&options, "study"), &err) != 0)
        return command_fail(&err);
    const struct front_member *member =
        front_resolve(&reading.front, reading.archive, options.arg[0], &err);
    int status = 0;
    if (member == NULL || exporter_limit(&reading, &options, &err) != 0 ||
        export_member(&reading, member, path, &err) != 0)
        status = command_fail(&err);
    reading_close(&reading);
    return status;
}

const struct command cmd_export = {
    .name = "export",
    .summary = "write a candidate as a GGUF: for stock llama.cpp, under native for kerf",
    .usage = "kerf export [-C DIR] ID OUT.gguf [--force]",
    .example = "kerf export -C demo @knee small.gguf",
    .rows = rows,
    .min_args = 2,
    .max_args = 2,
    .run = run,
};
