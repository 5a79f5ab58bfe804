/* Another basis of the residual stream: the matrices, readers against brute force, and parents in
 * another basis against the one they come from. */
#include "evaluator/compression/basis_parent.h"
#include "evaluator/compression/hessian.h"
#include "evaluator/compression/obs.h"
#include "evaluator/compression/workshop.h"
#include "evaluator/export.h"
#include "evaluator/forward.h"
#include "space/account.h"
#include "space/base/file.h"
#include "space/base/linalg.h"
#include "space/base/log.h"
#include "tests/compression_fixture.h"
#include "tests/tap.h"

#include <math.h>

static const struct geometry small = {.n_layers = 2,
                                      .d_model = 64,
                                      .n_heads = 4,
                                      .n_kv_heads = 2,
                                      .head_dim = 32,
                                      .d_ff = 96,
                                      .n_vocab = 270,
                                      .n_ctx = 64,
                                      .tied = true,
                                      .rms_eps = 1e-5F,
                                      .rope_base = 10000.0F};

/* The largest |Q'Q - I| of q[n][k]. */
static double skewness(size_t n, size_t k, const double *q)
{
    double worst = 0;

    for (size_t a = 0; a < k; a++)
        for (size_t b = 0; b < k; b++) {
            double sum = a == b ? -1 : 0;
            for (size_t i = 0; i < n; i++)
                sum += q[i * k + a] * q[i * k + b];
            worst = fmax(worst, fabs(sum));
        }
    return worst;
}

/* ---- the matrices --------------------------------------------------------------------------- */

static void test_hadamard(void)
{
    static const size_t sizes[] = {1, 2, 3, 64, 172, 192, 224};
    double *q = malloc(224 * 224 * sizeof *q), *again = malloc(224 * 224 * sizeof *again);

    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        size_t n = sizes[s];
        basis_hadamard(n, q);
        near(skewness(n, n, q), 0, 1e-13, "the matrix of %zu is orthogonal", n);
        basis_hadamard(n, again);
        ok(memcmp(q, again, n * n * sizeof *q) == 0, "and always the same");
    }
    basis_hadamard(64, q);
    double flat = 0;
    for (size_t i = 0; i < 64 * 64; i++)
        flat = fmax(flat, fabs(fabs(q[i]) - 0.125));
    near(flat, 0, 1e-15, "that of 64 spreads every channel evenly");
    free(again);
    free(q);
}

static void test_principal(void)
{
    enum { N = 30, K = 7 };
    struct rng rng = rng_make(4, 0);
    double x[N * N], sum[N * N], a[N * N], values[N], q[N * K], worst = 0, kept = 0, best = 0;
    bool ascending = true;

    for (int i = 0; i < N * N; i++)
        x[i] = rng_normal(&rng) * (1 + i % N);
    linalg_dgemm_tn(N, N, N, 1, x, N, x, N, 0, sum, N);
    memcpy(a, sum, sizeof a);
    ok(linalg_eigen(N, a, values, NULL) == 0, "a symmetric matrix has eigenvectors");
    for (int v = 0; v < N; v++)
        for (int i = 0; i < N; i++) {
            double product = -values[v] * a[v * N + i];
            for (int j = 0; j < N; j++)
                product += sum[i * N + j] * a[v * N + j];
            worst = fmax(worst, fabs(product) / values[N - 1]);
            ascending = ascending && (v == 0 || values[v] >= values[v - 1]);
        }
    ok(ascending, "the weakest first");
    near(worst, 0, 1e-12, "A v = lambda v for each of them");
    memcpy(a, sum, sizeof a);
    ok(basis_principal(N, a, K, q, NULL) == 0, "the strongest are taken");
    near(skewness(N, K, q), 0, 1e-13, "they are orthogonal");
    for (int k = 0; k < K; k++) {
        best += values[N - 1 - k];
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++)
                kept += q[i * K + k] * sum[i * N + j] * q[j * K + k];
    }
    near(kept / best, 1, 1e-12, "no other %d directions keep more", K);
    sum[5] = sum[N * 5] = NAN;
    struct err err = {0};
    ok(linalg_eigen(N, sum, values, &err) != 0 && err.code == ERR_DATA,
       "a matrix that is not finite is refused");
}

