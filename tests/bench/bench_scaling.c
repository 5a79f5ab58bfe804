/* bench_scaling.c - how the cost of compression grows, and what a large model would take.
 *
 *   bench_scaling [TOKENS]      calibration tokens of the large model, 131072 if not said
 *
 * 1. Two synthetic parents, d and 2d, calibrated on N and 2N random tokens and compressed to Q4_K:
 *    exponents, log2 of the ratio of times, beside the expected ones.
 * 2. The terms of cost.h, each measured on one thread at n and 2n: exponents and rates.  Feedback
 *    and search are means over the formats of the default space.
 * 3. From the rates at 2n and the formulas: a model of 8 B parameters on a node of 64 cores, term
 *    by term.  A paper estimate: rates are taken to hold at its sizes, cores to help each other
 *    perfectly, memory to be no limit.
 *
 * Times are CPU seconds of one thread, the least of REPEATS (wall time for `write`, which waits
 * for the disk); run it pinned on a quiet machine all the same.  Seeds are fixed. */
#include "evaluator/compression/feedback.h"
#include "evaluator/compression/hessian.h"
#include "evaluator/compression/obs.h"
#include "evaluator/compression/quantize.h"
#include "evaluator/quality/token_set.h"
#include "space/base/clock.h"
#include "space/base/file.h"
#include "tests/bench/cost.h"
#include "tests/bench/variant_list.h"
#include "tests/parent_file.h"

#include <assert.h>
#include <time.h>

#define REPEATS       3
#define PARENT_D      256
#define PARENT_TOKENS 4096
#define SIZE          1024 /* n of the terms */
#define TERM_TOKENS   512
#define TERM_ROWS     64
#define WRITE_BYTES   ((size_t)32 << 20)
#define LARGE_TOKENS  131072
#define LARGE_CORES   64

/* CPU time of the process, which other load disturbs least. */
static double cpu_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double log2_ratio(double large, double small)
{
    return log2(large / small);
}

/* Nothing is to be measured where something failed. */
static void demand(bool held, const struct err *err)
{
    if (held)
        return;
    fprintf(stderr, "bench_scaling: %s\n", err->text);
    exit(1);
}

/* --- synthetic parents ------------------------------------------------------------------------ */

struct timing {
    double calibration_s, order_s, variants_s;
};

static double build_variants(const struct parent *parent, const struct variant_source *source,
                             const char *folder, struct team *team)
{
    struct genome *genome = malloc(sizeof *genome);
    struct variant_list list;
    struct err err = {0};

    demand(genome != NULL, &err);
    genome_uniform(genome, parent_geometry(parent), FORMAT_Q4_K);
    struct store *store = store_open(folder, &err);
    demand(store != NULL, &err);
    demand(variant_list_of_genome(&list, genome, parent_geometry(parent), &err) == 0, &err);
    double begin = cpu_now();
    demand(variant_list_build(&list, source, store, team, &err) == 0, &err);
    double seconds = cpu_now() - begin;
    variant_list_fini(&list);
    store_close(store);
    free(genome);
    return seconds;
}

static struct timing time_once(struct parent *parent, const struct token_set *text,
                               const char *store, struct team *team)
{
    struct timing t;
    struct err err = {0};
    struct keep_order order;
    struct variant_source source;

    double begin = cpu_now();
    struct calibration *calibration =
        calibration_of_parent(parent, kernels_select(), team, text, &err);
    t.calibration_s = cpu_now() - begin;
    demand(calibration != NULL, &err);
    begin = cpu_now();
    demand(keep_order_init(&order, parent, calibration, &err) == 0, &err);
    t.order_s = cpu_now() - begin;
    variant_source_init(&source, parent, calibration, &order);
    t.variants_s = build_variants(parent, &source, store, team);
    keep_order_fini(&order);
    calibration_destroy(calibration);
    return t;
}

/* The least of several. */
static struct timing time_parent(uint32_t d, uint32_t n_tokens)
{
    const struct geometry g = {.n_layers = 1,
                               .d_model = d,
                               .n_heads = d / 32,
                               .n_kv_heads = d / 128,
                               .head_dim = 32,
                               .d_ff = 4 * d,
                               .n_vocab = 260,
                               .n_ctx = 512,
                               .tied = true,
                               .rms_eps = 1e-5F,
                               .rope_base = 10000.0F};
    struct timing least = {INFINITY, INFINITY, INFINITY};
    struct rng rng = rng_make(1, 2);
    struct token_set text;
    struct err err = {0};
    char folder[256], path[512];

