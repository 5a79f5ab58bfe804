/* Importance matrices: both forms read byte by byte and written, calibrations made of them, and
 * files that lie. */
#include "evaluator/compression/calibration_imatrix.h"
#include "evaluator/compression/obs.h"
#include "evaluator/compression/quantize.h"
#include "tests/compression_fixture.h"
#include "tests/gguf_bytes.h"
#include "tests/tap.h"

#include <math.h>

/* --- a .dat by hand --------------------------------------------------------------------------- */

static void dat_text(struct gguf_bytes *b, const char *text)
{
    bytes_u32(b, (uint32_t)strlen(text));
    bytes_put(b, text, strlen(text));
}

static void dat_entry(struct gguf_bytes *b, const char *name, uint32_t n_calls, const float *value,
                      uint32_t n)
{
    dat_text(b, name);
    bytes_u32(b, n_calls);
    bytes_u32(b, n);
    bytes_put(b, value, n * sizeof *value);
}

static const float two[2] = {2, 4}, three[3] = {3, 0, 9};

static struct gguf_bytes dat_sample(void)
{
    struct gguf_bytes b = {0};

    bytes_u32(&b, 2);
    dat_entry(&b, "blk.1.ffn_up.weight", 2, two, 2);
    dat_entry(&b, "blk.0.ffn_up.weight", 3, three, 3);
    bytes_u32(&b, 3);
    dat_text(&b, "texts/c.txt");
    return b;
}

static bool parses(const struct gguf_bytes *b, size_t n, struct err *err)
{
    struct imatrix m = {0};
    uint8_t *copy = malloc(n + 1);

    memcpy(copy, b->data, n);
    bool read = imatrix_parse(&m, copy, n, "here.dat", err) == 0;
    imatrix_fini(&m);
    free(copy);
    return read;
}

/* The sample with a word changed is refused with that in the message. */
static void refuses_word(struct gguf_bytes *b, size_t at, const void *word, const char *why)
{
    struct err err = {0};
    uint32_t kept;

    memcpy(&kept, b->data + at, 4);
    memcpy(b->data + at, word, 4);
    ok(!parses(b, b->n, &err) && err.code == ERR_DATA && strstr(err.text, why) != NULL &&
           strstr(err.text, "here") != NULL,
       "byte %zu changed: %s", at, why);
    memcpy(b->data + at, &kept, 4);
}

static void check_dat(void)
{
    struct gguf_bytes b = dat_sample();
    struct imatrix m = {0};
    struct err err = {0};
    size_t n_read = 0, up = 4 + 4 + 19, end = b.n - 4 - 4 - 11;
    const uint32_t many = 0x7fffffff, none = 0, minus = 0xffffffff;
    const float bad[3] = {NAN, -1, INFINITY};

    ok(imatrix_parse(&m, b.data, b.n, "here.dat", &err) == 0 && m.n_entries == 2 &&
           strcmp(m.entry[0].name, "blk.0.ffn_up.weight") == 0 && m.entry[0].n == 3 &&
           m.entry[0].mean_square[2] == 3 && m.entry[0].mean_square[1] == 0 &&
           m.entry[1].mean_square[0] == 1 && m.entry[1].n_tokens == 1024 &&
           strcmp(m.dataset, "texts/c.txt") == 0,
       "the older form is read: values over their calls");
    imatrix_fini(&m);
    ok(parses(&b, end, &err) && parses(&b, end + 4, &err), "with or without its last line");
    for (size_t n = 0; n < b.n; n++)
        n_read += n != end && n != end + 4 && parses(&b, n, &err);
    ok(n_read == 0, "cut short anywhere else it is refused");

    refuses_word(&b, 0, &many, "cut short");
    refuses_word(&b, 0, &none, "cut short");
    refuses_word(&b, 0, &minus, "cut short");
    refuses_word(&b, 4, &many, "a name");
    refuses_word(&b, 4, &minus, "a name");
    refuses_word(&b, up, &none, "blk.1.ffn_up.weight was counted 0 times");
    refuses_word(&b, up + 4, &many, "the values");
    refuses_word(&b, up + 4, &minus, "the values");
    for (int i = 0; i < 3; i++)
        refuses_word(&b, up + 12, &bad[i], "blk.1.ffn_up.weight: value 1 is");
    b.data[4 + 4 + 4] = '0'; /* blk.0 twice, of other widths */
    ok(!parses(&b, b.n, &err) && strstr(err.text, "twice") != NULL, "a name that comes twice");
    bytes_put(&b, "x", 1);
    b.data[4 + 4 + 4] = '1';
    ok(!parses(&b, b.n, &err), "something behind the end");
    free(b.data);
}

