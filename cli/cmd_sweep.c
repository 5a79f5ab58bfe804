/* cmd_sweep.c - kerf sweep: what a study found, measured again beside the kerf that found it.
 * --save keeps this program and members of the front as baseline; later runs time both programs in
 * turn on the same models and compare exactly what must be equal. */
#include "cli/baseline.h"
#include "cli/commands.h"
#include "cli/draft_folder.h"
#include "cli/exporter.h"
#include "cluster/scratch.h"
#include "cluster/workbench.h"
#include "latency_model/abba.h"
#include "results/show_sweep.h"
#include "space/base/clock.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include "space/base/log.h"
#include "space/base/stats.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SELF              "/proc/self/exe"
#define MAX_PROGRAM       (256u << 20)
#define ROUNDS_OF_PROCESS 10 /* when a suspect is measured afresh */
#define PATH_ROOM         (STUDY_PATH_MAX + 48)

static const struct option_row rows[] = {
    READING_ROWS,
    {"save", 0, OPTION_FLAG, NULL, "make the baseline: this program and the front as they are",
     NULL},
    {"force", 'f', OPTION_FLAG, NULL, "with --save: replace the baseline", NULL},
    {"baseline", 0, OPTION_TEXT, "DIR", "where it is; else baseline/ in the study", NULL},
    {"members", 'n', OPTION_TEXT, "COUNT", "with --save: members of the front", "8"},
    {"min-effect", 0, OPTION_TEXT, "SHARE", "least slowdown that matters", "0.01"},
    {"junit", 0, OPTION_TEXT, "FILE", "write a JUnit report too", NULL},
    {0}};

/* What a sweep works with. */
struct sweeping {
    struct reading reading;
    struct exporter exporter;
    struct workbench bench;
    struct evaluation_place place;
    char store[STUDY_PATH_MAX];
    struct baseline baseline;
    struct sweep_point *point; /* [baseline.n][2] */
    struct sweep_exact *exact; /* [baseline.n] */
    double min_effect;
};

/* --- opening --- */

static int open_bench(struct sweeping *s, struct err *err)
{
    const struct study *study = &s->reading.study;
    scratch_path(study, "store", s->store);
    s->place = (struct evaluation_place){NULL, study->threads, s->store, study->max_disk};
    if (workbench_open(&s->bench, study, &s->place, err) != 0)
        return -1;
    return workbench_open_tables(&s->bench, err);
}

static int sweeping_open(struct sweeping *s, const char *dir, struct err *err)
{
    if (reading_open(&s->reading, dir, err) != 0)
        return -1;
    if (s->reading.front.n == 0) {
        err_set(err, ERR_NO, "the front is empty; run kerf search -C %s first", dir);
        return -1;
    }
    return exporter_open(&s->exporter, &s->reading, err) != 0 ? -1 : open_bench(s, err);
}

static void sweeping_close(struct sweeping *s)
{
    free(s->point);
    free(s->exact);
    baseline_fini(&s->baseline);
    workbench_close(&s->bench);
    exporter_close(&s->exporter);
    if (s->reading.archive != NULL)
        reading_close(&s->reading);
}

/* --- what must be equal --- */

static int hash_weights(const char *path, struct hash256 *hash, struct err *err)
{
    struct parent *file = parent_open(path, err);
    if (file != NULL)
        *hash = parent_hash(file);
    parent_close(file);
    return file != NULL ? 0 : -1;
}

/* Mean KLD of a file on the study's held-out tokens: the same tokens every time. */
static int measure_kld(struct sweeping *s, const char *path, double *kld, struct err *err)
{
    struct workbench *bench = &s->bench;
    struct quality quality;
    int status = -1;
    struct parent *file = parent_open(path, err);
    struct model *model = file != NULL ? model_of_parent(file, err) : NULL;
    struct forward *forward = model != NULL ? workbench_forward(bench, model, err) : NULL;
    if (forward != NULL && quiet_work_begin(bench->stand.quiet, err) == 0) {
        status = quality_measure(forward, bench->parent_model, bench->states, &bench->heldout,
                                 (uint32_t)s->baseline.tokens, &quality, err);
        quiet_work_end(bench->stand.quiet);
    }
    if (status == 0)
        *kld = quality.kld;
    forward_destroy(forward);
    model_destroy(model);
    parent_close(file);
    return status;
}

static enum sweep_equal equal(bool same)
{
    return same ? SWEEP_SAME : SWEEP_DIFFERS;
}

/* The id of the genome's text; the weights as this program makes them, exported to `draft`; and the
 * KLD of the baseline's file, where the same kernels run. */
