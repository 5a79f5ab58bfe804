#include "cli/model_question.h"

#include "cli/beginning.h"
#include "cluster/workbench.h"
#include "evaluator/parent.h"
#include "latency_model/latency_study.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include "space/base/units.h"

#include <stdio.h>
#include <string.h>

#define MAX_HELD_OUT 200

/* --- what was asked --- */

static int refuse(struct err *err, const char *why)
{
    err_set(err, ERR_USAGE, "kerf model measure: %s", why);
    return -1;
}

static bool is_given(const struct options *options, const char *name)
{
    for (int i = 0; options->rows[i].name != NULL; i++)
        if (options->given[i] && strcmp(options->rows[i].name, name) == 0)
            return true;
    return false;
}

/* A study has its own space and workloads, and its own place for tables. */
static int check_source(const struct model_question *q, const struct options *options,
                        struct err *err)
{
    static const char *const alone[] = {"profile", "workloads", "to", NULL};
    bool study = q->model == NULL && q->geometry == NULL;

    if ((q->model != NULL) + (q->geometry != NULL) + is_given(options, "study") > 1)
        return refuse(err, "a study, a model or a geometry, one of them");
    if (!study && q->to == NULL)
        return refuse(err, "--to is missing: where the tables go");
    for (int i = 0; study && alone[i] != NULL; i++) {
        if (!is_given(options, alone[i]))
            continue;
        err_set(err, ERR_USAGE,
                "kerf model measure: --%s goes with --model or --geometry; a study has its own",
                alone[i]);
        return -1;
    }
    return 0;
}

int model_question_ask(struct model_question *q, const struct options *options, uint64_t n_points,
                       struct err *err)
{
    *q = (struct model_question){.dir = option_text(options, "study"),
                                 .model = option_text(options, "model"),
                                 .geometry = option_text(options, "geometry"),
                                 .to = option_text(options, "to"),
                                 .n_points = n_points};
    if (check_source(q, options, err) != 0 ||
        option_count(options, "held-out", &q->n_held_out, err) != 0 ||
        option_count(options, "rounds", &q->rounds, err) != 0 ||
        option_count(options, "seed", &q->seed, err) != 0 ||
        option_count(options, "threads", &q->n_threads, err) != 0)
        return -1;
    if (units_parse_duration(option_text(options, "time"), &q->max_seconds, err) != 0) {
        err_prefix(err, "--time");
        return -1;
    }
    if (q->n_held_out > MAX_HELD_OUT)
        err_set(err, ERR_USAGE, "--held-out: at most %d", MAX_HELD_OUT);
    else if (q->rounds < LATENCY_STUDY_MIN_ROUNDS || q->rounds > 1000)
        err_set(err, ERR_USAGE, "--rounds: %d to 1000", LATENCY_STUDY_MIN_ROUNDS);
    else if (q->n_threads > 4096)
        err_set(err, ERR_USAGE, "--threads: at most 4096");
    else
        return 0;
    return -1;
}

/* --- the space and its workloads --- */

static int parse_workloads(struct study *study, const char *list, struct err *err)
{
    const char *comma = strchr(list, ',');
    char first[64];
    struct err why = {0};

    if (comma == NULL || (size_t)(comma - list) >= sizeof first)
        return refuse(err, "--workloads: two of them, such as tg8@c128@b1,pp128@b1");
    memcpy(first, list, (size_t)(comma - list));
    first[comma - list] = '\0';
    if (workload_parse(first, &study->decode, &why) != 0 ||
        workload_parse(comma + 1, &study->prefill, &why) != 0) {
        err_set(err, ERR_USAGE, "--workloads: %.300s", why.text);
        return -1;
    }
    if (study->decode.kind != WORKLOAD_DECODE || study->prefill.kind != WORKLOAD_PREFILL)
        return refuse(err, "--workloads: decode first, then prefill");
    return 0;
}

/* The context is known when the shape is. */
static int check_context(const struct study *study, struct err *err)
{
    const struct workload *workloads[2] = {&study->decode, &study->prefill};

    for (int w = 0; w < 2; w++) {
        uint32_t wanted = workload_positions(workloads[w]);
        if (wanted <= study->geometry.n_ctx)
            continue;
        err_set(err, ERR_USAGE, "--workloads: %u positions, the model's context has %u", wanted,
                study->geometry.n_ctx);
        return -1;
    }
    return 0;
}

static int geometry_of_file(const char *path, struct geometry *geometry, struct err *err)
{
    struct parent *parent = parent_open(path, err);

    if (parent == NULL)
        return -1;
    *geometry = *parent_geometry(parent);
    parent_close(parent);
    return 0;
}

/* A study that only has what latency hangs on. */
static int open_shape(const struct model_question *q, const struct options *options,
                      struct study *study, char path[2][STUDY_PATH_MAX], struct err *err)
{
    enum profile profile = profile_parse(option_text(options, "profile"));

    if (profile == N_PROFILES) {
        err_set(err, ERR_USAGE, "--profile %s: unknown; gguf, gguf-hetero or native",
                option_text(options, "profile"));
        return -1;
    }
    if (parse_workloads(study, option_text(options, "workloads"), err) != 0)
        return -1;
    int status = q->geometry != NULL ? geometry_parse(q->geometry, &study->geometry, err)
                                     : geometry_of_file(q->model, &study->geometry, err);
    if (status != 0 || check_context(study, err) != 0)
        return -1;
    space_default_limits(&study->limits, &study->geometry, profile);
    snprintf(path[0], STUDY_PATH_MAX, "%s/op-table.json", q->to);
    snprintf(path[1], STUDY_PATH_MAX, "%s/latency-model.json", q->to);
    return file_make_dirs(q->to, err);
}

static int open_study(const struct model_question *q, struct study *study,
                      char path[2][STUDY_PATH_MAX], struct err *err)
{
    char tables[STUDY_PATH_MAX];

    if (beginning_open(study, q->dir, err) != 0)
        return -1;
    study_path(study, TABLE_OPS, path[0]);
    study_path(study, TABLE_LATENCY, path[1]);
    return file_make_dirs(study_path(study, "tables", tables), err);
}

bool model_question_is_study(const struct model_question *q)
{
    return q->model == NULL && q->geometry == NULL;
}

int model_question_study(const struct model_question *q, const struct options *options,
                         struct study *study, char path[2][STUDY_PATH_MAX], struct err *err)
{
    return model_question_is_study(q) ? open_study(q, study, path, err)
                                      : open_shape(q, options, study, path, err);
}
