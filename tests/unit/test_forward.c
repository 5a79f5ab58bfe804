/* The forward pass against its plain double on float models, and against itself cut in other ways:
 * batches, single tokens, threads, stretches of layers. */
#include "tests/forward_fixture.h"
#include "tests/ragged_fixture.h"
#include "tests/tap.h"

#include <sys/resource.h>

/* One head alone is left, and one channel. */
static struct fixture *ragged(enum format format, enum format kv)
{
    struct fixture *f = fixture_ragged(format, kv);

    fixture_ffn(f, 5, 1, format);
    return f;
}

/* Logits are of order 1.  F32 throughout: what is left is the rounding of some hundred sums, far
 * below 1e-4.  A cache in F16 rounds keys and values to 11 bits: 5e-4 of each, averaged. */
static void test_oracle(void)
{
    int32_t tokens[N_TOKENS];
    double *want = malloc(N_TOKENS * small.n_vocab * sizeof *want);

    draw_tokens(tokens, N_TOKENS, small.n_vocab);
    for (int f16 = 0; f16 < 2; f16++) {
        struct fixture *fixture = ragged(FORMAT_F32, f16 ? FORMAT_F16 : FORMAT_F32);
        oracle_logits(&fixture->model, tokens, N_TOKENS, want);
        for (int fast = 0; fast < 2; fast++) {
            const struct kernels *set = fast ? kernels_select() : kernels_reference();
            struct forward *f = make(&fixture->model, set, 1);
            float *got = run(f, tokens, N_TOKENS);
            double gap = 0;
            for (size_t i = 0; i < N_TOKENS * small.n_vocab; i++)
                gap = fmax(gap, fabs((double)got[i] - want[i]));
            ok(gap < (f16 ? 5e-3 : 1e-4), "%s kernels, cache in %s: as the oracle (%.1e)",
               set->name, f16 ? "F16" : "F32", gap);
            free(got);
            forward_destroy(f);
        }
        fixture_destroy(fixture);
    }
    free(want);
}

/* Biases of units that are there, of units that are not, of a whole layer that is gone, and (where
 * the first attention is taken away) of units before all others. */
static void test_biases(void)
{
    int32_t tokens[N_TOKENS];
    double *want = malloc(N_TOKENS * small.n_vocab * sizeof *want);

    draw_tokens(tokens, N_TOKENS, small.n_vocab);
    for (int headless = 0; headless < 2; headless++) {
        struct fixture *fixture = ragged(FORMAT_F32, FORMAT_F32);
        struct model *m = &fixture->model;
        const char *what = headless ? "no unit in front" : "all layers";
        double gap = 0, apart = 0, plain = 0;
        struct err err = {0};

        fixture_biases(fixture);
        m->attn[0].present = !headless;
        oracle_logits(m, tokens, N_TOKENS, want);
        for (unsigned threads = 1; threads <= 3; threads++) {
            struct forward *f = make(m, kernels_select(), threads);
            float *hidden = malloc((size_t)N_TOKENS * small.d_model * sizeof *hidden);
            for (uint32_t cut = 1; cut <= N_TOKENS; cut += 37) {
                float *got = run(f, tokens, cut);
                for (size_t i = 0; i < N_TOKENS * small.n_vocab; i++)
                    gap = fmax(gap, fabs((double)got[i] - want[i]));
                free(got);
            }
            /* Every bias once, wherever the stretches end. */
            for (uint32_t step = 1; step <= 3; step++) {
                float *got = malloc(N_TOKENS * small.n_vocab * sizeof *got);
                forward_reset(f);
                forward_embed(f, tokens, N_TOKENS, hidden, &err);
                for (uint32_t l = 0; l < m->n_layers; l += step)
                    forward_layers(f, hidden, N_TOKENS, l, l + step, false);
                forward_head(f, hidden, N_TOKENS, got);
                for (size_t i = 0; i < N_TOKENS * small.n_vocab; i++)
                    apart = fmax(apart, fabs((double)got[i] - want[i]));
                free(got);
            }
            free(hidden);
            forward_destroy(f);
        }
        for (uint32_t l = 0; l < m->n_layers; l++)
            m->attn[l].bias = m->ffn[l].bias = NULL;
        struct forward *f = make(m, kernels_select(), 1);
        float *got = run(f, tokens, N_TOKENS);
        for (size_t i = 0; i < N_TOKENS * small.n_vocab; i++)
            plain = fmax(plain, fabs((double)got[i] - want[i]));
        ok(gap < 1e-4, "biases, %s: as the oracle with 1 to 3 threads (%.1e)", what, gap);
        ok(apart < 1e-4, "biases, %s: and in stretches of 1 to 3 layers (%.1e)", what, apart);
        ok(plain > 0.1, "biases, %s: they do change the result (%.2f)", what, plain);
        free(got);
        forward_destroy(f);
        fixture_destroy(fixture);
    }
    free(want);
}

