/* cmd_peer.c - members of the front exported, timed in llama-bench by turns, and ranked beside our
 * own figures.  The files live in peer.tmp/ beside the study's archive while this runs; the ranks
 * stay in the study. */
#include "cli/commands.h"
#include "cli/draft_folder.h"
#include "cli/exporter.h"
#include "cli/stop.h"
#include "cluster/scratch.h"
#include "evaluator/kernels/kernels.h"
#include "latency_model/machine.h"
#include "latency_model/peer_rounds.h"
#include "latency_model/quiet.h"
#include "results/peer_record.h"
#include "space/base/err.h"
#include "space/base/log.h"
#include "space/base/rng.h"
#include <stdlib.h>
#include <string.h>

#define MAX_MEMBERS 1000
#define MAX_THREADS 1024
#define N_SAMPLES   5          /* repetitions of a run: what llama-bench makes unasked */
#define RNG_STREAM  0x70656572 /* "peer": no other draw of the study's seed has this stream */

static const struct option_row rows[] = {
    READING_ROWS,
    {"bench", 0, OPTION_TEXT, "PROGRAM", "llama-bench; else $LLAMA_BENCH, else the one on PATH",
     NULL},
    {"members", 'n', OPTION_TEXT, "COUNT", "members of the front, from the fastest to the slowest",
     "8"},
    {"repeat", 'r', OPTION_TEXT, "COUNT", "rounds, in each of which every member runs once", "5"},
    EXPORTER_ROWS,
    {0}};

/* What one run of the command works on. */
struct comparison {
    struct reading reading;
    struct peer_bench bench;
    struct peer_plan plan;
    int cpu[MAX_THREADS];
    size_t n; /* members */
    struct show_peer_row *row;
    struct peer_file *file; /* of the row of the same index */
    char (*path)[DRAFT_PATH_MAX + 64];
};

static int parse_count(const struct options *options, const char *name, uint64_t least,
                       uint64_t most, uint64_t *count, struct err *err)
{
    if (option_count(options, name, count, err) != 0)
        return -1;
    if (*count >= least && *count <= most)
        return 0;
    err_set(err, ERR_USAGE, "--%s: %llu to %llu", name, (unsigned long long)least,
            (unsigned long long)most);
    return -1;
}

/* The cores that a worker of this study uses, on the class of machine that its front is from. */
static int plan_cores(struct comparison *c, struct err *err)
{
    uint32_t n_threads = c->reading.study.threads;
    struct device_class device;
    struct machine *machine = machine_load(err);
    if (machine == NULL)
        return -1;
    machine_device_class(machine, n_threads, kernels_select()->name, &device);
    int status = -1;
    if (strcmp(device.name, c->reading.front.device) != 0)
        err_set(err, ERR_RESOURCE,
                "the front was measured on %s, this is %s; latencies of unlike machines are not "
                "compared",
                c->reading.front.device, device.name);
    else if (n_threads <= MAX_THREADS)
        status = machine_plan(machine, 0, 1, n_threads, c->cpu, err);
    machine_destroy(machine);
    c->bench.n_threads = n_threads;
    c->bench.cpu = c->cpu;
    return status;
}

/* `n` members of the front, evenly spaced by decode rank, the fastest and the slowest included. */
static int choose_members(struct comparison *c, uint64_t n, struct err *err)
{
    const struct front *front = &c->reading.front;
    if (front->n < 2) {
        err_set(err, ERR_NO, "the front has %zu member%s, ranks need two at least", front->n,
                front->n == 1 ? "" : "s");
        return -1;
    }
    c->n = n < front->n ? (size_t)n : front->n;
    c->row = calloc(c->n, sizeof *c->row);
    c->file = calloc(c->n, sizeof *c->file);
    c->path = calloc(c->n, sizeof *c->path);
    if (c->row == NULL || c->file == NULL || c->path == NULL) {
        err_set(err, ERR_MEMORY, "peer: out of memory");
        return -1;
    }
    for (size_t i = 0; i < c->n; i++)
        c->row[i].member = &front->member[i * (front->n - 1) / (c->n - 1)];
    return 0;
}

