/* cut.c - read, solve, pack, judge. */
#include "evaluator/compression/cut.h"

#include "evaluator/compression/feedback.h"
#include "evaluator/compression/hessian.h"
#include "evaluator/compression/obs.h"
#include "evaluator/compression/quantize.h"
#include "evaluator/kernels/kernels.h"
#include "evaluator/parent.h"
#include "space/base/err.h"
#include "space/base/log.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Rows that are judged at once. */
enum { JUDGE_ROWS = 64 };

/* One cut at work: n_rows of the parent's rows; n_cols of its n_full columns are packed. */
struct work {
    size_t n_rows, n_full, n_cols, n_left; /* n_left of the packed columns stay */
    float *full;                           /* [n_rows][n_full] the parent's */
    float *target;     /* [n_rows][n_cols] what is to be packed; `full` where all columns stay */
    float *back;       /* [n_cols] a packed row, unpacked */
    double *hessian;   /* [n_full][n_full], covariances where centred; NULL: the identity */
    const float *mean; /* [n_full] of the inputs where centred, else NULL */
    double *judged;    /* [3][JUDGE_ROWS][n_full] */
    double fallback;   /* as cut_loss has it */
};

static size_t parent_row(const struct cut *cut, size_t row)
{
    return cut->rows.at != NULL ? cut->rows.at[row] : row;
}

static size_t parent_col(const struct cut *cut, size_t col)
{
    return cut->cols.at != NULL ? cut->cols.at[col] : col;
}

static void work_fini(struct work *w)
{
    if (w->target != w->full)
        free(w->target);
    free(w->full);
    free(w->back);
    free(w->hessian);
    free(w->judged);
}

static int work_init(struct work *w, const struct cut *cut, struct err *err)
{
    size_t n_full = cut->tensor->dims[0], n_cols = cut->cols.at != NULL ? cut->cols.n : n_full;
    size_t n_rows = cut->rows.at != NULL ? cut->rows.n : cut->tensor->dims[1];
    bool heard = cut->calibration != NULL;

    *w = (struct work){.n_rows = n_rows,
                       .n_full = n_full,
                       .n_cols = n_cols,
                       .n_left = cut->n_left > 0 ? cut->n_left : n_cols};
    w->full = malloc(n_rows * n_full * sizeof *w->full);
    w->target = cut->cols.at != NULL ? malloc(n_rows * n_cols * sizeof *w->target) : w->full;
    w->back = malloc(n_cols * sizeof *w->back);
    w->hessian = heard ? malloc(n_full * n_full * sizeof *w->hessian) : NULL;
    w->judged = malloc(3 * JUDGE_ROWS * n_full * sizeof *w->judged);
    if (w->full != NULL && w->target != NULL && w->back != NULL && w->judged != NULL &&
        (!heard || w->hessian != NULL))
        return 0;
    err_set(err, ERR_MEMORY, "tensor %.*s: out of memory", (int)cut->tensor->name.length,
            cut->tensor->name.data);
    work_fini(w);
    return -1;
}

/* --- reading ---------------------------------------------------------------------------------- */

/* First position where `x` is not finite, n when there is none. */
static size_t find_unsound(const float *x, size_t n)
{
    size_t i = 0;

    while (i < n && isfinite(x[i]))
        i++;
    return i;
}

static int read_rows(struct work *w, const struct cut *cut, struct err *err)
{
    for (size_t r = 0; r < w->n_rows; r++) {
        float *row = w->full + r * w->n_full;
        parent_unpack(cut->tensor, parent_row(cut, r), 1, row);
        size_t bad = find_unsound(row, w->n_full);
        if (bad == w->n_full)
            continue;
        err_set(err, ERR_DATA, "tensor %.*s: row %zu, column %zu is not a finite number",
                (int)cut->tensor->name.length, cut->tensor->name.data, parent_row(cut, r), bad);
        return -1;
    }
    return 0;
}

static int read_head_moments(struct work *w, const struct calibration *calibration, struct err *err)
{
    if (calibration_head_hessian(calibration, w->hessian, err) != 0)
        return -1;
    /* A calibration that others made may know nothing of the head. */
    if (hessian_live_mean(w->n_full, w->hessian) == 0) {
        free(w->hessian);
        w->hessian = NULL;
    }
    return 0;
}

