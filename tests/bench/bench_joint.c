/* bench_joint.c - does it pay to prune and quantize together?  At equal bytes: the best mix of
 * formats at full width against the best mix with every FFN narrower, both uniform over the layers
 * (what is gained by telling layers apart comes on top, and is the search's).
 *
 * A mix is one format for each of qkv, o, gate/up, down and the embedding, and one FFN width.
 * Mixes are ranked by a sum of divergences, each of one part alone in one format or of one width
 * alone in the parent's formats, measured on the first PICK_SEQUENCES held-out sequences; the best
 * CANDIDATES under each budget are measured whole on those same sequences and the best of them on
 * the remaining sequences, which no choice has seen.  That last figure is printed.  Ratios are
 * joint over quantized only on the same tokens, with standard errors clustered by sequence: below
 * 1 pruning pays.
 *
 * Budgets are the bytes of models of one width in one format; both sides stay within them.  Where
 * quantization alone cannot get as small the row says so.  Quality only: nothing is timed, nothing
 * is random.
 *
 *   bench_joint MODEL.gguf CALIBRATION.txt HELDOUT.txt */
#include "evaluator/compression/stitch.h"
#include "space/account.h"
#include "space/base/err.h"
#include "tests/bench/bench_variants.h"
#include "tests/bench/divergence.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CALIBRATION_TOKENS 65536
#define QUALITY_TOKENS     24576
#define PICK_SEQUENCES     16
#define THREADS            2
#define CANDIDATES         4

enum { CHOICE_QKV, CHOICE_O, CHOICE_GATE_UP, CHOICE_DOWN, CHOICE_EMBD, N_CHOICES };

/* Shares of the parent's FFN, in eighths; the first is the whole. */
static const uint32_t eighths[] = {8, 6, 5, 4, 3, 2};
enum { N_WIDTHS = sizeof eighths / sizeof eighths[0] };

static const struct {
    uint32_t width; /* index into eighths */
    enum format format;
} budgets[] = {{1, FORMAT_Q8_0}, {1, FORMAT_Q6_K}, {1, FORMAT_Q4_K},
               {3, FORMAT_Q4_K}, {1, FORMAT_Q3_K}, {0, FORMAT_Q2_K},
               {3, FORMAT_Q3_K}, {1, FORMAT_Q2_K}, {3, FORMAT_Q2_K}};

struct mix {
    uint32_t width; /* index into eighths */
    enum format format[N_CHOICES];
    uint64_t bytes;
    double predicted;
};

struct bench {
    struct bench_model m;
    struct bench_variants v;
    struct genome own, genome;
    double alone[N_CHOICES][N_FORMATS]; /* divergence of one part in one format */
    double narrow[N_WIDTHS];            /* of one width */
};

static int open_all(struct bench *b, char **argv, struct err *err)
{
    struct bench_model_plan plan = {
        .n_calibration = CALIBRATION_TOKENS, .n_quality = QUALITY_TOKENS, .n_threads = THREADS};

    bench_model_plan_read(&plan, 4, argv);
    if (bench_model_open(&b->m, &plan, err) != 0 ||
        bench_variants_open(&b->v, b->m.parent, b->m.calibration, b->m.folder, err) != 0)
        return -1;
    parent_genome(b->m.parent, &b->own);
    if (b->m.heldout.n_sequences <= PICK_SEQUENCES) {
        err_set(err, ERR_DATA, "%s: too short, more than %d sequences are needed", argv[3],
                PICK_SEQUENCES);
        return -1;
    }
    return 0;
}

/* --- mixes ------------------------------------------------------------------------------------ */

static uint32_t width_of(const struct bench *b, uint32_t i)
{
    return parent_geometry(b->m.parent)->d_ff * eighths[i] / 8;
}

/* Part `choice` of every layer in `format`. */
static void choose(struct genome *genome, int choice, enum format format)
{
    for (uint32_t l = 0; l < genome->n_layers; l++) {
        switch (choice) {
        case CHOICE_QKV:
            genome->attn[l].qkv = format;
            break;
        case CHOICE_O:
            genome->attn[l].o = format;
            break;
        case CHOICE_GATE_UP:
            genome->ffn[l].gate_up = format;
            break;
        case CHOICE_DOWN:
            genome->ffn[l].down = format;
            break;
        default:
            genome->embd = genome->head = format;
        }
        /* Activations as a uniform model of that format has them. */
        genome->attn[l].act = genome->ffn[l].act = ACT_Q8;
    }
}