    folder_make(folder);
    struct fixture *fixture = fixture_dense(&g, FORMAT_BF16, 1);
    parent_file_write(folder_path(folder, "parent.gguf", path), &fixture->model);
    struct parent *parent = parent_open(path, &err);
    struct team *team = team_create(1, NULL, NULL, &err);
    int32_t *tokens = malloc(n_tokens * sizeof *tokens);
    demand(parent != NULL && team != NULL && tokens != NULL, &err);
    for (uint32_t t = 0; t < n_tokens; t++)
        tokens[t] = (int32_t)rng_below(&rng, g.n_vocab);
    demand(token_set_of(&text, tokens, n_tokens, 512, &err) == 0, &err);
    for (int i = 0; i < REPEATS; i++) {
        /* Each time into a store of its own. */
        char name[24];
        snprintf(name, sizeof name, "store%d", i);
        struct timing t = time_once(parent, &text, folder_path(folder, name, path), team);
        least.calibration_s = fmin(least.calibration_s, t.calibration_s);
        least.order_s = fmin(least.order_s, t.order_s);
        least.variants_s = fmin(least.variants_s, t.variants_s);
    }
    token_set_fini(&text);
    free(tokens);
    team_destroy(team);
    parent_close(parent);
    fixture_destroy(fixture);
    folder_remove(folder);
    return least;
}

static void bench_parents(void)
{
    struct timing base = time_parent(PARENT_D, PARENT_TOKENS);
    struct timing wide = time_parent(2 * PARENT_D, PARENT_TOKENS);
    struct timing longer = time_parent(PARENT_D, 2 * PARENT_TOKENS);

    printf(
        "Synthetic parents: one layer, d %d and %d, FFN 4 d, heads of 32, BF16; %d and %d random "
        "tokens\n\n",
        PARENT_D, 2 * PARENT_D, PARENT_TOKENS, 2 * PARENT_TOKENS);
    printf("%-20s  %8s  %8s  %8s  %8s  %8s  %8s  %8s\n", "", "d, N s", "2d, N s", "d, 2N s",
           "exp. d", "expected", "exp. N", "expected");
    printf("%-20s  %8.4f  %8.4f  %8.4f  %8.2f  %8s  %8.2f  %8s\n", "calibration",
           base.calibration_s, wide.calibration_s, longer.calibration_s,
           log2_ratio(wide.calibration_s, base.calibration_s), "2",
           log2_ratio(longer.calibration_s, base.calibration_s), "1");
    printf("%-20s  %8.4f  %8.4f  %8.4f  %8.2f  %8s  %8.2f  %8s\n", "keep order", base.order_s,
           wide.order_s, longer.order_s, log2_ratio(wide.order_s, base.order_s), "3",
           log2_ratio(longer.order_s, base.order_s), "0");
    printf("%-20s  %8.4f  %8.4f  %8.4f  %8.2f  %8s  %8.2f  %8s\n\n", "variants in Q4_K",
           base.variants_s, wide.variants_s, longer.variants_s,
           log2_ratio(wide.variants_s, base.variants_s), "2 to 3",
           log2_ratio(longer.variants_s, base.variants_s), "0");
    fflush(stdout);
}

/* --- terms ------------------------------------------------------------------------------------ */

/* A layer with n inputs that lean on each other: x = common + own noise. */
struct layer {
    size_t n;
    float *x, *w;    /* [TERM_TOKENS][n], [TERM_ROWS][n] */
    double *hessian; /* [n][n] */
};

static void *get(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);

    demand(p != NULL, &(struct err){.text = "out of memory"});
    return p;
}

static struct layer layer_make(size_t n)
{
    struct layer l = {.n = n};
    struct rng rng = rng_make(3, 4);
    struct hessian sums;
    struct err err = {0};

    l.x = get(TERM_TOKENS * n * sizeof *l.x);
    l.w = get(TERM_ROWS * n * sizeof *l.w);
    l.hessian = get(n * n * sizeof *l.hessian);
    for (size_t t = 0; t < TERM_TOKENS; t++) {
        float common = (float)rng_normal(&rng);
        for (size_t i = 0; i < n; i++)
            l.x[t * n + i] = common + (float)rng_normal(&rng);
    }
    for (size_t i = 0; i < TERM_ROWS * n; i++)
        l.w[i] = (float)rng_normal(&rng);
    double *wide = get(hessian_wide_size(TERM_TOKENS, n) * sizeof *wide);
    float *triangle = get(hessian_triangle_size(n) * sizeof *triangle),
          *mean = get(n * sizeof *mean);
    demand(hessian_init(&sums, n, &err) == 0 && hessian_widen(l.x, TERM_TOKENS, n, wide), &err);
    hessian_add(&sums, kernels_select(), wide, TERM_TOKENS, 0, 1);
    hessian_pack(&sums, triangle, mean);
    hessian_unpack(triangle, n, l.hessian);
    hessian_fini(&sums);
    free(mean);
    free(triangle);
    free(wide);
    return l;
}

