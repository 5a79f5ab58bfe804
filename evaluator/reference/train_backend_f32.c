/* train_backend_f32.c - the reference backend: float activations, products by the linear algebra
 * module.  Weights are "packed" by copying them.  Attention keeps the whole square of scores of one
 * head, transposed (row = key), which makes three of its four gradient products plain ones. */
#include "evaluator/reference/train_backend.h"

#include <math.h>
#include <string.h>

#include "evaluator/reference/train_rows.h"
#include "space/base/linalg.h"

/* Rows of dy that are transposed at a time for a weight gradient. */
enum { WEIGHT_ROWS = 256 };

static size_t weight_bytes(size_t n_out, size_t n_in)
{
    return n_out * n_in * sizeof(float);
}

static void weight_pack(size_t n_out, size_t n_in, const float *w, void *packed)
{
    memcpy(packed, w, weight_bytes(n_out, n_in));
}

static size_t linear_scratch(size_t n_out, size_t n_in)
{
    (void)n_in;
    return n_out * WEIGHT_ROWS * sizeof(float);
}

/* Where the product is to be written, prepared with what it is added to; beta for the product. */
static float output_prepare(struct train_output y, size_t n_rows, size_t n_cols, float **dest)
{
    *dest = y.y_float != NULL ? y.y_float : y.y_stored;
    if (y.y_float == NULL || y.add == NULL)
        return 0.0f;
    if (y.add != y.y_float) {
        for (size_t r = 0; r < n_rows; r++)
            memcpy(y.y_float + r * y.ld, y.add + r * y.ld, n_cols * sizeof(float));
    }
    return 1.0f;
}

static void linear(size_t n_rows, size_t n_out, size_t n_in, const void *x, size_t ldx,
                   const void *packed, struct train_output y, void *scratch)
{
    (void)scratch;
    float *dest;
    float beta = output_prepare(y, n_rows, n_out, &dest);
    linalg_gemm_nt(n_rows, n_out, n_in, 1.0f, x, ldx, packed, n_in, beta, dest, y.ld);
}

static void linear_back(size_t n_rows, size_t n_out, size_t n_in, const void *dy, size_t ldy,
                        const void *packed, struct train_output dx, void *scratch)
{
    (void)scratch;
    float *dest;
    float beta = output_prepare(dx, n_rows, n_in, &dest);
    linalg_gemm_nn(n_rows, n_in, n_out, 1.0f, dy, ldy, packed, n_in, beta, dest, dx.ld);
}

/* to[n_cols][n_rows] = from[n_rows][ld]'. */
static void transpose(size_t n_rows, size_t n_cols, const float *from, size_t ld, float *to)
{
    for (size_t r = 0; r < n_rows; r++)
        for (size_t c = 0; c < n_cols; c++)
            to[c * n_rows + r] = from[r * ld + c];
}

static void linear_weight(size_t n_rows, size_t n_out, size_t n_in, const void *dy, size_t ldy,
                          const void *x, size_t ldx, float *dw, void *scratch)
{
    const float *dy_f = dy, *x_f = x;
    for (size_t r = 0; r < n_rows; r += WEIGHT_ROWS) {
        size_t n = n_rows - r < WEIGHT_ROWS ? n_rows - r : WEIGHT_ROWS;
        transpose(n, n_out, dy_f + r * ldy, ldy, scratch);
        linalg_gemm_nn(n_out, n_in, n, 1.0f, scratch, n, x_f + r * ldx, ldx, 1.0f, dw, n_in);
    }
}

static bool attention_fits(const struct train_heads *heads)
{
    (void)heads;
    return true;
}

static size_t attention_scratch(const struct train_heads *heads)
{
    return 3 * heads->context * heads->context * sizeof(float);
}

/* Views of one head inside a row of qkv. */
struct head_view {
    size_t ld;               /* row stride of qkv */
    size_t q_at, k_at, v_at; /* columns */
    float scale;             /* 1 / sqrt(head_size) */
};

static struct head_view head_view(const struct train_heads *heads, size_t head)
{
    size_t kv = head / (heads->n_heads / heads->n_kv_heads), size = heads->head_size;
    return (struct head_view){
        .ld = (heads->n_heads + 2 * heads->n_kv_heads) * size,
        .q_at = head * size,
        .k_at = (heads->n_heads + kv) * size,
        .v_at = (heads->n_heads + heads->n_kv_heads + kv) * size,
        .scale = 1.0f / sqrtf((float)size),
    };
}

