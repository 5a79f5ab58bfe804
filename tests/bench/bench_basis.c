/* bench_basis.c - what another basis of the residual stream costs and brings: KL divergence to the
 * parent on held-out tokens, with standard errors by sequence, for
 *   hidden   the stream narrowed: readers merely projected, solved anew, the same turned by a
 *            Hadamard matrix
 *   rotation the layers in one format with 8-bit activations, rounded with error feedback, in the
 *            parent's basis and turned; embedding and head in Q8_0
 * Quality only: nothing is timed.
 *
 *   bench_basis MODEL.gguf CALIBRATION.txt HELDOUT.txt [CALIBRATION_TOKENS [hidden|rotation]] */
#include "evaluator/compression/basis_parent.h"
#include "evaluator/compression/stitch.h"
#include "evaluator/quality/quality.h"
#include "space/base/err.h"
#include "tests/bench/bench_model.h"
#include "tests/bench/bench_program.h"
#include "tests/bench/bench_variants.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CALIBRATION_TOKENS 65536
#define QUALITY_TOKENS     8192
#define THREADS            1

struct bench {
    struct bench_model m;
    struct bench_variants v;
    const char *part; /* hidden, rotation, or empty: both */
};

/* A parent in another basis, from files of its own, with a store of its own: the name of a variant
 * does not say whether readers were solved anew. */
struct turned {
    struct parent *parent;
    struct calibration *calibration;
    struct bench_variants v;
};

static void turned_close(struct turned *t)
{
    bench_variants_close(&t->v);
    calibration_destroy(t->calibration);
    parent_close(t->parent);
}

