/* Weights beside a bias: centred second moments against least squares with an intercept, variants
 * with their biases against sums over their definition, and models that are stitched from them. */
#include "evaluator/compression/hessian.h"
#include "evaluator/compression/obs.h"
#include "evaluator/compression/stitch.h"
#include "evaluator/export.h"
#include "space/account.h"
#include "tests/compression_fixture.h"
#include "tests/tap.h"

enum { N = 12, KEPT = 7, ROWS = 4, TOKENS = 400 };

static struct geometry small; /* bench_tiny, its head the embedding */

/* --- the closed form -------------------------------------------------------------------------- */

/* Inputs with means that are larger than their deviations. */
static void draw_inputs(double x[TOKENS][N])
{
    struct rng rng = rng_make(5, 3);
    double mix[N][N];

    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            mix[i][j] = rng_normal(&rng) / (1 + j);
    for (int t = 0; t < TOKENS; t++) {
        double z[N];
        for (int j = 0; j < N; j++)
            z[j] = rng_normal(&rng);
        for (int i = 0; i < N; i++) {
            x[t][i] = i % 3 - 1.5;
            for (int j = 0; j < N; j++)
                x[t][i] += mix[i][j] * z[j];
        }
    }
}

/* a[n][n] u = b, by elimination. */
static void solve(size_t n, double a[KEPT + 1][KEPT + 1], double b[KEPT + 1])
{
    for (size_t p = 0; p < n; p++)
        for (size_t r = 0; r < n; r++) {
            double f = a[r][p] / a[p][p];
            if (r == p)
                continue;
            for (size_t c = p; c < n; c++)
                a[r][c] -= f * a[p][c];
            b[r] -= f * b[p];
        }
    for (size_t p = 0; p < n; p++)
        b[p] /= a[p][p];
}

/* Mean squared change of one row's output on all tokens, once with the weights and the bias that
 * the normal equations give, once with those of obs_repair on covariances. */
static void check_closed_form(void)
{
    static double x[TOKENS][N], c[N * N];
    const uint32_t kept[KEPT] = {0, 2, 3, 5, 8, 9, 11};
    float w[ROWS * N], repaired[ROWS * KEPT], mean32[N];
    double mean[N] = {0}, damping = 0, worst = 0, loosest = 0, plain = 0, best = 0, formula = 0;
    double work[N];
    struct rng rng = rng_make(6, 3);
    struct err err = {0};

    draw_inputs(x);
    for (int t = 0; t < TOKENS; t++)
        for (int i = 0; i < N; i++)
            mean[i] += x[t][i] / TOKENS;
    for (int i = 0; i < N; i++)
        mean32[i] = (float)mean[i];
    for (int i = 0; i < N * N; i++)
        for (int t = 0; t < TOKENS; t++)
            c[i] += x[t][i / N] * x[t][i % N] / TOKENS;
    hessian_centre(N, c, mean32);
    for (int i = 0; i < N * N; i++) {
        double want = 0;
        for (int t = 0; t < TOKENS; t++)
            want += (x[t][i / N] - mean[i / N]) * (x[t][i % N] - mean[i % N]) / TOKENS;
        worst = fmax(worst, fabs(c[i] - want));
    }
    ok(worst < 1e-6, "second moments less the mean are covariances (%.1e)", worst);

    for (int i = 0; i < ROWS * N; i++)
        w[i] = (float)rng_normal(&rng);
    struct obs_layer layer = {N, ROWS, c, w};
    ok(obs_repair(&layer, kept, KEPT, &damping, repaired, &err) == 0 && damping == 0,
       "the weights that stay are solved with them");
    worst = 0;
    for (int r = 0; r < ROWS; r++) {
        double a[KEPT + 1][KEPT + 1] = {{0}}, u[KEPT + 1] = {0}, bias = 0, ours = 0, least = 0;
        double lost[N];
        for (int t = 0; t < TOKENS; t++) {
            double y = 0, z[KEPT + 1];
            for (int i = 0; i < N; i++)
                y += (double)w[r * N + i] * x[t][i];
            for (int k = 0; k < KEPT; k++)
                z[k] = x[t][kept[k]];
            z[KEPT] = 1;
            for (int i = 0; i <= KEPT; i++) {
                u[i] += z[i] * y;
                for (int j = 0; j <= KEPT; j++)
                    a[i][j] += z[i] * z[j];
            }
        }
        solve(KEPT + 1, a, u);
        for (int i = 0; i < N; i++)
            lost[i] = (double)w[r * N + i];
        for (int k = 0; k < KEPT; k++)
            lost[kept[k]] -= (double)repaired[r * KEPT + k];
        for (int i = 0; i < N; i++)
            bias += lost[i] * mean[i];
        for (int t = 0; t < TOKENS; t++) {
            double gap = -bias, their = -u[KEPT];
            for (int i = 0; i < N; i++) {
                gap += lost[i] * x[t][i];
                their += (double)w[r * N + i] * x[t][i];
            }
            for (int k = 0; k < KEPT; k++)
                their -= u[k] * x[t][kept[k]];
            ours += gap * gap / TOKENS;
            least += their * their / TOKENS;
            plain += (gap + bias) * (gap + bias) / TOKENS;
        }
        for (int k = 0; k < KEPT; k++)
            loosest = fmax(loosest, fabs(u[k] - (double)repaired[r * KEPT + k]));
        loosest = fmax(loosest, fabs(u[KEPT] - bias));
        worst = fmax(worst, fabs(ours / least - 1));
        best += ours;
        formula += hessian_loss(N, c, 1, lost, work);
    }
    ok(worst < 1e-8, "with the bias they lose what least squares with an intercept lose (%.1e)",
       worst);
    ok(loosest < 1e-5, "and are the same numbers, as far as floats go (%.1e)", loosest);
    ok(fabs(formula / best - 1) < 1e-6 && best < plain,
       "the loss is tr(D C D') (%.3g), without the bias it would be %.3g", formula, plain);

    /* An input that never varies, but for what rounding to float makes of it. */
    double flat[4] = {4.0 * (1 + 5e-8), 2.0, 2.0, 1.25};
    hessian_centre(2, flat, (const float[2]){2.0F, 1.0F});
    ok(flat[0] == 0 && flat[1] == 0 && flat[2] == 0 && flat[3] == 0.25,
       "an input that is always the same varies with none");
}

