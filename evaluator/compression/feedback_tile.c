/* feedback_tile.c - rows side by side: loading, unpacking, sums over columns. */
#include "evaluator/compression/feedback_parts.h"

#include "space/base/err.h"

#include <assert.h>
#include <stdlib.h>

/* Bytes of a piece of the tile's memory: whole vectors. */
static size_t rounded(size_t n_bytes)
{
    return (n_bytes + sizeof(lanes) - 1) / sizeof(lanes) * sizeof(lanes);
}

int tile_init(struct tile *t, const struct feedback *feedback, const struct grid *grid,
              struct err *err)
{
    size_t n = feedback->n, row_bytes = grid != NULL ? format_row_bytes(grid->format, n) : 0;
    size_t row = TILE_STRIPS * n * sizeof(lanes), x = TILE_STRIPS * BLOCK_K * sizeof(lanes);
    size_t corner = BLOCK_32 * BLOCK_32 * sizeof(double), sigma2 = TILE_ROWS * sizeof(double);
    size_t block = rounded(TILE_ROWS * sizeof(struct exploded));
    char *memory =
        aligned_alloc(64, 2 * row + x + corner + sigma2 + block + rounded(TILE_ROWS * row_bytes));

    if (memory == NULL) {
        err_set(err, ERR_MEMORY, "rounding rows of %zu weights: out of memory", n);
        return -1;
    }
    *t = (struct tile){.feedback = feedback, .grid = grid, .row_bytes = row_bytes};
    t->w = (lanes *)memory;
    t->e = t->w + TILE_STRIPS * n;
    t->x = t->e + TILE_STRIPS * n;
    t->corner = (double *)(t->x + TILE_STRIPS * BLOCK_K);
    t->sigma2 = t->corner + BLOCK_32 * BLOCK_32;
    t->block = (struct exploded *)(t->sigma2 + TILE_ROWS);
    t->packed = (char *)t->block + block;
    return 0;
}

void tile_fini(struct tile *t)
{
    free(t->w);
}

void tile_load(struct tile *t, const float *w, size_t n_rows)
{
    size_t n = t->feedback->n;

    assert(n_rows <= TILE_ROWS);
    t->n_rows = n_rows;
    for (size_t r = 0; r < TILE_ROWS; r++) {
        lanes *strip = t->w + r / LANES * n;
        t->sigma2[r] = 0;
        for (size_t i = 0; i < n; i++) {
            double v = r < n_rows ? (double)w[r * n + i] : 0;
            strip[i][r % LANES] = v;
            t->sigma2[r] += v * v;
        }
        t->sigma2[r] /= (double)n;
    }
    memset(t->block, 0, TILE_ROWS * sizeof *t->block);
}

static size_t n_strips(const struct tile *t)
{
    return (t->n_rows + LANES - 1) / LANES;
}

void tile_take_error(struct tile *t, enum format format, const void *packed, size_t row_bytes)
{
    size_t n = t->feedback->n, block = format_block(format), bytes = format_block_bytes(format);
    float q[BLOCK_K];

    memset(t->e, 0, n_strips(t) * n * sizeof *t->e);
    for (size_t r = 0; r < t->n_rows; r++) {
        const char *row = (const char *)packed + r * row_bytes;
        const lanes *w = t->w + r / LANES * n;
        lanes *e = t->e + r / LANES * n;
        /* Whole blocks of every format. */
        for (size_t at = 0; at < n; at += BLOCK_K) {
            size_t n_cols = n - at < BLOCK_K ? n - at : BLOCK_K;
            kernels_reference()->unpack[format](row + at / block * bytes, n_cols, q);
            for (size_t i = 0; i < n_cols; i++)
                e[at + i][r % LANES] = w[at + i][r % LANES] - (double)q[i];
        }
    }
}

/* sum[c] += a[c * lda + k] * v[k] over k, for four c. */
EACH_ISA static void gather_four(const double *a, size_t lda, const lanes *v, size_t from,
                                 size_t to, lanes sum[4])
{
    const double *a0 = a, *a1 = a + lda, *a2 = a + 2 * lda, *a3 = a + 3 * lda;
    lanes s0 = sum[0], s1 = sum[1], s2 = sum[2], s3 = sum[3];

    for (size_t k = from; k < to; k++) {
        s0 += a0[k] * v[k];
        s1 += a1[k] * v[k];
        s2 += a2[k] * v[k];
        s3 += a3[k] * v[k];
    }
    sum[0] = s0;
    sum[1] = s1;
    sum[2] = s2;
    sum[3] = s3;
}

void tile_gather(struct tile *t, const double *a, size_t from, size_t to, size_t at, size_t n_cols)
{
    size_t n = t->feedback->n;

    /* Four rows of `a` stay in the first cache while all strips use them. */
    for (size_t c = 0; c < n_cols; c += 4)
        for (size_t s = 0; s < n_strips(t); s++)
            gather_four(a + c * n, n, t->e + s * n, from, to, t->x + s * BLOCK_K + at + c);
}

/* H is symmetric: a block of columns meets the columns before it twice, itself once. */
void tile_form(const struct tile *t, double form[TILE_ROWS])
{
    size_t n = t->feedback->n;
    lanes total[TILE_STRIPS] = {0};

    for (size_t at = 0; at < n; at += 4) {
        const double *h = t->feedback->hessian + at * n;
        for (size_t s = 0; s < n_strips(t); s++) {
            const lanes *e = t->e + s * n;
            lanes before[4] = {0}, own[4] = {0};
            if (at + 4 > n) { /* the last one, two or three columns */
                for (size_t c = 0; c < n - at; c++)
                    for (size_t k = 0; k < n; k++)
                        total[s] += (k < at ? 2 : 1) * h[c * n + k] * e[k] * e[at + c];
                continue;
            }
            gather_four(h, n, e, 0, at, before);
            gather_four(h, n, e, at, at + 4, own);
            for (size_t c = 0; c < 4; c++)
                total[s] += e[at + c] * (2.0 * before[c] + own[c]);
        }
    }
    for (size_t r = 0; r < TILE_ROWS; r++)
        form[r] = total[r / LANES][r % LANES];
}

void tile_group_scales(const struct tile *t, size_t strip, size_t at, lanes *s, lanes *m)
{
    const struct exploded *block = t->block + strip * LANES;

    /* As unpacking multiplies them: in float. */
    for (size_t l = 0; l < LANES; l++) {
        (*s)[l] = (double)(block[l].d * (float)block[l].scale[at / GROUP]);
        (*m)[l] = (double)(block[l].dmin * (float)block[l].min[at / GROUP]);
    }
}