static int make_genome(struct bench *b, const struct mix *mix, struct err *err)
{
    b->genome = b->own;
    for (uint32_t l = 0; l < b->genome.n_layers; l++)
        b->genome.ffn[l].width = width_of(b, mix->width);
    for (int c = 0; c < N_CHOICES; c++)
        if (mix->format[c] != FORMAT_NONE)
            choose(&b->genome, c, mix->format[c]);
    return genome_canonicalize(&b->genome, parent_geometry(b->m.parent), err);
}

/* On the tokens to choose by, or on the rest. */
static int measure(struct bench *b, const struct mix *mix, bool pick, struct divergence *d,
                   struct err *err)
{

    if (make_genome(b, mix, err) != 0)
        return -1;
    if (divergence_of_genome(&b->m, &b->v.source, b->v.store, &b->genome,
                             pick ? b->m.heldout.begin[PICK_SEQUENCES] : DIVERGENCE_ALL, d,
                             err) != 0)
        return -1;
    if (!pick)
        *d = divergence_from(d, PICK_SEQUENCES);
    return 0;
}

static struct mix own_mix(void)
{
    struct mix mix = {0};

    for (int c = 0; c < N_CHOICES; c++)
        mix.format[c] = FORMAT_NONE;
    return mix;
}

/* Each part alone in each format, each width alone. */
static int measure_alone(struct bench *b, struct err *err)
{
    struct divergence d;

    for (int c = 0; c < N_CHOICES; c++) {
        for (int f = 0; f < N_FORMATS; f++) {
            struct mix mix = own_mix();
            if (!format_is_quantized((enum format)f))
                continue;
            mix.format[c] = (enum format)f;
            if (measure(b, &mix, true, &d, err) != 0)
                return -1;
            b->alone[c][f] = d.kld;
        }
    }
    for (uint32_t w = 1; w < N_WIDTHS; w++) {
        struct mix mix = own_mix();
        mix.width = w;
        if (measure(b, &mix, true, &d, err) != 0)
            return -1;
        b->narrow[w] = d.kld;
    }
    return 0;
}

/* --- choosing --------------------------------------------------------------------------------- */

/* Keep `mix` among best[CANDIDATES], which is ascending in what is predicted. */
static void offer(struct mix *best, uint32_t *n, const struct mix *mix)
{
    uint32_t at = *n;

    if (*n == CANDIDATES && mix->predicted >= best[CANDIDATES - 1].predicted)
        return;
    if (*n < CANDIDATES)
        (*n)++;
    else
        at--;
    for (; at > 0 && best[at - 1].predicted > mix->predicted; at--)
        best[at] = best[at - 1];
    best[at] = *mix;
}

/* Bytes of each part in each format at a width, from genomes that differ in that part alone. */
static int part_bytes(struct bench *b, uint32_t width, uint64_t bytes[N_CHOICES][N_FORMATS],
                      uint64_t *rest, struct err *err)
{
    const struct geometry *g = parent_geometry(b->m.parent);
    struct mix base = own_mix();
    uint64_t own[N_CHOICES], finest;

    base.width = width;
    for (int c = 0; c < N_CHOICES; c++)
        base.format[c] = FORMAT_F32;
    if (make_genome(b, &base, err) != 0)
        return -1;
    finest = account_weight_bytes(&b->genome, g);
    *rest = finest;
    for (int c = 0; c < N_CHOICES; c++) {
        /* 4 bytes a weight: what half of them save tells how many there are. */
        base.format[c] = FORMAT_F16;
        if (make_genome(b, &base, err) != 0)
            return -1;
        own[c] = 2 * (finest - account_weight_bytes(&b->genome, g));
        *rest -= own[c];
        for (int f = 0; f < N_FORMATS; f++) {
            base.format[c] = (enum format)f;
            if (make_genome(b, &base, err) != 0)
                return -1;
            bytes[c][f] = account_weight_bytes(&b->genome, g) - (finest - own[c]);
        }
        base.format[c] = FORMAT_F32;
    }
    return 0;
}

/* The best mixes of the widths [first, last) within `budget`. */
static int pick(struct bench *b, uint64_t budget, uint32_t first, uint32_t last, struct mix *best,
                uint32_t *n, struct err *err)
{
    uint64_t bytes[N_CHOICES][N_FORMATS], rest;
    uint32_t n_mixes = 1;

    for (int c = 0; c < N_CHOICES; c++)
        n_mixes *= FORMAT_F16;
    *n = 0;
    for (uint32_t w = first; w < last; w++) {
        if (part_bytes(b, w, bytes, &rest, err) != 0)
            return -1;
        for (uint32_t code = 0; code < n_mixes; code++) {
            struct mix mix = {.width = w, .bytes = rest, .predicted = b->narrow[w]};
            uint32_t left = code;
            for (int c = 0; c < N_CHOICES; c++, left /= FORMAT_F16) {
                mix.format[c] = (enum format)(left % FORMAT_F16);
                mix.bytes += bytes[c][mix.format[c]];
                mix.predicted += b->alone[c][mix.format[c]];
            }
            if (mix.bytes <= budget)
                offer(best, n, &mix);
        }
    }
    return 0;
}