static void layer_free(struct layer *l)
{
    free(l->x);
    free(l->w);
    free(l->hessian);
}

/* One term once: seconds, and its work. */
typedef double term_fn(const struct layer *l, double *work);

static double time_forward(const struct layer *l, double *work)
{
    const struct geometry g = {.n_layers = 1,
                               .d_model = (uint32_t)l->n,
                               .n_heads = (uint32_t)l->n / 64,
                               .n_kv_heads = (uint32_t)l->n / 256,
                               .head_dim = 64,
                               .d_ff = 3 * (uint32_t)l->n,
                               .n_vocab = 260,
                               .n_ctx = TERM_TOKENS,
                               .rms_eps = 1e-5F,
                               .rope_base = 10000.0F};
    struct forward_options options = {.n_ctx = TERM_TOKENS, .n_batch = TERM_TOKENS};
    struct fixture *fixture = fixture_dense(&g, FORMAT_BF16, 1);
    int32_t tokens[TERM_TOKENS];
    struct err err = {0};

    struct team *team = team_create(1, NULL, NULL, &err);
    struct forward *f = forward_create(&fixture->model, kernels_select(), team, &options, &err);
    demand(team != NULL && f != NULL, &err);
    for (int t = 0; t < TERM_TOKENS; t++)
        tokens[t] = t % 260;
    double begin = cpu_now();
    demand(forward_tokens(f, tokens, TERM_TOKENS, LOGITS_NONE, &err) == 0, &err);
    double seconds = cpu_now() - begin, d = (double)l->n;
    *work = cost_forward(TERM_TOKENS, d * (2 * d + 2 * d / 4 + 3 * 3 * d));
    forward_destroy(f);
    team_destroy(team);
    fixture_destroy(fixture);
    return seconds;
}

static double time_moments(const struct layer *l, double *work)
{
    double *wide = get(hessian_wide_size(TERM_TOKENS, l->n) * sizeof *wide);
    struct hessian sums;
    struct err err = {0};

    demand(hessian_init(&sums, l->n, &err) == 0, &err);
    double begin = cpu_now();
    demand(hessian_widen(l->x, TERM_TOKENS, l->n, wide), &err);
    hessian_add(&sums, kernels_select(), wide, TERM_TOKENS, 0, 1);
    double seconds = cpu_now() - begin;
    *work = cost_moments(TERM_TOKENS, (double)l->n);
    hessian_fini(&sums);
    free(wide);
    return seconds;
}

static struct obs_layer obs_of(const struct layer *l)
{
    return (struct obs_layer){l->n, TERM_ROWS, l->hessian, l->w};
}

static double time_order(const struct layer *l, double *work)
{
    struct obs_layer obs = obs_of(l);
    struct obs_items items = {1, l->n, 1};
    uint32_t *order = get(l->n * sizeof *order);
    double damping = obs_damping(l->n, TERM_TOKENS);
    struct err err = {0};

    double begin = cpu_now();
    demand(obs_order(&obs, &items, order, NULL, &damping, &err) == 0, &err);
    double seconds = cpu_now() - begin;
    *work = cost_order((double)l->n);
    free(order);
    return seconds;
}

static double time_factor(const struct layer *l, double *work)
{
    struct err err = {0};
    double begin = cpu_now();
    struct feedback *feedback = feedback_create("bench", l->hessian, l->n, FEEDBACK_DAMPING, &err);

    demand(feedback != NULL, &err);
    double seconds = cpu_now() - begin;
    *work = cost_factor((double)l->n);
    feedback_destroy(feedback);
    return seconds;
}

