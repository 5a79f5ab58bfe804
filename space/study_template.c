/* study_template.c - the study.json that `kerf init` writes: complete, commented, ready to edit. */
#include "space/study.h"

#include "space/base/err.h"
#include "space/base/file.h"

#include <cjson/cJSON.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The figures that differ between a quick look and a real search. */
struct budget {
    const char *calibration, *sensitivity, *search, *final; /* tokens */
    const char *workloads;
    unsigned task_items, population, evals;
    const char *time;
};

static const struct budget quick_budget = {"16Ki", "1Ki", "2Ki", "8Ki", "\"pp128@b1\", \"tg32@b1\"",
                                           100,    32,    96,    "3min"};
static const struct budget full_budget = {
    "128Ki", "4Ki", "16Ki", "64Ki", "\"pp512@b1\", \"tg128@b1\"", 0, 64, 2000, "4h"};

/* `path` as seen from `dir` (both absolute) where that is at most three steps up, else as it is:
 * a study and the model beside it can move together. */
static void path_from(const char *dir, const char *path, char seen[PATH_MAX])
{
    size_t shared = 0, ups = 0;

    for (size_t i = 0; dir[i] == path[i] || (dir[i] == '\0' && path[i] == '/'); i++) {
        if (path[i] == '/')
            shared = i;
        if (dir[i] == '\0' || path[i] == '\0')
            break;
    }
    for (const char *rest = dir + shared; *rest != '\0'; rest++)
        ups += *rest == '/' && rest[1] != '\0';
    if (shared == 0 || ups > 3 || strlen(path) + 10 > PATH_MAX) {
        snprintf(seen, PATH_MAX, "%s", path);
        return;
    }
    seen[0] = '\0';
    while (ups-- > 0)
        strcat(seen, "../");
    strcat(seen, path + shared + 1);
}

static void put_quoted(FILE *out, const char *text)
{
    cJSON *string = cJSON_CreateString(text);
    char *quoted = cJSON_PrintUnformatted(string);

    fputs(quoted != NULL ? quoted : "\"\"", out);
    cJSON_free(quoted);
    cJSON_Delete(string);
}

/* A path given from the working folder, written as seen from the study's. */
static int put_path(FILE *out, const char *dir, const char *path, struct err *err)
{
    char absolute[PATH_MAX], seen[PATH_MAX];

    if (realpath(path, absolute) == NULL) {
        err_set(err, ERR_MISSING, "%s: no such file", path);
        return -1;
    }
    path_from(dir, absolute, seen);
    put_quoted(out, seen);
    return 0;
}

static int put_tasks(FILE *out, const char *dir, const struct study_template *wanted,
                     struct err *err)
{
    for (uint32_t i = 0; i < wanted->n_tasks; i++) {
        fputs(i == 0 ? "\n      " : ",\n      ", out);
        if (put_path(out, dir, wanted->tasks[i], err) != 0)
            return -1;
    }
    if (wanted->n_tasks > 0)
        fputs("\n    ", out);
    return 0;
}

