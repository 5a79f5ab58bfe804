/* cmd_model.c - kerf model measure|fit|show|check: the latency model of a study's machine, made
 * from what the archive has measured end to end, or without a search (model_measure.h). */
#include "cli/commands.h"
#include "cli/model_measure.h"
#include "cli/model_report.h"
#include "cli/reading.h"
#include "cluster/workbench.h"
#include "latency_model/predictor.h"
#include "results/show_parts.h"
#include "space/base/err.h"
#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MIN_POINTS 8

static const struct option_row rows[] = {
    READING_ROWS,
    {"points", 0, OPTION_TEXT, "COUNT", "candidates that the fit may use", "40"},
    {"allow-flagged", 0, OPTION_FLAG, NULL, "take latencies of a machine that was not quiet, too",
     NULL},
    MODEL_MEASURE_ROWS,
    {0}};

/* Every candidate that was measured in quiet, the parent first; decode and prefill. */
struct pool {
    struct reading reading;
    struct op_table *ops;
    bool take_noisy;
    size_t n, n_noisy; /* n_noisy: left out */
    struct predictor_point *point[2];
    bool *on_front, *used; /* used: among the points of the fit */
};

static const struct workload *workload_of(const struct pool *pool, int w)
{
    return w == 0 ? &pool->reading.study.decode : &pool->reading.study.prefill;
}

static void add_member(struct pool *pool, const struct front_member *member)
{
    const struct evaluation *e = &member->evaluation;
    const struct measured *measured[2] = {&e->decode, &e->prefill};
    if (e->flags != 0 && !pool->take_noisy) {
        pool->n_noisy++;
        return;
    }
    for (int w = 0; w < 2; w++) {
        struct predictor_point *point = &pool->point[w][pool->n];
        point->id = member->candidate.id;
        point->ns = measured[w]->median_ns;
        if (!predictor_terms(pool->ops, &member->genome, &pool->reading.study.geometry,
                             workload_of(pool, w), point))
            return;
    }
    pool->on_front[pool->n++] = show_is_on_front(&pool->reading.front, member);
}

static void pool_close(struct pool *pool)
{
    op_table_destroy(pool->ops);
    free(pool->point[0]);
    free(pool->point[1]);
    free(pool->on_front);
    free(pool->used);
    reading_close(&pool->reading);
}

static int pool_open(struct pool *pool, const char *dir, bool take_noisy, struct err *err)
{
    char path[STUDY_PATH_MAX];
    *pool = (struct pool){.take_noisy = take_noisy};
    if (reading_open(&pool->reading, dir, err) != 0)
        return -1;
    const struct front *front = &pool->reading.front;
    size_t room = front->n_all + 1;
    pool->ops = op_table_load(study_path(&pool->reading.study, TABLE_OPS, path), NULL, err);
    pool->point[0] = calloc(room, sizeof **pool->point);
    pool->point[1] = calloc(room, sizeof **pool->point);
    pool->on_front = calloc(room, sizeof *pool->on_front);
    pool->used = calloc(room, sizeof *pool->used);
    if (pool->ops != NULL && (pool->point[0] == NULL || pool->point[1] == NULL ||
                              pool->on_front == NULL || pool->used == NULL))
        err_set(err, ERR_MEMORY, "latency model: out of memory");
    else if (pool->ops != NULL) {
        if (front->has_parent)
            add_member(pool, &front->parent);
        for (size_t i = 0; i < front->n_all; i++)
            add_member(pool, &front->all[i]);
        return 0;
    }
    pool_close(pool);
    return -1;
}

static struct predictor_origin origin_of(const struct pool *pool)
{
    struct predictor_origin origin = {.geometry = pool->reading.study.geometry};
    snprintf(origin.device, sizeof origin.device, "%s", pool->reading.front.device);
    snprintf(origin.kernels, sizeof origin.kernels, "%s", pool->reading.front.kernels);
    return origin;
}

/* --- fit --- */

