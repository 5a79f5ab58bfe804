/* Variants: what is copied must be copied exactly, what is solved anew must be what obs.h says,
 * what is quantized must be the right rows and columns, and the error must be the one that the
 * header defines. */
#include "evaluator/compression/hessian.h"
#include "evaluator/compression/obs.h"
#include "evaluator/compression/quantize.h"
#include "space/base/log.h"
#include "tests/compression_fixture.h"
#include "tests/tap.h"

static const struct geometry wide = {.n_layers = 2,
                                     .d_model = 256,
                                     .n_heads = 8,
                                     .n_kv_heads = 4,
                                     .head_dim = 32,
                                     .d_ff = 512,
                                     .n_vocab = 270,
                                     .n_ctx = 128,
                                     .tied = true,
                                     .rms_eps = 1e-5F,
                                     .rope_base = 10000.0F};

static struct built build(const struct bench *b, const struct variant_key *key)
{
    return bench_build(&b->source, key);
}

/* The same orders, but nothing is repaired.  `order` is to be freed, not to be fini'd. */
static struct variant_source unrepaired(const struct bench *b, struct keep_order **order)
{
    struct variant_source source;

    *order = malloc(sizeof **order);
    **order = b->order;
    for (uint32_t u = 0; u < 2 * b->order.n_layers; u++)
        (*order)->damping[u] = OBS_PLAIN;
    variant_source_init(&source, b->parent, b->calibration, *order);
    return source;
}

static void unpack_tensor(const struct gguf_tensor *t, float *out)
{
    parent_unpack(t, 0, t->dims[1], out);
}

static void check_layout(const struct bench *b)
{
    struct variant_key key = {PART_QKV, 1, 3, 2, FORMAT_Q2_K};
    struct variant v;
    bool aligned = true, apart = true;

    variant_layout(&b->source, &key, &v);
    ok(v.n_matrices == 3 && v.matrix[0].n_out == 192 && v.matrix[1].n_out == 96 &&
           v.matrix[2].n_out == 96 && v.matrix[0].n_in == 256,
       "qkv of three groups of two heads has 192, 96 and 96 rows");
    for (uint32_t m = 0; m < v.n_matrices; m++) {
        aligned = aligned && v.matrix[m].offset % 64 == 0;
        apart = apart &&
                (m == 0 || v.matrix[m].offset >= v.matrix[m - 1].offset + v.matrix[m - 1].n_bytes);
        apart = apart && v.matrix[m].offset + v.matrix[m].n_bytes <= v.n_bytes;
    }
    ok(aligned && apart, "matrices start at multiples of 64 and do not overlap");
    ok(v.data == NULL && isnan(v.error), "a layout has no data and no error yet");
}

/* Rows of a BF16 parent cut in BF16: an exact selection of its own bytes. */
static void check_exact_rows(const struct bench *b)
{
    struct variant_key key = {PART_GATE_UP, 1, 100, 0, FORMAT_BF16};
    const struct gguf_tensor *up = parent_tensor(b->parent, 1, TENSOR_UP);
    uint32_t kept[100];
    size_t wrong = 0;

    struct built cut = build(b, &key);
    keep_order_take(b->order.channel[1], 100, kept);
    for (uint32_t r = 0; r < 100; r++)
        wrong += memcmp(cut.bytes + cut.v.matrix[1].offset + r * 512,
                        (const uint8_t *)up->data + kept[r] * 512, 512) != 0;
    ok(wrong == 0, "rows of gate and up are the parent's, of the channels that stay");
    near(cut.v.error, 0, 0, "rows that go leave no error behind");
    free(cut.bytes);
}