/* --- a .gguf by hand -------------------------------------------------------------------------- */

struct lie {
    const char *type;
    uint64_t sums[2];
    uint32_t n_dims, format;
    float count, value;
    const char *counts;
};
static const struct lie honest = {"imatrix", {3, 1}, 2, 0, 6, 12, "blk.0.ffn_up.weight.counts"};

static struct gguf_bytes gguf_sample(const struct lie *l)
{
    static const char *const texts[2] = {"a.txt", "b.txt"};
    const uint32_t chunks = 7, size = 100;
    const uint64_t one[2] = {1, 1};
    const float sums[6] = {6, 0, l->value, 1, 1, 1};
    struct gguf_bytes b = {0};

    bytes_head(&b, 3, 3, 4);
    bytes_key_text(&b, "general.type", l->type);
    bytes_key_texts(&b, "imatrix.datasets", texts, 2);
    bytes_key(&b, "imatrix.chunk_count", GGUF_U32, &chunks, 4);
    bytes_key(&b, "imatrix.chunk_size", GGUF_U32, &size, 4);
    bytes_tensor(&b, "blk.0.ffn_up.weight.in_sum2", l->n_dims, l->sums, l->format, 0);
    bytes_tensor(&b, l->counts, 2, one, 0, 32);
    bytes_tensor(&b, "blk.0.ffn_up.weight.in_sum", 2, one, 0, 64);
    bytes_pad(&b, 32);
    bytes_put(&b, sums, sizeof sums);
    bytes_pad(&b, 32);
    bytes_put(&b, &l->count, 4);
    bytes_pad(&b, 32);
    bytes_put(&b, sums, 4);
    bytes_pad(&b, 32);
    return b;
}

static void refuses_lie(struct lie l, const char *why)
{
    struct gguf_bytes b = gguf_sample(&l);
    struct err err = {0};

    ok(!parses(&b, b.n, &err) && err.code == ERR_DATA && strstr(err.text, why) != NULL,
       "a GGUF that lies: %s", why);
    free(b.data);
}

static void check_gguf(void)
{
    struct gguf_bytes b = gguf_sample(&honest);
    struct imatrix m = {0};
    struct err err = {0};
    struct lie l;

    ok(imatrix_parse(&m, b.data, b.n, "here.gguf", &err) == 0 && m.n_entries == 1 &&
           m.entry[0].n == 3 && m.entry[0].n_tokens == 6 && m.entry[0].mean_square[0] == 1 &&
           m.entry[0].mean_square[2] == 2 && m.chunk == 100 && strcmp(m.dataset, "a.txt") == 0,
       "the newer form is read: sums over their counts");
    imatrix_fini(&m);
    free(b.data);
    l = honest, l.type = "model";
    refuses_lie(l, "no importance matrix");
    l = honest, l.count = 0;
    refuses_lie(l, "counted no token");
    l = honest, l.count = NAN;
    refuses_lie(l, "counted no token");
    l = honest, l.value = NAN;
    refuses_lie(l, "value 2 is nan");
    l = honest, l.value = -1;
    refuses_lie(l, "value 2 is -1");
    l = honest, l.sums[1] = 2;
    refuses_lie(l, "experts");
    l = honest, l.format = 1;
    refuses_lie(l, "f32");
    l = honest, l.counts = "blk.0.ffn_up.weight.count";
    refuses_lie(l, "without their counts");
}

/* --- calibrations ----------------------------------------------------------------------------- */

