/* calibration_parts.h - what calibration.c (the run over the text) and calibration_file.c share. */
#ifndef KERF_CALIBRATION_PARTS_H
#define KERF_CALIBRATION_PARTS_H

#include "evaluator/compression/calibration.h"
#include "evaluator/compression/hessian.h"
#include "space/base/file.h"

#include <stdatomic.h>

enum { CALIBRATION_VERSION = 2 };

extern const char calibration_magic[8];

struct calibration {
    struct geometry geometry; /* the sizes of the sites */
    uint64_t n_tokens;
    bool named; /* `parent` is known */
    struct hash256 parent;
    struct hash256 text;       /* of the token set */
    double *influence;         /* [2 * n_layers] */
    float *mean, *mean_square; /* [n_layers][sites of one layer], sites as site_offset says */
    struct hash256 *layer_sum; /* [n_layers], SHA-256 of a layer's triangles */
    atomic_bool *is_checked;   /* [n_layers], the triangles have that sum */

    /* The triangles, [n_layers][triangles of one layer]: `own` after a run, else in the file. */
    const float *triangle;
    float *own;
    struct file_map map;
    char *path; /* of the file; NULL after a run */
};

/* Everything but the triangles; zeros. */
struct calibration *calibration_alloc(const struct geometry *geometry, struct err *err);

/* Inputs of a site in the whole geometry. */
size_t calibration_site_size(const struct geometry *g, int site);
/* Where a layer's site begins among the means; a layer's inputs lie one after another: qkv, o,
 * gate/up, down. */
size_t calibration_site_offset(const struct geometry *g, uint32_t layer, int site);
/* The same among the triangles, in floats. */
size_t calibration_triangle_offset(const struct geometry *g, uint32_t layer, int site);
size_t calibration_n_means(const struct geometry *g);

#endif