static void comparison_fini(struct comparison *c)
{
    free(c->row);
    free(c->file);
    free(c->path);
    reading_close(&c->reading);
}

/* Seconds that a run of the longer workload takes in kerf, its warm-up and context included. */
static double expected_s(const struct study *study, const struct evaluation *e)
{
    double decode = e->decode.median_ns, prefill = e->prefill.median_ns / study->prefill.n_tokens;
    double context = study->decode.context > study->prefill.context ? study->decode.context
                                                                    : study->prefill.context;
    double longer = decode * study->decode.n_tokens > prefill * study->prefill.n_tokens
                        ? decode * study->decode.n_tokens
                        : prefill * study->prefill.n_tokens;
    return (N_SAMPLES + 1) * (longer + prefill * context) * 1e-9;
}

static int export_member(struct comparison *c, struct exporter *exporter, const char *folder,
                         size_t i, struct err *err)
{
    const struct front_member *member = c->row[i].member;
    struct peer_file *file = &c->file[i];
    char hex[ID128_HEX];
    id128_hex(member->candidate.id, hex);
    snprintf(c->path[i], sizeof c->path[i], "%s/%s.gguf", folder, hex);
    file->path = c->path[i];
    file->kv = member->genome.kv;
    file->expected_s = expected_s(&c->reading.study, &member->evaluation);
    if (*stop_requests() > 0) {
        err_set(err, ERR_STOPPED, "stopped as asked");
        return -1;
    }
    if (exporter_write(exporter, member, file->path, NULL, &file->fault) == 0 ||
        file->fault.code == ERR_CONFIG)
        return 0;
    *err = file->fault;
    return -1;
}

/* Every member that stock engines load becomes a file; the others keep the reason as a fault. */
static int export_members(struct comparison *c, const char *folder, struct err *err)
{
    struct exporter exporter;
    if (exporter_open(&exporter, &c->reading, err) != 0)
        return -1;
    int status = 0;
    size_t n_refused = 0, last_refused = 0;
    for (size_t i = 0; i < c->n && status == 0; i++) {
        status = export_member(c, &exporter, folder, i, err);
        if (c->file[i].fault.code != ERR_NONE) {
            last_refused = i;
            n_refused++;
        }
    }
    exporter_close(&exporter);
    if (status == 0 && c->n - n_refused < 2) {
        err_set(err, ERR_NO, "%zu of %zu members can be exported, ranks need two at least: %.250s",
                c->n - n_refused, c->n, c->file[last_refused].fault.text);
        status = -1;
    }
    return status;
}

static int time_files(struct comparison *c, struct peer_sample *origin, struct err *err)
{
    struct rng rng = rng_make(c->reading.study.seed, RNG_STREAM);
    struct quiet *quiet = quiet_open(err);
    if (quiet == NULL)
        return -1;
    if (isatty(STDERR_FILENO))
        log_info("peer", "timing members=%zu rounds=%u program=%s", c->n, c->plan.n_rounds,
                 c->bench.program);
    int status = peer_rounds_run(&c->bench, &c->plan, c->file, c->n, &rng, quiet, origin, err);
    quiet_close(quiet);
    return status;
}

static struct show_peer_time shown(const struct peer_time *time)
{
    return (struct show_peer_time){time->median_ns, time->lo_ns, time->hi_ns};
}

static void fill_rows(struct comparison *c)
{
    for (size_t i = 0; i < c->n; i++) {
        c->row[i].decode = shown(&c->file[i].decode);
        c->row[i].prefill = shown(&c->file[i].prefill);
        if (c->file[i].fault.code != ERR_NONE)
            c->row[i].reason = c->file[i].fault.text;
    }
}