static bool same_diagonals(const struct calibration *a, const struct calibration *b, double within)
{
    static const uint32_t n_in[N_LINEAR_SITES] = {64, 64, 64, 96};

    for (uint32_t l = 0; l < 2; l++)
        for (int s = 0; s < N_LINEAR_SITES; s++)
            for (uint32_t i = 0; i < n_in[s]; i++) {
                double x = (double)calibration_mean_square(a, l, (enum linear_site)s)[i],
                       y = (double)calibration_mean_square(b, l, (enum linear_site)s)[i];
                if (fabs(x - y) > within * x)
                    return false;
            }
    return true;
}

/* Out and back in through a file of each form. */
static struct calibration *through(const struct bench *b, const char *name, struct err *err)
{
    struct hash256 hash = parent_hash(b->parent);
    struct imatrix m = {0};
    char path[512];

    calibration_to_imatrix(b->calibration, b->parent, 64, "c.txt", &m, err);
    int status = imatrix_write(&m, folder_path(b->folder, name, path), err);
    size_t n_entries = m.n_entries;
    imatrix_fini(&m);
    if (status != 0 || n_entries != 14 || imatrix_read(&m, path, err) != 0)
        return NULL;
    ok(m.n_entries == 14 && strcmp(m.dataset, "c.txt") == 0 &&
           strcmp(m.entry[0].name, "blk.0.attn_k.weight") == 0,
       "%s: an entry for each matrix, by name", name);
    struct calibration *c = calibration_of_imatrix(&m, b->parent, &hash, err);
    imatrix_fini(&m);
    return c;
}

static void check_round_trip(const struct bench *b)
{
    struct hash256 hash = parent_hash(b->parent);
    struct calibration_summary s;
    char path[512];
    double h[64 * 64];
    struct err err = {0};

    struct calibration *dat = through(b, "m.dat", &err), *gguf = through(b, "m.gguf", &err);
    ok(dat != NULL && gguf != NULL && same_diagonals(b->calibration, dat, 3e-7) &&
           same_diagonals(b->calibration, gguf, 3e-7),
       "what was written comes back, to the last bits of a float");
    ok(calibration_n_tokens(gguf) == 192 && calibration_is_diagonal(gguf) &&
           !calibration_is_diagonal(b->calibration),
       "and is known to be a diagonal");
    calibration_hessian(gguf, 1, SITE_QKV, 64, h, NULL);
    ok(h[65] == (double)calibration_mean_square(gguf, 1, SITE_QKV)[1] && h[1] == 0 && h[64] == 0 &&
           calibration_mean(gguf, 1, SITE_QKV)[3] == 0,
       "its Hessian has no cross terms, its means are 0");

    folder_path(b->folder, "diagonal.bin", path);
    ok(calibration_save(gguf, path, &err) == 0, "it is saved");
    struct calibration *again = calibration_load(path, &bench_tiny, &hash, &err);
    struct hash256 x = calibration_hash(gguf), y = calibration_hash(again),
                   full = calibration_hash(b->calibration), v = calibration_values_hash(gguf),
                   w = calibration_values_hash(again);
    ok(again != NULL && calibration_is_diagonal(again) && same_diagonals(gguf, again, 0) &&
           calibration_verify(again, &err) == 0 && memcmp(&x, &y, sizeof x) == 0 &&
           memcmp(&v, &w, sizeof v) == 0 && memcmp(&x, &full, sizeof x) != 0,
       "and read back the same, under a name of its own");
    calibration_summarise(again, &s);
    ok(s.is_diagonal && s.damping == OBS_PLAIN && s.n_dead == 0, "its summary says what it is");
    calibration_destroy(again);
    calibration_destroy(gguf);
    calibration_destroy(dat);
}

