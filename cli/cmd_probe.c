/* cmd_probe.c - kerf probe: how long a member of a study or a GGUF takes on this machine, beside a
 * reference in the same rounds, on any workloads. */
#include "cli/commands.h"
#include "cli/exporter.h"
#include "cli/isa_option.h"
#include "latency_model/stand.h"
#include "results/show_parts.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include "space/base/rng.h"
#include "space/base/stats.h"
#include "space/base/units.h"
#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define MAX_WORKLOADS 16
#define RNG_STREAM    0x70726f62 /* "prob" */

static const struct option_row rows[] = {
    READING_ROWS,
    {"workloads", 'w', OPTION_TEXT, "LIST", "such as tg32@b1,tg32@c512@b8,pp512@b1",
     "tg32@b1,pp128@b1"},
    {"reference", 'r', OPTION_TEXT, "FILE", "GGUF to compare with; else the study's parent", NULL},
    ISA_ROW,
    {"threads", 't', OPTION_TEXT, "COUNT", "else those of the study, else every core", NULL},
    {"rounds", 0, OPTION_TEXT, "COUNT", "at most so many samples of each", "120"},
    {"ci", 0, OPTION_TEXT, "SHARE", "stop when the ratio's 95 % interval is +- this share", "0.01"},
    {0}};

/* What was asked. */
struct question {
    const char *what;
    struct workload workload[MAX_WORKLOADS];
    size_t n_workloads;
    uint32_t n_threads; /* 0: not said */
    struct probe_plan plan;
};

/* One model, from wherever it comes. */
struct subject {
    struct parent *parent; /* of a file */
    struct model *model;
};

struct probing {
    bool in_study;
    struct reading reading;
    struct exporter exporter;
    struct stand stand;
    struct subject reference, candidate;
    const struct model *compared; /* the reference, or the candidate itself where there is none */
    uint64_t kv_bytes_per_token;
    int32_t *tokens;
    struct probe_result (*result)[2]; /* [n_workloads]: reference, candidate */
    double *joules;                   /* [n_workloads], NAN: not told */
};

/* --- what was asked --- */

static int parse_workloads(struct question *q, const char *list, struct err *err)
{
    char name[64];
    for (const char *at = list; *at != '\0';) {
        size_t n = strcspn(at, ",");
        if (n >= sizeof name || q->n_workloads == MAX_WORKLOADS) {
            err_set(err, ERR_USAGE, "--workloads: at most %d, such as tg32@b1,pp512@b1",
                    MAX_WORKLOADS);
            return -1;
        }
        memcpy(name, at, n);
        name[n] = '\0';
        struct err why = {0};
        if (workload_parse(name, &q->workload[q->n_workloads++], &why) != 0) {
            err_set(err, ERR_USAGE, "--workloads: %.300s", why.text);
            return -1;
        }
        at += n + (at[n] == ',');
    }
    if (q->n_workloads > 0)
        return 0;
    err_set(err, ERR_USAGE, "--workloads: at least one, such as tg32@b1");
    return -1;
}

static int parse_question(struct question *q, const struct options *options, struct err *err)
{
    uint64_t rounds, threads = 0;
    char *end;
    *q = (struct question){.what = options->arg[0]};
    if (parse_workloads(q, option_text(options, "workloads"), err) != 0 ||
        option_count(options, "rounds", &rounds, err) != 0 ||
        (option_text(options, "threads") != NULL &&
         option_count(options, "threads", &threads, err) != 0))
        return -1;
    double ci = strtod(option_text(options, "ci"), &end);
    if (rounds < 6 || rounds > PROBE_MAX_ROUNDS)
        err_set(err, ERR_USAGE, "--rounds: 6 to %d", PROBE_MAX_ROUNDS);
    else if (threads > 4096)
        err_set(err, ERR_USAGE, "--threads: at most 4096");
    else if (*end != '\0' || !(ci > 0 && ci < 1))
        err_set(err, ERR_USAGE, "--ci: a share such as 0.01");
    else {
        q->n_threads = (uint32_t)threads;
        q->plan = PROBE_PLAN_DEFAULT;
        q->plan.rounds_max = (uint32_t)rounds;
        if (q->plan.rounds_min > q->plan.rounds_max)
            q->plan.rounds_min = q->plan.rounds_max;
        q->plan.ci = ci;
        return 0;
    }
    return -1;
}

/* --- models --- */

static int subject_of_file(struct subject *subject, const char *path, struct err *err)
{
    subject->parent = parent_open(path, err);
    if (subject->parent != NULL)
        subject->model = model_of_parent(subject->parent, err);
    return subject->model != NULL ? 0 : -1;
}

static void subject_close(struct subject *subject)
{
    model_destroy(subject->model);
    parent_close(subject->parent);
}

