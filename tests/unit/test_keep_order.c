/* The nested orders against scores computed from the floats that the parent was made of. */
#include "tests/compression_fixture.h"
#include "tests/tap.h"

static const struct geometry small = {.n_layers = 2,
                                      .d_model = 32,
                                      .n_heads = 6,
                                      .n_kv_heads = 3,
                                      .head_dim = 8,
                                      .d_ff = 40,
                                      .n_vocab = 270,
                                      .n_ctx = 128,
                                      .rms_eps = 1e-5F,
                                      .rope_base = 10000.0F};

/* mean(x^2) * |W[:, column]|^2 of an F32 matrix. */
static double score(const struct weights *w, const float *mean_square, uint32_t column)
{
    const float *data = w->data;
    double sum = 0;

    for (uint32_t r = 0; r < w->n_out; r++)
        sum += (double)data[r * w->n_in + column] * data[r * w->n_in + column];
    return sum * mean_square[column];
}

static bool is_permutation(const uint32_t *order, uint32_t n)
{
    uint64_t seen = 0;

    for (uint32_t i = 0; i < n; i++)
        seen |= order[i] < n ? UINT64_C(1) << order[i] : 0;
    return seen == (UINT64_C(1) << n) - 1;
}

static bool falls(const double *scores, const uint32_t *order, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++)
        if (scores[order[i]] > scores[order[i - 1]] * (1 + 1e-9))
            return false;
    return true;
}

static void check_ffn(const struct bench *b, uint32_t layer)
{
    double scores[40];

    for (uint32_t j = 0; j < 40; j++)
        scores[j] = score(&b->fixture->model.ffn[layer].down,
                          calibration_mean_square(b->calibration, layer, SITE_DOWN), j);
    ok(is_permutation(b->order.channel[layer], 40), "layer %u: every channel has its place", layer);
    ok(falls(scores, b->order.channel[layer], 40), "layer %u: channels go from best to worst",
       layer);
}

static void check_attn(const struct bench *b, uint32_t layer)
{
    double head[6] = {0}, group[3] = {0};
    bool heads_fall = true;

    for (uint32_t c = 0; c < 48; c++) {
        double s = score(&b->fixture->model.attn[layer].o,
                         calibration_mean_square(b->calibration, layer, SITE_O), c);
        head[c / 8] += s;
        group[c / 16] += s;
    }
    ok(is_permutation(b->order.group[layer], 3) && falls(group, b->order.group[layer], 3),
       "layer %u: groups go from best to worst", layer);
    for (uint32_t g = 0; g < 3; g++)
        heads_fall = heads_fall && is_permutation(b->order.head[layer] + 2 * g, 2) &&
                     falls(head + 2 * g, b->order.head[layer] + 2 * g, 2);
    ok(heads_fall, "layer %u: so do the query heads of each group", layer);
}

int main(void)
{
    static const uint32_t order[6] = {4, 0, 5, 2, 1, 3};
    struct keep_order broken = {0};
    uint32_t kept[6] = {9, 9, 9, 9, 9, 9};
    struct bench b;
    struct err err;

    bench_open(&b, &small, FORMAT_F32, 11);
    for (uint32_t l = 0; l < small.n_layers; l++) {
        check_ffn(&b, l);
        check_attn(&b, l);
    }
    keep_order_take(order, 3, kept);
    ok(kept[0] == 0 && kept[1] == 4 && kept[2] == 5 && kept[3] == 9,
       "the first three come in ascending position");

    /* The same weights with one that is no number. */
    char path[512];
    ((float *)(uintptr_t)b.fixture->model.ffn[1].down.data)[3 * 40 + 7] = NAN;
    parent_file_write(folder_path(b.folder, "broken.gguf", path), &b.fixture->model);
    struct parent *parent = parent_open(path, &err);
    ok(parent != NULL && keep_order_init(&broken, parent, b.calibration, &err) != 0 &&
           err.code == ERR_DATA && strstr(err.text, "blk.1.ffn_down") != NULL &&
           strstr(err.text, "column 7") != NULL,
       "a NaN in the parent is ERR_DATA naming tensor and column");
    ok(broken.channel[0] == NULL && broken.group[0] == NULL, "and nothing is left behind");
    parent_close(parent);
    keep_order_fini(&broken);
    bench_close(&b);
    return tap_done();
}