/* Orders by importance, weights as they are, rounding by importance. */
static void check_fallbacks(const struct bench *b)
{
    struct keep_order *order = calloc(1, sizeof *order), *plain = calloc(1, sizeof *plain);
    struct variant_source source;
    struct variant_key key = {PART_DOWN, 1, 96, 0, FORMAT_Q8_0};
    struct variant layout;
    struct err err = {0};

    struct calibration *c = through(b, "f.gguf", &err);
    keep_order_init_plain(plain, b->parent, b->calibration, &err);
    ok(keep_order_init(order, b->parent, c, &err) == 0 && order->damping[3] == OBS_PLAIN &&
           memcmp(order->channel[1], plain->channel[1], 96 * 4) == 0 &&
           memcmp(order->group[0], plain->group[0], 2 * 4) == 0,
       "channels and heads are kept by importance, nothing is repaired");

    variant_source_init(&source, b->parent, c, order);
    variant_layout(&source, &key, &layout);
    uint8_t *out = malloc(layout.n_bytes), *want = malloc(layout.n_bytes);
    float *w = malloc(64 * 96 * sizeof *w), importance[96];
    double mean = 0;
    parent_unpack(parent_tensor(b->parent, 1, TENSOR_DOWN), 0, 64, w);
    for (int i = 0; i < 96; i++)
        mean += (double)calibration_mean_square(c, 1, SITE_DOWN)[i] / 96;
    for (int i = 0; i < 96; i++)
        importance[i] =
            (float)((double)calibration_mean_square(c, 1, SITE_DOWN)[i] / mean + OBS_DAMPING);
    quantize_rows(FORMAT_Q8_0, w, 64, 96, importance, want, &err);
    ok(variant_build(&source, &key, &layout, out, &err) == 0 &&
           memcmp(out, want, layout.n_bytes) == 0,
       "weights are rounded for themselves, inputs counting by their mean squares");
    free(w);
    free(want);
    free(out);
    keep_order_fini(order);
    keep_order_fini(plain);
    free(order);
    free(plain);
    calibration_destroy(c);
}

/* --- of another model ------------------------------------------------------------------------- */

static void check_foreign(const struct bench *b)
{
    struct hash256 hash = parent_hash(b->parent);
    struct imatrix m = {0};
    struct err err = {0};

    calibration_to_imatrix(b->calibration, b->parent, 64, "", &m, &err);
    struct imatrix_entry *k = &m.entry[0];

    k->mean_square[5] *= 1.5F;
    ok(calibration_of_imatrix(&m, b->parent, &hash, &err) == NULL && err.code == ERR_DATA &&
           strstr(err.text, "blk.0.attn_q.weight and blk.0.attn_k.weight") != NULL &&
           strstr(err.text, "value 5") != NULL,
       "q and k that do not agree are refused");
    k->mean_square[5] /= 1.5F;
    k->n = 63;
    ok(calibration_of_imatrix(&m, b->parent, &hash, &err) == NULL &&
           strstr(err.text, "63 values, the parent's has 64 inputs") != NULL,
       "another width is refused");
    k->n = 64;
    strcpy(k->name, "blk.2.attn_k.weight");
    imatrix_sort(&m);
    ok(calibration_of_imatrix(&m, b->parent, &hash, &err) == NULL &&
           strstr(err.text, "14 entries of layers, the parent has a place for 13") != NULL,
       "a layer too many is another model");
    strcpy(m.entry[13].name, "head");
    imatrix_sort(&m);
    struct calibration *c = calibration_of_imatrix(&m, b->parent, &hash, &err);
    ok(c != NULL, "one of q, k and v is enough, and other names are passed over");
    calibration_destroy(c);
    for (size_t i = 0; i < m.n_entries; i++)
        if (strcmp(m.entry[i].name, "blk.1.ffn_down.weight") == 0)
            m.entry[i].name[0] = 'x';
    imatrix_sort(&m);
    ok(calibration_of_imatrix(&m, b->parent, &hash, &err) == NULL &&
           strstr(err.text, "no entry blk.1.ffn_down.weight") != NULL,
       "a layer that is missing is named");
    ok(imatrix_write(&m, "here.bin", &err) != 0 && err.code == ERR_USAGE,
       "a name with another ending is no importance matrix's");
    imatrix_fini(&m);
}

int main(void)
{
    struct bench b;

    check_dat();
    check_gguf();
    bench_open(&b, &bench_tiny, FORMAT_F32, 3);
    check_round_trip(&b);
    check_fallbacks(&b);
    check_foreign(&b);
    bench_close(&b);
    return tap_done();
}
