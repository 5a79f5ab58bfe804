/* calibration.c - the figures of a calibration: where they lie and what they say. */
#include "evaluator/compression/calibration_parts.h"

#include "evaluator/compression/obs.h"
#include "space/base/err.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

const char calibration_magic[8] = "KERFCALI";

/* --- sizes ------------------------------------------------------------------------------------ */

size_t calibration_site_size(const struct geometry *g, int site)
{
    switch (site) {
    case SITE_O:
        return (size_t)g->n_heads * g->head_dim;
    case SITE_DOWN:
        return g->d_ff;
    default:
        return g->d_model;
    }
}

size_t calibration_site_offset(const struct geometry *g, uint32_t layer, int site)
{
    size_t before = 0, all = 0;

    for (int s = 0; s < N_LINEAR_SITES; s++) {
        before += s < site ? calibration_site_size(g, s) : 0;
        all += calibration_site_size(g, s);
    }
    return layer * all + before;
}

size_t calibration_triangle_offset(const struct geometry *g, uint32_t layer, int site)
{
    size_t before = 0, all = 0;

    for (int s = 0; s < N_LINEAR_SITES; s++) {
        size_t size = hessian_triangle_size(calibration_site_size(g, s));
        before += s < site ? size : 0;
        all += size;
    }
    return layer * all + before;
}

size_t calibration_n_means(const struct geometry *g)
{
    return calibration_site_offset(g, g->n_layers, 0) + g->d_model;
}

size_t calibration_n_triangles(const struct geometry *g)
{
    return calibration_triangle_offset(g, g->n_layers, 0) + hessian_triangle_size(g->d_model);
}

size_t calibration_n_triangles_of(const struct geometry *g, uint32_t layer)
{
    if (layer == g->n_layers)
        return hessian_triangle_size(g->d_model);
    return calibration_triangle_offset(g, 1, 0);
}

struct calibration *calibration_alloc(const struct geometry *geometry, struct err *err)
{
    struct calibration *c = calloc(1, sizeof *c);

    if (c != NULL) {
        c->geometry = *geometry;
        c->influence = calloc(2 * (size_t)geometry->n_layers, sizeof *c->influence);
        c->mean = calloc(calibration_n_means(geometry), sizeof *c->mean);
        c->mean_square = calloc(calibration_n_means(geometry), sizeof *c->mean_square);
        c->layer_sum = calloc(geometry->n_layers + 1, sizeof *c->layer_sum);
        c->is_checked = calloc(geometry->n_layers + 1, sizeof *c->is_checked);
    }
    if (c == NULL || c->influence == NULL || c->mean == NULL || c->mean_square == NULL ||
        c->layer_sum == NULL || c->is_checked == NULL) {
        err_set(err, ERR_MEMORY, "calibration: out of memory");
        calibration_destroy(c);
        return NULL;
    }
    return c;
}

void calibration_destroy(struct calibration *c)
{
    if (c == NULL)
        return;
    free(c->influence);
    free(c->mean);
    free(c->mean_square);
    free(c->layer_sum);
    free(c->is_checked);
    free(c->own);
    free(c->path);
    file_map_close(&c->map);
    free(c);
}

/* --- filling it ------------------------------------------------------------------------------- */

/* In `own`, where the triangles of a layer begin. */
static float *own_triangles(struct calibration *c, uint32_t layer)
{
    assert(layer >= c->own_first);
    return c->own + calibration_triangle_offset(&c->geometry, layer - c->own_first, 0);
}

void calibration_enter(struct calibration *c, uint32_t layer, int site, const struct hessian *sums)
{
    float *triangle = own_triangles(c, layer) + calibration_triangle_offset(&c->geometry, 0, site);
    size_t at = calibration_site_offset(&c->geometry, layer, site);

    if (sums->n == 0)
        return;
    hessian_pack(sums, triangle, c->mean + at);
    for (size_t i = 0; i < sums->n; i++)
        c->mean_square[at + i] = triangle[hessian_triangle_size(i + 1) - 1];
}

void calibration_seal(struct calibration *c, uint32_t layer)
{
    const float *triangles = own_triangles(c, layer);

    c->layer_sum[layer] =
        sha256_of(triangles, calibration_n_triangles_of(&c->geometry, layer) * sizeof *triangles);
    atomic_store(&c->is_checked[layer], true);
}

/* --- what it says ----------------------------------------------------------------------------- */

void calibration_name_parent(struct calibration *c, const struct hash256 *parent)
{
    c->parent = *parent;
    c->named = true;
}

const float *calibration_mean_square(const struct calibration *c, uint32_t layer,
                                     enum linear_site site)
{
    assert(layer < c->geometry.n_layers && (int)site >= 0 && site < N_LINEAR_SITES);
    return c->mean_square + calibration_site_offset(&c->geometry, layer, (int)site);
}

const float *calibration_mean(const struct calibration *c, uint32_t layer, enum linear_site site)
{
    assert(layer < c->geometry.n_layers && (int)site >= 0 && site < N_LINEAR_SITES);
    return c->mean + calibration_site_offset(&c->geometry, layer, (int)site);
}

