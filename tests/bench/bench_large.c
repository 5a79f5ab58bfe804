/* bench_large.c - decode and prefill of a model of 1.1 B weights, beside the memory and llama.cpp.
 *
 *   bench_large [--layers N] [--rounds N] [--tsv] [FORMAT...]
 *   bench_large [--layers N] --write FILE FORMAT       the model alone, for kerf probe
 *
 * Geometry: dim 2048, 22 layers, FFN 5632, 32/4 heads of 64, vocabulary 32000, random weights,
 * every matrix in one format; written to a file that is mapped, so that each matrix has memory of
 * its own. In turn, round after round, all threads pinned: tg16@b1 in kerf; every byte of the same
 * weights merely read by the same threads; pp512@b1 in kerf, with activations in 8 bits and in
 * float (a16); and where LLAMA_BENCH names a program (or llama-bench is on PATH), the same two
 * workloads in it.
 *
 *   share   bytes of weights over time, of the read bandwidth of the same rounds: decode is bound
 * by it.  Ratios are the peer's time over kerf's: above 1 kerf is faster.
 *
 * Medians over the rounds (the peer's: over its runs) and half the distance of the quartiles in per
 * cent; with --tsv a line for each format and series: format, series, n, median in ns, that spread.
 * One GB of disk and of memory for each format, one at a time. */
#include "evaluator/compression/quantize.h"
#include "evaluator/parent.h"
#include "latency_model/peer_bench.h"
#include "latency_model/stand.h"
#include "latency_model/workload_run.h"
#include "space/account.h"
#include "space/base/clock.h"
#include "space/base/rng.h"
#include "space/base/stats.h"
#include "tests/parent_file.h"

#define MAX_ROUNDS   40
#define PEER_SAMPLES 3

static const struct geometry wanted = {.n_layers = 22,
                                       .d_model = 2048,
                                       .n_heads = 32,
                                       .n_kv_heads = 4,
                                       .head_dim = 64,
                                       .d_ff = 5632,
                                       .n_vocab = 32000,
                                       .n_ctx = 2048,
                                       .tied = false,
                                       .rms_eps = 1e-5F,
                                       .rope_base = 10000.0F};
static const struct workload workloads[2] = {{WORKLOAD_DECODE, 16, 0, 1},
                                             {WORKLOAD_PREFILL, 512, 0, 1}};

static void demand(bool held, const struct err *err)
{
    if (held)
        return;
    fprintf(stderr, "bench_large: %s\n", err->text);
    exit(1);
}

/* --- the file --- */

/* Random weights of a matrix in its format; one block of memory serves all matrices of a shape, the
 * file has a copy for each. */
static struct weights random_weights(enum format format, uint32_t n_out, uint32_t n_in)
{
    enum { ROWS = 64 };
    struct rng rng = rng_make(n_out, n_in);
    struct err err = {0};
    size_t row_bytes = format_row_bytes(format, n_in);
    float *x = malloc((size_t)ROWS * n_in * sizeof *x);
    uint8_t *data = malloc((size_t)n_out * row_bytes);

    demand(x != NULL && data != NULL, &(struct err){.text = "out of memory"});
    for (size_t i = 0; i < (size_t)ROWS * n_in; i++)
        x[i] = 0.02F * (float)rng_normal(&rng);
    demand(quantize_rows_plain(format, x, ROWS, n_in, data, &err) == 0, &err);
    for (size_t row = ROWS; row < n_out; row++)
        memcpy(data + row * row_bytes, data + row % ROWS * row_bytes, row_bytes);
    free(x);
    return (struct weights){data, format, act_format_of(format), n_out, n_in};
}

