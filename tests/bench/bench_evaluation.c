/* bench_evaluation.c - how long a quality evaluation takes beside its matrix products.
 *
 *   bench_evaluation MODEL.gguf CALIBRATION.txt HELDOUT.txt [ROUNDS [THREADS [NAME...]]] [--tsv]
 *
 * The parent, uniform models and one of mixed formats and widths are scored as a search scores
 * them: KL divergence and perplexity on 16,384 held-out tokens in sequences of 512, against the
 * parent's kept states, all threads pinned.  In turn with that, round after round, the matrix
 * products of the same pass are done alone: the same calls (call_log.h) with the same batches on
 * the same threads, nothing between them.  Products of activations in the attention and the
 * parent's head, which is multiplied anew for its log probabilities, are not among them.
 *
 *   ratio   evaluation over products, of the same round; median and half the distance of the
 *           quartiles
 *   bare    the same over products and attention together: how far scoring is from doing nothing
 *           but the arithmetic of the model
 *   rest    what else there is, in per cent of the products: each kind of call done alone like
 *           the products.  Operands that the pass has at hand may come from farther away then, and
 *           the other way round, so these say where to look rather than add up; what no call
 *           accounts for comes last
 *
 * With --tsv a line for each model: its name, rounds, median of the ratio, its spread. */
#include "evaluator/compression/stitch.h"
#include "evaluator/quality/logits.h"
#include "latency_model/stand.h"
#include "space/base/clock.h"
#include "space/base/err.h"
#include "space/base/stats.h"
#include "tests/bench/bench_model.h"
#include "tests/bench/bench_program.h"
#include "tests/bench/bench_variants.h"
#include "tests/bench/call_log.h"
#include "tests/bench/variant_list.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CALIBRATION_TOKENS 8192 /* weights need not be good here, only of the right shape */
#define QUALITY_TOKENS     16384
#define MAX_ROUNDS         200
#define MAX_CANDIDATES     8

/* The kinds of calls of the pass, then the same of the parent's head, then what follows. */
enum { SHARE_HEAD = N_CALL_KINDS, SHARE_JUDGE, N_SHARES };

struct candidate {
    const char *name;
    struct model *model; /* NULL: the parent */
    double evaluation[MAX_ROUNDS], ratio[MAX_ROUNDS], attended[MAX_ROUNDS];
    double part[N_SHARES][MAX_ROUNDS]; /* ns */
    double kld;
};

struct bench {
    struct stand stand;
    struct bench_model m;
    struct bench_variants v;
    struct call_log *log;
    struct forward *noted;               /* runs on the kernels of the log */
    float *parent_logits, *noted_logits; /* [QUALITY_BATCH][n_vocab] */
    struct candidate candidate[MAX_CANDIDATES];
    uint32_t n_candidates, n_rounds;
    bool tsv;
};

/* ---- candidates ----------------------------------------------------------------------------- */

/* Narrow units in formats that differ by layer, as members of fronts are; the last layer has no
 * attention. */
static void mixed_genome(struct genome *genome, const struct geometry *g)
{
    static const enum format formats[] = {FORMAT_Q4_K, FORMAT_Q3_K, FORMAT_Q2_K, FORMAT_Q6_K};

    genome_uniform(genome, g, FORMAT_Q4_K);
    for (uint32_t l = 0; l < g->n_layers; l++) {
        struct attn_choice *attn = &genome->attn[l];
        struct ffn_choice *ffn = &genome->ffn[l];
        attn->kv_groups = l % 2 == 0 ? g->n_kv_heads : (g->n_kv_heads + 1) / 2;
        attn->qkv = formats[l % 4];
        attn->o = formats[(l + 1) % 4];
        ffn->width = g->d_ff / 4 * (1 + l % 4);
        ffn->gate_up = formats[(l + 2) % 4];
        ffn->down = formats[(l + 3) % 4];
    }
    genome->attn[g->n_layers - 1].kv_groups = 0;
}