static int compare_item(struct sweeping *s, size_t i, const char *draft, struct err *err)
{
    const struct baseline_item *item = &s->baseline.item[i];
    struct sweep_exact *exact = &s->exact[i];
    struct genome *genome = malloc(sizeof *genome);
    char path[PATH_ROOM], name[ID128_HEX];
    struct hash256 weights;
    struct id128 id;
    if (genome == NULL || genome_parse(item->genome, genome, err) != 0) {
        free(genome);
        return -1;
    }
    id = genome_id(genome, &s->reading.study.parent);
    free(genome);
    *exact = (struct sweep_exact){.id = item->id,
                                  .genome_id = equal(memcmp(&id, &item->id, sizeof id) == 0),
                                  .kld = SWEEP_NOT_COMPARED,
                                  .kld_was = item->kld,
                                  .kld_is = NAN};
    id128_hex(item->id, name);
    const struct front_member *member =
        front_resolve(&s->reading.front, s->reading.archive, name, err);
    if (member == NULL || exporter_write(&s->exporter, member, draft, NULL, err) != 0 ||
        hash_weights(draft, &weights, err) != 0)
        return -1;
    exact->weights = equal(memcmp(&weights, &item->weights, sizeof weights) == 0);
    if (strcmp(s->baseline.kernels, s->bench.stand.kernels->name) != 0 ||
        strcmp(s->baseline.device, s->bench.stand.device.name) != 0)
        return 0;
    if (measure_kld(s, baseline_model(&s->baseline, i, path), &exact->kld_is, err) != 0)
        return -1;
    exact->kld = equal(exact->kld_is == exact->kld_was);
    return 0;
}

/* --- times --- */

/* Two programs and what they time. */
struct match {
    struct abba abba;
    struct stopwatch_job job; /* its program is the current one */
    const char *baseline;
};

static void match_stop(struct match *match)
{
    stopwatch_stop(match->abba.current);
    stopwatch_stop(match->abba.baseline);
    match->abba.current = match->abba.baseline = NULL;
}

static int match_start(struct match *match, struct err *err)
{
    struct stopwatch_job job = match->job;
    match_stop(match);
    job.program = match->baseline;
    match->abba.baseline = stopwatch_start(&job, err);
    if (match->abba.baseline != NULL)
        match->abba.current = stopwatch_start(&match->job, err);
    return match->abba.current != NULL ? 0 : -1;
}

static int warm_up(struct match *match, size_t workload, struct err *err)
{
    double log_ratio, ns[2];
    for (int round = 0; round < 2; round++)
        if (abba_round(&match->abba, workload, &log_ratio, ns, err) != 0)
            return -1;
    return 0;
}

/* Rounds until a look decides, or all of `n_rounds` where `look` is false.  These are of fresh
 * processes again and again: where a process happens to lie in memory makes it faster or slower by
 * a per cent or two for as long as it lives. */
static int time_point(struct sweeping *s, struct match *match, size_t workload, bool look,
                      uint32_t n_rounds, struct sweep_point *point,
                      struct sweep_judgement *judgement, struct err *err)
{
    struct abba *abba = &match->abba;
    double log_ratio[SWEEP_ROUNDS_AGAIN], ns[2][SWEEP_ROUNDS_AGAIN];
    enum sweep_step step = SWEEP_MORE;
    for (uint32_t n = 0; n < n_rounds && step == SWEEP_MORE;) {
        double pair[2];
        if (!look && n % ROUNDS_OF_PROCESS == 0 &&
            (match_start(match, err) != 0 || warm_up(match, workload, err) != 0))
            return -1;
        if (abba_round(abba, workload, &log_ratio[n], pair, err) != 0)
            return -1;
        ns[0][n] = pair[0];
        ns[1][n++] = pair[1];
        if (n == n_rounds || (look && sweep_is_look(n))) {
            sweep_judge(log_ratio, n, judgement);
            point->baseline_ns = stats_median(ns[0], n);
            point->current_ns = stats_median(ns[1], n);
            step = look ? sweep_look(judgement, s->min_effect) : SWEEP_MORE;
        }
    }
    return 0;
}

static int time_workload(struct sweeping *s, struct match *match, size_t workload,
                         struct sweep_point *point, struct err *err)
{
    match->abba.n_rejected = 0;
    if (warm_up(match, workload, err) != 0)
        return -1;
    int status = time_point(s, match, workload, true, SWEEP_ROUNDS, point, &point->first, err);
    if (status == 0 && sweep_look(&point->first, s->min_effect) == SWEEP_SUSPECT)
        status =
            time_point(s, match, workload, false, SWEEP_ROUNDS_AGAIN, point, &point->again, err);
    point->n_rejected = match->abba.n_rejected;
    return status;
}