/* Columns of down: solved anew by obs_repair, then rounded; never worse than as they were. */
static void check_repaired(const struct bench *b)
{
    struct variant_key key = {PART_DOWN, 1, 100, 0, FORMAT_BF16};
    const struct gguf_tensor *down = parent_tensor(b->parent, 1, TENSOR_DOWN);
    const uint16_t *from = down->data;
    double *h = malloc(512 * 512 * sizeof *h), damping = b->order.damping[3];
    float *w = malloc(256 * 512 * sizeof *w), *want = malloc(256 * 100 * sizeof *want);
    uint32_t kept[100];
    size_t wrong = 0;
    struct keep_order *order;

    struct built cut = build(b, &key);
    const uint16_t *got = (const uint16_t *)(const void *)cut.bytes;
    keep_order_take(b->order.channel[1], 100, kept);
    calibration_hessian(b->calibration, 1, SITE_DOWN, 512, h, NULL);
    unpack_tensor(down, w);
    struct obs_layer layer = {512, 256, h, w};
    obs_repair(&layer, kept, 100, &damping, want, NULL);
    for (size_t i = 0; i < 256 * 100; i++)
        wrong += got[i] != kernels_f32_to_bf16(want[i]);
    ok(wrong == 0, "columns of down are solved anew for those that went");

    struct variant_source plain = unrepaired(b, &order);
    struct built as_they_were = bench_build(&plain, &key);
    got = (const uint16_t *)(const void *)as_they_were.bytes;
    for (uint32_t r = 0; r < 256; r++)
        for (uint32_t c = 0; c < 100; c++)
            wrong += got[r * 100 + c] != from[r * 512 + kept[c]];
    ok(wrong == 0, "where nothing is to be repaired, every weight is the parent's");
    ok(cut.v.error < 0.5 * as_they_were.v.error && cut.v.error > 0,
       "and loses more than twice as much");
    ok(!id128_equal(variant_id(&plain, &key), variant_id(&b->source, &key)),
       "the two have two names");

    key.kept = 512;
    struct built whole = build(b, &key);
    ok(memcmp(whole.bytes, down->data, whole.v.n_bytes) == 0 && whole.v.error == 0,
       "with all channels there is nothing to repair: the parent's bytes");
    free(whole.bytes);
    free(as_they_were.bytes);
    free(cut.bytes);
    free(order);
    free(want);
    free(w);
    free(h);
}

/* Heads: groups ascending, in each the kept query heads ascending. */
static void check_heads(const struct bench *b)
{
    struct variant_key key = {PART_QKV, 0, 2, 1, FORMAT_BF16};
    uint32_t groups[2], columns[64], wrong = 0;
    const uint8_t *q = parent_tensor(b->parent, 0, TENSOR_Q)->data;
    const uint8_t *v = parent_tensor(b->parent, 0, TENSOR_V)->data;
    struct keep_order *order;

    struct built cut = build(b, &key);
    keep_order_take(b->order.group[0], 2, groups);
    for (uint32_t g = 0; g < 2; g++) {
        uint32_t head = groups[g] * 2 + b->order.head[0][groups[g] * 2];
        for (uint32_t i = 0; i < 32; i++)
            columns[g * 32 + i] = head * 32 + i;
        wrong += memcmp(cut.bytes + cut.v.matrix[0].offset + g * 32 * 512, q + head * 32 * 512,
                        32 * 512) != 0;
        wrong += memcmp(cut.bytes + cut.v.matrix[2].offset + g * 32 * 512, v + groups[g] * 32 * 512,
                        32 * 512) != 0;
    }
    ok(wrong == 0, "the best head of each of the two best groups stays, with its group's values");
    free(cut.bytes);

    key.part = PART_O;
    struct variant_source plain = unrepaired(b, &order);
    cut = bench_build(&plain, &key);
    const uint16_t *got = (const uint16_t *)(const void *)cut.bytes;
    const uint16_t *from = parent_tensor(b->parent, 0, TENSOR_O)->data;
    for (uint32_t r = 0; r < 256; r++)
        for (uint32_t c = 0; c < 64; c++)
            wrong += got[r * 64 + c] != from[r * 256 + columns[c]];
    ok(wrong == 0, "and o keeps the columns of the same heads");
    struct built repaired = build(b, &key);
    ok(repaired.v.error < cut.v.error, "which lose less when they stand in for the others");
    free(repaired.bytes);
    free(cut.bytes);
    free(order);
}

/* The error by its definition, from unpacked bytes. */
static void check_error(const struct bench *b, enum format format, uint32_t kept)
{
    struct variant_key key = {PART_DOWN, 0, kept, 0, format};
    const struct gguf_tensor *down = parent_tensor(b->parent, 0, TENSOR_DOWN);
    double *h = malloc(512 * 512 * sizeof *h);
    float *full = malloc(256 * 512 * sizeof *full), *row = malloc(512 * sizeof *row);
    uint32_t *at = malloc(512 * sizeof *at);
    double error = 0, whole = 0;

    struct built cut = build(b, &key);
    unpack_tensor(down, full);
    calibration_hessian(b->calibration, 0, SITE_DOWN, 512, h, NULL);
    keep_order_take(b->order.channel[0], kept, at);
    for (uint32_t r = 0; r < 256; r++) {
        double d[512];
        kernels_reference()->unpack[format](cut.bytes + r * format_row_bytes(format, kept), kept,
                                            row);
        for (uint32_t i = 0; i < 512; i++)
            d[i] = (double)full[r * 512 + i];
        for (uint32_t c = 0; c < kept; c++)
            d[at[c]] -= (double)row[c];
        for (uint32_t i = 0; i < 512; i++)
            for (uint32_t j = 0; j < 512; j++) {
                error += d[i] * h[i * 512 + j] * d[j];
                whole += (double)full[r * 512 + i] * h[i * 512 + j] * (double)full[r * 512 + j];
            }
    }
    near(cut.v.error, error / whole, 1e-12 + 1e-9 * error / whole,
         "%s, %u of 512 channels: the error is what is missing from the output",
         format_name(format), kept);
    free(cut.bytes);
    free(at);
    free(row);
    free(full);
    free(h);
}