/* The study's folder holds the files only in between. */
static int compare(struct comparison *c, struct peer_sample *origin, struct err *err)
{
    struct draft_folder folder;
    char path[STUDY_PATH_MAX];
    if (draft_folder_open(&folder, scratch_path(&c->reading.study, "peer.tmp", path), err) != 0)
        return -1;
    int status = export_members(c, folder.path, err);
    if (status == 0)
        status = time_files(c, origin, err);
    draft_folder_close(&folder);
    return status;
}

/* A member that should have been timed and was not is no success. */
static int judge(const struct comparison *c)
{
    size_t n_failed = 0, n_exported = 0;
    const struct err *first = NULL;
    for (size_t i = 0; i < c->n; i++) {
        const struct err *fault = &c->file[i].fault;
        n_exported += fault->code != ERR_CONFIG;
        if (fault->code == ERR_NONE || fault->code == ERR_CONFIG)
            continue;
        first = first == NULL ? fault : first;
        n_failed++;
    }
    if (n_failed == 0)
        return 0;
    struct err err = {0};
    err_set(&err, ERR_RESOURCE,
            "%zu of %zu exported members could not be timed: %.240s; kerf "
            "export one, the program's -v may tell more",
            n_failed, n_exported, first->text);
    return command_fail(&err);
}

static int run(const struct command *command, int argc, char **argv)
{
    struct comparison c = {0};
    struct err err = {0};
    struct options options;
    struct peer_sample origin = {0};
    enum show_format format;
    uint64_t n_members, n_rounds;
    int go = option_parse(command, argc, argv, &options, &err);
    if (go == 0)
        return 0;
    if (go < 0 || reading_format(&options, &format, &err) != 0 ||
        parse_count(&options, "members", 2, MAX_MEMBERS, &n_members, &err) != 0 ||
        parse_count(&options, "repeat", 1, PEER_ROUNDS_MAX, &n_rounds, &err) != 0 ||
        peer_bench_find(option_text(&options, "bench"), c.bench.program, &err) != 0 ||
        reading_open(&c.reading, option_text(&options, "study"), &err) != 0)
        return command_fail(&err);
    if (peer_bench_can(&c.reading.study.decode, &err) != 0 ||
        peer_bench_can(&c.reading.study.prefill, &err) != 0 ||
        exporter_limit(&c.reading, &options, &err) != 0) {
        reading_close(&c.reading);
        return command_fail(&err);
    }

    stop_catch();
    c.bench.n_samples = N_SAMPLES;
    c.bench.stop = stop_requests();
    c.plan = (struct peer_plan){.decode = c.reading.study.decode,
                                .prefill = c.reading.study.prefill,
                                .n_rounds = (uint32_t)n_rounds};
    int status;
    if (choose_members(&c, n_members, &err) != 0 || plan_cores(&c, &err) != 0 ||
        compare(&c, &origin, &err) != 0) {
        status = command_fail(&err);
    } else {
        struct show_peer peer = {.program = c.bench.program,
                                 .build = origin.build,
                                 .cpu = origin.cpu,
                                 .n_rounds = c.plan.n_rounds,
                                 .n_samples = N_SAMPLES,
                                 .row = c.row,
                                 .n = c.n};
        fill_rows(&c);
        show_peer(stdout, format, &c.reading.study, &c.reading.front, &peer);
        status = judge(&c);
        if (peer_record_save(&c.reading.study, &c.reading.front, &peer, &err) != 0)
            status = command_fail(&err);
    }
    comparison_fini(&c);
    return status;
}

const struct command cmd_peer = {
    .name = "peer",
    .summary = "members of the front timed in llama-bench: does llama.cpp rank them alike?",
    .usage = "kerf peer [-C DIR] [--bench PROGRAM] [--members N] [--repeat R] "
             "[-o table|json|tsv]",
    .example = "kerf peer -C demo --members 8",
    .rows = rows,
    .run = run,
};