/* ---- one reader ----------------------------------------------------------------------------- */

/* Weights that minimise mean |W x - W' x'|^2 + ridge |W - W'Q'|^2 over all samples, found by
 * solving the normal equations of the samples themselves. */
static void test_reader(void)
{
    enum { D = 12, K = 8, N = 400, ROWS = 3 };
    struct rng rng = rng_make(8, 0);
    double x[N * D], h[D * D] = {0}, normal[K * K] = {0}, right[ROWS * K] = {0}, w[ROWS * D];
    float gain[D], mean[D] = {0};
    double mix[D * D], turned[K], size = 0;
    struct basis basis = {.d_model = D, .hidden = K, .q = malloc(D * K * sizeof(double))};
    struct basis_reader reader;

    for (int i = 0; i < D * D; i++)
        mix[i] = rng_normal(&rng);
    for (int i = 0; i < D; i++) {
        gain[i] = (float)(0.5 + 0.1 * i);
        size += (double)gain[i] * gain[i] / D;
    }
    size = sqrt(size);
    /* Samples of unit mean square, as a norm makes them. */
    for (int t = 0; t < N; t++) {
        double z[D], square = 0;
        for (int i = 0; i < D; i++)
            z[i] = rng_normal(&rng) + 0.5;
        for (int i = 0; i < D; i++) {
            x[t * D + i] = 0;
            for (int j = 0; j < D; j++)
                x[t * D + i] += mix[i * D + j] * z[j] / (1 + j);
            square += x[t * D + i] * x[t * D + i] / D;
        }
        for (int i = 0; i < D; i++) {
            x[t * D + i] /= sqrt(square);
            mean[i] += (float)(x[t * D + i] * gain[i] / N);
        }
    }
    for (int t = 0; t < N; t++)
        for (int i = 0; i < D * D; i++)
            h[i] += x[t * D + i / D] * x[t * D + i % D] * gain[i / D] * gain[i % D] / N;
    for (int i = 0; i < ROWS * D; i++)
        w[i] = rng_normal(&rng);
    double *sum = malloc(sizeof h);
    memcpy(sum, h, sizeof h);
    basis_principal(D, sum, K, basis.q, NULL);
    free(sum);
    ok(basis_reader_init(&reader, &basis, h, mean, gain, N, NULL) == 0, "a reader is solved anew");

    /* Brute force, in the coordinates that the reader gets: size * Q'xhat. */
    double ridge = obs_damping(K, N), square = 0, off_mean = 0, off_moment = 0, worst = 0;
    double moment[K * K] = {0}, turned_mean[K] = {0};
    for (int t = 0; t < N; t++) {
        for (int k = 0; k < K; k++) {
            turned[k] = 0;
            for (int i = 0; i < D; i++)
                turned[k] += size * basis.q[i * K + k] * x[t * D + i];
            turned_mean[k] += turned[k] / N;
            square += turned[k] * turned[k] / N;
        }
        for (int i = 0; i < K * K; i++)
            moment[i] += turned[i / K] * turned[i % K] / N;
        for (int r = 0; r < ROWS; r++) {
            double y = 0;
            for (int i = 0; i < D; i++)
                y += w[r * D + i] * gain[i] * x[t * D + i];
            for (int k = 0; k < K; k++)
                right[r * K + k] += y * turned[k] / N;
        }
    }
    for (int i = 0; i < K * K; i++)
        normal[i] = moment[i] + (i / K == i % K ? ridge * size * size : 0);
    for (int r = 0; r < ROWS; r++)
        for (int k = 0; k < K; k++)
            for (int i = 0; i < D; i++)
                right[r * K + k] += ridge * size * w[r * D + i] * gain[i] * basis.q[i * K + k];
    linalg_solve_spd_rows(K, normal, ROWS, right, NULL);
    for (int r = 0; r < ROWS; r++)
        for (int k = 0; k < K; k++) {
            double own = 0;
            for (int i = 0; i < D; i++)
                own += w[r * D + i] * reader.map[i * K + k];
            worst = fmax(worst, fabs(own - right[r * K + k]));
        }
    near(worst, 0, 1e-8, "it is the least squares of the samples");
    for (int i = 0; i < K * K; i++)
        off_moment = fmax(off_moment, fabs(reader.moment[i] - moment[i]));
    for (int k = 0; k < K; k++)
        off_mean = fmax(off_mean, fabs(reader.mean[k] - turned_mean[k]));
    near(off_moment, 0, 1e-8, "with the moments of what it gets");
    near(off_mean, 0, 1e-6, "and the means"); /* float means went in */
    near(reader.gain, sqrt(square / K), 1e-6, "its norm keeps the energy");
    basis_reader_fini(&reader);
    basis_fini(&basis);
}

