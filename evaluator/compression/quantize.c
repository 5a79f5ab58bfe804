/* quantize.c - rows in, packed rows out: checks, element weights, and the better of search and
 * plain rounding for every block. */
#include "evaluator/compression/quantize.h"

#include "evaluator/compression/block_fit.h"
#include "evaluator/compression/block_write.h"
#include "space/base/err.h"

#include <float.h>
#include <math.h>

/* Of the mean importance: an input that calibration never saw keeps its weights all the same. */
#define IMPORTANCE_FLOOR 1e-4

/* The largest finite f16. */
#define F16_MAX 65504.0f

/* The largest magnitude a format can hold: in a block format the factor d is an f16 and meets the
 * code 1 at least, so that what f16 can hold is always within reach. */
static float format_limit(enum format format)
{
    if (format == FORMAT_F32)
        return FLT_MAX;
    return format == FORMAT_BF16 ? 3.3895314e38f : F16_MAX;
}

static int check_rows(enum format format, const float *w, size_t n_rows, size_t row_len,
                      struct err *err)
{
    float limit = format_limit(format);
    for (size_t r = 0; r < n_rows; r++) {
        for (size_t i = 0; i < row_len; i++) {
            float x = w[r * row_len + i];
            if (fabsf(x) <= limit)
                continue;
            if (isfinite(x))
                err_set(err, ERR_DATA, "weight at row %zu column %zu is %g, too large for %s", r, i,
                        (double)x, format_name(format));
            else
                err_set(err, ERR_DATA, "weight at row %zu column %zu is not finite", r, i);
            return -1;
        }
    }
    return 0;
}

static int check_importance(const float *importance, size_t row_len, struct err *err)
{
    for (size_t i = 0; importance != NULL && i < row_len; i++) {
        if (importance[i] >= 0 && importance[i] <= FLT_MAX)
            continue;
        err_set(err, ERR_DATA, "importance of column %zu is %g, not a finite number >= 0", i,
                (double)importance[i]);
        return -1;
    }
    return 0;
}

static void write_floats(enum format format, const float *w, size_t n, char *out)
{
    if (format == FORMAT_F32) {
        memcpy(out, w, n * sizeof *w);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        uint16_t half = format == FORMAT_F16 ? kernels_f32_to_f16(w[i]) : kernels_f32_to_bf16(w[i]);
        memcpy(out + 2 * i, &half, sizeof half);
    }
}

/* What the element weights of a row are made of.  Weights and importances are brought near 1 first:
 * only ratios count, and sums of squares of tiny numbers would vanish in float. */
struct row_weights {
    const float *importance;
    double importance_mean; /* 0: every input counts the same */
    double sigma2;
};

static struct row_weights row_weights(const float *x, size_t row_len, const float *importance)
{
    struct row_weights rw = {.importance = importance};
    for (size_t i = 0; i < row_len; i++) {
        rw.sigma2 += (double)x[i] * (double)x[i];
        if (importance != NULL)
            rw.importance_mean += (double)importance[i];
    }
    rw.sigma2 /= (double)row_len;
    rw.importance_mean /= (double)row_len;
    return rw;
}

static void block_weights(const struct row_weights *rw, const float *x, size_t begin, size_t n,
                          float *weight)
{
    for (size_t i = 0; i < n; i++) {
        double h = 1;
        if (rw->importance_mean > 0)
            h = fmax((double)rw->importance[begin + i] / rw->importance_mean, IMPORTANCE_FLOOR);
        double x2 = (double)x[begin + i] * (double)x[begin + i];
        weight[i] = rw->sigma2 > 0 ? (float)(h * sqrt((rw->sigma2 + x2) / rw->sigma2)) : (float)h;
    }
}

static void quantize_row(const struct grid *grid, const float *x, size_t row_len,
                         const float *importance, char *out)
{
    size_t block = (size_t)grid->block, bytes = format_block_bytes(grid->format);
    struct row_weights rw = row_weights(x, row_len, importance);
    for (size_t begin = 0; begin < row_len; begin += block) {
        float weight[BLOCK_K];
        struct exploded searched, plain;
        block_weights(&rw, x, begin, block, weight);
        block_fit(grid, x + begin, weight, &searched);
        block_fit_plain(grid, x + begin, &plain);
        bool better = block_error(grid, x + begin, weight, &searched) <=
                      block_error(grid, x + begin, weight, &plain);
        block_write(grid->format, better ? &searched : &plain, out + begin / block * bytes);
    }
}

static void quantize_row_plain(const struct grid *grid, const float *x, size_t row_len, char *out)
{
    size_t block = (size_t)grid->block, bytes = format_block_bytes(grid->format);
    for (size_t begin = 0; begin < row_len; begin += block) {
        struct exploded e;
        block_fit_plain(grid, x + begin, &e);
        block_write(grid->format, &e, out + begin / block * bytes);
    }
}

int quantize_rows(enum format format, const float *w, size_t n_rows, size_t row_len,
                  const float *importance, void *out, struct err *err)
{
    if (check_rows(format, w, n_rows, row_len, err) != 0 ||
        check_importance(importance, row_len, err) != 0)
        return -1;
    size_t row_bytes = format_row_bytes(format, row_len);
    for (size_t r = 0; r < n_rows; r++) {
        char *row = (char *)out + r * row_bytes;
        if (format_is_quantized(format))
            quantize_row(grid_of(format), w + r * row_len, row_len, importance, row);
        else
            write_floats(format, w + r * row_len, row_len, row);
    }
    return 0;
}

int quantize_rows_plain(enum format format, const float *w, size_t n_rows, size_t row_len,
                        void *out, struct err *err)
{
    if (check_rows(format, w, n_rows, row_len, err) != 0)
        return -1;
    size_t row_bytes = format_row_bytes(format, row_len);
    for (size_t r = 0; r < n_rows; r++) {
        char *row = (char *)out + r * row_bytes;
        if (format_is_quantized(format))
            quantize_row_plain(grid_of(format), w + r * row_len, row_len, row);
        else
            write_floats(format, w + r * row_len, row_len, row);
    }
    return 0;
}

double quantize_row_error(enum format format, const float *w, size_t row_len,
                          const float *importance, const void *packed)
{
    struct row_weights rw = row_weights(w, row_len, importance);
    double scale =
        sqrt(rw.sigma2 > 0 ? rw.sigma2 : 1) * (rw.importance_mean > 0 ? rw.importance_mean : 1);
    size_t block = format_block(format), bytes = format_block_bytes(format);
    double error = 0;
    for (size_t begin = 0; begin < row_len; begin += block) {
        float weight[BLOCK_K], y[BLOCK_K];
        block_weights(&rw, w, begin, block, weight);
        kernels_reference()->unpack[format]((const char *)packed + begin / block * bytes, block, y);
        for (size_t i = 0; i < block; i++) {
            double difference = (double)w[begin + i] - (double)y[i];
            error += (double)weight[i] * difference * difference;
        }
    }
    return error * scale;
}
