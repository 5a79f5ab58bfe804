/* bench_repeat.c - does a probe say the same twice?
 *
 *   bench_repeat [--out FILE] [--seconds S] [--apart S] REFERENCE.gguf CANDIDATE.gguf...
 *   bench_repeat [--out FILE] [--apart S] --tsv
 *
 * Each candidate is probed against the reference again and again, one after the other, as a search
 * would: in a process of its own that opens everything anew, tg32@b1 and pp128@b1 with the plan of
 * a study.  After --seconds (60; 0: none) nothing more is probed.  What was measured is appended to
 * FILE (repeat.tsv), one line a probe:
 *
 *   seconds since 1970, candidate, workload, ratio, its 95 % interval, median ns, rounds that
 *   count, noisy, seconds that it took, and of each round that counts the ratio and the candidate's
 *   us
 *
 * so that an hour can be measured in pieces.  Then all that stands in FILE is judged: probes of one
 * candidate that lie at least --apart seconds (120) from each other make disjoint pairs; a pair
 * agrees when the 95 % interval of the difference of its two log ratios contains 0: when the lower
 * one's reach upwards and the higher one's downwards, in squares, are no less than it.
 *
 * With --tsv nothing is measured, and a workload's probes are one line: workload, probes, median of
 * the half-width in per cent and its upper tenth, pairs, pairs that agree. */
#include "evaluator/parent.h"
#include "latency_model/stand.h"
#include "space/base/clock.h"
#include "space/base/err.h"
#include "space/base/rng.h"
#include "space/base/stats.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_PROBES 20000
#define NAME_ROOM  48

static const struct workload workloads[] = {{WORKLOAD_DECODE, 32, 0, 1},
                                            {WORKLOAD_PREFILL, 128, 0, 1}};
enum { N_WORKLOADS = sizeof workloads / sizeof workloads[0], MAX_TOKENS = 128 };
#define WIDE 0.01 /* half-width that is wanted */

/* What a line says. */
struct trial {
    double at, mid, lo, hi, ns, seconds;
    char name[NAME_ROOM], workload[24];
    unsigned n;
    int noisy;
    bool paired;
};

static void demand(bool held, const char *text)
{
    if (held)
        return;
    fprintf(stderr, "bench_repeat: %s\n", text);
    exit(1);
}

/* --- measuring --- */

static void write_trial(FILE *out, const char *name, const struct workload *workload,
                        const struct probe_result *r, double seconds)
{
    char text[32];

    fprintf(out, "%lld\t%s\t%s\t%.6f\t%.6f\t%.6f\t%.0f\t%u\t%d\t%.2f\t", (long long)clock_wall_s(),
            name, workload_format(workload, text), r->ratio_mid, r->ratio_lo, r->ratio_hi,
            r->median_ns, r->n_accepted, r->noisy, seconds);
    for (uint32_t i = 0; i < r->n_accepted; i++)
        fprintf(out, "%s%.5f/%.2f", i > 0 ? "," : "", r->ratio[i], r->sample_ns[i] * 1e-3);
    fprintf(out, "\n");
    fflush(out);
}

/* The last part of a path, without its extension. */
static void name_of(const char *path, char name[NAME_ROOM])
{
    const char *slash = strrchr(path, '/');

    snprintf(name, NAME_ROOM, "%s", slash != NULL ? slash + 1 : path);
    name[strcspn(name, ".")] = '\0';
}

/* What the first probe of each workload finds the reference to take at rest is for all that follow,
 * as in a study; processes share it. */
static double *rest_steps;

