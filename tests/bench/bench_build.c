/* bench_build.c - what it costs to build everything that a search may ask for: calibration, keep
 * order, and every part x width x format of the default space (profile gguf-hetero), with one
 * thread and with as many as there are processors.
 *
 * Each run is a process of its own; its peak of memory (VmHWM) is set back before each phase where
 * the kernel allows it, else it is the peak so far (marked "<=").  Variants stay mapped after they
 * were written, so the peak of building holds all files of the store, which the kernel may drop;
 * their share at the end of the phase is in the column `files`.  Times are single samples of whole
 * phases: run it on a quiet machine, pinned with taskset where fewer processors are meant.  Nothing
 * is random.
 *
 *   bench_build MODEL.gguf CALIBRATION.txt [THREADS...] */
#include "evaluator/compression/calibration.h"
#include "evaluator/compression/keep_order.h"
#include "evaluator/quality/token_set.h"
#include "space/base/clock.h"
#include "space/base/err.h"
#include "tests/bench/variant_list.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define CALIBRATION_TOKENS 65536

/* --- what a phase took ------------------------------------------------------------------------ */

struct phase {
    int64_t begin_ns;
    double begin_cpu;
    bool peak_is_own;
};

static double cpu_seconds(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

/* A field of /proc/self/status in MB; 0 where there is none. */
static double status_mb(const char *field)
{
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    double kb = 0;

    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, field, strlen(field)) == 0)
            kb = strtod(line + strlen(field), NULL);
    if (file != NULL)
        fclose(file);
    return kb * 1024e-6;
}

static struct phase phase_begin(void)
{
    struct phase phase = {.begin_ns = clock_now_ns(), .begin_cpu = cpu_seconds()};
    FILE *file = fopen("/proc/self/clear_refs", "w");

    if (file != NULL) {
        phase.peak_is_own = fputs("5", file) >= 0;
        phase.peak_is_own = fclose(file) == 0 && phase.peak_is_own;
    }
    return phase;
}

static void phase_end(const struct phase *phase, unsigned n_threads, const char *name, size_t n,
                      double bytes)
{
    double seconds = (double)(clock_now_ns() - phase->begin_ns) * 1e-9;

    printf("%7u  %-12s  %6zu  %8.1f  %8.2f  %8.2f  %2s%7.0f  %6.0f\n", n_threads, name, n,
           bytes * 1e-6, seconds, cpu_seconds() - phase->begin_cpu,
           phase->peak_is_own ? "" : "<=", status_mb("VmHWM:"), status_mb("RssFile:"));
    fflush(stdout);
}

/* --- one run ---------------------------------------------------------------------------------- */

struct run {
    const char *model, *text;
    unsigned n_threads;
    struct parent *parent;
    struct team *team;
    struct calibration *calibration;
    struct keep_order order;
    struct variant_source source;
    struct store *store;
    struct space space;
    char folder[32];
};

static int calibrate(struct run *r, struct err *err)
{
    struct tokenizer *tokenizer = tokenizer_create(parent_gguf(r->parent), err);
    struct token_set tokens = {0};
    struct phase phase = phase_begin();

    if (tokenizer != NULL &&
        token_set_read(&tokens, tokenizer, r->text, "", 512, CALIBRATION_TOKENS, 2, err) == 0)
        r->calibration = calibration_of_parent(r->parent, kernels_select(), r->team, &tokens, err);
    if (r->calibration != NULL)
        phase_end(&phase, r->n_threads, "calibration", tokens.n_tokens, 0);
    token_set_fini(&tokens);
    tokenizer_destroy(tokenizer);
    return r->calibration != NULL ? 0 : -1;
}

/* The parts of one kind, as a list of their own that borrows. */
static int build_part(struct run *r, const struct variant_list *all, enum part part,
                      struct err *err)
{
    struct variant_list list = {.key = malloc(all->n * sizeof *list.key)};
    double bytes = 0;