static int time_item(struct sweeping *s, size_t i, struct err *err)
{
    const struct study *study = &s->reading.study;
    const struct workload workload[2] = {study->decode, study->prefill};
    char model[PATH_ROOM], program[PATH_ROOM];
    struct match match = {.abba = {.quiet = s->bench.stand.quiet},
                          .job = {.program = SELF,
                                  .model = baseline_model(&s->baseline, i, model),
                                  .n_threads = study->threads,
                                  .cpu = s->bench.stand.cpu,
                                  .workload = workload,
                                  .n_workloads = 2},
                          .baseline = baseline_program(&s->baseline, program)};
    int status = match_start(&match, err);
    for (size_t w = 0; w < 2 && status == 0; w++) {
        struct sweep_point *point = &s->point[2 * i + w];
        *point = (struct sweep_point){.id = s->baseline.item[i].id, .workload = workload[w]};
        status = time_workload(s, &match, w, point, err);
    }
    match_stop(&match);
    return status;
}

/* --- sweep --- */

static int write_junit(const struct study *study, const struct show_sweep *shown, const char *path,
                       struct err *err)
{
    char *text = show_sweep_junit(study, shown);
    int status = -1;
    if (text == NULL)
        err_set(err, ERR_MEMORY, "sweep: out of memory");
    else
        status = file_replace(path, text, strlen(text), err);
    free(text);
    return status;
}

static int measure(struct sweeping *s, struct err *err)
{
    struct draft_folder folder;
    char path[STUDY_PATH_MAX], draft[DRAFT_PATH_MAX + 16];
    if (draft_folder_open(&folder, scratch_path(&s->reading.study, "sweep.tmp", path), err) != 0)
        return -1;
    snprintf(draft, sizeof draft, "%s/again.gguf", folder.path);
    int status = 0;
    for (size_t i = 0; i < s->baseline.n && status == 0; i++) {
        status = compare_item(s, i, draft, err);
        if (status == 0)
            status = time_item(s, i, err);
        if (isatty(STDERR_FILENO))
            log_info("sweep", "candidates=%zu of=%zu", i + 1, s->baseline.n);
    }
    draft_folder_close(&folder);
    return status;
}

static int run_sweep(struct sweeping *s, const char *dir, enum show_format format,
                     const char *junit, struct err *err)
{
    int64_t start = clock_now_ns();
    if (baseline_load(&s->baseline, dir, err) != 0)
        return -1;
    if (memcmp(&s->baseline.parent, &s->reading.study.parent, sizeof(struct hash256)) != 0) {
        err_set(err, ERR_DATA, "%s: the baseline of another parent", dir);
        return -1;
    }
    s->point = calloc(2 * s->baseline.n, sizeof *s->point);
    s->exact = calloc(s->baseline.n, sizeof *s->exact);
    if (s->point == NULL || s->exact == NULL) {
        err_set(err, ERR_MEMORY, "sweep: out of memory");
        return -1;
    }
    if (measure(s, err) != 0)
        return -1;
    size_t n_bad = sweep_conclude(s->point, 2 * s->baseline.n, s->min_effect);
    for (size_t i = 0; i < s->baseline.n; i++)
        n_bad += !sweep_exact_holds(&s->exact[i]);
    struct show_sweep shown = {.baseline_version = s->baseline.version,
                               .baseline_kernels = s->baseline.kernels,
                               .min_effect = s->min_effect,
                               .seconds = (double)(clock_now_ns() - start) * 1e-9,
                               .point = s->point,
                               .n_points = 2 * s->baseline.n,
                               .exact = s->exact,
                               .n_exact = s->baseline.n};
    show_sweep(stdout, format, &s->reading.study, &s->reading.front, &shown);
    if (junit != NULL && write_junit(&s->reading.study, &shown, junit, err) != 0)
        return -1;
    return n_bad == 0 ? 0 : 1;
}

/* --- save --- */

static int copy_program(const struct baseline *baseline, struct err *err)
{
    char path[PATH_ROOM];
    size_t n;
    char *program = file_read(SELF, MAX_PROGRAM, &n, err);
    if (program == NULL)
        return -1;
    int status = file_replace(baseline_program(baseline, path), program, n, err);
    free(program);
    if (status == 0 && chmod(path, 0755) != 0) {
        err_set_errno(err, errno, "%s: cannot be made a program", path);
        status = -1;
    }
    return status;
}

static int save_member(struct sweeping *s, const struct front_member *member, struct err *err)
{
    struct baseline_item *item = &s->baseline.item[s->baseline.n];
    char path[PATH_ROOM];
    item->id = member->candidate.id;
    item->genome = malloc(GENOME_TEXT_MAX);
    if (item->genome == NULL) {
        err_set(err, ERR_MEMORY, "sweep: out of memory");
        return -1;
    }
    genome_format(&member->genome, item->genome);
    baseline_model(&s->baseline, s->baseline.n++, path);
    if (exporter_write(&s->exporter, member, path, NULL, err) != 0 ||
        hash_weights(path, &item->weights, err) != 0)
        return -1;
    return measure_kld(s, path, &item->kld, err);
}