/* Scaled scores to causal probabilities in place; returns the log of the denominators. */
static void softmax_causal(size_t n, float *scores, float *log_sum)
{
    for (size_t q = 0; q < n; q++) {
        float *row = scores + q * n, top = row[0], sum = 0;
        for (size_t k = 1; k <= q; k++)
            top = row[k] > top ? row[k] : top;
        for (size_t k = 0; k <= q; k++)
            sum += row[k] = expf(row[k] - top);
        for (size_t k = 0; k < n; k++)
            row[k] = k <= q ? row[k] / sum : 0.0f;
        log_sum[q] = top + logf(sum);
    }
}

static void attention(const struct train_heads *heads, const void *qkv, void *out, float *log_sum,
                      void *scratch)
{
    size_t n = heads->context, size = heads->head_size, out_ld = heads->n_heads * size;
    float *scores = scratch;
    for (size_t h = 0; h < heads->n_heads; h++) {
        struct head_view at = head_view(heads, h);
        const float *base = qkv;
        linalg_gemm_nt(n, n, size, at.scale, base + at.q_at, at.ld, base + at.k_at, at.ld, 0.0f,
                       scores, n);
        softmax_causal(n, scores, log_sum + h * n);
        linalg_gemm_nn(n, size, n, 1.0f, scores, n, base + at.v_at, at.ld, 0.0f,
                       (float *)out + h * size, out_ld);
    }
}

/* Scores to probabilities, and d(probability) to d(score) times the scale; both [key][query]. */
static void softmax_causal_back(size_t n, const float *log_sum, const float *along, float scale,
                                float *p, float *dp)
{
    for (size_t k = 0; k < n; k++) {
        for (size_t q = 0; q < n; q++) {
            float prob = q < k ? 0.0f : expf(p[k * n + q] - log_sum[q]);
            p[k * n + q] = prob;
            dp[k * n + q] = prob * (dp[k * n + q] - along[q]) * scale;
        }
    }
}

static void attention_back(const struct train_heads *heads, const void *qkv, const void *out,
                           const float *log_sum, const void *d_out, void *d_qkv, void *scratch)
{
    size_t n = heads->context, size = heads->head_size, out_ld = heads->n_heads * size;
    size_t group = heads->n_heads / heads->n_kv_heads;
    float *p = scratch, *dp = p + n * n, *ds = dp + n * n;
    for (size_t h = 0; h < heads->n_heads; h++) {
        struct head_view at = head_view(heads, h);
        const float *base = qkv, *o = (const float *)out + h * size;
        const float *d_o = (const float *)d_out + h * size;
        float *d_base = d_qkv;

        /* along[q] = <d_out, out>, the softmax's share of its own gradient; it sits in ds, which
         * is written only after its last use. */
        float *along = ds;
        for (size_t q = 0; q < n; q++) {
            along[q] = 0;
            for (size_t i = 0; i < size; i++)
                along[q] += d_o[q * out_ld + i] * o[q * out_ld + i];
        }
        linalg_gemm_nt(n, n, size, at.scale, base + at.k_at, at.ld, base + at.q_at, at.ld, 0.0f, p,
                       n);
        linalg_gemm_nt(n, n, size, 1.0f, base + at.v_at, at.ld, d_o, out_ld, 0.0f, dp, n);
        softmax_causal_back(n, log_sum + h * n, along, at.scale, p, dp);

        /* The heads of a group share keys and values, so their gradients add up. */
        float beta = h % group == 0 ? 0.0f : 1.0f;
        linalg_gemm_nn(n, size, n, 1.0f, p, n, d_o, out_ld, beta, d_base + at.v_at, at.ld);
        linalg_gemm_nn(n, size, n, 1.0f, dp, n, base + at.q_at, at.ld, beta, d_base + at.k_at,
                       at.ld);
        transpose(n, n, dp, n, ds);
        linalg_gemm_nn(n, size, n, 1.0f, ds, n, base + at.k_at, at.ld, 0.0f, d_base + at.q_at,
                       at.ld);
    }
}

const struct train_backend train_backend_f32 = {
    .name = "f32",
    .rows = &train_rows_f32,
    .weight_bytes = weight_bytes,
    .weight_pack = weight_pack,
    .linear_scratch = linear_scratch,
    .linear = linear,
    .linear_back = linear_back,
    .linear_weight = linear_weight,
    .attention_fits = attention_fits,
    .attention_scratch = attention_scratch,
    .attention = attention,
    .attention_back = attention_back,
};
