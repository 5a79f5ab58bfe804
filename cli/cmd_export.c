#include "cli/commands.h"
#include "cli/reading.h"
#include "cluster/scratch.h"
#include "evaluator/compression/workshop.h"
#include "evaluator/export.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include "space/base/units.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct option_row rows[] = {
    {"study", 'C', OPTION_TEXT, "DIR", "study directory", "."},
    {"force", 'f', OPTION_FLAG, NULL, "replace the file if it exists", NULL},
    {0}};

static int check_parent(const struct study *study, struct err *err)
{
    struct parent *parent = parent_open(study->model, err);
    if (parent == NULL)
        return -1;
    struct hash256 hash = parent_hash(parent);
    parent_close(parent);
    if (memcmp(&hash, &study->parent, sizeof hash) == 0)
        return 0;
    err_set(err, ERR_DATA, "%s: not the model this study was searched with; put that file back",
            study->model);
    return -1;
}

static int export_member(const struct reading *reading, const struct front_member *member,
                         const char *details, const char *path, struct err *err)
{
    const struct study *study = &reading->study;
    char calibration[STUDY_PATH_MAX], store[STUDY_PATH_MAX];
    struct workshop shop;
    if (check_parent(study, err) != 0 ||
        workshop_open(&shop, study->model, &study->parent,
                      study_path(study, "tables/calibration.bin", calibration),
                      scratch_path(study, "store", store), err) != 0)
        return -1;

    char candidate[ID128_HEX], owner[HASH256_HEX];
    id128_hex(member->candidate.id, candidate);
    hash256_hex(study_hash(study), owner);
    struct export_note note = {.candidate = candidate, .study = owner, .metrics = details};
    struct model *model = stitch_model(shop.parent, shop.store, &member->genome, err);
    int status = model == NULL ? -1
                               : export_gguf(shop.parent, model, &member->genome,
                                             study->limits.profile, &note, path, err);
    if (status == 0) {
        char size[32];
        units_format_size((double)model_weight_bytes(model), size);
        printf("%s: %s of weights, candidate %.8s, %s\n", path, size, candidate,
               profile_name(study->limits.profile));
        printf("next: llama-cli -m %s -p \"Once upon a time\"\n", path);
    }
    model_destroy(model);
    workshop_close(&shop);
    return status;
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
    struct evaluation newest;
    char *details = NULL;
    const struct front_member *member =
        front_resolve(&reading.front, reading.archive, options.arg[0], &err);
    int status = 0;
    if (member == NULL ||
        archive_get_evaluation(reading.archive, &member->candidate.id, &newest, &details, &err) !=
            0 ||
        export_member(&reading, member, details, path, &err) != 0)
        status = command_fail(&err);
    free(details);
    reading_close(&reading);
    return status;
}

const struct command cmd_export = {
    .name = "export",
    .summary = "write a candidate as a GGUF that stock llama.cpp loads",
    .usage = "kerf export [-C DIR] ID OUT.gguf [--force]",
    .example = "kerf export -C demo @knee small.gguf",
    .rows = rows,
    .min_args = 2,
    .max_args = 2,
    .run = run,
};
