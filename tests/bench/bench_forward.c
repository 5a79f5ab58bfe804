/* Times the forward pass of a random model: prefill of 512 tokens, decode behind 128 tokens.
 *
 *     bench_forward [threads [format [cache]]]
 *
 * All of Q8_0, Q4_K, BF16 with 1 and 2 threads without arguments; the KV cache is in F16 unless
 * said.  Medians of interleaved rounds; nothing is pinned.  Figures mean something on a quiet
 * machine only: the spread (10th and 90th percentile) shows whether it was. */
#include "evaluator/forward.h"
#include "space/base/clock.h"
#include "space/base/err.h"
#include "space/base/stats.h"
#include "tests/model_fixture.h"

#include <stdio.h>

enum { ROUNDS = 25, PREFILL = 512, CONTEXT = 128, DECODE = 32 };

static const struct geometry geometry = {.n_layers = 8,
                                         .d_model = 256,
                                         .n_heads = 16,
                                         .n_kv_heads = 4,
                                         .head_dim = 32,
                                         .d_ff = 1024,
                                         .n_vocab = 1536,
                                         .n_ctx = 512,
                                         .tied = true,
                                         .rms_eps = 1e-5F,
                                         .rope_base = 10000.0F};

static double time_prefill(struct forward *f, const int32_t *tokens, enum forward_logits logits)
{
    forward_reset(f);
    int64_t begin = clock_now_ns();
    forward_tokens(f, tokens, PREFILL, logits, NULL);
    return (double)(clock_now_ns() - begin);
}

static double time_decode(struct forward *f, const int32_t *tokens)
{
    forward_reset(f);
    forward_tokens(f, tokens, CONTEXT, LOGITS_LAST, NULL);
    int64_t begin = clock_now_ns();
    for (uint32_t t = 0; t < DECODE; t++)
        forward_tokens(f, tokens + CONTEXT + t, 1, LOGITS_LAST, NULL);
    return (double)(clock_now_ns() - begin) / DECODE;
}

static void report(const char *what, double *ns, double scale, const char *unit)
{
    stats_sort(ns, ROUNDS);
    printf("  %-22s median %9.1f %s   p10 %9.1f   p90 %9.1f   n %d\n", what,
           stats_quantile(ns, ROUNDS, 0.5) / scale, unit, stats_quantile(ns, ROUNDS, 0.1) / scale,
           stats_quantile(ns, ROUNDS, 0.9) / scale, ROUNDS);
}

static int bench(enum format format, enum format kv, unsigned n_threads)
{
    struct fixture *fixture = fixture_dense(&geometry, format, 1);
    struct forward_options options = {.n_ctx = PREFILL, .n_batch = PREFILL};
    fixture->model.kv = kv;
    double all[ROUNDS], last[ROUNDS], decode[ROUNDS];
    int32_t tokens[PREFILL];
    struct err err = {0};

    struct team *team = team_create(n_threads, NULL, NULL, &err);
    struct forward *f =
        team != NULL ? forward_create(&fixture->model, kernels_select(), team, &options, &err)
                     : NULL;
    if (f == NULL) {
        fprintf(stderr, "bench_forward: %s\n", err.text);
        return 1;
    }
    for (int t = 0; t < PREFILL; t++)
        tokens[t] = (int32_t)rng_below(&fixture->rng, geometry.n_vocab);
    time_prefill(f, tokens, LOGITS_ALL);
    for (int r = 0; r < ROUNDS; r++) {
        all[r] = time_prefill(f, tokens, LOGITS_ALL);
        last[r] = time_prefill(f, tokens, LOGITS_LAST);
        decode[r] = time_decode(f, tokens);
    }
    printf("%s, cache in %s, %u threads, %s kernels\n", format_name(format), format_name(kv),
           n_threads, kernels_select()->name);
    report("prefill 512, all logits", all, 1e6, "ms");
    report("prefill 512, last", last, 1e6, "ms");
    report("decode at 128..159", decode, 1e3, "us");
    forward_destroy(f);
    team_destroy(team);
    fixture_destroy(fixture);
    return 0;
}

int main(int argc, char **argv)
{
    static const enum format formats[] = {FORMAT_Q8_0, FORMAT_Q4_K, FORMAT_BF16};
    char text[160];

    printf("%s\n", geometry_describe(&geometry, text));
    if (argc > 1) {
        enum format format = argc > 2 ? format_parse(argv[2]) : FORMAT_Q8_0;
        enum format kv = argc > 3 ? format_parse(argv[3]) : FORMAT_F16;
        int n = atoi(argv[1]);
        if (format == FORMAT_NONE || kv == FORMAT_NONE || n < 1 || n > 1024) {
            fprintf(stderr, "usage: bench_forward [threads [format [cache]]]\n");
            return 2;
        }
        return bench(format, kv, (unsigned)n);
    }
    for (unsigned n = 1; n <= 2; n++)
        for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++)
            if (bench(formats[i], FORMAT_F16, n) != 0)
                return 1;
    return 0;
}