static int read_moments(struct work *w, const struct cut *cut, struct err *err)
{
    const struct calibration *calibration = cut->calibration;

    if (calibration == NULL)
        return 0;
    if (cut->is_head)
        return read_head_moments(w, calibration, err);
    if (!cut->centred)
        return calibration_hessian(calibration, cut->layer, cut->site, w->n_full, w->hessian, err);
    w->mean = calibration_mean(calibration, cut->layer, cut->site);
    return calibration_covariance(calibration, cut->layer, cut->site, w->n_full, w->hessian, err);
}

/* --- solving ---------------------------------------------------------------------------------- */

/* target = the weights of the columns that stay, as good as they get.  *solved: they are not the
 * parent's. */
static int solve(struct work *w, const struct cut *cut, bool *solved, struct err *err)
{
    struct obs_layer layer = {w->n_full, w->n_rows, w->hessian, w->full};
    double damping = cut->damping;

    *solved = false;
    if (cut->cols.at == NULL)
        return 0;
    if (w->hessian == NULL || damping == OBS_PLAIN) {
        for (size_t r = 0; r < w->n_rows; r++)
            for (size_t c = 0; c < w->n_cols; c++)
                w->target[r * w->n_cols + c] = w->full[r * w->n_full + cut->cols.at[c]];
        return 0;
    }
    if (obs_repair(&layer, cut->cols.at, w->n_cols, &damping, w->target, err) != 0) {
        err_prefix(err, "tensor %.*s", (int)cut->tensor->name.length, cut->tensor->name.data);
        return -1;
    }
    if (damping != cut->damping) {
        w->fallback = damping;
        log_warn("variant", "tensor %.*s, %zu of %zu columns: damping raised from %g to %g",
                 (int)cut->tensor->name.length, cut->tensor->name.data, w->n_cols, w->n_full,
                 cut->damping, damping);
    }
    *solved = true;
    return 0;
}

/* --- packing ---------------------------------------------------------------------------------- */

/* Whether the kept columns are whole, aligned blocks of `block` weights. */
static bool cuts_whole_blocks(const struct kept *cols, size_t block)
{
    if (cols->n % block != 0)
        return false;
    for (uint32_t i = 0; i < cols->n; i++)
        if (cols->at[i] % block != i % block ||
            (i % block != 0 && cols->at[i] != cols->at[i - 1] + 1))
            return false;
    return true;
}

/* The bytes of the kept blocks of the parent's rows, as they are. */
static void copy_rows(const struct work *w, const struct cut *cut, enum format format, uint8_t *out)
{
    size_t block = format_block(format), bytes = format_block_bytes(format);
    size_t from_bytes = format_row_bytes(format, w->n_full);
    size_t out_bytes = format_row_bytes(format, w->n_cols);

    for (size_t r = 0; r < w->n_rows; r++, out += out_bytes) {
        const uint8_t *row = (const uint8_t *)cut->tensor->data + parent_row(cut, r) * from_bytes;
        if (cut->cols.at == NULL)
            memcpy(out, row, out_bytes);
        for (size_t i = 0; cut->cols.at != NULL && i < cut->cols.n; i += block)
            memcpy(out + i / block * bytes, row + cut->cols.at[i] / block * bytes, bytes);
    }
}

/* Row by row, all inputs alike; the message names a row that cannot be. */
static int pack_plainly(const struct work *w, const struct cut *cut, enum format format,
                        uint8_t *out, struct err *err)
{
    size_t row_bytes = format_row_bytes(format, w->n_cols);

    for (size_t r = 0; r < w->n_rows; r++) {
        if (quantize_rows(format, w->target + r * w->n_cols, 1, w->n_cols, NULL,
                          out + r * row_bytes, err) == 0)
            continue;
        err_prefix(err, "tensor %.*s, row %zu", (int)cut->tensor->name.length,
                   cut->tensor->name.data, parent_row(cut, r));
        return -1;
    }
    return 0;
}

/* The second moments of the columns that stay: [n_cols][n_cols], yours to free; NULL without
 * memory. */
static double *kept_moments(const struct work *w, const struct cut *cut)
{
    double *kept = malloc(w->n_cols * w->n_cols * sizeof *kept);

    for (size_t i = 0; kept != NULL && i < w->n_cols; i++)
        for (size_t j = 0; j < w->n_cols; j++)
            kept[i * w->n_cols + j] =
                w->hessian[parent_col(cut, i) * w->n_full + parent_col(cut, j)];
    return kept;
}

