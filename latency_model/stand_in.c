/* stand_in.c - one walk over the matrices of a genome: first it counts their bytes by format, then
 * it hands out places in the regions. */
#include "latency_model/stand_in.h"

#include "evaluator/compression/quantize.h"
#include "space/base/err.h"
#include "space/base/rng.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define N_PATTERN (1u << 18) /* weights that a region repeats, a multiple of every block */

/* Matrices by format, and the vectors (norms and biases) last. */
enum { REGION_VECTORS = N_FORMATS, N_REGIONS };

struct stand_in {
    struct geometry geometry;
    unsigned char *region[N_REGIONS]; /* NULL: no genome needs it */
    size_t bytes[N_REGIONS];
};

struct walk {
    const struct stand_in *stand_in; /* NULL: only count */
    size_t used[N_REGIONS];
};

/* --- the walk --- */

/* Matrices begin at whole blocks, or their scales would be anything. */
static size_t step_of(int region)
{
    return format_stride(region == REGION_VECTORS ? FORMAT_F32 : (enum format)region);
}

static const void *take(struct walk *walk, int region, size_t bytes)
{
    const struct stand_in *s = walk->stand_in;
    size_t step = step_of(region), at = walk->used[region];

    walk->used[region] += (bytes + step - 1) / step * step;
    return s != NULL ? s->region[region] + at : NULL;
}

static const float *vector(struct walk *walk, uint32_t n)
{
    return take(walk, REGION_VECTORS, n * sizeof(float));
}

static struct weights matrix(struct walk *walk, enum format format, enum act_format act,
                             uint32_t n_out, uint32_t n_in)
{
    return (struct weights){.data = take(walk, format, n_out * format_row_bytes(format, n_in)),
                            .format = format,
                            .act = genome_matrix_act(act, format),
                            .n_out = n_out,
                            .n_in = n_in};
}

static void walk_attn(struct walk *walk, const struct attn_choice *choice, const struct geometry *g,
                      bool biased, struct attn_unit *unit)
{
    uint32_t kv = choice->kv_groups * g->head_dim, q = kv * choice->heads_per_group;

    *unit = (struct attn_unit){.present = choice->kv_groups > 0,
                               .bias = biased ? vector(walk, g->d_model) : NULL};
    if (!unit->present)
        return;
    unit->n_groups = choice->kv_groups;
    unit->n_heads = choice->kv_groups * choice->heads_per_group;
    unit->norm = vector(walk, g->d_model);
    unit->q = matrix(walk, choice->qkv, choice->act, q, g->d_model);
    unit->k = matrix(walk, choice->qkv, choice->act, kv, g->d_model);
    unit->v = matrix(walk, choice->qkv, choice->act, kv, g->d_model);
    unit->o = matrix(walk, choice->o, choice->act, g->d_model, q);
}

static void walk_ffn(struct walk *walk, const struct genome *genome, uint32_t layer,
                     const struct geometry *g, struct ffn_unit *unit)
{
    struct ffn_choice choice = genome->ffn[layer];

    *unit = (struct ffn_unit){.bias = genome->bias ? vector(walk, g->d_model) : NULL};
    if (genome_has_zero_ffn(genome, layer))
        choice = (struct ffn_choice){.width = genome->zero_ffn,
                                     .gate_up = GENOME_ZERO_FORMAT,
                                     .down = GENOME_ZERO_FORMAT,
                                     .act = ACT_FLOAT};
    if (choice.width == 0)
        return;
    unit->present = true;
    unit->width = choice.width;
    unit->norm = vector(walk, g->d_model);
    unit->gate = matrix(walk, choice.gate_up, choice.act, choice.width, g->d_model);
    unit->up = matrix(walk, choice.gate_up, choice.act, choice.width, g->d_model);
    unit->down = matrix(walk, choice.down, choice.act, g->d_model, choice.width);
}

static void walk_genome(struct walk *walk, const struct genome *genome,
                        const struct geometry *parent, struct model *model)
{
    const struct geometry g = genome_geometry(genome, parent);

    model->geometry = g;
    model->kv = genome->kv;
    model->n_layers = genome->n_layers;
    model->out_norm = vector(walk, g.d_model);
    model->embd = matrix(walk, genome->embd, act_format_of(genome->embd), g.n_vocab, g.d_model);
    model->head = model->embd;
    for (uint32_t l = 0; l < genome->n_layers; l++) {
        walk_attn(walk, &genome->attn[l], &g, genome->bias, &model->attn[l]);
        walk_ffn(walk, genome, l, &g, &model->ffn[l]);
    }
    if (!g.tied)
        model->head = matrix(walk, genome->head, act_format_of(genome->head), g.n_vocab, g.d_model);
}

