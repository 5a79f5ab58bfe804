/* Calibration against the same statistics computed plainly, and its file, whole and damaged. */
#include "evaluator/compression/calibration.h"
#include "evaluator/parent.h"
#include "evaluator/quality/token_set.h"
#include "space/base/file.h"
#include "tests/parent_file.h"
#include "tests/tap.h"

static struct geometry small;

enum { N_TOKENS = 500, SEQUENCE = 200 };

static char folder[256];
static int32_t tokens[N_TOKENS];

/* What a listener hears when the text is run in other batches than calibration's. */
struct heard {
    double sum[3][N_LINEAR_SITES][48];
    double product[3][N_LINEAR_SITES][48 * 48];
    double head[24 * 24]; /* of what the head multiplies */
};

static const uint32_t n_in_of[N_LINEAR_SITES] = {24, 48, 24, 40};

static void hear(void *arg, uint32_t layer, enum linear_site site, const float *x,
                 uint32_t n_tokens, uint32_t n_in)
{
    struct heard *heard = arg;

    for (uint32_t t = 0; t < n_tokens; t++, x += n_in)
        for (uint32_t i = 0; i < n_in; i++) {
            heard->sum[layer][site][i] += (double)x[i];
            for (uint32_t j = 0; j < n_in; j++)
                heard->product[layer][site][i * n_in + j] += (double)x[i] * x[j];
        }
}

/* The final norm, plainly. */
static void hear_head(const struct model *model, const float *hidden, uint32_t n_tokens,
                      struct heard *heard)
{
    double x[24];

    for (uint32_t t = 0; t < n_tokens; t++, hidden += 24) {
        double square = 0;
        for (int i = 0; i < 24; i++)
            square += (double)hidden[i] * hidden[i] / 24;
        for (int i = 0; i < 24; i++)
            x[i] = hidden[i] / sqrt(square + small.rms_eps) * model->out_norm[i];
        for (int i = 0; i < 24 * 24; i++)
            heard->head[i] += x[i / 24] * x[i % 24] / N_TOKENS;
    }
}

static void run_in_small_batches(const struct model *model, struct team *team, struct heard *heard)
{
    struct forward_options options = {.n_ctx = SEQUENCE, .n_batch = 7};
    struct forward *forward = forward_create(model, kernels_reference(), team, &options, NULL);

    forward_listen(forward, hear, heard);
    for (uint32_t at = 0; at < N_TOKENS;) {
        uint32_t n = 7, left = SEQUENCE - at % SEQUENCE;
        if (at % SEQUENCE == 0)
            forward_reset(forward);
        n = n < left ? n : left;
        n = n < N_TOKENS - at ? n : N_TOKENS - at;
        float hidden[7 * 24];
        forward_embed(forward, tokens + at, n, hidden, NULL);
        forward_layers(forward, hidden, n, 0, model->n_layers, true);
        hear_head(model, hidden, n, heard);
        at += n;
    }
    forward_destroy(forward);
}