/* ---- whole parents -------------------------------------------------------------------------- */

/* Logits of the last of 40 tokens. */
static void run(const struct parent *parent, struct team *team, float *logits)
{
    struct forward_options options = {.n_ctx = 64, .n_batch = 64};
    struct model *model = model_of_parent(parent, NULL);
    model->kv = FORMAT_F32; /* which rounds nothing that a rotation could tip over */
    struct forward *forward = forward_create(model, kernels_reference(), team, &options, NULL);
    int32_t tokens[40];

    for (int t = 0; t < 40; t++)
        tokens[t] = 7 * t % 269;
    forward_tokens(forward, tokens, 40, LOGITS_LAST, NULL);
    memcpy(logits, forward_logits(forward), small.n_vocab * sizeof *logits);
    forward_destroy(forward);
    model_destroy(model);
}

static double distance(const float *a, const float *b)
{
    return bench_distance(small.n_vocab, a, b);
}

/* A file of a basis whose files are in `folder`. */
static const char *file_of(const struct bench *b, const char *folder, const char *name,
                           char path[600])
{
    snprintf(path, 600, "%s/%s/%s", b->folder, folder, name);
    return path;
}

/* The parent in a basis, and its logits; in `folder`. */
static struct parent *turn_parent(const struct bench *b, uint32_t hidden, enum rotation rotation,
                                  const char *folder, float *logits)
{
    struct basis basis;
    struct err err;
    char path[512], file[600];

    folder_path(b->folder, folder, path);
    bench_demand(basis_init(&basis, b->parent, b->calibration, hidden, rotation, &err) == 0, &err);
    bench_demand(basis_parent_make(b->parent, b->calibration, &basis, FORMAT_F32, path, &err) == 0,
                 &err);
    basis_fini(&basis);
    struct parent *turned = parent_open(file_of(b, folder, BASIS_PARENT_NAME, file), &err);
    bench_demand(turned != NULL, &err);
    run(turned, b->team, logits);
    return turned;
}

/* The largest difference between the moments of a rotated parent in closed form and by listening.
 */
