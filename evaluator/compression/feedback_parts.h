/* feedback_parts.h - what the files of the feedback share: its struct, and rows side by side.
 * For feedback*.c and their test alone. */
#ifndef KERF_FEEDBACK_PARTS_H
#define KERF_FEEDBACK_PARTS_H

#include "evaluator/compression/block_fit.h"
#include "evaluator/compression/feedback.h"

struct feedback {
    size_t n;
    const double *hessian; /* [n][n], borrowed, not damped */
    double share;          /* of damping; FEEDBACK_PLAIN: no factor */
    double ridge;          /* what damping adds to each H_ii */
    double *factor;        /* [n][n]: row j holds V_kj for k < j, then D_j; NULL: plain only */
    float *importance;     /* [n] H_ii, damped, over their mean */
};

/* Eight rows, one number of each.  Passed by pointer only: how vectors are passed by value depends
 * on the processor. */
enum { LANES = 8, TILE_STRIPS = 4, TILE_ROWS = LANES * TILE_STRIPS };
typedef double lanes __attribute__((vector_size(64)));
typedef int64_t lane_masks __attribute__((vector_size(64))); /* all ones where true */

#define INLINE static inline __attribute__((always_inline))
/* Compiled for several sets of instructions, the widest that the processor has is taken at
 * start-up.  The build forbids fused operations, so all of them give the same bits. */
#if defined(__x86_64__)
#define EACH_ISA __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define EACH_ISA
#endif

/* *to = where ? value : *to */
INLINE void lanes_take(lanes *to, const lanes *value, const lane_masks *where)
{
    *to = (lanes)(((lane_masks)*value & *where) | ((lane_masks)*to & ~*where));
}

/* Rows that are worked on together, in strips of eight: lane l of strip s is row 8 s + l.  Rows
 * beyond n_rows are zeros. */
struct tile {
    const struct feedback *feedback;
    const struct grid *grid;
    size_t n_rows, row_bytes;
    lanes *w;               /* [TILE_STRIPS][n] weights as they came */
    lanes *e;               /* [TILE_STRIPS][n] w - q */
    lanes *x;               /* [TILE_STRIPS][BLOCK_K] what the block at hand is chosen by */
    double *corner;         /* [BLOCK_32][BLOCK_32] of damped H, the group at hand */
    double *sigma2;         /* [TILE_ROWS] mean of w^2 */
    struct exploded *block; /* [TILE_ROWS] the block at hand of each row */
    char *packed;           /* [TILE_ROWS][row_bytes] */
};

int tile_init(struct tile *tile, const struct feedback *feedback, const struct grid *grid,
              struct err *err);
void tile_fini(struct tile *tile);

/* Take w[n_rows][n], at most TILE_ROWS. */
void tile_load(struct tile *tile, const float *w, size_t n_rows);
/* e = w - q for packed rows of any format. */
void tile_take_error(struct tile *tile, enum format format, const void *packed, size_t row_bytes);
/* x[s][at + c] += sum over k in [from, to) of a[c * n + k] * e[s][k], for c < n_cols (a multiple of
 * four), all strips.  Rows of `a` are n apart. */
void tile_gather(struct tile *tile, const double *a, size_t from, size_t to, size_t at,
                 size_t n_cols);
/* form[r] = e H e', H not damped. */
void tile_form(const struct tile *tile, double form[TILE_ROWS]);

/* Steps 1 and 2 of feedback.h: `packed` and e from w. */
void tile_round(struct tile *tile);
/* Step 3: lower e H e' (damped) of `packed` and e. */
void tile_polish(struct tile *tile, int n_sweeps);

/* Codes of one group: *v, real, becomes the nearest level of the grid; the lowest for a NaN. */
INLINE void lanes_round(const struct grid *grid, lanes *v)
{
    const lanes zero = {0}, lo = zero + grid->code_lo, hi = zero + grid->code_hi;
    lane_masks inside = *v > lo;
    lanes code = lo;

    lanes_take(&code, v, &inside);
    inside = code > hi;
    lanes_take(&code, &hi, &inside);
    if (!grid->non_linear) {
        /* The nearest even integer, in any vector width. */
        *v = (code + 0x1.8p52) - 0x1.8p52;
        return;
    }
    *v = lo;
    for (int l = 0; l < 15; l++) {
        int below = iq4_nl_values[l], above = iq4_nl_values[l + 1];
        lanes step = zero + (above - below);
        inside = code > zero + 0.5 * (below + above);
        *v += (lanes)((lane_masks)step & inside);
    }
}

/* 1/s, 0 where that is no number to multiply with. */
INLINE void lanes_inverse(lanes *s)
{
    const lanes zero = {0}, most = zero + 1e300;
    lanes inverse = 1.0 / *s;
    lane_masks usable = (inverse < most) & (inverse > -most);

    *s = (lanes)((lane_masks)inverse & usable);
}

/* Scales and minima of a group as real numbers: q = s * code - m.  Strip `strip`, group at column
 * `at` of the block. */
void tile_group_scales(const struct tile *tile, size_t strip, size_t at, lanes *s, lanes *m);

#endif