/* The best of them as measured, and its divergence on the tokens that no choice has seen.
 * *n 0: nothing is that small. */
static int decide(struct bench *b, uint64_t budget, uint32_t first, uint32_t last, uint32_t *n,
                  struct mix *chosen, struct divergence *d, struct err *err)
{
    struct mix best[CANDIDATES];
    double least = INFINITY;

    if (pick(b, budget, first, last, best, n, err) != 0)
        return -1;
    for (uint32_t i = 0; i < *n; i++) {
        if (measure(b, &best[i], true, d, err) != 0)
            return -1;
        if (d->kld < least) {
            least = d->kld;
            *chosen = best[i];
        }
    }
    return *n > 0 ? measure(b, chosen, false, d, err) : 0;
}

/* --- table ------------------------------------------------------------------------------------ */

static void print_side(const struct bench *b, const struct mix *mix, const struct divergence *d)
{
    printf("  %5.3f  %9.3g +- %-7.2g  %4u", (double)mix->bytes * 1e-6, d->kld, d->kld_se,
           width_of(b, mix->width));
    for (int c = 0; c < N_CHOICES; c++)
        printf("%c%s", c == 0 ? ' ' : '/', format_name(mix->format[c]));
    printf("\n");
}

static int bench_budget(struct bench *b, uint32_t width, enum format format, struct err *err)
{
    struct mix base = {.width = width}, whole, narrow;
    struct divergence d_whole, d_narrow;
    uint32_t n_whole, n_narrow;
    char name[32];

    for (int c = 0; c < N_CHOICES; c++)
        base.format[c] = format;
    if (make_genome(b, &base, err) != 0)
        return -1;
    uint64_t budget = account_weight_bytes(&b->genome, parent_geometry(b->m.parent));
    if (decide(b, budget, 0, 1, &n_whole, &whole, &d_whole, err) != 0 ||
        decide(b, budget, 1, N_WIDTHS, &n_narrow, &narrow, &d_narrow, err) != 0)
        return -1;
    snprintf(name, sizeof name, "%u %s", width_of(b, width), format_name(format));
    printf("%-10s %6.3f  quantized only", name, (double)budget * 1e-6);
    if (n_whole > 0)
        print_side(b, &whole, &d_whole);
    else
        printf("  cannot be that small\n");
    printf("%-10s %6s  pruned too    ", "", "");
    if (n_narrow > 0)
        print_side(b, &narrow, &d_narrow);
    else
        printf("  cannot be that small\n");
    if (n_whole > 0 && n_narrow > 0) {
        struct ratio ratio = divergence_ratio(&d_narrow, &d_whole);
        printf("%-10s %6s  ratio                %7.3f +- %.3f\n", "", "", ratio.value, ratio.se);
    }
    fflush(stdout);
    return 0;
}

static int bench_all(struct bench *b, struct err *err)
{
    bench_model_describe(&b->m);
    if (measure_alone(b, err) != 0)
        return -1;
    printf("Chosen on the first %d sequences, figures of the other %u.  Formats of "
           "qkv/o/gate+up/down/embedding.\n",
           PICK_SEQUENCES, b->m.heldout.n_sequences - PICK_SEQUENCES);
    printf("%-10s %6s  %-14s  %5s  %20s  %4s\n", "budget of", "MB", "", "MB",
           "KLD, nats/token +-SE", "FFN");
    for (size_t i = 0; i < sizeof budgets / sizeof budgets[0]; i++)
        if (bench_budget(b, budgets[i].width, budgets[i].format, err) != 0)
            return -1;
    return 0;
}

static void close_all(struct bench *b)
{
    bench_variants_close(&b->v);
    bench_model_close(&b->m);
}

int main(int argc, char **argv)
{
    struct bench *bench = calloc(1, sizeof *bench);
    struct err err = {0};

    if (argc != 4 || bench == NULL) {
        fprintf(stderr, "usage: bench_joint MODEL.gguf CALIBRATION HELDOUT\n");
        free(bench);
        return 2;
    }
    int status = open_all(bench, argv, &err) == 0 && bench_all(bench, &err) == 0 ? 0 : 1;
    if (status != 0)
        fprintf(stderr, "bench_joint: %s\n", err.text);
    close_all(bench);
    free(bench);
    return status;
}