static void write_model(const struct geometry *g, enum format format, const char *path)
{
    static struct model model;
    static float ones[2048];
    uint32_t kv = g->n_kv_heads * g->head_dim, heads = g->n_heads * g->head_dim;
    struct weights q = random_weights(format, heads, g->d_model);
    struct weights k = random_weights(format, kv, g->d_model);
    struct weights o = random_weights(format, g->d_model, heads);
    struct weights up = random_weights(format, g->d_ff, g->d_model);
    struct weights down = random_weights(format, g->d_model, g->d_ff);
    struct weights head = random_weights(format, g->n_vocab, g->d_model);

    for (uint32_t i = 0; i < g->d_model; i++)
        ones[i] = 1;
    model = (struct model){
        .geometry = *g, .n_layers = g->n_layers, .embd = head, .head = head, .out_norm = ones};
    for (uint32_t l = 0; l < g->n_layers; l++) {
        model.attn[l] = (struct attn_unit){.norm = ones, .q = q, .k = k, .v = k, .o = o};
        model.ffn[l] = (struct ffn_unit){.norm = ones, .gate = up, .up = up, .down = down};
    }
    parent_file_write(path, &model);
    free((void *)q.data);
    free((void *)k.data);
    free((void *)o.data);
    free((void *)up.data);
    free((void *)down.data);
    free((void *)head.data);
}

/* --- reading --- */

/* All matrices of a layer and the head, each split among the members as rows are. */
struct reading {
    const struct model *model;
    const struct kernels *kernels;
    uint64_t sink;
};

static uint64_t read_part(const struct reading *r, const struct weights *w, unsigned member,
                          unsigned n_members)
{
    size_t bytes = (size_t)w->n_out * format_row_bytes(w->format, w->n_in);
    size_t begin = bytes * member / n_members / 64 * 64;
    size_t end = bytes * (member + 1) / n_members / 64 * 64;
    return r->kernels->read((const uint8_t *)w->data + begin, end - begin);
}

static void read_all(void *arg, unsigned member, unsigned n_members)
{
    struct reading *r = arg;
    uint64_t sum = read_part(r, &r->model->head, member, n_members);

    for (uint32_t l = 0; l < r->model->n_layers; l++) {
        const struct attn_unit *a = &r->model->attn[l];
        const struct ffn_unit *f = &r->model->ffn[l];
        const struct weights *all[7] = {&a->q, &a->k, &a->v, &a->o, &f->gate, &f->up, &f->down};
        for (int i = 0; i < 7; i++)
            sum ^= read_part(r, all[i], member, n_members);
    }
    if (sum == 42) /* never let the compiler drop it */
        r->sink = sum;
}

static double time_reading(struct reading *r, struct team *team)
{
    int64_t begin = clock_now_ns();

    team_run(team, read_all, r);
    return (double)(clock_now_ns() - begin);
}

/* --- one format --- */

enum { DECODE, READ, PREFILL, PREFILL_A16, PEER_DECODE, PEER_PREFILL, N_SERIES };
static const char *const series_names[N_SERIES] = {"decode",      "read",        "prefill",
                                                   "prefill_a16", "peer_decode", "peer_prefill"};

struct series {
    double ns[MAX_ROUNDS * PEER_SAMPLES];
    size_t n;
};

static double median_of(const struct series *s, double *spread)
{
    double sorted[MAX_ROUNDS * PEER_SAMPLES];

    memcpy(sorted, s->ns, s->n * sizeof *sorted);
    stats_sort(sorted, s->n);
    double median = stats_quantile(sorted, s->n, 0.5);
    *spread =
        50 * (stats_quantile(sorted, s->n, 0.75) - stats_quantile(sorted, s->n, 0.25)) / median;
    return median;
}

static void take(struct series *s, double ns)
{
    if (s->n < sizeof s->ns / sizeof s->ns[0])
        s->ns[s->n++] = ns;
}

static double run_item(const struct probe_item *item)
{
    struct err err = {0};

    demand(item->prepare(item->arg, &err) == 0, &err);
    int64_t begin = clock_now_ns();
    demand(item->run(item->arg, &err) == 0, &err);
    return (double)(clock_now_ns() - begin) / item->n_units;
}

static void run_peer(struct peer_bench *peer, const char *path, struct series series[N_SERIES])
{
    for (int w = 0; w < 2; w++) {
        struct peer_sample sample;
        struct err err = {0};
        demand(peer_bench_run(peer, path, &workloads[w], &sample, &err) == 0, &err);
        for (uint32_t i = 0; i < sample.n; i++)
            take(&series[PEER_DECODE + w], sample.ns[i]);
    }
}