static struct model *make_model(struct bench *b, const char *name, struct err *err)
{
    const struct geometry *g = parent_geometry(b->m.parent);
    struct genome *genome = calloc(1, sizeof *genome);
    struct variant_list list = {0};
    struct model *model = NULL;

    if (genome == NULL) {
        err_set(err, ERR_MEMORY, "bench: out of memory");
        return NULL;
    }
    if (strcmp(name, "mixed") == 0)
        mixed_genome(genome, g);
    else
        genome_uniform(genome, g, format_parse(name));
    if (genome_canonicalize(genome, g, err) == 0 &&
        variant_list_of_genome(&list, genome, g, err) == 0 &&
        variant_list_build(&list, &b->v.source, b->v.store, b->m.team, err) == 0)
        model = stitch_model(&b->v.source, b->v.store, genome, err);
    variant_list_fini(&list);
    free(genome);
    return model;
}

static int add_candidate(struct bench *b, const char *name, struct err *err)
{
    struct candidate *c = &b->candidate[b->n_candidates];
    bool is_parent = strcmp(name, "parent") == 0;

    if (!is_parent && strcmp(name, "mixed") != 0 && format_parse(name) == FORMAT_NONE) {
        err_set(err, ERR_USAGE, "%s is none of parent, mixed and the formats", name);
        return -1;
    }
    c->name = name;
    if (!is_parent && (c->model = make_model(b, name, err)) == NULL)
        return -1;
    b->n_candidates++;
    return 0;
}

static int open_all(struct bench *b, int argc, char **argv, struct err *err)
{
    static const char *const usual[] = {"parent", "Q8_0", "Q4_K", "Q2_K", "mixed"};
    struct forward_options options = {.n_ctx = 512, .n_batch = 512};
    struct bench_model_plan plan = {.n_calibration = CALIBRATION_TOKENS,
                                    .n_quality = QUALITY_TOKENS};

    if (argc > 4 && strcmp(argv[argc - 1], "--tsv") == 0) {
        b->tsv = true;
        argc--;
    }
    b->n_rounds = argc > 4 ? (uint32_t)strtoul(argv[4], NULL, 10) : 9;
    if (b->n_rounds < 2 || b->n_rounds > MAX_ROUNDS) {
        err_set(err, ERR_USAGE, "2 to %d rounds", MAX_ROUNDS);
        return -1;
    }
    if (stand_open(&b->stand, argc > 5 ? (uint32_t)strtoul(argv[5], NULL, 10) : 0, err) != 0)
        return -1;
    struct machine_place place = {.machine = b->stand.machine, .cpu = b->stand.cpu};
    plan.n_threads = b->stand.n_threads;
    plan.place = machine_place_member;
    plan.place_arg = &place;
    bench_model_plan_read(&plan, 4, argv);
    if (bench_model_open(&b->m, &plan, err) != 0 ||
        bench_variants_open(&b->v, b->m.parent, b->m.calibration, b->m.folder, err) != 0)
        return -1;
    const struct geometry *g = parent_geometry(b->m.parent);
    b->log = call_log_create(b->m.kernels, b->m.team, err);
    if (b->log == NULL)
        return -1;
    b->noted = forward_create(b->m.model, call_log_kernels(b->log), b->m.team, &options, err);
    b->parent_logits = calloc((size_t)QUALITY_BATCH * g->n_vocab, sizeof(float));
    b->noted_logits = calloc((size_t)QUALITY_BATCH * g->n_vocab, sizeof(float));
    if (b->noted == NULL || b->parent_logits == NULL || b->noted_logits == NULL)
        return -1;
    if (argc <= 6)
        for (size_t i = 0; i < sizeof usual / sizeof usual[0]; i++)
            if (add_candidate(b, usual[i], err) != 0)
                return -1;
    for (int i = 6; i < argc && b->n_candidates < MAX_CANDIDATES; i++)
        if (add_candidate(b, argv[i], err) != 0)
            return -1;
    return 0;
}

/* ---- one round ------------------------------------------------------------------------------ */