/* --- variants --------------------------------------------------------------------------------- */

/* Mean squared change of the outputs of a matrix over the calibration text, by its moments H and
 * mu: |D x - b|^2, D = W - W'.  Relative to |W x|^2. */
static double error_of(const struct bench *b, const struct variant_key *key, const float *full,
                       const float *cut, const uint32_t *kept, uint32_t n_kept, const float *bias)
{
    bool attn = key->part == PART_O;
    enum linear_site site = attn ? SITE_O : SITE_DOWN;
    size_t n = attn ? 64 : 96;
    const float *mean = calibration_mean(b->calibration, key->layer, site);
    double *h = malloc(n * n * sizeof *h), error = 0, whole = 0;

    calibration_hessian(b->calibration, key->layer, site, n, h, NULL);
    for (size_t r = 0; r < 64; r++) {
        double d[96], shift = 0, given = bias != NULL ? (double)bias[r] : 0;
        for (size_t i = 0; i < n; i++)
            d[i] = (double)full[r * n + i];
        for (uint32_t k = 0; k < n_kept; k++)
            d[kept[k]] -= (double)cut[r * n_kept + k];
        for (size_t i = 0; i < n; i++) {
            shift += d[i] * (double)mean[i];
            for (size_t j = 0; j < n; j++) {
                error += d[i] * h[i * n + j] * d[j];
                whole += (double)full[r * n + i] * h[i * n + j] * (double)full[r * n + j];
            }
        }
        error += given * given - 2 * given * shift;
    }
    free(h);
    return error / whole;
}

