#include "cli/model_measure.h"
#include "cli/model_question.h"
#include "cli/model_report.h"
#include "cli/reading.h"
#include "cluster/latency_pool.h"
#include "cluster/workbench.h"
#include "latency_model/latency_study.h"
#include "latency_model/predictor.h"
#include "results/show_parts.h"
#include "space/base/clock.h"
#include "space/base/err.h"
#include "space/base/log.h"
#include "space/base/rng.h"
#include "space/base/stats.h"
#include "space/base/units.h"
#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define POOL_SIZE    400
#define RNG_STREAM   0x6d656173 /* "meas" */

/* What is measured, and what came of it. */
struct measuring {
    struct model_question asked;
    struct study study; /* of a GGUF or a shape: geometry, limits and workloads only */
    struct space *space;
    struct stand stand;
    struct op_table *ops;
    struct latency_pool pool;
    size_t n_drawn; /* the first of the pool; the others are of the front and judge only */
    struct predictor_point *point[2]; /* [pool.n] terms */
    size_t *chosen;                   /* n_fit for the fit, then n_held_out */
    size_t n_fit, n_held_out;
    struct genome *genome; /* as chosen */
    struct latency_times *times;
    struct latency_effort effort;
    struct predictor predictor[2];
    double table_s, total_s;
    char path[2][STUDY_PATH_MAX]; /* op table, latency model */
};

/* --- opening --- */

static int open_all(struct measuring *m, const struct options *options, struct err *err)
{
    if (model_question_study(&m->asked, options, &m->study, m->path, err) != 0)
        return -1;
    m->space = malloc(sizeof *m->space);
    if (m->space == NULL) {
        err_set(err, ERR_MEMORY, "latency study: out of memory");
        return -1;
    }
    if (space_init(m->space, &m->study.geometry, &m->study.limits, err) != 0)
        return -1;
    uint32_t n_threads = m->asked.n_threads > 0 ? (uint32_t)m->asked.n_threads : m->study.threads;
    return stand_open(&m->stand, n_threads, err);
}

static void close_all(struct measuring *m)
{
    predictor_fini(&m->predictor[0]);
    predictor_fini(&m->predictor[1]);
    free(m->times);
    free(m->genome);
    free(m->chosen);
    free(m->point[0]);
    free(m->point[1]);
    latency_pool_fini(&m->pool);
    op_table_destroy(m->ops);
    stand_close(&m->stand);
    free(m->space);
}

/* --- which candidates --- */

static const struct workload *workload_of(const struct measuring *m, int w)
{
    return w == 0 ? &m->study.decode : &m->study.prefill;
}

static int make_points(struct measuring *m, struct err *err)
{
    for (int w = 0; w < 2; w++) {
        m->point[w] = calloc(m->pool.n + 1, sizeof *m->point[w]);
        if (m->point[w] == NULL) {
            err_set(err, ERR_MEMORY, "latency study: out of memory");
            return -1;
        }
        for (size_t i = 0; i < m->pool.n; i++) {
            m->point[w][i].id = genome_id(&m->pool.genome[i], &m->study.parent);
            if (predictor_terms(m->ops, &m->pool.genome[i], &m->study.geometry, workload_of(m, w),
                                &m->point[w][i]))
                continue;
            err_set(err, ERR_INTERNAL, "%s lacks an operation of the space", m->path[0]);
            return -1;
        }
    }
    return 0;
}

/* Where the study has been searched, the members of its front judge. */
static int add_front(struct measuring *m, struct err *err)
{
    struct reading reading;
    int status = 0;

    m->n_drawn = m->pool.n;
    if (!model_question_is_study(&m->asked) || reading_open(&reading, m->asked.dir, NULL) != 0)
        return 0;
    for (size_t i = 0; i < reading.front.n && status == 0; i++)
        status = latency_pool_add(&m->pool, &reading.front.member[i].genome, err);
    reading_close(&reading);
    return status;
}

/* Indexes first..last - 1 of the pool that are not for the fit, shuffled, at `rest`; how many. */
static size_t draw(const struct measuring *m, size_t first, size_t last, struct rng *rng,
                   size_t *rest)
{
    size_t n = 0;

    for (size_t i = first; i < last; i++) {
        bool taken = false;
        for (size_t k = 0; k < m->n_fit && !taken; k++)
            taken = m->chosen[k] == i;
        if (!taken)
            rest[n++] = i;
    }
    rng_shuffle(rng, rest, n, sizeof *rest);
    return n;
}