/* Half of the inputs stay. */
static double time_repair(const struct layer *l, double *work)
{
    struct obs_layer obs = obs_of(l);
    size_t n_kept = l->n / 2;
    uint32_t *kept = get(n_kept * sizeof *kept);
    float *repaired = get(TERM_ROWS * n_kept * sizeof *repaired);
    double damping = obs_damping(l->n, TERM_TOKENS);
    struct err err = {0};

    for (size_t i = 0; i < n_kept; i++)
        kept[i] = (uint32_t)(2 * i);
    double begin = cpu_now();
    demand(obs_repair(&obs, kept, n_kept, &damping, repaired, &err) == 0, &err);
    double seconds = cpu_now() - begin;
    *work = cost_repair(TERM_ROWS, (double)n_kept, (double)l->n);
    free(repaired);
    free(kept);
    return seconds;
}

/* Every format of the default space, over their number; with feedback or without. */
static double time_rounding(const struct layer *l, bool with_feedback)
{
    const struct geometry g = {.n_layers = 1, .d_model = 256};
    struct space_limits limits;
    float *importance = get(l->n * sizeof *importance);
    void *out = get(TERM_ROWS * l->n * sizeof(float));
    struct err err = {0};
    double seconds = 0;

    space_default_limits(&limits, &g, PROFILE_GGUF_HETERO);
    for (size_t i = 0; i < l->n; i++)
        importance[i] = (float)l->hessian[i * l->n + i];
    struct feedback *feedback = feedback_create("bench", l->hessian, l->n, FEEDBACK_DAMPING, &err);
    demand(feedback != NULL, &err);
    for (uint32_t i = 0; i < limits.n_types; i++) {
        double begin = cpu_now();
        int status =
            with_feedback
                ? feedback_quantize(feedback, limits.types[i], l->w, TERM_ROWS, out, NULL, &err)
                : quantize_rows(limits.types[i], l->w, TERM_ROWS, l->n, importance, out, &err);
        demand(status == 0, &err);
        seconds += cpu_now() - begin;
    }
    feedback_destroy(feedback);
    free(out);
    free(importance);
    return seconds / limits.n_types;
}

/* A row is searched twice: as it is, and block by block as feedback changes it. */
static double time_search(const struct layer *l, double *work)
{
    *work = cost_search(TERM_ROWS, (double)l->n);
    return 2 * time_rounding(l, false);
}

/* What feedback takes beside the two searches. */
static double time_feedback(const struct layer *l, double *work)
{
    double none;

    *work = cost_feedback(TERM_ROWS, (double)l->n);
    return fmax(time_rounding(l, true) - time_search(l, &none), 1e-9);
}

static double time_judge(const struct layer *l, double *work)
{
    size_t n = TERM_ROWS * l->n;
    double *d = get(n * sizeof *d), *room = get(n * sizeof *room);
    volatile double loss = 0;

    for (size_t i = 0; i < n; i++)
        d[i] = (double)l->w[i];
    double begin = cpu_now();
    for (int i = 0; i < 2; i++)
        loss += hessian_loss(l->n, l->hessian, TERM_ROWS, d, room);
    double seconds = cpu_now() - begin;
    *work = cost_judge(TERM_ROWS, (double)l->n);
    free(room);
    free(d);
    return seconds;
}

/* As the store does it: hash, write and sync, read back and hash; half as much at n as at 2n. */
static double time_write(const struct layer *l, double *work)
{
    size_t n_bytes = WRITE_BYTES * l->n / (2 * SIZE);
    uint8_t *bytes = get(n_bytes);
    char folder[256], path[512];
    struct err err = {0};
    struct hash256 hash, back;

    for (size_t i = 0; i < n_bytes; i++)
        bytes[i] = (uint8_t)(i * 2654435761U >> 24);
    folder_make(folder);
    folder_path(folder, "bytes", path);
    int64_t begin = clock_now_ns();
    hash = sha256_of(bytes, n_bytes);
    demand(file_replace(path, bytes, n_bytes, &err) == 0 && file_hash(path, &back, &err) == 0,
           &err);
    double seconds = (double)(clock_now_ns() - begin) * 1e-9;
    assert(memcmp(hash.bytes, back.bytes, sizeof hash.bytes) == 0);
    *work = (double)n_bytes;
    folder_remove(folder);
    free(bytes);
    return seconds;
}

static double least_of(term_fn *time, const struct layer *l, double *work)
{
    double least = INFINITY;

    for (int i = 0; i < REPEATS; i++)
        least = fmin(least, time(l, work));
    return least;
}