static void check_down(const struct bench *b, const struct variant_source *centred)
{
    enum { N_KEPT = 40 };
    const struct variant_key key = {PART_DOWN, 1, N_KEPT, 0, FORMAT_F32};
    const struct gguf_tensor *down = parent_tensor(b->parent, 1, TENSOR_DOWN);
    const float *mean = calibration_mean(b->calibration, 1, SITE_DOWN);
    float *full = malloc(64 * 96 * sizeof *full);
    uint32_t kept[N_KEPT];
    double worst = 0;

    parent_unpack(down, 0, 64, full);
    struct built cut = bench_build(centred, &key), bare = bench_build(&b->source, &key);
    const float *w = (const float *)(const void *)cut.bytes, *bias = variant_bias(&cut.v);
    keep_order_take(centred->order->channel[1], N_KEPT, kept);
    ok(cut.v.biased && cut.v.bias_offset % 64 == 0 &&
           cut.v.bias_offset >= cut.v.matrix[0].offset + cut.v.matrix[0].n_bytes &&
           cut.v.n_bytes == cut.v.bias_offset + 64 * sizeof(float) && bias != NULL,
       "down of a centred source has a bias behind it");
    ok(!bare.v.biased && variant_bias(&bare.v) == NULL && bare.v.n_bytes == 64 * N_KEPT * 4,
       "that of another has none");
    for (int r = 0; r < 64; r++) {
        double want = 0;
        for (int i = 0; i < 96; i++)
            want += (double)full[r * 96 + i] * (double)mean[i];
        for (int k = 0; k < N_KEPT; k++)
            want -= (double)w[r * N_KEPT + k] * (double)mean[kept[k]];
        worst = fmax(worst, fabs(want - (double)bias[r]));
    }
    ok(worst < 1e-6, "it is W mu - W' mu_S (%.1e)", worst);
    double error = error_of(b, &key, full, w, kept, N_KEPT, bias);
    ok(fabs(cut.v.error / error - 1) < 1e-4, "the error counts what it makes up for (%.4f)", error);
    ok(cut.v.error < error_of(b, &key, full, w, kept, N_KEPT, NULL) && cut.v.error < bare.v.error,
       "and is less than without it (%.4f)", bare.v.error);
    free(bare.bytes);
    free(cut.bytes);
    free(full);
}

static void check_packed(const struct bench *b, const struct variant_source *centred)
{
    const struct variant_key key = {PART_O, 0, 2, 2, FORMAT_Q4_0};
    float *full = malloc(64 * 64 * sizeof *full), *w = malloc(64 * 64 * sizeof *w);
    uint32_t all[64];

    for (uint32_t i = 0; i < 64; i++)
        all[i] = i;
    parent_unpack(parent_tensor(b->parent, 0, TENSOR_O), 0, 64, full);
    struct built cut = bench_build(centred, &key), bare = bench_build(&b->source, &key);
    kernels_reference()->unpack[FORMAT_Q4_0](cut.bytes, 64 * 64, w);
    double error = error_of(b, &key, full, w, all, 64, variant_bias(&cut.v));
    ok(fabs(cut.v.error / error - 1) < 1e-4 && cut.v.error < bare.v.error,
       "a whole matrix in Q4_0 is packed for its bias (%.5f, without %.5f)", cut.v.error,
       bare.v.error);
    free(bare.bytes);
    free(cut.bytes);

    /* The same bytes as the parent: nothing to make up for. */
    const struct variant_key same = {PART_O, 0, 2, 2, FORMAT_BF16};
    cut = bench_build(centred, &same);
    float most = 0;
    for (int r = 0; r < 64; r++)
        most = fmaxf(most, fabsf(variant_bias(&cut.v)[r]));
    ok(most == 0 && memcmp(cut.bytes, parent_tensor(b->parent, 0, TENSOR_O)->data, 8192) == 0,
       "an untouched matrix is the parent's, its bias is zero");
    free(cut.bytes);
    free(full);
    free(w);
}