/* The triangles of a layer are what they were when it was summed up: looked at once. */
static int check_layer(const struct calibration *c, uint32_t layer, struct err *err)
{
    const struct geometry *g = &c->geometry;

    if (c->is_diagonal || atomic_load(&c->is_checked[layer]))
        return 0;
    struct hash256 sum = sha256_of(c->triangle + calibration_triangle_offset(g, layer, 0),
                                   calibration_n_triangles_of(g, layer) * sizeof *c->triangle);
    if (memcmp(&sum, &c->layer_sum[layer], sizeof sum) != 0) {
        err_set(err, ERR_DATA,
                "%s is damaged (%s %u has another sum); "
                "remove it to calibrate again",
                c->path, layer < g->n_layers ? "layer" : "the head behind layer",
                layer < g->n_layers ? layer : layer - 1);
        return -1;
    }
    atomic_store(&c->is_checked[layer], true);
    return 0;
}

static void unpack_diagonal(const float *diagonal, size_t n, double *square)
{
    memset(square, 0, n * n * sizeof *square);
    for (size_t i = 0; i < n; i++)
        square[i * n + i] = (double)diagonal[i];
}

int calibration_hessian(const struct calibration *c, uint32_t layer, enum linear_site site,
                        size_t n, double *square, struct err *err)
{
    assert(layer < c->geometry.n_layers && (int)site >= 0 && site < N_LINEAR_SITES);
    assert(n <= calibration_site_size(&c->geometry, (int)site));
    if (check_layer(c, layer, err) != 0)
        return -1;
    if (c->is_diagonal)
        unpack_diagonal(calibration_mean_square(c, layer, site), n, square);
    else
        hessian_unpack(c->triangle + calibration_triangle_offset(&c->geometry, layer, (int)site), n,
                       square);
    return 0;
}

int calibration_head_hessian(const struct calibration *c, double *square, struct err *err)
{
    const struct geometry *g = &c->geometry;

    if (check_layer(c, g->n_layers, err) != 0)
        return -1;
    if (c->is_diagonal)
        unpack_diagonal(c->mean_square + calibration_site_offset(g, g->n_layers, 0), g->d_model,
                        square);
    else
        hessian_unpack(c->triangle + calibration_triangle_offset(g, g->n_layers, 0), g->d_model,
                       square);
    return 0;
}

int calibration_covariance(const struct calibration *c, uint32_t layer, enum linear_site site,
                           size_t n, double *square, struct err *err)
{
    const float *mean = calibration_mean(c, layer, site);

    if (calibration_hessian(c, layer, site, n, square, err) != 0)
        return -1;
    if (!c->is_diagonal)
        hessian_centre(n, square, mean);
    for (size_t i = 0; i < n && c->is_diagonal; i++)
        square[i * n + i] = fmax(square[i * n + i] - (double)mean[i] * (double)mean[i], 0);
    return 0;
}

int calibration_verify(const struct calibration *c, struct err *err)
{
    for (uint32_t l = 0; l <= c->geometry.n_layers; l++)
        if (check_layer(c, l, err) != 0)
            return -1;
    return 0;
}

bool calibration_is_diagonal(const struct calibration *c)
{
    return c->is_diagonal;
}

struct hash256 calibration_text(const struct calibration *c)
{
    return c->text;
}

void calibration_summarise(const struct calibration *c, struct calibration_summary *summary)
{
    const struct geometry *g = &c->geometry;
    size_t o = calibration_site_size(g, SITE_O),
           widest = g->d_model > g->d_ff ? g->d_model : g->d_ff;

    *summary = (struct calibration_summary){.n_tokens = c->n_tokens,
                                            .n_inputs = calibration_n_means(g),
                                            .widest = widest > o ? widest : o,
                                            .is_diagonal = c->is_diagonal};
    summary->n_inputs -= g->d_model; /* the head's, which are the last */
    for (size_t i = 0; i < summary->n_inputs; i++)
        summary->n_dead += !(c->mean_square[i] > 0);
    summary->is_short = c->n_tokens < summary->widest;
    summary->damping = c->is_diagonal ? OBS_PLAIN : obs_damping(summary->widest, c->n_tokens);
}

uint64_t calibration_n_tokens(const struct calibration *c)
{
    return c->n_tokens;
}

double calibration_influence(const struct calibration *c, uint32_t unit)
{
    assert(unit < 2 * c->geometry.n_layers);
    return c->influence[unit];
}

struct hash256 calibration_hash(const struct calibration *c)
{
    uint32_t version = CALIBRATION_VERSION;
    struct sha256 sha;

    assert(c->named);
    sha256_init(&sha);
    sha256_update(&sha, calibration_magic, sizeof calibration_magic);
    sha256_update(&sha, &version, sizeof version);
    sha256_update(&sha, c->parent.bytes, sizeof c->parent.bytes);
    sha256_update(&sha, c->text.bytes, sizeof c->text.bytes);
    if (c->is_diagonal)
        sha256_update(&sha, "diagonal", 8);
    return sha256_final(&sha);
}

struct hash256 calibration_values_hash(const struct calibration *c)
{
    struct sha256 sha;

    sha256_init(&sha);
    sha256_update(&sha, c->mean, calibration_n_means(&c->geometry) * sizeof *c->mean);
    if (c->is_diagonal)
        sha256_update(&sha, c->mean_square,
                      calibration_n_means(&c->geometry) * sizeof *c->mean_square);
    sha256_update(&sha, c->layer_sum, (c->geometry.n_layers + 1) * sizeof *c->layer_sum);
    return sha256_final(&sha);
}
