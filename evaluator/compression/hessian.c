#include "evaluator/compression/hessian.h"

#include "space/base/err.h"
#include "space/base/linalg.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Rows of H that one product makes.  Part of the result: another block is another order of sums. */
enum { HESSIAN_BLOCK = 128 };

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

bool hessian_widen(const float *x, size_t n_rows, size_t n, double *wide)
{
    double zero = 0;

    for (size_t i = 0; i < n_rows * n; i++) {
        wide[i] = (double)x[i];
        zero += wide[i] * 0.0; /* NAN from the first value on that is not finite */
    }
    return zero == 0;
}

void hessian_add(struct hessian *h, const double *x, size_t n_rows, unsigned part, unsigned n_parts)
{
    size_t n = h->n;

    /* Block rows get longer downwards: dealt out in turn, the parts are about equal. */
    for (size_t block = part; block * HESSIAN_BLOCK < n; block += n_parts) {
        size_t begin = block * HESSIAN_BLOCK;
        size_t end = begin + HESSIAN_BLOCK < n ? begin + HESSIAN_BLOCK : n;
        linalg_dgemm_tn(end - begin, end, n_rows, 1, x + begin, n, x, n, 1, h->second + begin * n,
                        n);
    }
    if (part != 0)
        return;
    for (size_t r = 0; r < n_rows; r++)
        for (size_t i = 0; i < n; i++)
            h->first[i] += x[r * n + i];
    h->n_tokens += n_rows;
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