/* Those that judge: of the front, then any that are left. */
static void draw_held_out(struct measuring *m)
{
    struct rng rng = rng_make(m->asked.seed, RNG_STREAM);
    size_t n = draw(m, m->n_drawn, m->pool.n, &rng, m->chosen + m->n_fit);

    n += draw(m, 0, m->n_drawn, &rng, m->chosen + m->n_fit + n);
    m->n_held_out = m->asked.n_held_out < n ? m->asked.n_held_out : n;
}

static int choose(struct measuring *m, struct err *err)
{
    const struct predictor_point *const points[2] = {m->point[0], m->point[1]};
    size_t n_given = m->pool.n_fixed;

    m->chosen = calloc(m->pool.n + 1, sizeof *m->chosen);
    m->genome = calloc(m->pool.n + 1, sizeof *m->genome);
    m->times = calloc(m->pool.n + 1, sizeof *m->times);
    if (m->chosen == NULL || m->genome == NULL || m->times == NULL) {
        err_set(err, ERR_MEMORY, "latency study: out of memory");
        return -1;
    }
    for (size_t i = 0; i < n_given; i++)
        m->chosen[i] = i;
    if (predictor_choose(points, m->n_drawn, n_given, m->asked.n_points, m->chosen, &m->n_fit,
                         err) != 0)
        return -1;
    draw_held_out(m);
    for (size_t k = 0; k < m->n_fit + m->n_held_out; k++)
        m->genome[k] = m->pool.genome[m->chosen[k]];
    return 0;
}

/* --- measuring --- */

static void tell_round(void *arg, uint32_t n_rounds)
{
    const struct measuring *m = arg;
    log_info("latency-study", "round=%u of=%llu candidates=%zu", n_rounds,
             (unsigned long long)m->asked.rounds, m->n_fit + m->n_held_out);
}

static int measure(struct measuring *m, struct err *err)
{
    struct latency_study study = {.geometry = &m->study.geometry,
                                  .genome = m->genome,
                                  .n = m->n_fit + m->n_held_out,
                                  .workload = {m->study.decode, m->study.prefill},
                                  .rounds_max = (uint32_t)m->asked.rounds,
                                  .max_seconds = m->asked.max_seconds,
                                  .progress = tell_round,
                                  .arg = m};
    return latency_study_run(&m->stand, &study, m->asked.seed, m->times, &m->effort, err);
}

static int fit(struct measuring *m, struct err *err)
{
    size_t n = m->n_fit + m->n_held_out;
    struct predictor_point *points = calloc(n + 1, sizeof *points);
    int status = 0;

    if (points == NULL) {
        err_set(err, ERR_MEMORY, "latency study: out of memory");
        return -1;
    }
    for (int w = 0; w < 2 && status == 0; w++) {
        for (size_t k = 0; k < n; k++) {
            points[k] = m->point[w][m->chosen[k]];
            points[k].ns = m->times[k].workload[w].ns;
        }
        status = predictor_fit(&m->predictor[w], workload_of(m, w), points, m->n_fit, err);
        if (status == 0)
            status = predictor_hold_out(&m->predictor[w], points + m->n_fit, m->n_held_out, err);
    }
    free(points);
    return status;
}

static int save(const struct measuring *m, struct err *err)
{
    struct predictor_origin origin = {.geometry = m->study.geometry};

    snprintf(origin.device, sizeof origin.device, "%s", m->stand.device.name);
    snprintf(origin.kernels, sizeof origin.kernels, "%s", m->stand.kernels->name);
    return predictor_save(m->predictor, &origin, m->path[1], err);
}

static int run_study(struct measuring *m, struct err *err)
{
    struct workload workloads[2] = {m->study.decode, m->study.prefill};
    int64_t start = clock_now_ns();

    m->ops = op_table_ensure(m->path[0], m->space, workloads, 2, m->stand.kernels, m->stand.team,
                             m->stand.quiet, &m->stand.device, err);
    m->table_s = (double)(clock_now_ns() - start) * 1e-9;
    if (m->ops == NULL ||
        latency_pool_make(&m->pool, &m->study, m->space, m->ops, POOL_SIZE, m->asked.seed, err) !=
            0 ||
        add_front(m, err) != 0 || make_points(m, err) != 0 || choose(m, err) != 0 ||
        measure(m, err) != 0 || fit(m, err) != 0 || save(m, err) != 0)
        return -1;
    m->total_s = (double)(clock_now_ns() - start) * 1e-9;
    return 0;
}

/* --- telling --- */