static void check_mean_output(const struct bench *b, const struct variant_source *centred)
{
    const struct variant_key key = {PART_O, 1, 0, 0, FORMAT_F32};
    const float *mean = calibration_mean(b->calibration, 1, SITE_O);
    float *full = malloc(64 * 64 * sizeof *full);
    double worst = 0;

    parent_unpack(parent_tensor(b->parent, 1, TENSOR_O), 0, 64, full);
    struct built left = bench_build(centred, &key);
    ok(left.v.n_matrices == 0 && left.v.n_bytes == 64 * sizeof(float),
       "of a dropped unit the mean output is left and nothing else");
    for (int r = 0; r < 64; r++) {
        double want = 0;
        for (int i = 0; i < 64; i++)
            want += (double)full[r * 64 + i] * (double)mean[i];
        worst = fmax(worst, fabs(want - (double)variant_bias(&left.v)[r]));
    }
    ok(worst < 1e-6, "which is W mu (%.1e)", worst);
    double error = error_of(b, &key, full, NULL, NULL, 0, variant_bias(&left.v));
    ok(fabs(left.v.error / error - 1) < 1e-4 && error < 1, "its error is below 1 (%.3f)", error);
    free(left.bytes);
    free(full);

    struct id128 with = variant_id(centred, &key), without = variant_id(&b->source, &key);
    ok(!id128_equal(with, without), "variants with and without biases have different names");
}

/* --- the order -------------------------------------------------------------------------------- */

static void check_order(const struct bench *b, const struct keep_order *centred)
{
    struct keep_order again = {0};
    char path[512];
    struct err err = {0};

    folder_path(b->folder, "order.bin", path);
    struct hash256 one = keep_order_hash(&b->order), other = keep_order_hash(centred);
    ok(centred->centred && !b->order.centred && memcmp(&one, &other, sizeof one) != 0,
       "a centred order is another order");
    ok(keep_order_save(centred, b->calibration, path, &err) == 0 &&
           keep_order_load(&again, path, b->parent, b->calibration, false, &err) != 0 &&
           err.code == ERR_DATA,
       "its file is not taken for the other kind");
    ok(keep_order_load(&again, path, b->parent, b->calibration, true, &err) == 0 && again.centred,
       "but for its own");
    other = keep_order_hash(&again);
    one = keep_order_hash(centred);
    ok(memcmp(&one, &other, sizeof one) == 0, "and says the same");
    keep_order_fini(&again);
}

/* --- models ----------------------------------------------------------------------------------- */

static void run_model(const struct bench *b, const struct model *model, float *logits)
{
    float *copy = bench_logits(b, model, 16);

    memcpy(logits, copy, 16 * 270 * sizeof *logits);
    free(copy);
}

static void check_model(const struct bench *b, const struct variant_source *centred,
                        struct store *store)
{
    static float want[16 * 270], got[16 * 270];
    struct genome genome, plain;
    char path[512];
    double error;
    struct err err = {0};

    genome_uniform(&genome, &small, FORMAT_Q8_0);
    genome.attn[0].kv_groups = 0;
    genome.ffn[0].width = 64;
    genome.attn[1].kv_groups = 1;
    genome.ffn[1].width = 0;
    bench_demand(genome_canonicalize(&genome, &small, &err) == 0, &err);
    plain = genome;
    genome.bias = true;
    ok(stitch_model(&b->source, store, &genome, &err) == NULL && err.code == ERR_CONFIG,
       "biases from a source that is not centred are refused");
    struct model *model = stitch_model(centred, store, &genome, &err);
    struct model *bare = stitch_model(&b->source, store, &plain, &err);
    bench_demand(model != NULL && bare != NULL, &err);
    ok(model->attn[0].bias != NULL && !model->attn[0].present && model->ffn[0].bias != NULL &&
           model->attn[1].bias != NULL && model->ffn[1].bias != NULL && !model->ffn[1].present &&
           bare->attn[0].bias == NULL && bare->attn[1].bias == NULL,
       "a stitched model has all its biases");
    ok(model_weight_bytes(model) == account_weight_bytes(&genome, &small) &&
           model_weight_bytes(bare) == account_weight_bytes(&plain, &small) &&
           model_weight_bytes(model) == model_weight_bytes(bare) + 4 * 64 * sizeof(float),
       "and the bytes that are counted");
    run_model(b, model, want);
    run_model(b, bare, got);
    ok(memcmp(want, got, sizeof got) != 0, "which changes what it computes");
    folder_path(b->folder, "biased.gguf", path);
    ok(export_gguf(b->parent, model, &genome, PROFILE_NATIVE, NULL, path, &err) == 0,
       "it is exported");
    struct parent *file = parent_open(path, &err);
    struct model *own = file != NULL ? model_of_parent(file, &err) : NULL;
    bench_demand(own != NULL, &err);
    run_model(b, own, got);
    ok(memcmp(want, got, sizeof got) == 0, "and computes the same when it is opened again");
    model_destroy(own);
    parent_close(file);