/* `n` members, evenly spaced from the fastest to the slowest. */
static int run_save(struct sweeping *s, const char *dir, size_t n, bool force, struct err *err)
{
    struct baseline *baseline = &s->baseline;
    const struct front *front = &s->reading.front;
    char path[PATH_ROOM];
    snprintf(baseline->dir, sizeof baseline->dir, "%s", dir);
    snprintf(path, sizeof path, "%s/baseline.json", dir);
    if (file_exists(path) && !force) {
        err_set(err, ERR_CREATE, "%s: exists already; --force replaces it", path);
        return -1;
    }
    /* Without this file the folder is no baseline, should the rest not come to its end. */
    unlink(path);
    snprintf(baseline->version, sizeof baseline->version, "%s", KERF_VERSION);
    snprintf(baseline->device, sizeof baseline->device, "%s", s->bench.stand.device.name);
    snprintf(baseline->kernels, sizeof baseline->kernels, "%s", s->bench.stand.kernels->name);
    baseline->parent = s->reading.study.parent;
    baseline->tokens = s->reading.study.search_tokens;
    if (file_make_dirs(dir, err) != 0 || copy_program(baseline, err) != 0)
        return -1;
    n = n < front->n ? n : front->n;
    for (size_t i = 0; i < n; i++)
        if (save_member(s, &front->member[n > 1 ? i * (front->n - 1) / (n - 1) : 0], err) != 0)
            return -1;
    if (baseline_save(baseline, err) != 0)
        return -1;
    printf("%s: kerf %s and %zu members of the front\n", dir, KERF_VERSION, n);
    return 0;
}

/* What the command line says. */
struct question {
    enum show_format format;
    uint64_t n_members;
    double min_effect;
    const char *study, *baseline, *junit;
    bool save, force;
};

static int parse_question(struct question *q, const struct options *options, struct err *err)
{
    char *end;
    *q = (struct question){.min_effect = strtod(option_text(options, "min-effect"), &end),
                           .study = option_text(options, "study"),
                           .baseline = option_text(options, "baseline"),
                           .junit = option_text(options, "junit"),
                           .save = option_flag(options, "save"),
                           .force = option_flag(options, "force")};
    if (reading_format(options, &q->format, err) != 0 ||
        option_count(options, "members", &q->n_members, err) != 0)
        return -1;
    if (q->format == SHOW_TSV)
        err_set(err, ERR_USAGE, "kerf sweep -o tsv: table or json");
    else if (*end != '\0' || !(q->min_effect > 0 && q->min_effect < 1))
        err_set(err, ERR_USAGE, "--min-effect: a share such as 0.01");
    else if (q->n_members < 1 || q->n_members > BASELINE_MAX_ITEMS)
        err_set(err, ERR_USAGE, "--members: 1 to %d", BASELINE_MAX_ITEMS);
    else
        return 0;
    return -1;
}

/* 0, 1 where the answer is no, -1. */
static int answer(struct sweeping *s, const struct question *q, struct err *err)
{
    char dir[STUDY_PATH_MAX];
    s->min_effect = q->min_effect;
    if (sweeping_open(s, q->study, err) != 0)
        return -1;
    if (q->baseline != NULL)
        snprintf(dir, sizeof dir, "%s", q->baseline);
    else
        study_path(&s->reading.study, "baseline", dir);
    return q->save ? run_save(s, dir, (size_t)q->n_members, q->force, err)
                   : run_sweep(s, dir, q->format, q->junit, err);
}

static int run(const struct command *command, int argc, char **argv)
{
    struct err err = {0};
    struct options options;
    struct question question;
    int go = option_parse(command, argc, argv, &options, &err);
    if (go == 0)
        return 0;
    if (go < 0 || parse_question(&question, &options, &err) != 0)
        return command_fail(&err);
    struct sweeping *s = calloc(1, sizeof *s);
    int status = -1;
    if (s == NULL) {
        err_set(&err, ERR_MEMORY, "sweep: out of memory");
    } else {
        status = answer(s, &question, &err);
        sweeping_close(s);
    }
    free(s);
    return status < 0 ? command_fail(&err) : status;
}

const struct command cmd_sweep = {
    .name = "sweep",
    .summary = "is this kerf slower than the one of the baseline, or other than it was?",
    .usage = "kerf sweep [-C DIR] [--save] [--baseline DIR] [--junit FILE] [-o table|json]",
    .example = "kerf sweep -C demo --save && kerf sweep -C demo --junit sweep.xml",
    .rows = rows,
    .run = run,
};
