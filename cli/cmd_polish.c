/* cmd_polish.c - kerf polish: a chosen member with its weights made once more for the inputs that
 * they really meet, measured beside what it was, and exported if that helped. */
#include "cli/commands.h"
#include "cli/polisher.h"
#include "results/show_parts.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include "space/base/units.h"
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct option_row rows[] = {
    {"study", 'C', OPTION_TEXT, "DIR", "study directory", "."},
    {"output", 'o', OPTION_TEXT, "FORMAT", "table or json", "table"},
    {"tokens", 'n', OPTION_TEXT, "COUNT", "of the calibration text; else all that the study takes",
     NULL},
    {"force", 'f', OPTION_FLAG, NULL, "replace the file if it exists", NULL},
    {"anyway", 0, OPTION_FLAG, NULL, "write the file even if polishing did not help", NULL},
    {0}};

/* --- what is said --- */

static void put_score(cJSON *node, const char *name, const struct polisher_score *score)
{
    cJSON *own = cJSON_AddObjectToObject(node, name);
    put_number(own, "kld", score->quality.kld);
    put_number(own, "kld_se", score->quality.kld_se);
    put_number(own, "ppl", score->quality.ppl);
    put_number(own, "top1", score->quality.top1);
    put_number(own, "top1_se", score->quality.top1_se);
    put_number(own, "acc", score->accuracy);
    put_number(own, "acc_se", score->accuracy_se);
}

/* What was done and what came of it: the note in the file, and most of -o json. */
static void put_polish(cJSON *root, const struct polisher *p)
{
    char source[ID128_HEX], text[HASH256_HEX];
    id128_hex(p->member->candidate.id, source);
    hash256_hex(p->exporter->reading->study.calibration_hash, text);
    cJSON_AddStringToObject(root, "source", source);
    put_number(root, "alpha", p->plan.alpha);
    put_number(root, "drift", p->plan.drift);
    put_number(root, "tokens", p->text.n_tokens);
    cJSON_AddStringToObject(root, "text_sha256", text);
    put_number(root, "matrices", p->polished.n_matrices);
    put_number(root, "changed", p->polished.n_changed);
    put_number(root, "heldout_tokens", p->after.quality.n_tokens);
    put_score(root, "before", &p->before);
    put_score(root, "after", &p->after);
    put_number(root, "kld_change", p->kld_change);
    put_number(root, "kld_change_se", p->kld_change_se);
}

/* Latency is what was measured of the candidate: kernels see the same shapes, formats and bytes. */
static void show_json(const struct polisher *p, const char *path)
{
    const struct reading *reading = p->exporter->reading;
    const struct measured *decode = &p->member->evaluation.decode;
    cJSON *root = cJSON_CreateObject();
    show_json_head(root, &reading->study, &reading->front);
    put_polish(root, p);
    cJSON *tpot = cJSON_AddObjectToObject(root, "tpot_ms");
    put_number(tpot, "p50", decode->median_ns * 1e-6);
    put_number(tpot, "lo", decode->lo_ns * 1e-6);
    put_number(tpot, "hi", decode->hi_ns * 1e-6);
    put_number(root, "weight_bytes", (double)model_weight_bytes(p->polished.model));
    if (path != NULL)
        cJSON_AddStringToObject(root, "file", path);
    char *text = cJSON_Print(root);
    if (text != NULL)
        printf("%s\n", text);
    free(text);
    cJSON_Delete(root);
}

static void show_table(const struct polisher *p)
{
    const struct study *study = &p->exporter->reading->study;
    const struct quality *before = &p->before.quality, *after = &p->after.quality;
    char a[SHOW_NUMBER], b[SHOW_NUMBER], hex[ID128_HEX], workload[32];
    printf("polished  %s: %u of %u matrices made anew on %u calibration tokens\n",
           show_id(&p->member->candidate.id, hex), p->polished.n_changed, p->polished.n_matrices,
           p->text.n_tokens);
    printf("kld       %s -> %s nats per token (%u held-out tokens)\n",
           show_interval(before->kld, show_half(before->kld_se), a),
           show_interval(after->kld, show_half(after->kld_se), b), after->n_tokens);
    printf("          %s in pairs%s\n",
           show_interval(p->kld_change, show_half(p->kld_change_se), a),
           show_half(p->kld_change_se) >= (p->kld_change < 0 ? -p->kld_change : p->kld_change)
               ? ", within the noise"
               : "");
    printf("ppl       %.4g -> %.4g; top-1 %.3f -> %.3f\n", before->ppl, after->ppl, before->top1,
           after->top1);
    if (study->n_tasks > 0)
        printf("tasks     %s -> %s\n",
               show_interval(p->before.accuracy, show_half(p->before.accuracy_se), a),
               show_interval(p->after.accuracy, show_half(p->after.accuracy_se), b));
    printf("tpot p50  %s ms (%s), measured of the candidate: shapes, formats and bytes are the "
           "same\n",
           show_latency(&p->member->evaluation.decode, a),
           workload_format(&study->decode, workload));
}

/* --- what is done --- */