/* The same tokens in one piece are the measure of all other cuts.  With float weights the order of
 * sums differs, and with it now and then the rounding of a key or value to F16.  With 8-bit
 * activations a code flips where that happens to a number between two codes, and a flip flips
 * others behind it: the bound is what those 8 bits cost anyway (against the float oracle these
 * models are off by up to 0.12); between two kernels without a flip the gap is below 1e-5. */
static void check_cuts(const struct model *model, const struct kernels *kernels, double tolerance,
                       const char *what)
{
    static const uint32_t cuts[] = {1, 33, 2, 7, 32, 64};
    /* The reference is slow: token by token and one other cut must do. */
    size_t n_cuts = kernels == kernels_reference() ? 2 : sizeof cuts / sizeof cuts[0];
    int32_t tokens[N_TOKENS];
    size_t n = (size_t)N_TOKENS * model->geometry.n_vocab;
    struct forward *first = make(model, kernels, 1);
    double worst = 0;

    draw_tokens(tokens, N_TOKENS, model->geometry.n_vocab);
    float *want = run(first, tokens, N_TOKENS);
    for (unsigned threads = 1; threads <= 3; threads++) {
        struct forward *f = make(model, kernels, threads);
        for (size_t c = 0; c < n_cuts; c++) {
            float *got = run(f, tokens, cuts[c]);
            worst = fmax(worst, largest_gap(got, want, n));
            free(got);
        }
        forward_destroy(f);
    }
    ok(worst <= tolerance, "%s, %s: token by token, in any batches, with 1 to 3 threads (%.1e)",
       what, kernels->name, worst);
    free(want);
    forward_destroy(first);
}

static void test_cuts(void)
{
    static const enum format formats[] = {FORMAT_F32, FORMAT_BF16, FORMAT_Q8_0, FORMAT_Q4_K,
                                          FORMAT_Q2_K};

    for (int fast = 0; fast < 2; fast++) {
        const struct kernels *set = fast ? kernels_select() : kernels_reference();
        struct fixture *f = ragged(FORMAT_F16, FORMAT_F16);
        check_cuts(&f->model, set, 5e-3, "ragged F16");
        fixture_destroy(f);
        for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i += fast ? 1 : 3) {
            f = fixture_dense(&wide, formats[i], 11);
            check_cuts(&f->model, set, format_is_quantized(formats[i]) ? 0.1 : 5e-3,
                       format_name(formats[i]));
            fixture_destroy(f);
        }
    }
}

static void test_determinism(void)
{
    struct fixture *fixture = fixture_dense(&wide, FORMAT_Q4_K, 5);
    size_t n = (size_t)N_TOKENS * wide.n_vocab;
    int32_t tokens[N_TOKENS];

    draw_tokens(tokens, N_TOKENS, wide.n_vocab);
    for (unsigned threads = 1; threads <= 3; threads++) {
        bool same = true;
        struct forward *f = make(&fixture->model, kernels_select(), threads);
        float *want = run(f, tokens, 20);
        for (int again = 0; again < 5; again++) {
            struct forward *g = make(&fixture->model, kernels_select(), threads);
            if (again == 3)
                same = same && forward_move(f, NULL) == 0;
            float *got = run(again % 2 ? f : g, tokens, 20);
            same = same && memcmp(got, want, n * sizeof *got) == 0;
            free(got);
            forward_destroy(g);
        }
        ok(same, "%u threads: the same bits every time, in old, new and moved buffers", threads);
        free(want);
        forward_destroy(f);
    }
    fixture_destroy(fixture);
}

/* With no memory to be had the pass goes on where it was. */
static void test_no_room_to_move(void)
{
    struct fixture *fixture = fixture_dense(&wide, FORMAT_Q4_K, 5);
    struct forward *f = make(&fixture->model, kernels_select(), 2);
    size_t bytes = (size_t)20 * wide.n_vocab * sizeof(float);
    struct rlimit limit, none;
    int32_t tokens[N_TOKENS];

    draw_tokens(tokens, N_TOKENS, wide.n_vocab);
    float *want = run(f, tokens, 20);
    forward_rewind(f, 20);
    getrlimit(RLIMIT_AS, &limit);
    none = (struct rlimit){0, limit.rlim_max};
    setrlimit(RLIMIT_AS, &none);
    int status = forward_move(f, NULL);
    setrlimit(RLIMIT_AS, &limit);
    ok(status == -1 && forward_position(f) == 20, "buffers do not move without memory");
    ok(forward_tokens(f, tokens + 20, 20, LOGITS_ALL, NULL) == 0 &&
           memcmp(forward_logits(f), want + (size_t)20 * wide.n_vocab, bytes) == 0,
       "and their twenty positions are as they were");
    free(want);
    forward_destroy(f);
    fixture_destroy(fixture);
}