static void probe_both(const char *reference, const char *candidate, struct rng *rng, FILE *out)
{
    static struct probe_result results[2];
    const struct probe_plan plan = PROBE_PLAN_DEFAULT;
    struct stand stand;
    struct err err = {0};
    int32_t tokens[MAX_TOKENS];
    char name[NAME_ROOM];

    demand(stand_open(&stand, 0, &err) == 0, err.text);
    struct parent *file[2] = {parent_open(reference, &err), parent_open(candidate, &err)};
    demand(file[0] != NULL && file[1] != NULL, err.text);
    struct model *model[2] = {model_of_parent(file[0], &err), model_of_parent(file[1], &err)};
    demand(model[0] != NULL && model[1] != NULL, err.text);
    for (size_t i = 0; i < MAX_TOKENS; i++)
        tokens[i] = (int32_t)rng_below(rng, model[0]->geometry.n_vocab);
    struct stand_pair pair = {model[0], model[1], tokens};
    name_of(candidate, name);
    for (size_t w = 0; w < N_WORKLOADS; w++) {
        int64_t start = clock_now_ns();
        stand.place.rest_steps = rest_steps[w];
        demand(stand_probe(&stand, &pair, &workloads[w], &plan, rng, results, &err) == 0, err.text);
        rest_steps[w] = results[0].rest_steps;
        write_trial(out, name, &workloads[w], &results[1], (double)(clock_now_ns() - start) * 1e-9);
    }
    for (int i = 0; i < 2; i++) {
        model_destroy(model[i]);
        parent_close(file[i]);
    }
    stand_close(&stand);
}