static int pack_with_feedback(struct work *w, const struct cut *cut, enum format format,
                              uint8_t *out, struct err *err)
{
    char name[128];
    int status = -1;

    snprintf(name, sizeof name, "tensor %.*s", (int)cut->tensor->name.length,
             cut->tensor->name.data);
    double *kept = kept_moments(w, cut);
    if (kept == NULL) {
        err_set(err, ERR_MEMORY, "%s: out of memory", name);
        return -1;
    }
    double damping = calibration_is_diagonal(cut->calibration) ? FEEDBACK_PLAIN : FEEDBACK_DAMPING;
    struct feedback *feedback = feedback_create(name, kept, w->n_cols, damping, err);
    if (feedback != NULL)
        status = feedback_quantize(feedback, format, w->target, w->n_rows, out, NULL, err);
    if (status == 0 && format_is_quantized(format) && feedback_damping(feedback) > damping)
        w->fallback = fmax(w->fallback, feedback_damping(feedback));
    feedback_destroy(feedback);
    free(kept);
    return status;
}

static int pack_rows(struct work *w, const struct cut *cut, enum format format, uint8_t *out,
                     struct err *err)
{
    struct err first = {0};

    if (w->hessian == NULL)
        return pack_plainly(w, cut, format, out, err);
    if (pack_with_feedback(w, cut, format, out, &first) == 0)
        return 0;
    /* What a weight did wrong is said with the parent's row. */
    if (pack_plainly(w, cut, format, out, err) == 0)
        *err = first;
    return -1;
}

/* --- judging ---------------------------------------------------------------------------------- */

static double loss_of(const struct work *w, const double *rows, size_t n_rows)
{
    double sum = 0;

    if (w->hessian != NULL)
        return hessian_loss(w->n_full, w->hessian, n_rows, rows,
                            w->judged + 2 * JUDGE_ROWS * w->n_full);
    for (size_t i = 0; i < n_rows * w->n_full; i++)
        sum += rows[i] * rows[i];
    return sum;
}

/* One row as the parent has it, and what packing made of it less. */
static int compare_row(const struct work *w, const struct cut *cut, enum format format, size_t row,
                       const uint8_t *packed, double *whole, double *lost, struct err *err)
{
    const float *full = w->full + row * w->n_full;

    kernels_reference()->unpack[format](packed, w->n_left, w->back);
    size_t bad = find_unsound(w->back, w->n_left);
    if (bad < w->n_left) {
        err_set(err, ERR_DATA, "tensor %.*s: row %zu holds %g, too large for %s",
                (int)cut->tensor->name.length, cut->tensor->name.data, parent_row(cut, row),
                (double)w->target[row * w->n_cols + bad], format_name(format));
        return -1;
    }
    for (size_t i = 0; i < w->n_full; i++)
        whole[i] = lost[i] = (double)full[i];
    for (size_t c = 0; c < w->n_left; c++)
        lost[parent_col(cut, c)] -= (double)w->back[c];
    return 0;
}

/* What a row makes of the mean input. */
static double mean_of(const struct work *w, const double *row)
{
    double sum = 0;

    for (size_t i = 0; i < w->n_full; i++)
        sum += row[i] * (double)w->mean[i];
    return sum;
}

/* Errors of n rows, as many of the parent's and of what they lost.  Covariances know nothing of the
 * mean: the parent's output has it, and of what was lost the bias makes up for it. */
static void sum_rows(const struct work *w, size_t n, const double *all, const double *lost,
                     float *bias, double *error, double *whole)
{
    *whole += loss_of(w, all, n);
    *error += loss_of(w, lost, n);
    for (size_t r = 0; w->mean != NULL && r < n; r++) {
        double mean = mean_of(w, all + r * w->n_full);
        *whole += mean * mean;
        bias[r] = (float)mean_of(w, lost + r * w->n_full);
    }
}

static int judge(const struct work *w, const struct cut *cut, enum format format,
                 const uint8_t *out, float *bias, double *error, double *whole, struct err *err)
{
    size_t row_bytes = format_row_bytes(format, w->n_left);
    double *all = w->judged, *lost = all + JUDGE_ROWS * w->n_full;

    for (size_t begin = 0; begin < w->n_rows; begin += JUDGE_ROWS) {
        size_t n = w->n_rows - begin < JUDGE_ROWS ? w->n_rows - begin : JUDGE_ROWS;
        for (size_t r = 0; r < n; r++)
            if (compare_row(w, cut, format, begin + r, out + (begin + r) * row_bytes,
                            all + r * w->n_full, lost + r * w->n_full, err) != 0)
                return -1;
        sum_rows(w, n, all, lost, bias != NULL ? bias + begin : NULL, error, whole);
    }
    return 0;
}