static void test_bounds(void)
{
    struct fixture *fixture = ragged(FORMAT_F32, FORMAT_F16);
    struct forward *f = make(&fixture->model, kernels_reference(), 1);
    int32_t tokens[N_TOKENS] = {0}, bad[] = {1, 37}, negative = -1;
    struct err err = {0};

    ok(forward_tokens(f, bad, 2, LOGITS_LAST, &err) == -1 && err.code == ERR_DATA,
       "a token beyond the vocabulary is refused");
    is_text(err.text, "token 37 at position 1 is not in the vocabulary of 37", "and named");
    ok(forward_tokens(f, &negative, 1, LOGITS_LAST, NULL) == -1, "so is a negative one");
    ok(forward_position(f) == 0, "the position has not moved");
    ok(forward_tokens(f, tokens, N_TOKENS, LOGITS_NONE, &err) == 0 &&
           forward_position(f) == N_TOKENS,
       "a batch moves it");
    ok(forward_tokens(f, tokens, 6, LOGITS_LAST, &err) == -1 && err.code == ERR_DATA,
       "more than the context holds is refused");
    is_text(err.text, "6 tokens at position 75 do not fit a context of 80", "with the figures");
    ok(forward_tokens(f, tokens, 5, LOGITS_LAST, &err) == 0, "what fits exactly is not");
    ok(forward_tokens(f, tokens, 0, LOGITS_NONE, &err) == 0, "nothing always fits");

    struct forward_options options = {.n_ctx = 8, .n_batch = 8};
    fixture->model.kv = FORMAT_Q8_0;
    ok(forward_create(&fixture->model, kernels_reference(), teams[1], &options, &err) == NULL &&
           err.code == ERR_CONFIG,
       "a cache in Q8_0 is refused where heads are no multiple of 32");
    is_text(
        err.text,
        "a KV cache in Q8_0 does not fit heads of 8; F16 fits all, Q8_0 and Q4_0 multiples of 32",
        "and what would fit is said");
    fixture->model.kv = FORMAT_F32;
    options.n_ctx = UINT32_MAX;
    options.n_batch = UINT32_MAX;
    ok(forward_create(&fixture->model, kernels_reference(), teams[1], &options, &err) == NULL &&
           err.code == ERR_MEMORY,
       "buffers beyond memory are refused");
    fixture->model.kv = FORMAT_F16;
    forward_destroy(f);
    fixture_destroy(fixture);
    forward_destroy(NULL);
}

static void test_steps(void)
{
    struct fixture *fixture = ragged(FORMAT_F32, FORMAT_F16);
    struct fixture *other = ragged(FORMAT_BF16, FORMAT_F16);
    struct forward *f = make(&fixture->model, kernels_select(), 2);
    uint32_t n_vocab = small.n_vocab, n = 40;
    size_t row = n_vocab * sizeof(float);
    int32_t tokens[N_TOKENS];
    float *hidden = malloc(n * small.d_model * sizeof *hidden);
    float *got = malloc(N_TOKENS * row);

    draw_tokens(tokens, N_TOKENS, n_vocab);
    float *want = run(f, tokens, N_TOKENS);
    forward_reset(f);
    forward_embed(f, tokens, n, hidden, NULL);
    forward_layers(f, hidden, n, 0, small.n_layers, false);
    ok(forward_position(f) == 0, "layers that do not advance leave the position");
    forward_embed(f, tokens, n, hidden, NULL);
    for (uint32_t l = 0; l < small.n_layers; l++)
        forward_layers(f, hidden, n, l, l + 1, l + 1 == small.n_layers);
    ok(forward_position(f) == n, "those that do move it");
    forward_head(f, hidden, n, got);
    ok(largest_gap(got, want, n * n_vocab) < 1e-5, "embedding, layers one by one and head make the "
                                                   "same logits");
    forward_tokens(f, tokens + n, 1, LOGITS_LAST, NULL);
    ok(largest_gap(forward_logits(f), want + n * n_vocab, n_vocab) < 1e-4,
       "and fill the cache for the next token");
    forward_rewind(f, 10);
    forward_tokens(f, tokens + 10, 3, LOGITS_ALL, NULL);
    ok(forward_position(f) == 13 &&
           largest_gap(forward_logits(f), want + 10 * n_vocab, 3 * n_vocab) < 1e-4,
       "after a rewind the beginning is still there");

    forward_head_of(f, &other->model, hidden, n, got);
    forward_set_model(f, &other->model);
    ok(forward_position(f) == 0, "another model begins at position 0");
    float *theirs = malloc(n * row);
    forward_head(f, hidden, n, theirs);
    ok(memcmp(got, theirs, n * row) == 0 && largest_gap(got, want, n * n_vocab) > 0,
       "its head can be had beforehand");
    forward_set_model(f, &fixture->model);
    free(got);
    got = run(f, tokens, N_TOKENS);
    ok(memcmp(got, want, N_TOKENS * row) == 0, "and back again nothing of it is left");
    free(theirs);
    free(got);
    free(want);
    free(hidden);
    forward_destroy(f);
    fixture_destroy(other);
    fixture_destroy(fixture);
}