static int fit(struct pool *pool, size_t n_wanted, struct predictor predictor[2], struct err *err)
{
    size_t n = 0, *chosen = calloc(n_wanted + 1, sizeof *chosen);
    struct predictor_point *points = calloc(n_wanted + 1, sizeof *points);
    int status = -1;
    if (chosen == NULL || points == NULL)
        err_set(err, ERR_MEMORY, "latency model: out of memory");
    else if (pool->n < MIN_POINTS)
        err_set(
            err, ERR_NO,
            "%zu candidates were measured in quiet (%zu more are noisy), a fit wants %d; let the "
            "search go on",
            pool->n, pool->n_noisy, MIN_POINTS);
    else
        /* The parent, which comes first, always. */
        status = predictor_choose(
            (const struct predictor_point *const[]){pool->point[0], pool->point[1]}, pool->n, 1,
            n_wanted, chosen, &n, err);
    for (int w = 0; w < 2 && status == 0; w++) {
        for (size_t i = 0; i < n; i++)
            points[i] = pool->point[w][chosen[i]];
        status = predictor_fit(&predictor[w], workload_of(pool, w), points, n, err);
    }
    free(points);
    free(chosen);
    return status;
}

/* --- showing --- */

static void mark_used(struct pool *pool, const struct predictor *predictor)
{
    for (size_t i = 0; i < pool->n; i++)
        for (size_t k = 0; k < predictor->n; k++)
            if (memcmp(&pool->point[0][i].id, &predictor->point[k].id, sizeof(struct id128)) == 0)
                pool->used[i] = true;
}

/* The points that the fit has not seen: all of them, or those on the front. */
static void judge(const struct pool *pool, const struct predictor *predictor, int w,
                  bool front_only, struct predictor_accuracy *accuracy)
{
    struct predictor_point *held = calloc(pool->n + 1, sizeof *held);
    size_t n = 0;
    for (size_t i = 0; i < pool->n && held != NULL; i++)
        if (!pool->used[i] && (pool->on_front[i] || !front_only))
            held[n++] = pool->point[w][i];
    predictor_judge(predictor, held, n, accuracy);
    free(held);
}

static void print_model(const struct pool *pool, const struct predictor predictor[2])
{
    show_head(stdout, &pool->reading.study, &pool->reading.front);
    model_report_factors(predictor);
}

/* Which candidates the fit is held against. */
enum { HELD_OUT, HELD_OUT_FRONT, HELD_OUT_STAND_INS, N_HELD_OUT };

static void judge_each(const struct pool *pool, const struct predictor *predictor, int w,
                       struct predictor_accuracy accuracy[N_HELD_OUT])
{
    judge(pool, predictor, w, false, &accuracy[HELD_OUT]);
    judge(pool, predictor, w, true, &accuracy[HELD_OUT_FRONT]);
    predictor_judge(predictor, predictor->held_out, predictor->n_held_out,
                    &accuracy[HELD_OUT_STAND_INS]);
}

static void print_check_table(const struct pool *pool, const struct predictor predictor[2])
{
    static const char *const suffix[N_HELD_OUT] = {"", ", front", ", stand-ins"};
    struct model_report_row lines[2 * N_HELD_OUT];
    char what[2 * N_HELD_OUT][64], name[32];
    size_t n = 0;
    for (int w = 0; w < 2; w++) {
        struct predictor_accuracy accuracy[N_HELD_OUT];
        judge_each(pool, &predictor[w], w, accuracy);
        for (int h = 0; h < N_HELD_OUT; h++) {
            if (h == HELD_OUT_STAND_INS && accuracy[h].n == 0)
                continue;
            snprintf(what[n], sizeof what[n], "%s%s", workload_format(workload_of(pool, w), name),
                     suffix[h]);
            lines[n] = (struct model_report_row){what[n], accuracy[h]};
            n++;
        }
    }
    show_head(stdout, &pool->reading.study, &pool->reading.front);
    printf("model     fitted to %zu candidates; %zu noisy ones are left out\n", predictor[0].n,
           pool->n_noisy);
    model_report_accuracies(lines, n);
}