/* rate[term], work a second on one core. */
static void bench_terms(double rate[N_COST_TERMS])
{
    static const struct {
        term_fn *time;
        double exponent;
    } terms[N_COST_TERMS] = {
        [COST_FORWARD] = {time_forward, 2}, [COST_MOMENTS] = {time_moments, 2},
        [COST_ORDER] = {time_order, 3},     [COST_FACTOR] = {time_factor, 3},
        [COST_REPAIR] = {time_repair, 3},   [COST_FEEDBACK] = {time_feedback, 2},
        [COST_SEARCH] = {time_search, 1},   [COST_JUDGE] = {time_judge, 2},
        [COST_WRITE] = {time_write, 1},
    };
    struct layer small = layer_make(SIZE), large = layer_make(2 * SIZE);

    printf("Terms on one thread at n %d and %d: %d tokens, %d rows, half kept; rates at the "
           "latter\n\n",
           SIZE, 2 * SIZE, TERM_TOKENS, TERM_ROWS);
    printf("%-9s  %-16s  %9s  %9s  %8s  %8s  %10s\n", "term", "work", "n, s", "2n, s", "exponent",
           "expected", "10^9 / s");
    for (int t = 0; t < N_COST_TERMS; t++) {
        double work;
        double at_n = least_of(terms[t].time, &small, &work);
        double at_2n = least_of(terms[t].time, &large, &work);
        rate[t] = work / at_2n;
        printf("%-9s  %-16s  %9.5f  %9.5f  %8.2f  %8.0f  %10.4f\n", cost_name((enum cost_term)t),
               cost_formula((enum cost_term)t), at_n, at_2n, log2_ratio(at_2n, at_n),
               terms[t].exponent, rate[t] * 1e-9);
        fflush(stdout);
    }
    printf("\n");
    layer_free(&large);
    layer_free(&small);
}

/* --- a large model ---------------------------------------------------------------------------- */

static void estimate(const double rate[N_COST_TERMS], double n_tokens)
{
    const struct geometry g = {.n_layers = 32,
                               .d_model = 4096,
                               .n_heads = 32,
                               .n_kv_heads = 8,
                               .head_dim = 128,
                               .d_ff = 14336,
                               .n_vocab = 128256,
                               .n_ctx = 8192,
                               .rms_eps = 1e-5F,
                               .rope_base = 500000.0F};
    double work[N_COST_TERMS], n_variants, builder, sum[3] = {0};
    struct err err = {0};
    char text[160];

    demand(cost_of_space(&g, n_tokens, work, &n_variants, &builder, &err) == 0, &err);
    printf(
        "Estimate, not measured: %s\n%.0f calibration tokens, %.0f variants of the default space "
        "(gguf-hetero), %.0f GB of them; a builder needs up to %.1f GB\n\n",
        geometry_describe(&g, text), n_tokens, n_variants, work[COST_WRITE] * 1e-9, builder * 1e-9);
    printf("%-9s  %-16s  %10s  %10s  %12s  %12s  %12s\n", "term", "work of each", "10^12",
           "10^9 / s", "1 core, h", "1 process, h", "spread, h");
    for (int t = 0; t < N_COST_TERMS; t++) {
        double hours = work[t] / rate[t] / 3600;
        bool serial = cost_is_serial((enum cost_term)t);
        double column[3] = {hours, serial ? hours : hours / LARGE_CORES, hours / LARGE_CORES};
        printf("%-9s  %-16s  %10.2f  %10.4f  %12.2f  %12.2f  %12.3f\n",
               cost_name((enum cost_term)t), cost_formula((enum cost_term)t), work[t] * 1e-12,
               rate[t] * 1e-9, column[0], column[1], column[2]);
        for (int c = 0; c < 3; c++)
            sum[c] += column[c];
    }
    printf("%-9s  %-16s  %10s  %10s  %12.2f  %12.2f  %12.3f\n\n", "sum", "", "", "", sum[0], sum[1],
           sum[2]);
    printf(
        "1 process: %d threads of one process, in which order, factor, repair and judge are made\n"
        "one at a time.  spread: %d processes of one thread, which need up to %.0f GB together.\n",
        LARGE_CORES, LARGE_CORES, LARGE_CORES * builder * 1e-9);
}

int main(int argc, char **argv)
{
    double rate[N_COST_TERMS], n_tokens = argc > 1 ? strtod(argv[1], NULL) : LARGE_TOKENS;

    if (argc > 2 || !(n_tokens >= 1)) {
        fprintf(stderr, "usage: bench_scaling [TOKENS]\n");
        return 2;
    }
    printf("%s kernels, CPU seconds of one thread, least of %d\n\n", kernels_select()->name,
           REPEATS);
    bench_parents();
    bench_terms(rate);
    estimate(rate, n_tokens);
    return 0;
}