/* Finer formats and wider units lose less. */
static void check_order_of_errors(const struct bench *b)
{
    static const enum format finer[] = {FORMAT_Q2_K, FORMAT_Q3_K, FORMAT_Q4_K, FORMAT_Q5_K,
                                        FORMAT_Q6_K, FORMAT_Q8_0, FORMAT_BF16};
    double last = INFINITY;
    bool falling = true;

    for (size_t i = 0; i < sizeof finer / sizeof finer[0]; i++) {
        struct variant_key key = {PART_O, 1, 4, 2, finer[i]};
        struct built cut = build(b, &key);
        falling = falling && cut.v.error < last;
        last = cut.v.error;
        free(cut.bytes);
    }
    ok(falling && last == 0, "the finer the format the smaller the error, down to none");
}

/* A quantized parent: whole blocks are copied, not unpacked and rounded again. */
static void check_block_copies(void)
{
    struct variant_key key = {PART_O, 0, 2, 2, FORMAT_Q8_0};
    uint32_t groups[2], wrong = 0;
    struct keep_order *order;
    struct bench b;

    bench_open(&b, &wide, FORMAT_Q8_0, 23);
    struct variant_source plain = unrepaired(&b, &order);
    struct built cut = bench_build(&plain, &key);
    const uint8_t *from = parent_tensor(b.parent, 0, TENSOR_O)->data;
    keep_order_take(b.order.group[0], 2, groups);
    for (uint32_t r = 0; r < 256; r++)
        for (uint32_t g = 0; g < 2; g++)
            wrong += memcmp(cut.bytes + r * 4 * 34 + g * 2 * 34,
                            from + r * 8 * 34 + groups[g] * 2 * 34, 2 * 34) != 0;
    ok(wrong == 0, "groups of a Q8_0 parent keep their blocks byte for byte, unless repaired");
    struct built repaired = build(&b, &key);
    ok(memcmp(repaired.bytes, cut.bytes, cut.v.n_bytes) != 0 && repaired.v.error < cut.v.error,
       "repaired, they are other blocks, that lose less");
    free(repaired.bytes);
    free(cut.bytes);
    free(order);

    key = (struct variant_key){PART_EMBD, 0, 0, 0, FORMAT_Q8_0};
    cut = build(&b, &key);
    const struct gguf_tensor *embd = parent_embd(b.parent);
    ok(cut.v.n_bytes == embd->n_bytes && memcmp(cut.bytes, embd->data, embd->n_bytes) == 0 &&
           cut.v.error == 0,
       "an embedding in the parent's format is the parent's, without error");
    free(cut.bytes);

    /* 100 channels are no whole blocks: these are rounded anew. */
    key = (struct variant_key){PART_DOWN, 0, 96, 0, FORMAT_Q8_0};
    cut = build(&b, &key);
    ok(cut.v.error > 0 && cut.v.error < 1, "channels picked out of blocks are quantized again");
    free(cut.bytes);
    bench_close(&b);
}

/* tr(D H D') over tr(W H W') of packed rows of the embedding, H the head's. */
static double head_error(const struct bench *b, const float *w, enum format format,
                         const uint8_t *packed)
{
    size_t n = wide.d_model, n_all = n * wide.n_vocab;
    double *h = malloc(n * n * sizeof *h), *d = malloc(n_all * sizeof *d);
    double *whole = malloc(n_all * sizeof *whole), *work = malloc(n_all * sizeof *work);
    float *back = malloc(n_all * sizeof *back);
    struct err err;

    bench_demand(calibration_head_hessian(b->calibration, h, &err) == 0, &err);
    kernels_reference()->unpack[format](packed, n_all, back);
    for (size_t i = 0; i < n_all; i++) {
        whole[i] = (double)w[i];
        d[i] = (double)w[i] - (double)back[i];
    }
    double error = hessian_loss(n, h, wide.n_vocab, d, work) /
                   hessian_loss(n, h, wide.n_vocab, whole, work);
    free(back);
    free(work);
    free(whole);
    free(d);
    free(h);
    return error;
}

