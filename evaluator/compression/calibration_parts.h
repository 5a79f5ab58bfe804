/* calibration_parts.h - what the files of calibration share.
 *   calibration.c          the figures and what they say
 *   calibration_run.c      the run over the text
 *   calibration_part.c     the file while it is being made
 *   calibration_file.c     the file
 *   calibration_imatrix.c  figures from a file of llama.cpp, and back */
#ifndef KERF_CALIBRATION_PARTS_H
#define KERF_CALIBRATION_PARTS_H

#include "evaluator/compression/calibration.h"
#include "evaluator/compression/hessian.h"
#include "space/base/file.h"

#include <stdatomic.h>

enum { CALIBRATION_VERSION = 3 };

extern const char calibration_magic[8];

struct calibration {
    struct geometry geometry; /* the sizes of the sites */
    uint64_t n_tokens;
    bool named; /* `parent` is known */
    struct hash256 parent;
    bool is_diagonal;          /* of H only the diagonal is known, of the means nothing */
    struct hash256 text;       /* of the token set; of the file whose figures they are */
    double *influence;         /* [2 * n_layers] */
    float *mean, *mean_square; /* [n_layers][sites of one layer], sites as site_offset says; then
                                  the head's */
    struct hash256 *layer_sum; /* [n_layers + 1], SHA-256 of a layer's triangles; the head's */
    atomic_bool *is_checked;   /* [n_layers + 1], the triangles have that sum */

    /* The triangles, [n_layers][triangles of one layer], then the head's: `own` after a run in
     * memory, else in the file; NULL where only diagonals are known. */
    const float *triangle;
    float *own;         /* of the layers from own_first on */
    uint32_t own_first; /* 0, but for a run that keeps one layer at a time */
    struct file_map map;
    char *path; /* of the file; NULL after a run */
};

/* Everything but the triangles; zeros. */
struct calibration *calibration_alloc(const struct geometry *geometry, struct err *err);

/* Inputs of a site in the whole geometry. */
size_t calibration_site_size(const struct geometry *g, int site);
/* Where a layer's site begins among the means; a layer's inputs lie one after another: qkv, o,
 * gate/up, down.  Site 0 of layer n_layers is the head. */
size_t calibration_site_offset(const struct geometry *g, uint32_t layer, int site);
/* The same among the triangles, in floats. */
size_t calibration_triangle_offset(const struct geometry *g, uint32_t layer, int site);
size_t calibration_n_means(const struct geometry *g);
size_t calibration_n_triangles(const struct geometry *g); /* floats of them all */
/* Floats in the triangles of a layer, or in the head's. */
size_t calibration_n_triangles_of(const struct geometry *g, uint32_t layer);

/* Round the sums of a site into the calibration: layer n_layers, site 0 is the head. */
void calibration_enter(struct calibration *calibration, uint32_t layer, int site,
                       const struct hessian *sums);
/* Take the sum of a layer's triangles (or the head's), when all its sites are entered. */
void calibration_seal(struct calibration *calibration, uint32_t layer);

/* The file's bytes in front of the triangles, yours to free, and how many they are. */
uint8_t *calibration_front(const struct calibration *c, size_t *n_bytes, struct err *err);
/* Where the triangles begin. */
size_t calibration_triangle_begin(const struct geometry *g);

#endif