/* The largest difference from what was heard, relative to the size of the inputs. */
static void check_moments(const struct calibration *c, const struct heard *heard)
{
    double worst_square = 0, worst_mean = 0, worst = 0, h[48 * 48];
    bool read = true, diagonal = true;

    for (uint32_t l = 0; l < 3; l++)
        for (int s = 0; s < N_LINEAR_SITES; s++) {
            uint32_t n = n_in_of[s];
            const double *product = heard->product[l][s];
            const float *square = calibration_mean_square(c, l, (enum linear_site)s);
            const float *mean = calibration_mean(c, l, (enum linear_site)s);
            read = read && calibration_hessian(c, l, (enum linear_site)s, n, h, NULL) == 0;
            for (uint32_t i = 0; i < n; i++) {
                double own = product[i * n + i] / N_TOKENS;
                worst_square = fmax(worst_square, fabs(square[i] - own) / own);
                worst_mean =
                    fmax(worst_mean, fabs(mean[i] - heard->sum[l][s][i] / N_TOKENS) / sqrt(own));
                diagonal = diagonal && h[i * n + i] == (double)square[i];
                for (uint32_t j = 0; j < n; j++) {
                    double size = sqrt(own * product[j * n + j] / N_TOKENS);
                    worst = fmax(worst, fabs(h[i * n + j] - product[i * n + j] / N_TOKENS) / size);
                }
            }
        }
    near(worst_square, 0, 1e-4, "mean squares are those of a run in other batches");
    near(worst_mean, 0, 1e-4, "so are the means");
    ok(read, "every Hessian is there");
    near(worst, 0, 1e-4, "and is that of all pairs of inputs");
    ok(diagonal, "with the mean squares on its diagonal");
    double part[9];
    read = calibration_head_hessian(c, h, NULL) == 0;
    worst = 0;
    for (int i = 0; i < 24 * 24; i++)
        worst = fmax(worst, fabs(h[i] - heard->head[i]) /
                                sqrt(heard->head[i / 24 * 25] * heard->head[i % 24 * 25]));
    ok(read && worst < 1e-4, "the head's is that of the stream behind the final norm");
    calibration_hessian(c, 1, SITE_DOWN, 40, h, NULL);
    calibration_hessian(c, 1, SITE_DOWN, 3, part, NULL);
    ok(part[1] == h[1] && part[5] == h[42] && part[8] == h[82],
       "the first few inputs alone have its first block");
}

/* Influence of the parts of layer 1, from streams taken with models that lack them. */
static void check_influence(const struct calibration *c, const struct model *model,
                            struct team *team)
{
    struct forward_options options = {.n_ctx = SEQUENCE, .n_batch = SEQUENCE};
    struct model *half = malloc(sizeof *half);
    float *in = calloc(SEQUENCE * 24, sizeof *in), *mid = calloc(SEQUENCE * 24, sizeof *mid),
          *out = calloc(SEQUENCE * 24, sizeof *out);
    double attn = 0, ffn = 0;

    *half = *model;
    half->ffn[1].present = false;
    struct forward *whole = forward_create(model, kernels_reference(), team, &options, NULL);
    struct forward *part = forward_create(half, kernels_reference(), team, &options, NULL);
    for (uint32_t at = 0; at < N_TOKENS; at += SEQUENCE) {
        uint32_t n = N_TOKENS - at < SEQUENCE ? N_TOKENS - at : SEQUENCE;
        forward_reset(whole);
        forward_reset(part);
        forward_embed(whole, tokens + at, n, in, NULL);
        forward_layers(whole, in, n, 0, 1, false);
        memcpy(mid, in, SEQUENCE * 24 * sizeof *in);
        memcpy(out, in, SEQUENCE * 24 * sizeof *in);
        forward_layers(part, mid, n, 1, 2, false);
        forward_layers(whole, out, n, 1, 2, false);
        for (uint32_t t = 0; t < n; t++) {
            double im = 0, ii = 0, mm = 0, mo = 0, oo = 0;
            for (uint32_t i = t * 24; i < t * 24 + 24; i++) {
                im += (double)in[i] * mid[i];
                ii += (double)in[i] * in[i];
                mm += (double)mid[i] * mid[i];
                mo += (double)mid[i] * out[i];
                oo += (double)out[i] * out[i];
            }
            attn += 1 - im / sqrt(ii * mm);
            ffn += 1 - mo / sqrt(mm * oo);
        }
    }
    near(calibration_influence(c, 2), attn / N_TOKENS, 1e-5,
         "influence of attention is what it turns the stream by");
    near(calibration_influence(c, 3), ffn / N_TOKENS, 1e-5, "and that of the FFN behind it");
    forward_destroy(part);
    forward_destroy(whole);
    free(out);
    free(mid);
    free(in);
    free(half);
}