/* The embedding of a tied parent is its head: rounded for what meets the head. */
static void check_head(void)
{
    struct variant_key key = {PART_EMBD, 0, 0, 0, FORMAT_Q4_0};
    size_t row_bytes = format_row_bytes(FORMAT_Q4_0, wide.d_model);
    float *w = malloc((size_t)wide.n_vocab * wide.d_model * sizeof *w);
    uint8_t *alone = malloc(wide.n_vocab * row_bytes);
    struct bench b;

    bench_open(&b, &wide, FORMAT_F32, 31);
    unpack_tensor(parent_embd(b.parent), w);
    struct built made = build(&b, &key);
    bench_demand(quantize_rows(FORMAT_Q4_0, w, wide.n_vocab, wide.d_model, NULL, alone, NULL) == 0,
                 &(struct err){.text = "rows do not fit"});
    double error = head_error(&b, w, FORMAT_Q4_0, made.bytes);
    double error_alone = head_error(&b, w, FORMAT_Q4_0, alone);
    ok(fabs(made.v.error - error) < 1e-9 * error, "the error of a tied embedding is the head's");
    ok(error < 0.8 * error_alone, "rounded with feedback: %.3g, without %.3g", error, error_alone);
    free(made.bytes);
    bench_close(&b);
    free(alone);
    free(w);
}

static void check_names(const struct bench *b)
{
    struct variant_key key = {PART_QKV, 0, 2, 1, FORMAT_Q4_K}, other;
    struct id128 id = variant_id(&b->source, &key);
    struct variant_source stranger = b->source;
    int same = 0;

    for (int field = 0; field < 5; field++) {
        other = key;
        other.part = field == 0 ? PART_O : other.part;
        other.layer += field == 1;
        other.kept += field == 2;
        other.heads_per_group += field == 3;
        other.format = field == 4 ? FORMAT_Q5_K : other.format;
        same += id128_equal(id, variant_id(&b->source, &other));
    }
    stranger.identity.bytes[31] ^= 1;
    same += id128_equal(id, variant_id(&stranger, &key));
    ok(same == 0, "each field of a key and the source's identity change the name");
    ok(id128_equal(id, variant_id(&b->source, &key)), "and nothing else does");

    struct built one = build(b, &key), two = build(b, &key);
    ok(memcmp(one.bytes, two.bytes, one.v.n_bytes) == 0 && one.v.error == two.v.error,
       "a variant built twice has the same bytes");
    free(one.bytes);
    free(two.bytes);
}

static void check_refusals(struct bench *b)
{
    struct variant_key key = {PART_DOWN, 0, 513, 0, FORMAT_F32};
    struct variant v;
    struct err err;
    char path[512];

    variant_layout(&b->source, &key, &v);
    uint8_t *out = malloc(v.n_bytes);
    ok(variant_build(&b->source, &key, &v, out, &err) != 0 && err.code == ERR_MISSING,
       "more channels than there are is ERR_MISSING");
    free(out);

    /* A weight that BF16 holds and F16 does not, then one that is no number. */
    uint16_t *gate = (uint16_t *)(uintptr_t)b->fixture->model.ffn[0].gate.data;
    for (int round = 0; round < 2; round++) {
        gate[5 * 256 + 9] = round == 0 ? 0x4780 : 0x7fc0; /* 65536, NaN */
        parent_file_write(folder_path(b->folder, "odd.gguf", path), &b->fixture->model);
        struct parent *odd = parent_open(path, &err);
        struct variant_source source = b->source;
        source.parent = odd;
        key = (struct variant_key){PART_GATE_UP, 0, 512, 0, FORMAT_F16};
        variant_layout(&source, &key, &v);
        out = malloc(v.n_bytes);
        ok(variant_build(&source, &key, &v, out, &err) != 0 && err.code == ERR_DATA &&
               strstr(err.text, "blk.0.ffn_gate.weight") != NULL && strstr(err.text, "row 5"),
           "a weight that is %s is ERR_DATA naming tensor and row",
           round == 0 ? "too large for F16" : "no number");
        if (round == 1)
            ok(strstr(err.text, "column 9") != NULL, "and its column");
        free(out);
        parent_close(odd);
    }
}

int main(void)
{
    struct bench b;

    log_setup(LOG_ERROR, -1);
    bench_open(&b, &wide, FORMAT_BF16, 21);
    check_layout(&b);
    check_exact_rows(&b);
    check_repaired(&b);
    check_heads(&b);
    check_error(&b, FORMAT_Q4_K, 512);
    check_error(&b, FORMAT_Q2_K, 256);
    check_error(&b, FORMAT_Q5_0, 96);
    check_error(&b, FORMAT_BF16, 100);
    check_order_of_errors(&b);
    check_names(&b);
    check_refusals(&b);
    bench_close(&b);
    check_block_copies();
    check_head();
    return tap_done();
}