static double off_moments(const struct bench *b, struct parent *turned, const char *folder,
                          const struct hash256 *identity)
{
    double closed[96 * 96], heard[96 * 96], worst = 0;
    struct err err;
    char file[600];

    struct calibration *c = calibration_load(file_of(b, folder, BASIS_CALIBRATION_NAME, file),
                                             parent_geometry(turned), identity, &err);
    bench_demand(c != NULL, &err);
    struct calibration *again =
        calibration_of_parent(turned, kernels_reference(), b->team, &b->text, &err);
    bench_demand(again != NULL, &err);
    for (uint32_t l = 0; l < 2; l++)
        for (int s = 0; s < N_LINEAR_SITES; s++) {
            size_t n = s == SITE_O ? 128 : s == SITE_DOWN ? 96 : 64;
            n = n < 96 ? n : 96;
            calibration_hessian(c, l, (enum linear_site)s, n, closed, NULL);
            calibration_hessian(again, l, (enum linear_site)s, n, heard, NULL);
            for (size_t i = 0; i < n * n; i++)
                worst = fmax(worst, fabs(closed[i] - heard[i]) /
                                        sqrt(heard[i / n * (n + 1)] * heard[i % n * (n + 1)]));
        }
    calibration_head_hessian(c, closed, NULL);
    calibration_head_hessian(again, heard, NULL);
    for (size_t i = 0; i < 64 * 64; i++)
        worst = fmax(worst, fabs(closed[i] - heard[i]));
    calibration_destroy(again);
    calibration_destroy(c);
    return worst;
}

static void test_parents(const struct bench *b)
{
    float own[270], turned[270], narrow[270], narrower[270], narrow_turned[270];
    struct parent *parent;

    run(b->parent, b->team, own);
    parent = turn_parent(b, 64, ROTATION_HADAMARD, "turned", turned);
    ok(!parent_geometry(parent)->tied && parent_geometry(parent)->d_model == 64,
       "a rotated parent has an output matrix of its own");
    near(distance(own, turned), 0, 2e-6, "and computes the same");
    struct hash256 identity = basis_parent_identity(b->calibration, 64, ROTATION_HADAMARD);
    ok(basis_parent_is(parent, &identity) && !basis_parent_is(b->parent, &identity),
       "it is known by what it was made of");
    near(off_moments(b, parent, "turned", &identity), 0, 1e-3, /* a cache in F16 */
         "its moments are what listening to it would find");
    parent_close(parent);

    parent = turn_parent(b, 60, ROTATION_NONE, "narrow", narrow);
    ok(parent_geometry(parent)->d_model == 60 && parent_geometry(parent)->n_layers == 2,
       "a narrower parent is one of another geometry");
    parent_close(parent);
    parent_close(turn_parent(b, 60, ROTATION_HADAMARD, "narrow-turned", narrow_turned));
    parent_close(turn_parent(b, 32, ROTATION_NONE, "narrower", narrower));
    near(distance(narrow, narrow_turned), 0, 1e-5, "turning it changes nothing");
    ok(distance(own, narrow) > 1e-3 && distance(own, narrow) < 0.8 * distance(own, narrower),
       "60 of 64 channels lose less than 32 do (%.3f, %.3f)", distance(own, narrow),
       distance(own, narrower));
}