/* Minutes of work should not end at a folder that is not there. */
static int check_folder(const char *path, struct err *err)
{
    char folder[STUDY_PATH_MAX] = ".";
    const char *slash = strrchr(path, '/');
    if (slash != NULL && snprintf(folder, sizeof folder, "%.*s", (int)(slash - path + 1), path) >=
                             (int)sizeof folder) {
        err_set(err, ERR_CREATE, "cannot create %.64s...: the path is too long", path);
        return -1;
    }
    if (access(folder, W_OK | X_OK) == 0)
        return 0;
    err_set(err, ERR_CREATE, "cannot create %s: %s", path, strerror(errno));
    return -1;
}

static int write_file(struct polisher *p, const char *path, struct err *err)
{
    cJSON *root = cJSON_CreateObject();
    put_polish(root, p);
    char *note = cJSON_PrintUnformatted(root);
    cJSON_Delete(root);
    if (note == NULL) {
        err_set(err, ERR_MEMORY, "polish: out of memory");
        return -1;
    }
    int status =
        exporter_write_polished(p->exporter, p->member, p->polished.model, note, path, err);
    free(note);
    return status;
}

/* The model goes to `path` if it is nearer to its parent than it was, or `anyway`. */
static int settle(struct polisher *p, enum show_format format, const char *path, bool anyway,
                  struct err *err)
{
    bool writes = p->kld_change < 0 || anyway;
    char change[SHOW_NUMBER], size[32];
    if (p->polished.n_changed == 0) {
        err_set(err, ERR_NO,
                "nothing to polish: no matrix comes nearer to the parent's; nothing is written");
        return -1;
    }
    if (writes && write_file(p, path, err) != 0)
        return -1;
    if (format == SHOW_JSON)
        show_json(p, writes ? path : NULL);
    else
        show_table(p);
    if (!writes) {
        err_set(err, ERR_NO,
                "polishing does not help here: KLD changed by %s; nothing is written (--anyway "
                "writes it)",
                show_interval(p->kld_change, show_half(p->kld_change_se), change));
        return -1;
    }
    if (format != SHOW_JSON) {
        units_format_size((double)model_weight_bytes(p->polished.model), size);
        printf("%s: %s of weights, %s\nnext: kerf verify %s\n", path, size,
               profile_name(p->exporter->reading->study.limits.profile), path);
    }
    return 0;
}

static int polish(const struct reading *reading, const struct options *options,
                  enum show_format format, uint64_t n_tokens, struct err *err)
{
    struct exporter exporter;
    struct polisher polisher;
    const struct front_member *member =
        front_resolve(&reading->front, reading->archive, options->arg[0], err);
    if (member == NULL || exporter_open(&exporter, reading, err) != 0)
        return -1;
    int status = polisher_open(&polisher, &exporter, member,
                               n_tokens > 0 ? n_tokens : reading->study.calibration_tokens, err);
    if (status == 0) {
        status = polisher_run(&polisher, err);
        if (status == 0)
            status =
                settle(&polisher, format, options->arg[1], option_flag(options, "anyway"), err);
        polisher_close(&polisher);
    }
    exporter_close(&exporter);
    return status;
}

static int read_options(const struct options *options, enum show_format *format, uint64_t *n_tokens,
                        struct err *err)
{
    const char *path = options->arg[1];
    *n_tokens = 0;
    if (reading_format(options, format, err) != 0)
        return -1;
    if (*format == SHOW_TSV) {
        err_set(err, ERR_USAGE, "-o tsv: table or json");
        return -1;
    }
    if (option_text(options, "tokens") != NULL) {
        if (option_count(options, "tokens", n_tokens, err) != 0)
            return -1;
        if (*n_tokens < 2) {
            err_set(err, ERR_USAGE, "--tokens: 2 at least");
            return -1;
        }
    }
    if (file_exists(path) && !option_flag(options, "force")) {
        err_set(err, ERR_CREATE, "%s: exists already; --force replaces it", path);
        return -1;
    }
    return check_folder(path, err);
}

static int run(const struct command *command, int argc, char **argv)
{
    struct err err = {0};
    struct options options;
    struct reading reading;
    enum show_format format;
    uint64_t n_tokens;
    int go = option_parse(command, argc, argv, &options, &err);
    if (go == 0)
        return 0;
    if (go < 0 || read_options(&options, &format, &n_tokens, &err) != 0 ||
        reading_open(&reading, option_text(&options, "study"), &err) != 0)
        return command_fail(&err);
    int status = polish(&reading, &options, format, n_tokens, &err) == 0 ? 0 : command_fail(&err);
    reading_close(&reading);
    return status;
}

const struct command cmd_polish = {
    .name = "polish",
    .summary = "round a candidate's weights once more, for the inputs that they really meet",
    .usage = "kerf polish [-C DIR] ID OUT.gguf [--tokens COUNT] [--anyway] [--force] "
             "[-o table|json]",
    .example = "kerf polish -C demo @knee small.gguf",
    .rows = rows,
    .min_args = 2,
    .max_args = 2,
    .run = run,
};
