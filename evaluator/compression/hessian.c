#include "evaluator/compression/hessian.h"

#include "evaluator/kernels/kernels.h"
#include "space/base/err.h"
#include "space/base/linalg.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Columns of a panel. */
enum { PANEL = MOMENTS_PANEL };

/* Of a mean square: the triangle and the mean are floats, each is off by up to 6e-8 of itself. */
#define HESSIAN_NOISE 1e-6

int hessian_init(struct hessian *h, size_t n, struct err *err)
{
    *h = (struct hessian){.n = n};
    h->second = calloc(n * n + 1, sizeof *h->second);
    h->first = calloc(n + 1, sizeof *h->first);
    if (h->second == NULL || h->first == NULL) {
        err_set(err, ERR_MEMORY, "Hessian of %zu inputs: out of memory", n);
        hessian_fini(h);
        return -1;
    }
    return 0;
}

void hessian_fini(struct hessian *h)
{
    free(h->second);
    free(h->first);
    memset(h, 0, sizeof *h);
}

void hessian_clear(struct hessian *h)
{
    memset(h->second, 0, h->n * h->n * sizeof *h->second);
    memset(h->first, 0, h->n * sizeof *h->first);
    h->n_tokens = 0;
}

static size_t n_panels(size_t n)
{
    return (n + PANEL - 1) / PANEL;
}

size_t hessian_wide_size(size_t n_rows, size_t n)
{
    return n_panels(n) * PANEL * n_rows;
}

bool hessian_widen(const float *x, size_t n_rows, size_t n, double *wide)
{
    double zero = 0;

    for (size_t begin = 0; begin < n; begin += PANEL) {
        size_t width = n - begin < PANEL ? n - begin : PANEL;
        for (size_t r = 0; r < n_rows; r++, wide += PANEL) {
            for (size_t i = 0; i < width; i++) {
                wide[i] = (double)x[r * n + begin + i];
                zero += wide[i] * 0.0; /* NAN from the first value on that is not finite */
            }
            for (size_t i = width; i < PANEL; i++)
                wide[i] = 0;
        }
    }
    return zero == 0;
}

/* The strip of C[n_rows][n_cols] whose rows begin at `i` and whose columns at `j`, as far as it is
 * inside, over n_tokens of both panels. */
static void add_tile(const struct kernels *kernels, double *c, size_t n_rows, size_t n_cols,
                     const double *a, const double *b, size_t n_tokens, size_t i, size_t j)
{
    double edge[MOMENTS_STRIP][PANEL] = {{0}};
    size_t height = n_rows - i < MOMENTS_STRIP ? n_rows - i : MOMENTS_STRIP;
    size_t width = n_cols - j < PANEL ? n_cols - j : PANEL;

    c += i * n_cols + j;
    if (height == MOMENTS_STRIP && width == PANEL) {
        kernels->moments(a, b, n_tokens, c, n_cols);
        return;
    }
    for (size_t r = 0; r < height; r++)
        memcpy(edge[r], c + r * n_cols, width * sizeof *c);
    kernels->moments(a, b, n_tokens, edge[0], PANEL);
    for (size_t r = 0; r < height; r++)
        memcpy(c + r * n_cols, edge[r], width * sizeof *c);
}

/* Rows of panel `p` of C = A B', the columns of the first `n_wanted` panels of B. */
static void add_panel(const struct kernels *kernels, double *c, size_t n_rows, size_t n_cols,
                      const double *a, const double *b, size_t n_tokens, size_t p, size_t n_wanted)
{
    const double *rows = a + p * PANEL * n_tokens;

    for (size_t q = 0; q < n_wanted; q++)
        for (size_t s = 0; s < PANEL && p * PANEL + s < n_rows; s += MOMENTS_STRIP)
            add_tile(kernels, c, n_rows, n_cols, rows + s, b + q * PANEL * n_tokens, n_tokens,
                     p * PANEL + s, q * PANEL);
}

void hessian_add(struct hessian *h, const struct kernels *kernels, const double *wide,
                 size_t n_rows, unsigned part, unsigned n_parts)
{
    /* Rows of panels get longer downwards: dealt out in turn, the parts are about equal. */
    for (size_t p = part; p < n_panels(h->n); p += n_parts) {
        const double *rows = wide + p * PANEL * n_rows;
        add_panel(kernels, h->second, h->n, h->n, wide, wide, n_rows, p, p + 1);
        for (size_t r = 0; r < n_rows; r++)
            for (size_t i = 0; i < PANEL && p * PANEL + i < h->n; i++)
                h->first[p * PANEL + i] += rows[r * PANEL + i];
    }
    if (part == 0)
        h->n_tokens += n_rows;
}

void hessian_add_cross(const struct kernels *kernels, const double *a, size_t n_a, const double *b,
                       size_t n_b, size_t n_rows, unsigned part, unsigned n_parts, double *c)
{
    for (size_t p = part; p < n_panels(n_a); p += n_parts)
        add_panel(kernels, c, n_a, n_b, a, b, n_rows, p, n_panels(n_b));
}

size_t hessian_triangle_size(size_t n)
{
    return n * (n + 1) / 2;
}

void hessian_pack(const struct hessian *h, float *triangle, float *mean)
{
    double n_tokens = (double)h->n_tokens;

    assert(h->n_tokens > 0);
    for (size_t i = 0; i < h->n; i++)
        for (size_t j = 0; j <= i; j++)
            *triangle++ = (float)(h->second[i * h->n + j] / n_tokens);
    for (size_t i = 0; i < h->n; i++)
        mean[i] = (float)(h->first[i] / n_tokens);
}

void hessian_unpack(const float *triangle, size_t n, double *square)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++)
            square[i * n + j] = square[j * n + i] = (double)*triangle++;
}

void hessian_centre(size_t n, double *square, const float *mean)
{
    for (size_t i = 0; i < n; i++) {
        double had = square[i * n + i];
        for (size_t j = 0; j < n; j++)
            square[i * n + j] -= (double)mean[i] * (double)mean[j];
        if (square[i * n + i] <= HESSIAN_NOISE * had)
            square[i * n + i] = 0;
    }
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n && square[i * n + i] == 0; j++)
            square[i * n + j] = square[j * n + i] = 0;
}

double hessian_live_mean(size_t n, const double *h)
{
    double sum = 0;
    size_t n_live = 0;

    for (size_t i = 0; i < n; i++)
        if (h[i * n + i] > 0) {
            sum += h[i * n + i];
            n_live++;
        }
    return n_live > 0 ? sum / (double)n_live : 0;
}

double hessian_loss(size_t n, const double *h, size_t n_rows, const double *d, double *work)
{
    double loss = 0;

    linalg_dgemm_nn(n_rows, n, n, 1, d, n, h, n, 0, work, n);
    for (size_t i = 0; i < n_rows * n; i++)
        loss += work[i] * d[i];
    return loss;
}