/* The median over the candidates of what their times are known to. */
static double known_to(const struct measuring *m, int w)
{
    size_t n = m->n_fit + m->n_held_out;
    double *error = calloc(n + 1, sizeof *error), middle = NAN;

    for (size_t k = 0; k < n && error != NULL; k++)
        error[k] = m->times[k].workload[w].error;
    if (error != NULL)
        middle = stats_median(error, n);
    free(error);
    return middle;
}

static void print_table(const struct measuring *m)
{
    struct model_report_row rows[2];
    char name[2][32], text[160], seconds[3][32], size[32];

    for (int w = 0; w < 2; w++) {
        rows[w].what = workload_format(workload_of(m, w), name[w]);
        predictor_judge(&m->predictor[w], m->predictor[w].held_out, m->predictor[w].n_held_out,
                        &rows[w].accuracy);
    }
    printf("device    %s, kernels %s, %u threads\n", m->stand.device.name, m->stand.kernels->name,
           m->stand.n_threads);
    printf("geometry  %s\n", geometry_describe(&m->study.geometry, text));
    printf("time      %s: op table of %zu operations %s, then %u rounds of %zu candidates %s\n",
           units_format_duration(m->total_s, seconds[0]), op_table_n(m->ops),
           units_format_duration(m->table_s, seconds[1]), m->effort.n_rounds,
           m->n_fit + m->n_held_out, units_format_duration(m->effort.seconds, seconds[2]));
    printf("samples   %llu, %.1f %% of them disturbed; times known to %.1f %% (%s) and %.1f %% "
           "(%s), standard error\n",
           (unsigned long long)m->effort.n_samples,
           100 * (double)m->effort.n_disturbed / (double)m->effort.n_samples, 100 * known_to(m, 0),
           name[0], 100 * known_to(m, 1), name[1]);
    printf("weights   stand-ins, %s for all candidates\n",
           units_format_size((double)m->effort.weight_bytes, size));
    model_report_factors(m->predictor);
    model_report_accuracies(rows, 2);
    printf("saved     %s\n", m->path[1]);
}

static void print_json(const struct measuring *m)
{
    cJSON *root = cJSON_CreateObject();
    char text[160];

    put_number(root, "schema", 1);
    cJSON_AddStringToObject(root, "device", m->stand.device.name);
    cJSON_AddStringToObject(root, "kernels", m->stand.kernels->name);
    put_number(root, "threads", m->stand.n_threads);
    cJSON_AddStringToObject(root, "geometry", geometry_describe(&m->study.geometry, text));
    put_number(root, "operations", (double)op_table_n(m->ops));
    put_number(root, "points", (double)m->n_fit);
    put_number(root, "rounds", m->effort.n_rounds);
    put_number(root, "samples", (double)m->effort.n_samples);
    put_number(root, "disturbed", (double)m->effort.n_disturbed);
    put_number(root, "stand_in_bytes", (double)m->effort.weight_bytes);
    put_number(root, "table_s", m->table_s);
    put_number(root, "rounds_s", m->effort.seconds);
    put_number(root, "total_s", m->total_s);
    cJSON_AddStringToObject(root, "file", m->path[1]);
    for (int w = 0; w < 2; w++) {
        const struct predictor *p = &m->predictor[w];
        struct predictor_accuracy accuracy;
        cJSON *node = cJSON_AddObjectToObject(root, workload_metric(&p->workload));
        cJSON_AddStringToObject(node, "workload", workload_format(&p->workload, text));
        put_number(node, "standard_error", known_to(m, w));
        put_number(node, "left_out", time_fit_error(&p->fit));
        predictor_judge(p, p->held_out, p->n_held_out, &accuracy);
        model_report_put(node, "held_out", &accuracy);
    }
    char *json = cJSON_Print(root);
    if (json != NULL)
        printf("%s\n", json);
    free(json);
    cJSON_Delete(root);
}

int model_measure(const struct options *options, uint64_t n_points, enum show_format format)
{
    struct err err = {0};
    struct measuring *m = calloc(1, sizeof *m);
    int status = -1;

    if (m == NULL)
        err_set(&err, ERR_MEMORY, "latency study: out of memory");
    else if (model_question_ask(&m->asked, options, n_points, &err) == 0 &&
             open_all(m, options, &err) == 0)
        status = run_study(m, &err);
    if (status == 0 && format == SHOW_JSON)
        print_json(m);
    else if (status == 0)
        print_table(m);
    if (m != NULL)
        close_all(m);
    free(m);
    return status == 0 ? 0 : command_fail(&err);
}
