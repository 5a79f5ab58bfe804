/* train_rows_impl.h - the row kernels, written once over the stored type of activations.
 * Included by train_rows_f32.c and train_rows_bf16.c, which define before:
 *   act_t                the stored type
 *   act_get(a), act_put(x)   to and from float
 *   ROWS_TABLE           the name of the table to define
 * The loops are plain so that the compiler vectorises them for the flags of the including file. */

/* e^x for x <= ~88: 2^t with t = x log2(e) split into an integer and a fraction in [-1/2, 1/2],
 * the fraction by the Taylor series of 2^f (degree 7, relative error below 1e-7).  Arguments under
 * the smallest normal number give that number, which is as good as 0 for a softmax. */
static inline float exp_fast(float x)
{
    float t = x * 1.44269504f;
    t = t < -126.0f ? -126.0f : t;
    float whole = __builtin_rintf(t);
    float f = t - whole;
    float p = 1.52527338e-5f;
    p = p * f + 1.54035304e-4f;
    p = p * f + 1.33335581e-3f;
    p = p * f + 9.61812911e-3f;
    p = p * f + 5.55041087e-2f;
    p = p * f + 2.40226507e-1f;
    p = p * f + 6.93147181e-1f;
    p = p * f + 1.0f;
    int32_t bits;
    memcpy(&bits, &p, sizeof bits);
    bits += (int32_t)whole * (1 << 23);
    memcpy(&p, &bits, sizeof p);
    return p;
}

static inline float sigmoid(float x)
{
    /* Clamped where the result is 0 or 1 to float precision anyway and exp_fast would overflow. */
    float y = x < -80.0f ? -80.0f : x;
    return 1.0f / (1.0f + exp_fast(-y));
}

static void norm(size_t n_rows, size_t dim, float eps, const float *x, const float *gain,
                 void *y_stored, float *inv)
{
    act_t *y = y_stored;
    for (size_t r = 0; r < n_rows; r++, x += dim, y += dim) {
        float squares = 0;
#pragma omp simd reduction(+ : squares)
        for (size_t i = 0; i < dim; i++)
            squares += x[i] * x[i];
        float scale = 1.0f / sqrtf(squares / (float)dim + eps);
        inv[r] = scale;
#pragma omp simd
        for (size_t i = 0; i < dim; i++)
            y[i] = act_put(x[i] * scale * gain[i]);
    }
}

static void norm_back(size_t n_rows, size_t dim, const float *x, const float *inv,
                      const float *gain, const float *dy, float *dx, float *dgain)
{
    for (size_t r = 0; r < n_rows; r++, x += dim, dy += dim, dx += dim) {
        float scale = inv[r], along = 0;
#pragma omp simd reduction(+ : along)
        for (size_t i = 0; i < dim; i++)
            along += gain[i] * dy[i] * x[i];
        /* With n = x * scale:  dx = scale * (gain dy - n * mean(gain dy n)). */
        float pull = along * scale * scale / (float)dim;
#pragma omp simd
        for (size_t i = 0; i < dim; i++) {
            dgain[i] += dy[i] * x[i] * scale;
            dx[i] += scale * (gain[i] * dy[i] - pull * x[i]);
        }
    }
}

static void rope(size_t n_rows, size_t n_heads, size_t head_size, size_t ld, size_t first,
                 const float *cos, const float *sin, float direction, void *x_stored)
{
    size_t half = head_size / 2;
    for (size_t r = 0; r < n_rows; r++) {
        const float *c = cos + (first + r) * half, *s = sin + (first + r) * half;
        for (size_t h = 0; h < n_heads; h++) {
            act_t *x = (act_t *)x_stored + r * ld + h * head_size;
#pragma omp simd
            for (size_t i = 0; i < half; i++) {
                float a = act_get(x[2 * i]), b = act_get(x[2 * i + 1]);
                float turn = direction * s[i];
                x[2 * i] = act_put(a * c[i] - b * turn);
                x[2 * i + 1] = act_put(a * turn + b * c[i]);
            }
        }
    }
}

static void swiglu(size_t n_rows, size_t ffn, const void *gate_up, void *y_stored)
{
    for (size_t r = 0; r < n_rows; r++) {
        const act_t *gate = (const act_t *)gate_up + r * 2 * ffn, *up = gate + ffn;
        act_t *y = (act_t *)y_stored + r * ffn;
#pragma omp simd
        for (size_t i = 0; i < ffn; i++) {
            float g = act_get(gate[i]);
            y[i] = act_put(g * sigmoid(g) * act_get(up[i]));
        }
    }
}

static void swiglu_back(size_t n_rows, size_t ffn, const void *gate_up, const void *dy_stored,
                        void *d_gate_up)
{
    for (size_t r = 0; r < n_rows; r++) {
        const act_t *gate = (const act_t *)gate_up + r * 2 * ffn, *up = gate + ffn;
        const act_t *dy = (const act_t *)dy_stored + r * ffn;
        act_t *d_gate = (act_t *)d_gate_up + r * 2 * ffn, *d_up = d_gate + ffn;
#pragma omp simd
        for (size_t i = 0; i < ffn; i++) {
            float g = act_get(gate[i]), d = act_get(dy[i]);
            float s = sigmoid(g);
            d_up[i] = act_put(d * g * s);
            d_gate[i] = act_put(d * act_get(up[i]) * s * (1.0f + g * (1.0f - s)));
        }
    }
}

static void store(size_t n, const float *x, void *y_stored)
{
    act_t *y = y_stored;
#pragma omp simd
    for (size_t i = 0; i < n; i++)
        y[i] = act_put(x[i]);
}

static double cross_entropy(size_t n_rows, size_t vocab, float *logits, const uint16_t *targets,
                            void *d_logits)
{
    double loss = 0;
    for (size_t r = 0; r < n_rows; r++) {
        float *z = logits + r * vocab, top = z[0], sum = 0;
#pragma omp simd reduction(max : top)
        for (size_t i = 0; i < vocab; i++)
            top = z[i] > top ? z[i] : top;
        float target = z[targets[r]] - top;
#pragma omp simd reduction(+ : sum)
        for (size_t i = 0; i < vocab; i++) {
            z[i] = exp_fast(z[i] - top);
            sum += z[i];
        }
        loss += log((double)sum) - (double)target;
        if (d_logits == NULL)
            continue;
        act_t *dz = (act_t *)d_logits + r * vocab;
        float scale = 1.0f / sum;
        z[targets[r]] -= sum; /* softmax - onehot, before the common factor */
#pragma omp simd
        for (size_t i = 0; i < vocab; i++)
            dz[i] = act_put(z[i] * scale);
    }
    return loss;
}

const struct train_rows ROWS_TABLE = {
    .act_bytes = sizeof(act_t),
    .norm = norm,
    .norm_back = norm_back,
    .rope = rope,
    .swiglu = swiglu,
    .swiglu_back = swiglu_back,
    .store = store,
    .cross_entropy = cross_entropy,
};