    struct genome dense;
    genome_uniform(&dense, &small, FORMAT_BF16);
    dense.bias = true;
    plain = dense;
    plain.attn[1].kv_groups = 0;
    genome_canonicalize(&plain, &small, NULL);
    int status = stitch_error(centred, store, &dense, &plain, &error, &err);
    ok(status == 0 && error > 0 && error < 1,
       "a dropped unit's error is that of its mean output (%.3f)", error);
    model_destroy(bare);
    model_destroy(model);
}

/* A parent with biases of its own: they stay beside what is made up for. */
static void check_biased_parent(void)
{
    static float want[16 * 270], got[16 * 270];
    struct fixture *f = fixture_dense(&small, FORMAT_BF16, 41);
    struct keep_order order = {0};
    struct variant_source source;
    struct bench b = {0};
    char path[512];
    struct genome genome, plain;
    double gap = 0;
    struct err err = {0};

    bench_open(&b, &small, FORMAT_BF16, 41);
    fixture_biases(f);
    parent_file_write(folder_path(b.folder, "with.gguf", path), &f->model);
    struct parent *parent = parent_open(path, &err);
    bench_demand(parent != NULL, &err);
    struct calibration *calibration =
        calibration_of_parent(parent, kernels_reference(), b.team, &b.text, &err);
    bench_demand(calibration != NULL, &err);
    bench_demand(keep_order_init_centred(&order, parent, calibration, &err) == 0, &err);
    variant_source_init(&source, parent, calibration, &order);
    struct store *store = bench_store(&b, "theirs");
    struct model *whole = model_of_parent(parent, &err);
    parent_genome(parent, &genome);
    struct model *model = stitch_model(&source, store, &genome, &err);
    ok(genome.bias && model != NULL, "a parent with biases is compressed beside them %s", err.text);
    run_model(&b, whole, want);
    run_model(&b, model, got);
    ok(memcmp(want, got, sizeof got) == 0, "left as it is it computes the same");
    plain = genome;
    plain.bias = false;
    ok(stitch_model(&source, store, &plain, &err) == NULL && err.code == ERR_CONFIG &&
           strstr(err.text, "profile native alone") != NULL,
       "it is not compressed without them");
    const struct variant_key key = {PART_DOWN, 0, 0, 0, FORMAT_F32};
    struct built left = bench_build(&source, &key);
    const float *mean = calibration_mean(calibration, 0, SITE_DOWN);
    float row[96];
    for (size_t r = 0; r < 64; r++) {
        double sum = (double)f->model.ffn[0].bias[r];
        parent_unpack(parent_tensor(parent, 0, TENSOR_DOWN), r, 1, row);
        for (int i = 0; i < 96; i++)
            sum += (double)row[i] * (double)mean[i];
        gap = fmax(gap, fabs(sum - (double)variant_bias(&left.v)[r]));
    }
    ok(gap < 1e-6, "its own bias is part of what a dropped unit leaves behind (%.1e)", gap);
    free(left.bytes);
    model_destroy(model);
    model_destroy(whole);
    store_close(store);
    keep_order_fini(&order);
    calibration_destroy(calibration);
    parent_close(parent);
    bench_close(&b);
    fixture_destroy(f);
}

int main(void)
{
    struct bench b;
    struct keep_order order = {0};
    struct variant_source centred;
    struct err err;

    small = bench_tiny;
    small.tied = true;
    check_closed_form();
    bench_open(&b, &small, FORMAT_BF16, 31);
    bench_demand(keep_order_init_centred(&order, b.parent, b.calibration, &err) == 0, &err);
    variant_source_init(&centred, b.parent, b.calibration, &order);
    check_down(&b, &centred);
    check_packed(&b, &centred);
    check_mean_output(&b, &centred);
    check_order(&b, &order);
    struct store *store = bench_store(&b, "store");
    check_model(&b, &centred, store);
    store_close(store);
    keep_order_fini(&order);
    bench_close(&b);
    check_biased_parent();
    return tap_done();
}