static bool same_figures(const struct calibration *a, const struct calibration *b)
{
    struct hash256 x = calibration_values_hash(a), y = calibration_values_hash(b);
    double of_a[48 * 48], of_b[48 * 48];

    for (uint32_t l = 0; l < 3; l++)
        for (int s = 0; s < N_LINEAR_SITES; s++) {
            uint32_t n = n_in_of[s];
            if (calibration_hessian(a, l, (enum linear_site)s, n, of_a, NULL) != 0 ||
                calibration_hessian(b, l, (enum linear_site)s, n, of_b, NULL) != 0 ||
                memcmp(of_a, of_b, n * n * sizeof *of_a) != 0)
                return false;
        }
    for (uint32_t u = 0; u < 6; u++)
        if (calibration_influence(a, u) != calibration_influence(b, u))
            return false;
    return memcmp(&x, &y, sizeof x) == 0 && calibration_n_tokens(a) == calibration_n_tokens(b);
}

/* Every byte of a saved file counts, and so does every missing one: in front of the triangles on
 * load, in them when they are verified. */
static void check_damage(const char *path, const struct geometry *g, const struct hash256 *parent)
{
    char broken[512];
    size_t n_bytes, n_taken = 0, n_named = 0, n_late = 0, n_tried = 0;
    char *data = file_read(path, 1 << 20, &n_bytes, NULL);
    struct err err;

    folder_path(folder, "broken", broken);
    for (size_t at = 0; at < n_bytes; at += 61) {
        data[at] ^= 1;
        file_replace(broken, data, n_bytes, NULL);
        data[at] ^= 1;
        struct calibration *c = calibration_load(broken, g, parent, &err);
        n_late += c != NULL;
        n_taken += c != NULL && calibration_verify(c, &err) == 0;
        n_named += strstr(err.text, "broken") != NULL && err.code == ERR_DATA;
        n_tried++;
        calibration_destroy(c);
    }
    ok(n_taken == 0 && n_named == n_tried, "a flipped bit is found wherever it is");
    ok(n_late > 0 && n_late < n_tried, "in a triangle not before that is looked at");
    n_taken = 0;
    for (size_t length = 0; length < n_bytes; length += 97) {
        file_replace(broken, data, length, NULL);
        struct calibration *c = calibration_load(broken, g, parent, &err);
        n_taken += c != NULL;
        calibration_destroy(c);
    }
    ok(n_taken == 0, "a torn file is refused");
    free(data);
}

/* One layer is hurt: it is not read, the others are. */
static void check_one_layer(const char *path, const struct geometry *g,
                            const struct hash256 *parent)
{
    char broken[512];
    size_t n_bytes;
    double h[48 * 48];
    char *data = file_read(path, 1 << 20, &n_bytes, NULL);
    struct err err = {0};

    folder_path(folder, "broken", broken);
    size_t head = 24 * 25 / 2 * sizeof(float); /* the last triangle */
    data[n_bytes - head - 5] ^= 1;
    file_replace(broken, data, n_bytes, NULL);
    struct calibration *c = calibration_load(broken, g, parent, &err);
    ok(c != NULL && calibration_hessian(c, 1, SITE_DOWN, 40, h, &err) == 0 &&
           calibration_head_hessian(c, h, &err) == 0 &&
           calibration_hessian(c, 2, SITE_QKV, 24, h, &err) != 0 && err.code == ERR_DATA &&
           strstr(err.text, "layer 2") != NULL && strstr(err.text, "remove it") != NULL,
       "a damaged layer is refused by name, the others can be read");
    calibration_destroy(c);

    data[n_bytes - head - 5] ^= 1;
    data[n_bytes - 5] ^= 1;
    file_replace(broken, data, n_bytes, NULL);
    c = calibration_load(broken, g, parent, &err);
    ok(c != NULL && calibration_hessian(c, 2, SITE_QKV, 24, h, &err) == 0 &&
           calibration_head_hessian(c, h, &err) != 0 && strstr(err.text, "head") != NULL,
       "so is a damaged head");
    calibration_destroy(c);

    /* What the version before this one wrote. */
    data[n_bytes - 5] ^= 1;
    data[8] = 1;
    file_replace(broken, data, n_bytes, NULL);
    ok(calibration_load(broken, g, parent, &err) == NULL && err.code == ERR_DATA &&
           strstr(err.text, "version 1") != NULL && strstr(err.text, "remove it") != NULL,
       "an older file is refused with what to do about it");
    free(data);
}