static int put_quality(FILE *out, const char *dir, const struct study_template *wanted,
                       const struct budget *budget, struct err *err)
{
    fputs("  // How good a candidate is: its KL divergence to the parent on held-out text.\n"
          "  \"quality\": {\n"
          "    // Text that tells which weights matter; never text that quality is measured on.  An\n"
          "    // importance matrix of llama.cpp (*.gguf, *.dat) will do, but tells less.\n"
          "    \"calibration\": {\"file\": ",
          out);
    if (put_path(out, dir, wanted->calibration, err) != 0)
        return -1;
    fprintf(out, ", \"tokens\": \"%s\"},\n    \"heldout\": {\"file\": ", budget->calibration);
    if (put_path(out, dir, wanted->heldout, err) != 0)
        return -1;
    fputs("},\n    // What stands between two documents of these files; \"\": each is one document."
          "\n    \"separator\": ",
          out);
    put_quoted(out, wanted->separator != NULL ? wanted->separator : "");
    fputs(
        ",\n    // Tokens per sequence, the cache is emptied after each.  Left out: the parent's\n"
        "    // context, at most 512.\n"
        "    // \"sequence\": 512,\n"
        "    // Tokens per measurement: one unit changed, a candidate of the search, the front.\n",
        out);
    fprintf(out,
            "    \"sensitivity\": {\"tokens\": \"%s\"},\n"
            "    \"search\": {\"tokens\": \"%s\"},\n"
            "    \"final\": {\"tokens\": \"%s\"},\n"
            "    // Multiple-choice tasks (JSONL) for members of the front, and how many items of\n"
            "    // each are scored, 0 for all.\n"
            "    \"tasks\": [",
            budget->sensitivity, budget->search, budget->final);
    if (put_tasks(out, dir, wanted, err) != 0)
        return -1;
    fprintf(out, "],\n    \"task_items\": %u\n  },\n\n", budget->task_items);
    return 0;
}

/* clang-format off */
static void put_space(FILE *out, enum profile profile)
{
    fprintf(out,
            "  // What the result must load in:\n"
            "  //   gguf         stock llama.cpp; the same widths in all layers, whole layers dropped\n"
            "  //   gguf-hetero  stock llama.cpp as architecture \"deci\"; widths by layer\n"
            "  //   native       anything kerf itself can run\n"
            "  \"target\": {\"profile\": \"%s\"},\n\n",
            profile_name(profile));
    fputs("  // What may be taken away.  Every line here can be left out: kerf then chooses by the\n"
          "  // shape of the parent.\n"
          "  \"space\": {\n"
          "    // Fewest layers that stay.  Left out: half of them.\n"
          "    // \"depth\": {\"min\": 4},\n"
          "    // KV groups that attention may keep, the parent's own count among them.\n"
          "    // \"kv_groups\": [2, 4],\n"
          "    // Widths of the residual stream as shares of the parent's.  Left out: 0.875 too where\n"
          "    // the parent is so wide that the K-quants still fit.\n"
          "    // \"hidden\": [0.875, 1],\n"
          "    // \"hadamard\" also tries the whole stream rotated, which spreads outliers; narrower\n"
          "    // ones always are.\n"
          "    // \"rotation\": \"none\",\n"
          "    // Formats of the layers' matrices, and those of embedding and head.\n"
          "    // \"types\": [\"Q2_K\", \"Q3_K\", \"Q4_K\", \"Q5_K\", \"Q6_K\", \"Q8_0\"],\n"
          "    // \"embedding\": [\"Q4_K\", \"Q6_K\", \"Q8_0\"],\n"
          "    // Formats of the KV cache; left out: all that the heads' size takes.  Profile native\n"
          "    // also chooses between activations of 8 bits and float ones, unit by unit.\n"
          "    // \"kv\": [\"F16\", \"Q8_0\", \"Q4_0\"],\n"
          "    // \"act\": [\"a8\", \"a16\"],\n"
          "    // Which units may go altogether; profile gguf takes both or neither.\n"
          "    \"drop\": [\"attn\", \"ffn\"],\n"
          "    // Narrowest FFN as a share of the parent's.  \"grid\": 256 beside it would set the\n"
          "    // step between widths; left out: the widest that the parent's shape allows.\n"
          "    \"ffn\": {\"min\": 0.25}\n"
          "  },\n\n"
          "  // \"quantize-prune\" quantizes a matrix once and cuts it short; by default the weights\n"
          "  // that stay are solved anew for those that went, and then quantized.\n"
          "  // \"compression\": {\"order\": \"prune-quantize\"},\n\n",
          out);
}
/* clang-format on */