static void measure(const char *path, double seconds, char **files, int n_candidates)
{
    FILE *out = fopen(path, "a");
    int64_t end = clock_now_ns() + (int64_t)(seconds * 1e9);

    rest_steps = mmap(NULL, N_WORKLOADS * sizeof *rest_steps, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    demand(out != NULL, "the file cannot be written");
    demand(rest_steps != MAP_FAILED, "out of memory");
    for (int i = 0; clock_now_ns() < end; i++) {
        const char *candidate = files[1 + i % n_candidates];
        int status = 0;
        pid_t child = fork();
        if (child == 0) {
            struct rng rng = rng_make((uint64_t)clock_now_ns(), 0);
            probe_both(files[0], candidate, &rng, out);
            _exit(0);
        }
        demand(child > 0 && waitpid(child, &status, 0) == child && status == 0, "a probe failed");
    }
    fclose(out);
}

/* --- judging --- */

static size_t read_trials(const char *path, struct trial *trial)
{
    FILE *in = fopen(path, "r");
    char *line = NULL;
    size_t room = 0, n = 0;

    demand(in != NULL, "the file cannot be read");
    while (n < MAX_PROBES && getline(&line, &room, in) > 0) {
        struct trial *t = &trial[n];
        *t = (struct trial){0};
        n += sscanf(line, "%lf %47s %23s %lf %lf %lf %lf %u %d %lf", &t->at, t->name, t->workload,
                    &t->mid, &t->lo, &t->hi, &t->ns, &t->n, &t->noisy, &t->seconds) == 10;
    }
    free(line);
    fclose(in);
    return n;
}

static double half_width(const struct trial *t)
{
    return (log(t->hi) - log(t->lo)) / 2;
}

static bool alike(const struct trial *a, const struct trial *b)
{
    return strcmp(a->name, b->name) == 0 && strcmp(a->workload, b->workload) == 0;
}

/* Of some probes: counts, and values of which the median is told. */
struct tally {
    unsigned n, n_noisy, n_wide, n_pairs, n_agree;
    double half[MAX_PROBES], seconds[MAX_PROBES], difference[MAX_PROBES];
};

static void add_probe(struct tally *t, const struct trial *trial)
{
    t->half[t->n] = half_width(trial);
    t->seconds[t->n] = trial->seconds;
    t->n_wide += t->half[t->n] > WIDE;
    t->n_noisy += trial->noisy != 0;
    t->n++;
}

static void add_pair(struct tally *t, const struct trial *a, const struct trial *b)
{
    const struct trial *low = a->mid < b->mid ? a : b, *high = low == a ? b : a;
    double difference = log(high->mid / low->mid);

    t->difference[t->n_pairs++] = difference;
    t->n_agree += difference <= hypot(log(low->hi / low->mid), log(high->mid / high->lo));
}

static void print_tally(const char *name, const char *workload, struct tally *t)
{
    stats_sort(t->half, t->n);
    printf("%-12s %-9s %6u %9.2f %6.2f %6.2f %6u %6u %7u %8.2f %6u %5.0f%%\n", name, workload, t->n,
           stats_median(t->seconds, t->n), 100 * stats_quantile(t->half, t->n, 0.5),
           100 * stats_quantile(t->half, t->n, 0.9), t->n_wide, t->n_noisy, t->n_pairs,
           100 * stats_median(t->difference, t->n_pairs), t->n_agree,
           t->n_pairs > 0 ? 100.0 * t->n_agree / t->n_pairs : NAN);
}

static void print_tsv(const char *workload, struct tally *t)
{
    stats_sort(t->half, t->n);
    printf("%s\t%u\t%.3f\t%.3f\t%u\t%u\n", workload, t->n, 100 * stats_quantile(t->half, t->n, 0.5),
           100 * stats_quantile(t->half, t->n, 0.9), t->n_pairs, t->n_agree);
}

static void print_head(void)
{
    printf("%-12s %-9s %6s %9s %6s %6s %6s %6s %7s %8s %6s %6s\n", "candidate", "workload",
           "probes", "seconds", "half %", "p90", "wide", "noisy", "pairs", "differ %", "agree",
           "share");
}

/* The first of each pair is the earliest that has none yet, the second the next far enough. */
static void judge(struct trial *trial, size_t n, double apart, bool tsv)
{
    static struct tally one, all[N_WORKLOADS];
    char text[32];

    if (!tsv)
        print_head();
    for (size_t first = 0; first < n; first++) {
        bool known = false;
        for (size_t i = 0; i < first && !known; i++)
            known = alike(&trial[i], &trial[first]);
        if (known)
            continue;
        size_t w = 0;
        while (w + 1 < N_WORKLOADS &&
               strcmp(workload_format(&workloads[w], text), trial[first].workload) != 0)
            w++;
        one = (struct tally){0};
        for (size_t i = first; i < n; i++) {
            if (!alike(&trial[i], &trial[first]))
                continue;
            add_probe(&one, &trial[i]);
            add_probe(&all[w], &trial[i]);
            for (size_t j = i + 1; j < n && !trial[i].paired; j++)
                if (!trial[j].paired && alike(&trial[i], &trial[j]) &&
                    trial[j].at - trial[i].at >= apart) {
                    trial[i].paired = trial[j].paired = true;
                    add_pair(&one, &trial[i], &trial[j]);
                    add_pair(&all[w], &trial[i], &trial[j]);
                }
        }
        if (!tsv)
            print_tally(trial[first].name, trial[first].workload, &one);
    }
    for (size_t w = 0; w < N_WORKLOADS; w++)
        if (all[w].n > 0 && tsv)
            print_tsv(workload_format(&workloads[w], text), &all[w]);
        else if (all[w].n > 0)
            print_tally("all", workload_format(&workloads[w], text), &all[w]);
    if (tsv)
        return;
    printf("seconds, half-width of the ratio's 95 %% interval and difference of pairs: medians; "
           "wide: beyond %.0f %%\n",
           100 * WIDE);
}

int main(int argc, char **argv)
{
    static struct trial trial[MAX_PROBES];
    const char *path = "repeat.tsv";
    double seconds = 60, apart = 120;
    bool tsv = argc > 1 && strcmp(argv[argc - 1], "--tsv") == 0;
    int i = 1;

    for (; i + 1 < argc && strncmp(argv[i], "--", 2) == 0; i += 2) {
        if (strcmp(argv[i], "--out") == 0)
            path = argv[i + 1];
        else if (strcmp(argv[i], "--seconds") == 0)
            seconds = strtod(argv[i + 1], NULL);
        else if (strcmp(argv[i], "--apart") == 0)
            apart = strtod(argv[i + 1], NULL);
        else
            break;
    }
    if (tsv ? i + 1 != argc : i + 1 >= argc || strncmp(argv[i], "--", 2) == 0)
        return fprintf(stderr, "usage: bench_repeat [--out FILE] [--seconds S] [--apart S] "
                               "REFERENCE.gguf CANDIDATE.gguf... | --tsv\n"),
               2;
    if (!tsv && seconds > 0)
        measure(path, seconds, argv + i, argc - i - 1);
    judge(trial, read_trials(path, trial), apart, tsv);
    return 0;
}