static int turned_open(struct turned *t, struct bench *b, uint32_t hidden, enum rotation rotation,
                       bool projects, struct err *err)
{
    struct hash256 identity = basis_parent_identity(b->m.calibration, hidden, rotation);
    struct basis basis;
    char path[96], folder[64];

    memset(t, 0, sizeof *t);
    snprintf(folder, sizeof folder, "%s/%u-%d-%d", b->m.folder, hidden, (int)rotation, projects);
    if (basis_init(&basis, b->m.parent, b->m.calibration, hidden, rotation, err) != 0)
        return -1;
    basis.projects = projects;
    int status = basis_parent_make(b->m.parent, b->m.calibration, &basis, FORMAT_F16, folder, err);
    basis_fini(&basis);
    snprintf(path, sizeof path, "%s/" BASIS_PARENT_NAME, folder);
    t->parent = status == 0 ? parent_open(path, err) : NULL;
    if (t->parent == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/" BASIS_CALIBRATION_NAME, folder);
    t->calibration = calibration_load(path, parent_geometry(t->parent), &identity, err);
    return t->calibration != NULL
               ? bench_variants_open(&t->v, t->parent, t->calibration, folder, err)
               : -1;
}

static int measure(struct bench *b, const struct bench_variants *v, const struct genome *genome,
                   const char *what, const char *how, struct err *err)
{
    struct quality q;
    struct model *model = stitch_model(&v->source, v->store, genome, err);

    if (model == NULL)
        return -1;
    forward_set_model(b->m.forward, model);
    int status = quality_measure(b->m.forward, b->m.model, b->m.states, &b->m.heldout,
                                 QUALITY_TOKENS, &q, err);
    forward_set_model(b->m.forward, b->m.model);
    model_destroy(model);
    if (status == 0)
        printf("| %s | %s | %.4g +- %.2g | %.3f |\n", what, how, q.kld, q.kld_se, q.top1);
    fflush(stdout);
    return status;
}

/* The dense model in one format, embedding and head in `ends`, in the basis of width (0: the
 * parent's) and rotation. */
static int dense(struct bench *b, struct genome *genome, enum format format, enum format ends,
                 uint32_t hidden, enum rotation rotation, struct err *err)
{
    const struct geometry *g = parent_geometry(b->m.parent);

    genome_uniform(genome, g, format);
    genome->hidden = hidden;
    genome->rotation = rotation;
    genome->embd = genome->head = ends;
    return genome_canonicalize(genome, g, err);
}

static const char *how_of(enum rotation rotation, bool projects)
{
    if (projects)
        return "projected";
    return rotation == ROTATION_NONE ? "solved anew" : "solved anew, hadamard";
}

/* One width in one way: in BF16, and quantized. */
static int bench_width(struct bench *b, struct genome *genome, uint32_t hidden,
                       enum rotation rotation, bool projects, struct err *err)
{
    static const enum format formats[] = {FORMAT_BF16, FORMAT_Q8_0, FORMAT_Q4_0};
    struct turned t;
    char what[64];
    int status = turned_open(&t, b, hidden, rotation, projects, err);

    for (size_t f = 0; f < (projects ? 1 : 3) && status == 0; f++) {
        enum format ends = formats[f] == FORMAT_BF16 ? FORMAT_BF16 : FORMAT_Q8_0;
        snprintf(what, sizeof what, "%u of %u, %s", hidden, parent_geometry(b->m.parent)->d_model,
                 format_name(formats[f]));
        status = dense(b, genome, formats[f], ends, hidden, rotation, err);
        if (status == 0)
            status = measure(b, &t.v, genome, what, how_of(rotation, projects), err);
    }
    turned_close(&t);
    return status;
}

static int bench_hidden(struct bench *b, struct genome *genome, struct err *err)
{
    uint32_t d = parent_geometry(b->m.parent)->d_model;
    int status = 0;

    printf("| hidden | how | KLD, nats/token +- SE | top-1 |\n|---|---|---|---|\n");
    for (uint32_t eighths = 7; eighths >= 6 && status == 0; eighths--) {
        status = bench_width(b, genome, d * eighths / 8, ROTATION_NONE, true, err);
        if (status == 0)
            status = bench_width(b, genome, d * eighths / 8, ROTATION_NONE, false, err);
        if (status == 0)
            status = bench_width(b, genome, d * eighths / 8, ROTATION_HADAMARD, false, err);
    }
    return status;
}

static int bench_rotation(struct bench *b, struct genome *genome, struct err *err)
{
    static const enum format formats[] = {FORMAT_Q8_0, FORMAT_Q4_K, FORMAT_Q4_0, FORMAT_Q3_K,
                                          FORMAT_Q2_K};
    struct turned t;
    int status =
        turned_open(&t, b, parent_geometry(b->m.parent)->d_model, ROTATION_HADAMARD, false, err);

    printf("\n| layers, ends in Q8_0 | basis | KLD, nats/token +- SE | top-1 |\n"
           "|---|---|---|---|\n");
    if (status == 0)
        status = dense(b, genome, FORMAT_F16, FORMAT_F16, 0, ROTATION_HADAMARD, err);
    if (status == 0)
        status = measure(b, &t.v, genome, "F16, ends too", "hadamard", err);
    for (size_t f = 0; f < sizeof formats / sizeof formats[0] && status == 0; f++) {
        const char *name = format_name(formats[f]);
        status = dense(b, genome, formats[f], FORMAT_Q8_0, 0, ROTATION_NONE, err);
        if (status == 0)
            status = measure(b, &b->v, genome, name, "own", err);
        if (status == 0)
            status = dense(b, genome, formats[f], FORMAT_Q8_0, 0, ROTATION_HADAMARD, err);
        if (status == 0)
            status = measure(b, &t.v, genome, name, "hadamard", err);
    }
    turned_close(&t);
    return status;
}

static int open_all(struct bench *b, int argc, char **argv, struct err *err)
{
    struct bench_model_plan plan = {
        .n_calibration = CALIBRATION_TOKENS, .n_quality = QUALITY_TOKENS, .n_threads = THREADS};

    b->part = argc > 5 ? argv[5] : "";
    bench_model_plan_read(&plan, argc, argv);
    return bench_model_open(&b->m, &plan, err) == 0
               ? bench_variants_open(&b->v, b->m.parent, b->m.calibration, b->m.folder, err)
               : -1;
}

static int bench_all(struct bench *b, struct err *err)
{
    struct genome *genome = malloc(sizeof *genome);
    int status = genome != NULL ? 0 : -1;

    if (status != 0)
        err_set(err, ERR_MEMORY, "bench: out of memory");
    if (status == 0 && strcmp(b->part, "rotation") != 0)
        status = bench_hidden(b, genome, err);
    if (status == 0 && strcmp(b->part, "hidden") != 0)
        status = bench_rotation(b, genome, err);
    free(genome);
    return status;
}

static void close_all(struct bench *b)
{
    bench_variants_close(&b->v);
    bench_model_close(&b->m);
}

int main(int argc, char **argv)
{
    static const struct bench_program program = {.name = "bench_basis",
                                                 .more = "[TOKENS [hidden|rotation]]",
                                                 .size = sizeof(struct bench),
                                                 .open = open_all,
                                                 .run = bench_all,
                                                 .close = close_all};

    return bench_program_run(&program, argc, argv);
}