/* The longest sequence of the text: all but the last are so long. */
static uint32_t sequence_tokens(const struct bench *b)
{
    return b->m.heldout.begin[1] - b->m.heldout.begin[0] - 1;
}

/* How many such passes the evaluation is; not a whole number. */
static double n_passes(const struct bench *b)
{
    return (double)token_set_n_predicted(&b->m.heldout) / sequence_tokens(b);
}

/* The first sequence, cut as quality_measure cuts it. */
static int pass(const struct bench *b, struct err *err)
{
    uint32_t n_tokens = sequence_tokens(b);

    forward_reset(b->noted);
    for (uint32_t t = 0; t < n_tokens; t += QUALITY_BATCH) {
        uint32_t n = n_tokens - t < QUALITY_BATCH ? n_tokens - t : QUALITY_BATCH;
        if (forward_tokens(b->noted, b->m.heldout.tokens + t, n, LOGITS_ALL, err) != 0)
            return -1;
    }
    return 0;
}

static void judge(void *arg, unsigned member, unsigned n_members)
{
    const struct bench *b = arg;
    uint32_t n_vocab = b->m.model->geometry.n_vocab;
    size_t begin, end;

    team_share(QUALITY_BATCH, 1, member, n_members, &begin, &end);
    for (size_t t = begin; t < end; t++) {
        struct logits_pair pair;
        logits_compare(b->parent_logits + t * n_vocab, b->noted_logits + t * n_vocab, n_vocab,
                       &pair);
    }
}

static double time_judging(struct bench *b)
{
    int64_t begin = clock_now_ns();

    team_run(b->m.team, judge, b);
    return (double)(clock_now_ns() - begin);
}

/* What is not a product, each from a fresh pass, for some of it works in place. */
static int run_parts(struct bench *b, struct candidate *c, uint32_t round, struct err *err)
{
    for (int kind = CALLS_PRODUCT + 1; kind < N_CALL_KINDS; kind++) {
        if (pass(b, err) != 0)
            return -1;
        c->part[kind][round] = n_passes(b) * call_log_run(b->log, (enum call_kind)kind, 1);
    }
    double n_batches = (double)token_set_n_predicted(&b->m.heldout) / QUALITY_BATCH;
    forward_head_of(b->m.forward, b->m.model, parent_states_at(b->m.states, 1), QUALITY_BATCH,
                    b->noted_logits);
    c->part[SHARE_JUDGE][round] = n_batches * time_judging(b);
    /* The parent's head as a whole. */
    int64_t begin = clock_now_ns();
    forward_head_of(b->m.forward, b->m.model, parent_states_at(b->m.states, 0), QUALITY_BATCH,
                    b->parent_logits);
    c->part[SHARE_HEAD][round] = n_batches * (double)(clock_now_ns() - begin);
    c->attended[round] =
        c->evaluation[round] / (c->part[CALLS_PRODUCT][round] + c->part[CALLS_ATTEND][round]);
    return 0;
}

static int run_round(struct bench *b, struct candidate *c, uint32_t round, struct err *err)
{
    const struct model *model = c->model != NULL ? c->model : b->m.model;
    uint32_t whole = (uint32_t)n_passes(b);
    struct quality quality;

    forward_set_model(b->m.forward, model);
    forward_set_model(b->noted, model);
    call_log_note(b->log, true);
    int status = pass(b, err);
    call_log_note(b->log, false);
    if (status != 0)
        return -1;
    if (call_log_n(b->log, CALLS_PRODUCT) == 0) {
        err_set(err, ERR_MEMORY, "bench: out of memory for the calls");
        return -1;
    }
    int64_t begin = clock_now_ns();
    if (quality_measure(b->m.forward, b->m.model, b->m.states, &b->m.heldout, QUALITY_TOKENS,
                        &quality, err) != 0)
        return -1;
    c->evaluation[round] = (double)(clock_now_ns() - begin);
    double products = call_log_run(b->log, CALLS_PRODUCT, whole) * n_passes(b) / whole;
    c->part[CALLS_PRODUCT][round] = products;
    c->ratio[round] = c->evaluation[round] / products;
    c->kld = quality.kld;
    return run_parts(b, c, round, err);
}