/* A candidate in another basis: prepared, stitched, run in wider buffers, exported. */
static void test_workshop(struct bench *b)
{
    struct hash256 hash = parent_hash(b->parent);
    struct genome *genome = malloc(sizeof *genome);
    struct workshop shop;
    struct err err = {0};
    char model_path[512], path[512], store[512];

    folder_path(b->folder, "parent.gguf", model_path);
    folder_path(b->folder, "calibration.bin", path);
    folder_path(b->folder, "store", store);
    bench_demand(calibration_save(b->calibration, path, &err) == 0, &err);
    bench_demand(workshop_open(&shop, model_path, &hash, path, store, false, &err) == 0, &err);
    genome_uniform(genome, &small, FORMAT_Q8_0);
    ok(workshop_source(&shop, genome, &err) == &shop.source, "a plain genome has the plain source");
    genome->hidden = 32, genome->rotation = ROTATION_HADAMARD;
    genome->head = FORMAT_F16;
    for (uint32_t l = 0; l < 2; l++) /* rows of one block of Q8_0 are not for every engine */
        genome->attn[l].qkv = genome->ffn[l].gate_up = FORMAT_F16;
    genome->embd = FORMAT_F16;
    genome_canonicalize(genome, &small, &err);
    ok(workshop_model(&shop, genome, &err) == NULL && err.code == ERR_MISSING,
       "a basis that was not prepared is missing");
    ok(workshop_prepare_basis(b->parent, &hash, path, 32, ROTATION_HADAMARD, false, &err) == 0,
       "it is prepared");
    struct model *model = workshop_model(&shop, genome, &err);
    bench_demand(model != NULL, &err);
    ok(model->geometry.d_model == 32 && model->attn[1].q.n_in == 32 &&
           model->ffn[1].down.n_out == 32 && model->head.data != model->embd.data &&
           workshop_source(&shop, genome, &err) != &shop.source,
       "and its model is narrow");

    /* In buffers of the parent, whose head judges it. */
    struct forward_options options = {.n_ctx = 64, .n_batch = 16, .d_model = 64};
    struct forward *forward = forward_create(model, kernels_reference(), b->team, &options, &err);
    struct forward *wide =
        forward_create(&b->fixture->model, kernels_reference(), b->team, &options, &err);
    const int32_t tokens[] = {5, 17, 200, 3};
    float first[270], hidden[4 * 64], expected[4 * 270], judged[4 * 270];
    ok(forward_tokens(forward, tokens, 4, LOGITS_LAST, &err) == 0, "it runs");
    memcpy(first, forward_logits(forward), sizeof first);
    forward_embed(wide, tokens, 4, hidden, &err);
    forward_head(wide, hidden, 4, expected);
    forward_head_of(forward, &b->fixture->model, hidden, 4, judged);
    ok(memcmp(expected, judged, sizeof judged) == 0, "the wide head of its parent runs beside it");
    forward_set_model(wide, model);
    ok(forward_tokens(wide, tokens, 4, LOGITS_LAST, &err) == 0 &&
           memcmp(first, forward_logits(wide), sizeof first) == 0,
       "and so does it where its parent was before");
    forward_destroy(wide);
    forward_destroy(forward);

    ok(model_weight_bytes(model) == account_weight_bytes(genome, &small),
       "its bytes are accounted");
    folder_path(b->folder, "export.gguf", path);
    int status = export_gguf(b->parent, model, genome, PROFILE_GGUF, NULL, path, &err);
    if (!ok(status == 0 && export_verify(path, &err) == 0, "it is exported for stock engines"))
        printf("# %s\n", err.text);
    struct parent *again = parent_open(path, &err);
    ok(again != NULL && parent_geometry(again)->d_model == 32 && !parent_geometry(again)->tied,
       "and opens as what it is");
    parent_close(again);
    model_destroy(model);
    workshop_close(&shop);

    /* Files of another calibration, and damaged ones, are made anew. */
    folder_path(b->folder, "calibration.bin", path);
    char file[600];
    file_of(b, "basis-32-hadamard", BASIS_CALIBRATION_NAME, file);
    size_t n_bytes;
    char *data = file_read(file, 1 << 22, &n_bytes, &err);
    bench_demand(data != NULL, &err);
    data[n_bytes - 3] ^= 1;
    file_replace(file, data, n_bytes, &err);
    ok(workshop_prepare_basis(b->parent, &hash, path, 32, ROTATION_HADAMARD, false, &err) == 0,
       "a damaged basis is prepared again");
    data[n_bytes - 3] ^= 1;
    char *mended = file_read(file, 1 << 22, &n_bytes, &err);
    ok(mended != NULL && memcmp(mended, data, n_bytes) == 0, "to the same bytes");
    free(mended);
    free(data);
    free(genome);
}

int main(void)
{
    struct bench b;

    log_setup(LOG_ERROR, -1);
    test_hadamard();
    test_principal();
    test_reader();
    bench_open(&b, &small, FORMAT_F32, 12);
    test_parents(&b);
    test_workshop(&b);
    bench_close(&b);
    return tap_done();
}
