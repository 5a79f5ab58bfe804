/* The nested orders against those of the floats that the parent was made of, and their file. */
#include "evaluator/compression/obs.h"
#include "space/base/file.h"
#include "space/base/log.h"
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

/* By importance alone: best first. */
static void check_plain(const struct bench *b, const struct keep_order *order, uint32_t layer)
{
    double scores[40], head[6] = {0}, group[3] = {0};
    bool heads_fall = true;

    for (uint32_t j = 0; j < 40; j++)
        scores[j] = score(&b->fixture->model.ffn[layer].down,
                          calibration_mean_square(b->calibration, layer, SITE_DOWN), j);
    ok(is_permutation(order->channel[layer], 40) && falls(scores, order->channel[layer], 40),
       "layer %u, by importance: channels go from best to worst", layer);
    for (uint32_t c = 0; c < 48; c++) {
        double s = score(&b->fixture->model.attn[layer].o,
                         calibration_mean_square(b->calibration, layer, SITE_O), c);
        head[c / 8] += s;
        group[c / 16] += s;
    }
    ok(is_permutation(order->group[layer], 3) && falls(group, order->group[layer], 3),
       "layer %u, by importance: so do groups", layer);
    for (uint32_t g = 0; g < 3; g++)
        heads_fall = heads_fall && is_permutation(order->head[layer] + 2 * g, 2) &&
                     falls(head + 2 * g, order->head[layer] + 2 * g, 2);
    ok(heads_fall, "layer %u, by importance: and the query heads of each group", layer);
    ok(order->damping[2 * layer] == OBS_PLAIN && order->damping[2 * layer + 1] == OBS_PLAIN,
       "layer %u, by importance: nothing is to be repaired", layer);
}

/* One greedy run over a matrix of the fixture (obs.h is tested by itself). */
static bool is_greedy(const struct bench *b, const struct weights *w, uint32_t layer,
                      enum linear_site site, struct obs_items items, const uint32_t *order)
{
    double h[48 * 48], damping = obs_damping(w->n_in, 192);
    uint32_t want[48];
    struct obs_layer problem = {w->n_in, w->n_out, h, w->data};

    calibration_hessian(b->calibration, layer, site, w->n_in, h, NULL);
    return obs_order(&problem, &items, want, NULL, &damping, NULL) == 0 &&
           memcmp(order, want, items.n_classes * items.per_class * sizeof *want) == 0;
}

static void check_greedy(const struct bench *b, uint32_t layer)
{
    const struct weights *down = &b->fixture->model.ffn[layer].down;
    const struct weights *o = &b->fixture->model.attn[layer].o;

    ok(is_greedy(b, down, layer, SITE_DOWN, (struct obs_items){1, 40, 1}, b->order.channel[layer]),
       "layer %u: channels are the greedy order of down's columns", layer);
    ok(is_greedy(b, o, layer, SITE_O, (struct obs_items){1, 3, 16}, b->order.group[layer]),
       "layer %u: groups that of all the columns of o that a group feeds", layer);
    ok(is_greedy(b, o, layer, SITE_O, (struct obs_items){3, 2, 8}, b->order.head[layer]),
       "layer %u: heads that of a head's columns, one of each group in turn", layer);
    ok(b->order.damping[2 * layer] == obs_damping(48, 192) &&
           b->order.damping[2 * layer + 1] == obs_damping(40, 192),
       "layer %u: to be repaired with the damping that 192 tokens ask for", layer);
}

static bool same_order(const struct keep_order *a, const struct keep_order *b)
{
    struct hash256 x = keep_order_hash(a), y = keep_order_hash(b);
    bool same = memcmp(&x, &y, sizeof x) == 0 && a->n_layers == b->n_layers;

    for (uint32_t l = 0; l < a->n_layers && same; l++)
        same = memcmp(a->channel[l], b->channel[l], 40 * sizeof(uint32_t)) == 0 &&
               memcmp(a->group[l], b->group[l], 3 * sizeof(uint32_t)) == 0 &&
               memcmp(a->head[l], b->head[l], 6 * sizeof(uint32_t)) == 0 &&
               a->damping[2 * l + 1] == b->damping[2 * l + 1] && a->n_heads[l] == b->n_heads[l];
    return same;
}