/* A member of the study, from its store. */
static int open_member(struct probing *p, const char *name, struct err *err)
{
    const struct front_member *member =
        front_resolve(&p->reading.front, p->reading.archive, name, err);
    if (member == NULL || exporter_open(&p->exporter, &p->reading, err) != 0)
        return -1;
    struct workshop *shop = &p->exporter.shop;
    p->candidate.model = workshop_model(shop, &member->genome, err);
    p->kv_bytes_per_token = member->evaluation.kv_bytes_per_token;
    return p->candidate.model != NULL ? 0 : -1;
}

static int open_file(struct probing *p, const char *path, struct err *err)
{
    struct genome *genome = malloc(sizeof *genome);
    int status = -1;
    if (genome == NULL)
        err_set(err, ERR_MEMORY, "probe: out of memory");
    else if (subject_of_file(&p->candidate, path, err) == 0) {
        parent_genome(p->candidate.parent, genome);
        genome->kv = p->candidate.model->kv = parent_kv_cache(p->candidate.parent);
        p->kv_bytes_per_token =
            account_kv_bytes_per_token(genome, parent_geometry(p->candidate.parent));
        status = 0;
    }
    free(genome);
    return status;
}

/* The file that --reference names, else the study's parent, else nothing but the candidate. */
static int open_reference(struct probing *p, const char *path, struct err *err)
{
    if (path == NULL && p->in_study)
        path = p->reading.study.model;
    if (path != NULL && subject_of_file(&p->reference, path, err) != 0)
        return -1;
    p->compared = path != NULL ? p->reference.model : p->candidate.model;
    if (p->compared->geometry.n_vocab == p->candidate.model->geometry.n_vocab)
        return 0;
    err_set(err, ERR_CONFIG,
            "%s: a vocabulary of %u, the candidate's has %u; compare models of one "
            "family",
            path, p->compared->geometry.n_vocab, p->candidate.model->geometry.n_vocab);
    return -1;
}

static bool names_a_file(const char *what)
{
    size_t n = strlen(what);
    return what[0] != '@' && (file_exists(what) || (n > 5 && strcmp(what + n - 5, ".gguf") == 0));
}

static int open_models(struct probing *p, const struct question *q, const struct options *options,
                       struct err *err)
{
    bool is_file = names_a_file(q->what);
    p->in_study = !is_file || options->given[0];
    if (p->in_study && reading_open(&p->reading, option_text(options, "study"), err) != 0)
        return -1;
    uint32_t n_threads = q->n_threads > 0 || !p->in_study ? q->n_threads : p->reading.study.threads;
    if (stand_open(&p->stand, n_threads, err) != 0 ||
        (is_file ? open_file(p, q->what, err) : open_member(p, q->what, err)) != 0)
        return -1;
    return open_reference(p, option_text(options, "reference"), err);
}

static void probing_close(struct probing *p)
{
    free(p->tokens);
    free(p->result);
    free(p->joules);
    subject_close(&p->candidate);
    subject_close(&p->reference);
    exporter_close(&p->exporter);
    stand_close(&p->stand);
    if (p->in_study)
        reading_close(&p->reading);
}

/* --- measuring --- */

/* Random tokens: what they say does not change how long they take. */
static int make_tokens(struct probing *p, const struct question *q, struct rng *rng,
                       struct err *err)
{
    const struct geometry *g = &p->candidate.model->geometry;
    uint32_t n = 1;
    for (size_t w = 0; w < q->n_workloads; w++) {
        uint32_t wanted = workload_positions(&q->workload[w]);
        if (wanted > g->n_ctx || wanted > p->compared->geometry.n_ctx) {
            err_set(err, ERR_USAGE, "--workloads: %u positions, the model's context has %u", wanted,
                    g->n_ctx);
            return -1;
        }
        wanted *= q->workload[w].batch;
        n = wanted > n ? wanted : n;
    }
    p->tokens = calloc(n, sizeof *p->tokens);
    p->result = calloc(q->n_workloads, sizeof *p->result);
    p->joules = calloc(q->n_workloads, sizeof *p->joules);
    if (p->tokens == NULL || p->result == NULL || p->joules == NULL) {
        err_set(err, ERR_MEMORY, "probe: out of memory");
        return -1;
    }
    for (uint32_t i = 0; i < n; i++)
        p->tokens[i] = (int32_t)rng_below(rng, g->n_vocab);
    return 0;
}

static int measure(struct probing *p, const struct question *q, struct err *err)
{
    struct rng rng = rng_make(1, RNG_STREAM);
    if (make_tokens(p, q, &rng, err) != 0)
        return -1;
    struct stand_pair pair = {p->compared, p->candidate.model, p->tokens};
    for (size_t w = 0; w < q->n_workloads; w++)
        if (stand_probe(&p->stand, &pair, &q->workload[w], &q->plan, &rng, p->result[w], err) !=
                0 ||
            stand_energy(&p->stand, &pair, &q->workload[w], &p->joules[w], err) != 0)
            return -1;
    return 0;
}