    if (list.key == NULL) {
        err_set(err, ERR_MEMORY, "bench: out of memory");
        return -1;
    }
    for (size_t i = 0; i < all->n; i++) {
        struct variant layout;
        if (all->key[i].part != part)
            continue;
        variant_layout(&r->source, &all->key[i], &layout);
        bytes += (double)layout.n_bytes;
        list.key[list.n++] = all->key[i];
    }
    struct phase phase = phase_begin();
    int status = variant_list_build(&list, &r->source, r->store, r->team, err);
    if (status == 0 && list.n > 0)
        phase_end(&phase, r->n_threads, part_name(part), list.n, bytes);
    variant_list_fini(&list);
    return status;
}

static int build_all(struct run *r, struct err *err)
{
    struct space_limits limits;
    struct variant_list all = {0};
    int status = -1;

    space_default_limits(&limits, parent_geometry(r->parent), PROFILE_GGUF_HETERO);
    if (space_init(&r->space, parent_geometry(r->parent), &limits, err) != 0 ||
        variant_list_of_space(&all, &r->space, err) != 0)
        goto done;
    status = 0;
    for (int part = 0; part < N_PARTS && status == 0; part++)
        status = build_part(r, &all, (enum part)part, err);
done:
    variant_list_fini(&all);
    return status;
}

static int run_phases(struct run *r, struct err *err)
{
    r->parent = parent_open(r->model, err);
    r->team = team_create(r->n_threads, NULL, NULL, err);
    r->store = store_open(r->folder, err);
    if (r->parent == NULL || r->team == NULL || r->store == NULL || calibrate(r, err) != 0)
        return -1;
    struct phase phase = phase_begin();
    if (keep_order_init(&r->order, r->parent, r->calibration, err) != 0)
        return -1;
    phase_end(&phase, r->n_threads, "keep order", 2 * (size_t)r->order.n_layers, 0);
    variant_source_init(&r->source, r->parent, r->calibration, &r->order);
    return build_all(r, err);
}

/* In a process of its own: the exit status. */
static int run_child(const char *model, const char *text, unsigned n_threads)
{
    struct run *r = calloc(1, sizeof *r);
    struct err err = {0};
    char command[64];

    if (r == NULL)
        return 1;
    *r = (struct run){.model = model, .text = text, .n_threads = n_threads};
    strcpy(r->folder, "/tmp/kerf-bench.XXXXXX");
    if (mkdtemp(r->folder) == NULL) {
        fprintf(stderr, "bench_build: no folder can be made in /tmp\n");
        free(r);
        return 1;
    }
    int status = run_phases(r, &err);
    if (status != 0)
        fprintf(stderr, "bench_build: %s\n", err.text);
    store_close(r->store);
    keep_order_fini(&r->order);
    calibration_destroy(r->calibration);
    team_destroy(r->team);
    parent_close(r->parent);
    snprintf(command, sizeof command, "rm -rf %s", r->folder);
    if (system(command) != 0)
        fprintf(stderr, "%s is left behind\n", r->folder);
    free(r);
    return status == 0 ? 0 : 1;
}

static int run_apart(const char *model, const char *text, unsigned n_threads)
{
    int status;

    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        exit(run_child(model, text, n_threads));
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status)
                                                                           : 1;
}

int main(int argc, char **argv)
{
    long n_processors = sysconf(_SC_NPROCESSORS_ONLN);
    int status = 0;

    if (argc < 3) {
        fprintf(stderr, "usage: bench_build MODEL.gguf CALIBRATION [THREADS...]\n");
        return 2;
    }
    printf(
        "%ld processors, %d calibration tokens at most, %s kernels; default space, gguf-hetero\n\n",
        n_processors, CALIBRATION_TOKENS, kernels_select()->name);
    printf("%7s  %-12s  %6s  %8s  %8s  %8s  %9s  %6s\n", "threads", "phase", "n", "MB made",
           "wall s", "CPU s", "peak MB", "files");
    for (int i = 3; i < argc && status == 0; i++) {
        long n = strtol(argv[i], NULL, 10);
        if (n < 1 || n > 1024) {
            fprintf(stderr, "bench_build: %s: from 1 to 1024 threads\n", argv[i]);
            return 2;
        }
        status = run_apart(argv[1], argv[2], (unsigned)n);
    }
    if (argc == 3) {
        status = run_apart(argv[1], argv[2], 1);
        if (status == 0 && n_processors > 1)
            status = run_apart(argv[1], argv[2], (unsigned)n_processors);
    }
    return status;
}