/* Every byte of the file counts. */
static void check_damage(const struct bench *b, const char *path)
{
    char broken[512];
    size_t n_bytes, n_taken = 0, n_named = 0, n_tried = 0;
    char *data = file_read(path, 1 << 20, &n_bytes, NULL);
    struct keep_order order = {0};
    struct err err;

    folder_path(b->folder, "broken-order", broken);
    for (size_t at = 0; at < n_bytes; at++, n_tried++) {
        data[at] ^= 16;
        file_replace(broken, data, at % 3 == 0 ? at : n_bytes, NULL);
        data[at] ^= 16;
        n_taken += keep_order_load(&order, broken, b->parent, b->calibration, false, &err) == 0;
        n_named += err.code == ERR_DATA && strstr(err.text, "broken-order") != NULL;
    }
    ok(n_taken == 0 && n_named == n_tried && order.channel[0] == NULL,
       "a flipped bit or a missing end is found wherever it is");

    /* A file that is whole, with a sum that fits, but names a channel twice. */
    uint32_t *channel = (uint32_t *)(void *)(data + 48 + 32);
    uint32_t kept = channel[7];
    channel[7] = channel[8];
    struct hash256 sum = sha256_of(data, n_bytes - 32);
    memcpy(data + n_bytes - 32, &sum, sizeof sum);
    file_replace(broken, data, n_bytes, NULL);
    ok(keep_order_load(&order, broken, b->parent, b->calibration, false, &err) != 0 &&
           err.code == ERR_DATA,
       "an order that is no permutation is refused whatever its sum");
    channel[7] = kept;
    free(data);
}

static void check_file(const struct bench *b)
{
    struct keep_order made = {0}, again = {0};
    struct token_set shorter;
    char path[512];
    struct err err;

    folder_path(b->folder, "order", path);
    ok(keep_order_load(&made, path, b->parent, b->calibration, false, &err) != 0 &&
           err.code == ERR_MISSING,
       "an absent file is ERR_MISSING");
    ok(keep_order_open(&made, path, b->parent, b->calibration, false, &err) == 0 &&
           same_order(&made, &b->order) && file_exists(path),
       "where there is none the order is made and left there");
    ok(keep_order_load(&again, path, b->parent, b->calibration, false, &err) == 0 &&
           same_order(&again, &b->order),
       "and read back the same");
    keep_order_fini(&again);
    check_damage(b, path);

    /* What lies there counts as long as it is sound: an order of another making is kept. */
    struct keep_order plain = {0};
    keep_order_init_plain(&plain, b->parent, b->calibration, &err);
    ok(!same_order(&plain, &made), "two ways to order have two hashes");
    keep_order_save(&plain, b->calibration, path, &err);
    ok(keep_order_open(&again, path, b->parent, b->calibration, false, &err) == 0 &&
           same_order(&again, &plain),
       "a sound file is taken as it is");
    keep_order_fini(&again);

    token_set_of(&shorter, b->text.tokens, 100, 64, &err);
    struct calibration *other =
        calibration_of_parent(b->parent, kernels_reference(), b->team, &shorter, &err);
    ok(keep_order_load(&again, path, b->parent, other, false, &err) != 0 && err.code == ERR_DATA &&
           strstr(err.text, "another calibration") != NULL,
       "the order of another calibration is refused");
    ok(keep_order_open(&again, path, b->parent, other, false, &err) == 0 &&
           !same_order(&again, &plain),
       "or made anew where it may be");
    keep_order_fini(&again);
    ok(keep_order_open(&again, "/nowhere/at/all", b->parent, b->calibration, false, &err) == 0 &&
           same_order(&again, &made),
       "an order that cannot be kept serves all the same");
    keep_order_fini(&again);
    calibration_destroy(other);
    token_set_fini(&shorter);
    keep_order_fini(&plain);
    keep_order_fini(&made);
}

int main(void)
{
    static const uint32_t order[6] = {4, 0, 5, 2, 1, 3};
    struct keep_order broken = {0}, plain = {0};
    uint32_t kept[6] = {9, 9, 9, 9, 9, 9};
    struct bench b;
    struct err err;

    log_setup(LOG_ERROR, -1);
    bench_open(&b, &small, FORMAT_F32, 11);
    ok(keep_order_init_plain(&plain, b.parent, b.calibration, &err) == 0, "two kinds of orders");
    for (uint32_t l = 0; l < small.n_layers; l++) {
        check_plain(&b, &plain, l);
        check_greedy(&b, l);
    }
    keep_order_fini(&plain);
    check_file(&b);
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