/* --- telling --- */

/* A quantile that the samples can tell: p99 wants 500 of them, p95 100; NAN else. */
static double tail(const struct probe_result *r, double q, uint32_t n_wanted)
{
    double sorted[PROBE_MAX_ROUNDS];
    if (r->n_accepted < n_wanted)
        return NAN;
    memcpy(sorted, r->sample_ns, r->n_accepted * sizeof *sorted);
    stats_sort(sorted, r->n_accepted);
    return stats_quantile(sorted, r->n_accepted, q);
}

static void cell_ms(struct show_cells *cells, double ns)
{
    char text[SHOW_NUMBER];
    snprintf(text, sizeof text, isnan(ns) ? "-" : "%.4g", ns * 1e-6);
    show_cell(cells, text);
}

/* What was rejected and why: "3 clock, 12 shared"; "0". */
static const char *rejected_text(const struct probe_result *r, char text[SHOW_NUMBER])
{
    size_t n = 0;
    snprintf(text, SHOW_NUMBER, "0");
    for (int cause = ACCEPTED + 1; cause < N_REJECTIONS; cause++)
        if (r->rejected[cause] > 0 && n < SHOW_NUMBER)
            n += (size_t)snprintf(text + n, SHOW_NUMBER - n, "%s%u %s", n > 0 ? ", " : "",
                                  r->rejected[cause], rejection_name((enum rejection)cause));
    return text;
}

static void add_row(struct show_cells *cells, const struct workload *workload,
                    const struct probe_result *r, double joules)
{
    char text[SHOW_NUMBER], name[32];
    snprintf(text, sizeof text, "  %s", workload_format(workload, name));
    show_cell(cells, text);
    cell_ms(cells, r->min_ns);
    cell_ms(cells, r->p10_ns);
    show_cell(cells, show_interval(r->median_ns * 1e-6,
                                   (r->median_hi_ns - r->median_lo_ns) / 2 * 1e-6, text));
    cell_ms(cells, r->p90_ns);
    cell_ms(cells, tail(r, 0.99, 500));
    double tokens = workload_tokens_per_s(workload, r->median_ns);
    snprintf(text, sizeof text, tokens < 100 ? "%.3g" : "%.0f", tokens);
    show_cell(cells, text);
    show_cell(cells, show_interval(r->ratio_mid, (r->ratio_hi - r->ratio_lo) / 2, text));
    snprintf(text, sizeof text, "%u", r->n_accepted);
    show_cell(cells, text);
    show_cell(cells, rejected_text(r, text));
    snprintf(text, sizeof text, isnan(joules) ? "-" : "%.3g", joules);
    show_cell(cells, text);
    show_cell(cells, r->noisy ? "noisy" : "");
}

/* Of the KV caches of all sequences when the workload is through. */
static double kv_bytes(const struct probing *p, const struct workload *workload)
{
    return (double)p->kv_bytes_per_token * workload_positions(workload) * workload->batch;
}

static void print_memory(const struct probing *p, const struct question *q)
{
    char weights[32], kv[32], most[32], name[32], peak[32];
    const struct workload *largest = &q->workload[0];
    struct rusage usage = {0};
    getrusage(RUSAGE_SELF, &usage);
    for (size_t w = 1; w < q->n_workloads; w++)
        if (kv_bytes(p, &q->workload[w]) > kv_bytes(p, largest))
            largest = &q->workload[w];
    printf("memory    %s of weights, %s of KV cache per token, %s in %s; peak of this process, "
           "both models: %s\n",
           units_format_size((double)model_weight_bytes(p->candidate.model), weights),
           units_format_size((double)p->kv_bytes_per_token, kv),
           units_format_size(kv_bytes(p, largest), most), workload_format(largest, name),
           units_format_size((double)usage.ru_maxrss * 1024, peak));
}

static void print_table(const struct probing *p, const struct question *q)
{
    static const char *const titles[] = {"  workload", "min ms", "p10", "median",   "p90", "p99",
                                         "tokens/s",   "ratio",  "n",   "rejected", "J",   "note"};
    struct show_cells cells = {.n_columns = sizeof titles / sizeof titles[0]};
    printf("device    %s, %s kernels, %u threads\n", p->stand.device.name, p->stand.kernels->name,
           p->stand.n_threads);
    print_memory(p, q);
    for (size_t c = 0; c < cells.n_columns; c++)
        show_cell(&cells, titles[c]);
    for (size_t w = 0; w < q->n_workloads; w++)
        add_row(&cells, &q->workload[w], &p->result[w][1], p->joules[w]);
    show_cells_print(stdout, &cells);
    printf("times per token (tg) or prompt (pp), as one of a batch (@b) waits for it; tokens/s of "
           "all in it;\n"
           "ratio to %s in the same rounds, 95 %% intervals\n",
           p->reference.model == NULL ? "the same model"
           : p->in_study              ? "the parent"
                                      : "the reference");
}