/* ---- the tables ----------------------------------------------------------------------------- */

static double median_of(const double *x, uint32_t n, double *spread)
{
    double sorted[MAX_ROUNDS];

    memcpy(sorted, x, n * sizeof *sorted);
    stats_sort(sorted, n);
    if (spread != NULL)
        *spread = (stats_quantile(sorted, n, 0.75) - stats_quantile(sorted, n, 0.25)) / 2;
    return stats_quantile(sorted, n, 0.5);
}

static void print_all(const struct bench *b)
{
    printf("%-8s %10s %12s %12s  %-16s %-16s | in %% of the products:", "model", "KLD",
           "evaluation", "products", "ratio", "bare");
    for (int p = 1; p < N_CALL_KINDS; p++)
        printf(" %8s", call_kind_name((enum call_kind)p));
    printf(" %8s %8s %8s\n", "head", "judging", "other");
    for (uint32_t i = 0; i < b->n_candidates; i++) {
        const struct candidate *c = &b->candidate[i];
        double spread, products = median_of(c->part[CALLS_PRODUCT], b->n_rounds, NULL);
        double evaluation = median_of(c->evaluation, b->n_rounds, NULL);
        double other = evaluation - products, ratio = median_of(c->ratio, b->n_rounds, &spread);
        printf("%-8s %10.3g %9.1f ms %9.1f ms  %.3f +- %-6.3f ", c->name, c->kld, evaluation * 1e-6,
               products * 1e-6, ratio, spread);
        ratio = median_of(c->attended, b->n_rounds, &spread);
        printf(" %.3f +- %-6.3f |                      ", ratio, spread);
        for (int p = 1; p < N_SHARES; p++) {
            double part = median_of(c->part[p], b->n_rounds, NULL);
            other -= part;
            printf(" %8.1f", 100 * part / products);
        }
        printf(" %8.1f\n", 100 * other / products);
    }
}

static void print_tsv(const struct bench *b)
{
    for (uint32_t i = 0; i < b->n_candidates; i++) {
        const struct candidate *c = &b->candidate[i];
        double spread, ratio = median_of(c->ratio, b->n_rounds, &spread);
        printf("%s\t%u\t%.4f\t%.4f\n", c->name, b->n_rounds, ratio, spread);
    }
}

static int bench_all(struct bench *b, struct err *err)
{
    char text[160];

    fprintf(b->tsv ? stderr : stdout,
            "%s, %s kernels, %u threads; %u rounds\n%s; %u tokens in %u sequences\n",
            b->stand.device.name, b->m.kernels->name, b->stand.n_threads, b->n_rounds,
            geometry_describe(parent_geometry(b->m.parent), text),
            token_set_n_predicted(&b->m.heldout), b->m.heldout.n_sequences);
    /* The first round warms up and is written over. */
    for (uint32_t round = 0; round <= b->n_rounds; round++)
        for (uint32_t i = 0; i < b->n_candidates; i++)
            if (run_round(b, &b->candidate[i], round > 0 ? round - 1 : 0, err) != 0)
                return -1;
    if (b->tsv)
        print_tsv(b);
    else
        print_all(b);
    return 0;
}

static void close_all(struct bench *b)
{
    for (uint32_t i = 0; i < b->n_candidates; i++)
        model_destroy(b->candidate[i].model);
    free(b->parent_logits);
    free(b->noted_logits);
    forward_destroy(b->noted);
    call_log_destroy(b->log);
    bench_variants_close(&b->v);
    bench_model_close(&b->m);
    stand_close(&b->stand);
}

int main(int argc, char **argv)
{
    static const struct bench_program program = {.name = "bench_evaluation",
                                                 .more = "[ROUNDS [THREADS [NAME...]]] [--tsv]",
                                                 .size = sizeof(struct bench),
                                                 .open = open_all,
                                                 .run = bench_all,
                                                 .close = close_all};

    return bench_program_run(&program, argc, argv);
}