static void put_rest(FILE *out, const struct budget *budget)
{
    fprintf(out,
            "  // How fast it is: one prefill and one decode workload, timed on this machine in\n"
            "  // rounds against the parent until the ratio is known to +-ci.\n"
            "  \"latency\": {\n"
            "    \"workloads\": [%s],\n"
            "    \"threads\": \"cores\",\n"
            "    \"rounds\": {\"min\": 11, \"max\": 60},\n"
            "    \"ci\": 0.01\n"
            "  },\n\n",
            budget->workloads);
    fprintf(
        out,
        "  // The most that compressed parts may take on the disk of a node; what was used least\n"
        "  // recently goes first.  This may change while a study runs.\n"
        "  // \"limits\": {\"disk\": \"200GiB\"},\n\n"
        "  // When to stop: after so many candidates or so long, whichever comes first.  These\n"
        "  // two may change too; everything else is frozen when it begins.\n"
        "  // The first half of the candidates, 96 at most, are seeds: a quarter spread evenly, "
        "the\n"
        "  // others computed from the sensitivities.  The rest are bred from a population of the\n"
        "  // best, 8 to 65536.\n"
        "  \"search\": {\n"
        "    \"seed\": 1,\n"
        "    \"population\": %u,\n"
        "    \"evals\": %u,\n"
        "    \"time\": \"%s\"\n"
        "  }\n"
        "}\n",
        budget->population, budget->evals, budget->time);
}

static int put_study(FILE *out, const char *dir, const struct study_template *wanted,
                     struct err *err)
{
    const struct budget *budget = wanted->quick ? &quick_budget : &full_budget;

    fputs("// The config of a kerf study.  Paths are relative to this file; token counts may be\n"
          "// written as 4096 or \"4Ki\"; times carry their unit.\n"
          "{\n"
          "  \"$schema\": \"https://kerf.invalid/schema/study-1.json\",\n\n"
          "  // The parent, a GGUF file.  It is only read.\n"
          "  \"model\": {\"path\": ",
          out);
    if (put_path(out, dir, wanted->model, err) != 0)
        return -1;
    fputs("},\n\n", out);
    put_space(out, wanted->profile);
    if (put_quality(out, dir, wanted, budget, err) != 0)
        return -1;
    put_rest(out, budget);
    return 0;
}

/* Before anything is made: the files must be there. */
static int check_files(const struct study_template *wanted, struct err *err)
{
    const char *missing = NULL;

    for (uint32_t i = 0; i < wanted->n_tasks; i++)
        if (!file_exists(wanted->tasks[i]))
            missing = wanted->tasks[i];
    if (!file_exists(wanted->heldout))
        missing = wanted->heldout;
    if (!file_exists(wanted->calibration))
        missing = wanted->calibration;
    if (!file_exists(wanted->model))
        missing = wanted->model;
    if (missing == NULL)
        return 0;
    err_set(err, ERR_MISSING, "%.300s: no such file", missing);
    return -1;
}

int study_init(const char *dir, const struct study_template *wanted, struct err *err)
{
    static const char *const names[] = {"study.json", "study.resolved.json"};
    char absolute[PATH_MAX], path[PATH_MAX + 32];
    struct file_draft draft;

    if (wanted->n_tasks > STUDY_MAX_TASKS) {
        err_set(err, ERR_CONFIG, "%u tasks, a study takes at most %d", wanted->n_tasks,
                STUDY_MAX_TASKS);
        return -1;
    }
    if (check_files(wanted, err) != 0 || file_make_dirs(dir, err) != 0)
        return -1;
    if (realpath(dir, absolute) == NULL) {
        err_set(err, ERR_CREATE, "%s: cannot be made a folder", dir);
        return -1;
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", absolute, names[i]);
        if (file_exists(path)) {
            err_set(err, ERR_CREATE,
                    "%.300s already holds a study; edit its study.json or choose another folder",
                    absolute);
            return -1;
        }
    }
    snprintf(path, sizeof path, "%s/study.json", absolute);
    if (file_draft_open(&draft, path, err) != 0)
        return -1;
    if (put_study(draft.stream, absolute, wanted, err) != 0) {
        file_draft_discard(&draft);
        return -1;
    }
    return file_draft_commit(&draft, err);
}