static void print_tsv(enum format format, const struct series series[N_SERIES])
{
    for (int s = 0; s < N_SERIES && series[s].n > 0; s++) {
        double spread, median = median_of(&series[s], &spread);
        printf("%s\t%s\t%zu\t%.0f\t%.2f\n", format_name(format), series_names[s], series[s].n,
               median, spread);
    }
    fflush(stdout);
}

static void print_row(enum format format, const struct series series[N_SERIES], double bytes,
                      double flops, bool with_peer)
{
    double spread[N_SERIES], median[N_SERIES];

    for (int s = 0; s < (with_peer ? N_SERIES : PEER_DECODE); s++)
        median[s] = median_of(&series[s], &spread[s]);
    printf("%-7s %7.2f (%2.0f%%) %6.1f %6.1f (%2.0f%%) %5.0f%% | %7.0f (%2.0f%%) %6.0f %7.0f "
           "(%2.0f%%)",
           format_name(format), median[DECODE] * 1e-6, spread[DECODE], bytes / median[DECODE],
           bytes / median[READ], spread[READ], 100 * median[READ] / median[DECODE],
           median[PREFILL] * 1e-6, spread[PREFILL], flops / median[PREFILL],
           median[PREFILL_A16] * 1e-6, spread[PREFILL_A16]);
    if (with_peer)
        printf(" | %7.2f (%2.0f%%) %5.2fx %7.0f (%2.0f%%) %5.2fx %5.2fx",
               median[PEER_DECODE] * 1e-6, spread[PEER_DECODE],
               median[PEER_DECODE] / median[DECODE], median[PEER_PREFILL] * 1e-6,
               spread[PEER_PREFILL], median[PEER_PREFILL] / median[PREFILL],
               median[PEER_PREFILL] / median[PREFILL_A16]);
    printf("\n");
    fflush(stdout);
}

/* The same weights, multiplied with float activations. */
static void set_float(struct model *model)
{
    for (uint32_t l = 0; l < model->n_layers; l++) {
        struct attn_unit *a = &model->attn[l];
        struct ffn_unit *f = &model->ffn[l];
        a->q.act = a->k.act = a->v.act = a->o.act = ACT_FLOAT;
        f->gate.act = f->up.act = f->down.act = ACT_FLOAT;
    }
}

static void bench(struct stand *stand, const struct geometry *g, enum format format,
                  size_t n_rounds, struct peer_bench *peer, const char *folder, bool tsv)
{
    char path[300];
    struct err err = {0};
    static struct series series[N_SERIES];
    int32_t tokens[512];
    struct rng rng = rng_make(3, 0);

    snprintf(path, sizeof path, "%s/%s.gguf", folder, format_name(format));
    write_model(g, format, path);
    struct parent *parent = parent_open(path, &err);
    demand(parent != NULL, &err);
    struct model *model = model_of_parent(parent, &err);
    struct model *a16 = model_of_parent(parent, &err);
    demand(model != NULL && a16 != NULL, &err);
    set_float(a16);
    struct forward_options options = {.n_ctx = 512, .n_batch = 512};
    struct forward *forward = forward_create(model, stand->kernels, stand->team, &options, &err);
    demand(forward != NULL, &err);
    for (size_t i = 0; i < 512; i++)
        tokens[i] = (int32_t)rng_below(&rng, g->n_vocab);
    memset(series, 0, sizeof series);
    struct reading reading = {.model = model, .kernels = stand->kernels};
    struct workload_run run[2] = {workload_run_make(forward, tokens, &workloads[0], g->n_vocab),
                                  workload_run_make(forward, tokens, &workloads[1], g->n_vocab)};
    struct probe_item item[2] = {workload_run_item(&run[0]), workload_run_item(&run[1])};
    for (size_t round = 0; round <= n_rounds; round++) {
        struct series warm[N_SERIES] = {0};
        struct series *kept = round == 0 ? warm : series;
        take(&kept[DECODE], run_item(&item[0]));
        for (int again = 0; again < 3; again++)
            take(&kept[READ], time_reading(&reading, stand->team));
        take(&kept[DECODE], run_item(&item[0]));
        if (round % 2 == 0) {
            take(&kept[PREFILL], run_item(&item[1]));
            forward_set_model(forward, a16);
            take(&kept[PREFILL_A16], run_item(&item[1]));
            forward_set_model(forward, model);
        }
        if (peer != NULL && round % 4 == 1)
            run_peer(peer, path, kept);
    }
    double embd = (double)g->n_vocab * (double)format_row_bytes(model->embd.format, g->d_model);
    double bytes = (double)model_weight_bytes(model) - embd;
    struct genome *genome = malloc(sizeof *genome);
    parent_genome(parent, genome);
    if (tsv)
        print_tsv(format, series);
    else
        print_row(format, series, bytes, account_flops(genome, g, &workloads[1]), peer != NULL);
    free(genome);
    forward_destroy(forward);
    model_destroy(a16);
    model_destroy(model);
    parent_close(parent);
    unlink(path);
}