/* --- the regions --- */

static void fill_vectors(float *values, size_t n)
{
    for (size_t i = 0; i < n; i++)
        values[i] = 1;
}

/* One stretch of random weights, over and over. */
static int fill_matrices(unsigned char *region, size_t bytes, enum format format, struct err *err)
{
    size_t pattern = format_row_bytes(format, N_PATTERN);
    float *weights = malloc(N_PATTERN * sizeof *weights);
    unsigned char *packed = malloc(pattern);
    struct rng rng = rng_make(1, (uint64_t)format);
    int status = -1;

    if (weights == NULL || packed == NULL) {
        err_set(err, ERR_MEMORY, "stand-in weights: out of memory");
    } else {
        for (size_t i = 0; i < N_PATTERN; i++)
            weights[i] = (float)(0.02 * rng_normal(&rng));
        status = quantize_rows_plain(format, weights, 1, N_PATTERN, packed, err);
    }
    for (size_t at = 0; at < bytes && status == 0; at += pattern)
        memcpy(region + at, packed, bytes - at < pattern ? bytes - at : pattern);
    free(packed);
    free(weights);
    return status;
}

static int open_region(struct stand_in *s, int region, struct err *err)
{
    void *memory =
        mmap(NULL, s->bytes[region], PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED) {
        err_set(err, ERR_MEMORY, "stand-in weights: no memory for %zu bytes", stand_in_bytes(s));
        return -1;
    }
    s->region[region] = memory;
    (void)madvise(memory, s->bytes[region], MADV_NOHUGEPAGE);
    if (region != REGION_VECTORS)
        return fill_matrices(memory, s->bytes[region], (enum format)region, err);
    fill_vectors(memory, s->bytes[region] / sizeof(float));
    return 0;
}

/* Bytes that can be had without swapping; SIZE_MAX where the system does not tell. */
static size_t spare_memory(void)
{
    char line[128];
    size_t kib = SIZE_MAX / 1024;
    FILE *file = fopen("/proc/meminfo", "re");

    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "MemAvailable: %zu kB", &kib) == 1)
            break;
    if (file != NULL)
        fclose(file);
    return kib * 1024;
}

static int open_regions(struct stand_in *s, struct err *err)
{
    if (stand_in_bytes(s) > spare_memory()) {
        err_set(
            err, ERR_MEMORY,
            "stand-in weights take %zu MB, the machine has %zu MB to spare; allow fewer formats",
            stand_in_bytes(s) >> 20, spare_memory() >> 20);
        return -1;
    }
    for (int r = 0; r < N_REGIONS; r++)
        if (s->bytes[r] > 0 && open_region(s, r, err) != 0)
            return -1;
    return 0;
}

struct stand_in *stand_in_create(const struct geometry *geometry, const struct genome *genomes,
                                 size_t n, struct err *err)
{
    struct stand_in *s = calloc(1, sizeof *s);
    struct model *model = calloc(1, sizeof *model);
    int status = s != NULL && model != NULL ? 0 : -1;

    if (status != 0)
        err_set(err, ERR_MEMORY, "stand-in weights: out of memory");
    for (size_t i = 0; i < n && status == 0; i++) {
        struct walk walk = {0};
        walk_genome(&walk, &genomes[i], geometry, model);
        for (int r = 0; r < N_REGIONS; r++)
            s->bytes[r] = walk.used[r] > s->bytes[r] ? walk.used[r] : s->bytes[r];
    }
    free(model);
    if (status == 0) {
        s->geometry = *geometry;
        status = open_regions(s, err);
    }
    if (status == 0)
        return s;
    stand_in_destroy(s);
    return NULL;
}

void stand_in_destroy(struct stand_in *s)
{
    for (int r = 0; s != NULL && r < N_REGIONS; r++)
        if (s->region[r] != NULL)
            munmap(s->region[r], s->bytes[r]);
    free(s);
}

size_t stand_in_bytes(const struct stand_in *s)
{
    size_t bytes = 0;

    for (int r = 0; r < N_REGIONS; r++)
        bytes += s->bytes[r];
    return bytes;
}

struct model *stand_in_model(const struct stand_in *s, const struct genome *genome, struct err *err)
{
    struct walk walk = {.stand_in = s};
    struct model *model = calloc(1, sizeof *model);

    if (model == NULL)
        err_set(err, ERR_MEMORY, "stand-in model: out of memory");
    else
        walk_genome(&walk, genome, &s->geometry, model);
    return model;
}