static void check_file(const struct calibration *c, const struct parent *parent,
                       const struct hash256 *hash)
{
    const struct geometry *g = parent_geometry(parent);
    struct geometry other = *g;
    char path[512];
    struct err err;

    folder_path(folder, "calibration", path);
    ok(calibration_save(c, path, &err) == 0, "a calibration is saved");
    struct calibration *again = calibration_load(path, g, hash, &err);
    ok(again != NULL && same_figures(c, again), "and read back with the same figures");
    struct hash256 a = calibration_hash(c), b = calibration_hash(again);
    ok(memcmp(&a, &b, sizeof a) == 0, "and the same identity");
    calibration_destroy(again);

    struct hash256 stranger = *hash;
    stranger.bytes[3] ^= 1;
    ok(calibration_load(path, g, &stranger, &err) == NULL && err.code == ERR_DATA &&
           strstr(err.text, "another parent") != NULL,
       "a calibration of another parent is refused");
    other.d_ff += 8;
    ok(calibration_load(path, &other, hash, &err) == NULL && err.code == ERR_DATA,
       "one of another geometry too");
    ok(calibration_load("/nowhere/at/all", g, hash, &err) == NULL && err.code == ERR_MISSING,
       "an absent file is ERR_MISSING");
    ok(calibration_save(c, "/nowhere/at/all", &err) != 0 && err.code == ERR_CREATE,
       "a folder that is not there is ERR_CREATE");
    check_damage(path, g, hash);
    check_one_layer(path, g, hash);
}

int main(void)
{
    struct heard *heard = calloc(1, sizeof *heard);
    struct rng rng = rng_make(9, 0);
    struct token_set set;
    char path[512];
    struct err err;

    small = fixture_odd_geometry(3);
    struct fixture *fixture = fixture_dense(&small, FORMAT_F32, 5);
    folder_make(folder);
    parent_file_write(folder_path(folder, "parent.gguf", path), &fixture->model);
    struct parent *parent = parent_open(path, &err);
    struct team *one = team_create(1, NULL, NULL, NULL), *two = team_create(2, NULL, NULL, NULL);
    if (!ok(parent != NULL, "the fixture opens as a parent"))
        return tap_done();
    for (int t = 0; t < N_TOKENS; t++)
        tokens[t] = (int32_t)rng_below(&rng, small.n_vocab);
    token_set_of(&set, tokens, N_TOKENS, SEQUENCE, &err);

    struct calibration *c = calibration_of_parent(parent, kernels_reference(), one, &set, &err);
    if (!ok(c != NULL, "the parent is calibrated"))
        return tap_done();
    ok(calibration_n_tokens(c) == N_TOKENS, "on every token of the text");
    run_in_small_batches(&fixture->model, one, heard);
    check_moments(c, heard);
    check_influence(c, &fixture->model, one);

    struct calibration *twice = calibration_of_parent(parent, kernels_reference(), two, &set, &err);
    ok(same_figures(c, twice), "two threads calibrate to the same figures");
    calibration_destroy(twice);
    struct hash256 hash = parent_hash(parent);
    check_file(c, parent, &hash);

    /* A text of its own name, and a model that has gone wrong. */
    struct hash256 before = calibration_hash(c);
    calibration_destroy(c);
    token_set_fini(&set);
    token_set_of(&set, tokens, N_TOKENS - 1, SEQUENCE, &err);
    c = calibration_of_parent(parent, kernels_reference(), one, &set, &err);
    struct hash256 after = calibration_hash(c);
    ok(memcmp(&before, &after, sizeof before) != 0, "another text is another identity");
    calibration_destroy(c);
    ((float *)(uintptr_t)fixture->model.attn[1].v.data)[5] = NAN;
    c = calibration_collect(&fixture->model, kernels_reference(), one, &set, &err);
    ok(c == NULL && err.code == ERR_DATA && strstr(err.text, "layer 1") != NULL,
       "an input that is not finite is ERR_DATA, naming its layer");

    token_set_fini(&set);
    team_destroy(two);
    team_destroy(one);
    parent_close(parent);
    fixture_destroy(fixture);
    free(heard);
    folder_remove(folder);
    return tap_done();
}