int main(int argc, char **argv)
{
    struct geometry g = wanted;
    size_t n_rounds = 8;
    enum format formats[N_FORMATS] = {FORMAT_Q2_K, FORMAT_Q3_K, FORMAT_Q4_0, FORMAT_Q4_K,
                                      FORMAT_Q5_K, FORMAT_Q6_K, FORMAT_Q8_0, FORMAT_BF16};
    int n_formats = 8, n_named = 0;
    struct stand stand;
    struct peer_bench peer = {.n_samples = PEER_SAMPLES, .kv = FORMAT_F16, .limit_s = 600};
    struct err err = {0};
    char folder[256];
    const char *file = NULL;
    bool tsv = false;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--layers") == 0 && i + 1 < argc)
            g.n_layers = (uint32_t)strtoul(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--rounds") == 0 && i + 1 < argc)
            n_rounds = strtoul(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--tsv") == 0)
            tsv = true;
        else if (strcmp(argv[i], "--write") == 0 && i + 1 < argc)
            file = argv[++i];
        else if (format_parse(argv[i]) != FORMAT_NONE && n_named < N_FORMATS)
            formats[n_named++] = format_parse(argv[i]);
        else
            return fprintf(stderr, "usage: bench_large [--layers N] [--rounds N] [--tsv] "
                                   "[--write FILE] [FORMAT...]\n"),
                   2;
    }
    n_formats = n_named > 0 ? n_named : n_formats;
    if (n_rounds < 2 || n_rounds > MAX_ROUNDS / 2 || g.n_layers < 1 || g.n_layers > 100)
        return fprintf(stderr, "bench_large: 2 to %d rounds, 1 to 100 layers\n", MAX_ROUNDS / 2), 2;
    if (file != NULL) {
        write_model(&g, formats[0], file);
        return 0;
    }
    demand(stand_open(&stand, 0, &err) == 0, &err);
    bool with_peer = peer_bench_find(NULL, peer.program, NULL) == 0;
    peer.n_threads = stand.n_threads;
    peer.cpu = stand.cpu;
    folder_make(folder);
    fprintf(tsv ? stderr : stdout, "%s, %s kernels, %u threads; %u layers, %zu rounds%s%s\n",
            stand.device.name, stand.kernels->name, stand.n_threads, g.n_layers, n_rounds,
            with_peer ? "; peer " : "; no peer", with_peer ? peer.program : "");
    if (!tsv)
        printf("%-7s %13s %6s %12s %6s | %13s %6s %13s%s\n", "format", "tg16 ms", "GB/s",
               "read GB/s", "share", "pp512 ms", "GOP/s", "a16 ms",
               with_peer ? " | peer tg16 ms    ratio   pp512 ms    ratio    a16" : "");
    for (int i = 0; i < n_formats; i++)
        bench(&stand, &g, formats[i], n_rounds, with_peer ? &peer : NULL, folder, tsv);
    folder_remove(folder);
    stand_close(&stand);
    return 0;
}