static void put_times(cJSON *node, const struct probe_result *r, double joules)
{
    put_number(node, "min", r->min_ns * 1e-6);
    put_number(node, "p10", r->p10_ns * 1e-6);
    put_number(node, "p50", r->median_ns * 1e-6);
    put_number(node, "lo", r->median_lo_ns * 1e-6);
    put_number(node, "hi", r->median_hi_ns * 1e-6);
    put_number(node, "p90", r->p90_ns * 1e-6);
    put_number(node, "p95", tail(r, 0.95, 100) * 1e-6);
    put_number(node, "p99", tail(r, 0.99, 500) * 1e-6);
    put_number(node, "ratio", r->ratio_mid);
    put_number(node, "ratio_lo", r->ratio_lo);
    put_number(node, "ratio_hi", r->ratio_hi);
    put_number(node, "n", r->n_accepted);
    cJSON_AddBoolToObject(node, "noisy", r->noisy);
    cJSON *rejected = cJSON_AddObjectToObject(node, "rejected");
    for (int cause = ACCEPTED + 1; cause < N_REJECTIONS; cause++)
        put_number(rejected, rejection_name((enum rejection)cause), r->rejected[cause]);
    put_number(node, "joules", joules);
    cJSON *samples = cJSON_AddArrayToObject(node, "samples_ms");
    for (uint32_t i = 0; i < r->n_accepted; i++)
        cJSON_AddItemToArray(samples, cJSON_CreateNumber(r->sample_ns[i] * 1e-6));
}

static void print_json(const struct probing *p, const struct question *q)
{
    char name[32];
    cJSON *root = cJSON_CreateObject();
    put_number(root, "schema", 1);
    cJSON_AddStringToObject(root, "what", q->what);
    cJSON_AddStringToObject(root, "device", p->stand.device.name);
    cJSON_AddStringToObject(root, "kernels", p->stand.kernels->name);
    put_number(root, "threads", p->stand.n_threads);
    put_number(root, "weight_bytes", (double)model_weight_bytes(p->candidate.model));
    put_number(root, "kv_bytes_per_token", (double)p->kv_bytes_per_token);
    cJSON *list = cJSON_AddArrayToObject(root, "workloads");
    for (size_t w = 0; w < q->n_workloads; w++) {
        cJSON *node = cJSON_CreateObject();
        cJSON_AddItemToArray(list, node);
        cJSON_AddStringToObject(node, "workload", workload_format(&q->workload[w], name));
        cJSON_AddStringToObject(node, "metric", workload_metric(&q->workload[w]));
        put_number(node, "kv_bytes", kv_bytes(p, &q->workload[w]));
        put_number(node, "tokens_per_s",
                   workload_tokens_per_s(&q->workload[w], p->result[w][1].median_ns));
        put_times(node, &p->result[w][1], p->joules[w]);
    }
    char *text = cJSON_Print(root);
    if (text != NULL)
        printf("%s\n", text);
    free(text);
    cJSON_Delete(root);
}

static int run(const struct command *command, int argc, char **argv)
{
    struct err err = {0};
    struct options options;
    struct question question;
    struct probing probing = {0};
    enum show_format format;
    int go = option_parse(command, argc, argv, &options, &err);
    if (go == 0)
        return 0;
    if (go < 0 || reading_format(&options, &format, &err) != 0 ||
        parse_question(&question, &options, &err) != 0 || isa_option_apply(&options, &err) != 0)
        return command_fail(&err);
    if (format == SHOW_TSV) {
        err_set(&err, ERR_USAGE, "kerf probe -o tsv: table or json");
        return command_fail(&err);
    }
    int status = open_models(&probing, &question, &options, &err);
    if (status == 0)
        status = measure(&probing, &question, &err);
    if (status != 0)
        status = command_fail(&err);
    else if (format == SHOW_JSON)
        print_json(&probing, &question);
    else
        print_table(&probing, &question);
    probing_close(&probing);
    return status;
}

const struct command cmd_probe = {
    .name = "probe",
    .summary = "time a candidate or a GGUF on this machine, pinned, beside its parent",
    .usage = "kerf probe ID|FILE.gguf [-C DIR] [--workloads LIST] [--reference FILE] "
             "[--threads N] [-o table|json]",
    .example = "kerf probe @knee -C demo --workloads tg32@b1,tg32@c256@b1,pp128@b1",
    .rows = rows,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