struct heard {
    double square[6][N_LINEAR_SITES];
    uint32_t n_tokens[6][N_LINEAR_SITES], n_in[6][N_LINEAR_SITES];
};

static void hear(void *arg, uint32_t layer, enum linear_site site, const float *x,
                 uint32_t n_tokens, uint32_t n_in)
{
    struct heard *heard = arg;

    heard->n_tokens[layer][site] += n_tokens;
    heard->n_in[layer][site] = n_in;
    for (size_t i = 0; i < (size_t)n_tokens * n_in; i++)
        heard->square[layer][site] += (double)x[i] * (double)x[i];
}

static void test_listen(void)
{
    static const uint32_t n_in[6][N_LINEAR_SITES] = {{24, 48, 24, 40}, {24, 16, 24, 12},
                                                     {24, 48, 0, 0},   {0, 0, 24, 33},
                                                     {0, 0, 0, 0},     {24, 16, 24, 1}};
    struct fixture *fixture = ragged(FORMAT_F32, FORMAT_F16);
    int32_t tokens[N_TOKENS];
    struct heard heard[3] = {{{{0}}, {{0}}, {{0}}}};

    draw_tokens(tokens, N_TOKENS, small.n_vocab);
    for (unsigned i = 0; i < 3; i++) {
        static const uint32_t cuts[] = {N_TOKENS, 1, 11};
        struct forward *f = make(&fixture->model, kernels_select(), i + 1);
        forward_listen(f, hear, &heard[i]);
        free(run(f, tokens, cuts[i]));
        forward_listen(f, NULL, NULL);
        free(run(f, tokens, cuts[i]));
        forward_destroy(f);
    }
    bool widths = true, counts = true, sums = true;
    for (int l = 0; l < 6; l++)
        for (int s = 0; s < N_LINEAR_SITES; s++)
            for (int i = 0; i < 3; i++) {
                uint32_t n = n_in[l][s] > 0 ? N_TOKENS : 0;
                double want = heard[0].square[l][s];
                widths = widths && heard[i].n_in[l][s] == n_in[l][s];
                counts = counts && heard[i].n_tokens[l][s] == n;
                sums = sums && fabs(heard[i].square[l][s] - want) <= 1e-3 * want;
            }
    ok(widths, "a listener is told the width of each input, and of none that is not there");
    ok(counts, "it hears every token once and nothing when it is switched off");
    ok(sums, "and the same values in a batch, token by token and with more threads");
    /* A normed vector has the mean square of its gains; the gains are near 1. */
    double mean = heard[0].square[0][SITE_QKV] / N_TOKENS / 24;
    ok(mean > 0.5 && mean < 2, "the first input is a normed one (mean square %.2f)", mean);
    fixture_destroy(fixture);
}

/* Put a NaN into row 3 of a matrix of floats. */
static void poison(const struct weights *w)
{
    ((float *)(void *)(uintptr_t)w->data)[3 * w->n_in + 1] = NAN;
}

static void test_unsound(void)
{
    const struct {
        const char *where, *text;
    } cases[] = {
        {"embedding", "position 4 (token 3): its embedding is not a finite number"},
        {"query", "position 0 (token 5): not a finite number after layer 1"},
        {"gate", "position 0 (token 5): not a finite number after layer 3"},
        {"head", "position 0 to 5: final norm or head gives a number that is not finite"},
    };
    const int32_t tokens[] = {5, 6, 7, 8, 3, 9};

    for (size_t i = 0; i < 4; i++) {
        struct fixture *fixture = ragged(FORMAT_F32, FORMAT_F16);
        struct model *m = &fixture->model;
        const struct weights *where[] = {&m->embd, &m->attn[1].q, &m->ffn[3].gate, &m->head};
        struct forward *f = make(m, kernels_select(), 2);
        struct err err = {0};
        poison(where[i]);
        ok(forward_tokens(f, tokens, 6, LOGITS_ALL, &err) == -1 && err.code == ERR_DATA &&
               forward_position(f) == 0,
           "a NaN in the %s is found", cases[i].where);
        is_text(err.text, cases[i].text, "and where it came up is said");
        forward_destroy(f);
        fixture_destroy(fixture);
    }
}

int main(void)
{
    create_teams();
    test_oracle();
    test_biases();
    test_cuts();
    test_determinism();
    test_no_room_to_move();
    test_bounds();
    test_steps();
    test_listen();
    test_unsound();
    destroy_teams();
    return tap_done();
}
