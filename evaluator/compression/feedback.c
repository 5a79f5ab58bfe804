/* feedback.c - the factor of the damped moments, and the better of two roundings for every row. */
#include "evaluator/compression/feedback_parts.h"

#include "evaluator/compression/hessian.h"
#include "evaluator/compression/quantize.h"
#include "space/base/err.h"
#include "space/base/linalg.h"
#include "space/base/log.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

enum { N_SWEEPS = 3 };
/* Where damping is raised to, and from when none was asked for. */
static const double damping_max = 1.0, damping_least = 1e-6;

/* --- the moments ------------------------------------------------------------------------------ */

static int check_moments(const char *name, const double *h, size_t n, struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j <= i; j++) {
            double below = h[i * n + j], above = h[j * n + i];
            if (!isfinite(below) || !isfinite(above)) {
                err_set(err, ERR_DATA, "%s: the second moment of inputs %zu and %zu is not finite",
                        name, j, i);
                return -1;
            }
            if (fabs(below - above) > 1e-9 * (fabs(below) + fabs(above))) {
                err_set(err, ERR_DATA, "%s: inputs %zu and %zu have two second moments, %g and %g",
                        name, j, i, below, above);
                return -1;
            }
        }
        if (h[i * n + i] < 0) {
            err_set(err, ERR_DATA, "%s: the mean square of input %zu is %g", name, i, h[i * n + i]);
            return -1;
        }
    }
    return 0;
}

static void give_up(const char *name, const char *why, struct feedback *f)
{
    if (why != NULL)
        log_warn("feedback", "%s: %s: rounded without feedback", name, why);
    free(f->factor);
    f->factor = NULL;
    f->share = FEEDBACK_PLAIN;
}

/* Factor with as little damping, from f->share up, as it takes. */
static void factor_moments(const char *name, struct feedback *f, double mean)
{
    size_t n = f->n;
    double asked = f->share;

    for (;; f->share = fmax(10 * f->share, damping_least)) {
        f->ridge = f->share * mean;
        memcpy(f->factor, f->hessian, n * n * sizeof *f->factor);
        for (size_t i = 0; i < n; i++)
            f->factor[i * n + i] += f->ridge;
        if (linalg_factor_vdv(n, f->factor, NULL) == 0)
            break;
        if (f->share >= damping_max) {
            give_up(name, "second moments are not positive definite", f);
            return;
        }
    }
    if (f->share > asked)
        log_warn("feedback", "%s: damping raised to %g of the mean second moment", name, f->share);
}

struct feedback *feedback_create(const char *name, const double *hessian, size_t n, double damping,
                                 struct err *err)
{
    assert(n > 0 && damping >= 0);
    if (check_moments(name, hessian, n, err) != 0)
        return NULL;

    struct feedback *f = calloc(1, sizeof *f);
    double mean = hessian_live_mean(n, hessian);
    if (f != NULL) {
        *f = (struct feedback){.n = n, .hessian = hessian, .share = damping};
        f->importance = malloc(n * sizeof *f->importance);
        f->factor = malloc(n * n * sizeof *f->factor);
    }
    if (f == NULL || f->importance == NULL || f->factor == NULL) {
        err_set(err, ERR_MEMORY, "%s: out of memory for %zu inputs", name, n);
        feedback_destroy(f);
        return NULL;
    }
    for (size_t i = 0; i < n; i++)
        f->importance[i] = mean > 0 ? (float)(hessian[i * n + i] / mean + FEEDBACK_DAMPING) : 1;
    if (damping == FEEDBACK_PLAIN)
        give_up(name, NULL, f);
    else if (mean > 0)
        factor_moments(name, f, mean);
    else
        give_up(name, "no input was ever seen", f);
    return f;
}

void feedback_destroy(struct feedback *f)
{
    if (f == NULL)
        return;
    free(f->factor);
    free(f->importance);
    free(f);
}

double feedback_damping(const struct feedback *f)
{
    return f->share;
}

/* --- rows ------------------------------------------------------------------------------------- */

/* Rows of one tile: `plain` holds them without feedback and becomes the better of both. */
static void better_rows(struct tile *t, enum format format, size_t row_bytes, char *plain,
                        struct feedback_tally *tally)
{
    double error[TILE_ROWS], error_plain[TILE_ROWS];
    bool fed = t->grid != NULL;

    if (fed) {
        tile_round(t);
        tile_polish(t, N_SWEEPS);
        tile_take_error(t, format, t->packed, row_bytes);
        tile_form(t, error);
    }
    tile_take_error(t, format, plain, row_bytes);
    tile_form(t, error_plain);
    for (size_t r = 0; r < t->n_rows; r++) {
        bool better = fed && error[r] < error_plain[r];
        if (better)
            memcpy(plain + r * row_bytes, t->packed + r * row_bytes, row_bytes);
        tally->n_fed += better;
        tally->error += better ? error[r] : error_plain[r];
        tally->plain += error_plain[r];
    }
    tally->n_rows += t->n_rows;
}

int feedback_quantize(const struct feedback *f, enum format format, const float *w, size_t n_rows,
                      void *out, struct feedback_tally *tally, struct err *err)
{
    bool fed = format_is_quantized(format) && f->factor != NULL;
    size_t row_bytes = format_row_bytes(format, f->n);
    struct feedback_tally sum = tally != NULL ? *tally : (struct feedback_tally){0};
    struct tile tile;

    if (quantize_rows(format, w, n_rows, f->n, f->importance, out, err) != 0)
        return -1;
    if (!fed && tally == NULL)
        return 0;
    if (tile_init(&tile, f, fed ? grid_of(format) : NULL, err) != 0)
        return -1;
    for (size_t r = 0; r < n_rows; r += TILE_ROWS) {
        tile_load(&tile, w + r * f->n, n_rows - r < TILE_ROWS ? n_rows - r : TILE_ROWS);
        better_rows(&tile, format, row_bytes, (char *)out + r * row_bytes, &sum);
    }
    tile_fini(&tile);
    if (tally != NULL)
        *tally = sum;
    return 0;
}