int cut_target(const struct cut *cut, float *target, struct err *err)
{
    struct work w;
    bool solved;

    if (work_init(&w, cut, err) != 0)
        return -1;
    int status = read_rows(&w, cut, err);
    if (status == 0 && cut->cols.at != NULL)
        status = read_moments(&w, cut, err);
    if (status == 0)
        status = solve(&w, cut, &solved, err);
    for (size_t r = 0; r < w.n_rows && status == 0; r++)
        memcpy(target + r * w.n_left, w.target + r * w.n_cols, w.n_left * sizeof *target);
    work_fini(&w);
    return status;
}

/* Pack the rows with all their columns, or copy what is packed already. */
static int pack(struct work *w, const struct cut *cut, enum format format, uint8_t *out,
                struct err *err)
{
    bool solved;

    if (solve(w, cut, &solved, err) != 0)
        return -1;
    if (solved || cut->tensor->format != format ||
        (cut->cols.at != NULL && !cuts_whole_blocks(&cut->cols, format_block(format))))
        return pack_rows(w, cut, format, out, err);
    copy_rows(w, cut, format, out);
    return 0;
}

/* The beginnings of packed rows. */
static void shorten(const struct work *w, enum format format, const uint8_t *packed, uint8_t *out)
{
    size_t row_bytes = format_row_bytes(format, w->n_cols);
    size_t left_bytes = format_row_bytes(format, w->n_left);

    for (size_t r = 0; r < w->n_rows; r++)
        memcpy(out + r * left_bytes, packed + r * row_bytes, left_bytes);
}

/* Pack all columns, keep those that are to be left. */
static int pack_and_shorten(struct work *w, const struct cut *cut, enum format format, uint8_t *out,
                            struct err *err)
{
    uint8_t *packed = malloc(w->n_rows * format_row_bytes(format, w->n_cols));
    int status = -1;

    if (packed == NULL)
        err_set(err, ERR_MEMORY, "tensor %.*s: out of memory", (int)cut->tensor->name.length,
                cut->tensor->name.data);
    else
        status = pack(w, cut, format, packed, err);
    if (status == 0)
        shorten(w, format, packed, out);
    free(packed);
    return status;
}

int cut_build(const struct cut *cut, enum format format, uint8_t *out, float *bias,
              struct cut_loss *loss, struct err *err)
{
    struct work w;
    int status = -1;

    assert(cut->centred == (bias != NULL));
    if (work_init(&w, cut, err) != 0)
        return -1;
    if (read_rows(&w, cut, err) != 0 || read_moments(&w, cut, err) != 0)
        goto done;
    if (cut->packed != NULL)
        shorten(&w, format, cut->packed, out);
    else if (w.n_left == w.n_cols && pack(&w, cut, format, out, err) != 0)
        goto done;
    else if (w.n_left < w.n_cols && pack_and_shorten(&w, cut, format, out, err) != 0)
        goto done;
    status = judge(&w, cut, format, out, bias, &loss->error, &loss->whole, err);
    loss->fallback = fmax(loss->fallback, w.fallback);
done:
    work_fini(&w);
    return status;
}

int cut_mean_output(const struct cut *cut, float *bias, struct cut_loss *loss, struct err *err)
{
    struct work w;

    assert(cut->centred && cut->cols.at == NULL);
    if (work_init(&w, cut, err) != 0)
        return -1;
    int status = read_rows(&w, cut, err);
    if (status == 0)
        status = read_moments(&w, cut, err);
    for (size_t begin = 0; begin < w.n_rows && status == 0; begin += JUDGE_ROWS) {
        size_t n = w.n_rows - begin < JUDGE_ROWS ? w.n_rows - begin : JUDGE_ROWS;
        for (size_t i = 0; i < n * w.n_full; i++)
            w.judged[i] = (double)w.full[begin * w.n_full + i];
        sum_rows(&w, n, w.judged, w.judged, bias + begin, &loss->error, &loss->whole);
    }
    work_fini(&w);
    return status;
}