static void print_check_json(const struct pool *pool, const struct predictor predictor[2])
{
    cJSON *root = cJSON_CreateObject();
    show_json_head(root, &pool->reading.study, &pool->reading.front);
    put_number(root, "points", (double)predictor[0].n);
    put_number(root, "noisy", (double)pool->n_noisy);
    for (int w = 0; w < 2; w++) {
        struct predictor_accuracy accuracy[N_HELD_OUT];
        cJSON *node = cJSON_AddObjectToObject(root, workload_metric(workload_of(pool, w)));
        judge_each(pool, &predictor[w], w, accuracy);
        model_report_put(node, "held_out", &accuracy[HELD_OUT]);
        model_report_put(node, "held_out_front", &accuracy[HELD_OUT_FRONT]);
        model_report_put(node, "held_out_stand_ins", &accuracy[HELD_OUT_STAND_INS]);
    }
    char *text = cJSON_Print(root);
    if (text != NULL)
        printf("%s\n", text);
    free(text);
    cJSON_Delete(root);
}

/* --- the command --- */

static int run_model(struct pool *pool, const char *action, size_t n_points,
                     enum show_format format, struct err *err)
{
    char path[STUDY_PATH_MAX];
    struct predictor predictor[2] = {0};
    struct predictor_origin origin = origin_of(pool);
    int status;
    study_path(&pool->reading.study, TABLE_LATENCY, path);
    if (strcmp(action, "fit") == 0) {
        status = fit(pool, n_points, predictor, err);
        if (status == 0)
            status = predictor_save(predictor, &origin, path, err);
    } else {
        status = predictor_load(predictor, &origin, path, err);
        if (status != 0 && err->code == ERR_MISSING)
            err_set(err, ERR_MISSING,
                    "%s: no latency model yet; run kerf model fit or measure first", path);
    }
    if (status == 0) {
        mark_used(pool, &predictor[0]);
        if (strcmp(action, "check") != 0)
            print_model(pool, predictor);
        else if (format == SHOW_JSON)
            print_check_json(pool, predictor);
        else
            print_check_table(pool, predictor);
    }
    predictor_fini(&predictor[0]);
    predictor_fini(&predictor[1]);
    return status == 0 ? 0 : command_fail(err);
}

static int run(const struct command *command, int argc, char **argv)
{
    struct err err = {0};
    struct options options;
    struct pool pool;
    enum show_format format;
    uint64_t n_points;
    int go = option_parse(command, argc, argv, &options, &err);
    if (go == 0)
        return 0;
    if (go < 0 || reading_format(&options, &format, &err) != 0 ||
        option_count(&options, "points", &n_points, &err) != 0)
        return command_fail(&err);
    const char *action = options.arg[0];
    bool is_measure = strcmp(action, "measure") == 0;
    if (strcmp(action, "fit") != 0 && strcmp(action, "show") != 0 && strcmp(action, "check") != 0 &&
        !is_measure)
        err_set(&err, ERR_USAGE, "kerf model %s: expected measure, fit, show or check", action);
    else if (n_points < MIN_POINTS || n_points > TIME_FIT_MAX_POINTS)
        err_set(&err, ERR_USAGE, "--points: %d to %d", MIN_POINTS, TIME_FIT_MAX_POINTS);
    else if (format == SHOW_TSV ||
             (format == SHOW_JSON && strcmp(action, "check") != 0 && !is_measure))
        err_set(&err, ERR_USAGE, "kerf model %s has no such format", action);
    else if (is_measure)
        return model_measure(&options, n_points, format);
    else if (pool_open(&pool, option_text(&options, "study"),
                       option_flag(&options, "allow-flagged"), &err) == 0) {
        int status = run_model(&pool, action, (size_t)n_points, format, &err);
        pool_close(&pool);
        return status;
    }
    return command_fail(&err);
}

const struct command cmd_model = {
    .name = "model",
    .summary = "the latency model: measure it, or fit it to what a search measured; show, check",
    .usage = "kerf model measure|fit|show|check [-C DIR] [--points N] [--allow-flagged] "
             "[-o table|json]",
    .example = "kerf model fit -C demo && kerf model check -C demo",
    .rows = rows,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
