/* train_attention_impl.h - causal attention of one sequence by blocks, forward and backward;
 * included as train_gemm_impl.h is.
 *
 * Blocks of 32 queries (forward) or 32 keys (backward) against all tokens the mask lets through,
 * so the upper half of the score square is never computed.  Probabilities are not kept: the
 * backward pass makes them again from the scores and the logs of the softmax sums, as in
 * FlashAttention (Dao et al., 2022).  It works on transposed scores (row = key), because then
 * P' and dS' come out of the exponential as ready A panels for dV = P' dO and dK = dS' Q, and as
 * ready B panels for dQ' = K' dS'; no large matrix is ever transposed. */
#include <math.h>

/* Sizes and panels of one head; one panel size for all k-lengths keeps the layout simple. */
struct plan {
    size_t n, size, ld, out_ld; /* tokens, head size, row strides of qkv and out */
    size_t token_panels, size_steps;
    size_t n_heads, group; /* query heads; query heads per pair of key and value heads */
    size_t k_at, v_at;     /* columns of the first key and value head */
    float scale;
    /* Panels [token_panels][size_steps] over tokens, k = head size: */
    uint16_t *q_a, *k_a, *v_a, *k_b, *q_b, *do_b;
    /* Panels [size_steps][token_panels] over the head size, k = tokens: */
    uint16_t *v_t, *q_t, *do_t, *k_t;
    uint16_t *p, *ds;         /* A panels of one block, up to token_panels k-steps */
    uint16_t *ds_b;           /* B panels [query block][key block] */
    float *scores, *d_scores; /* [32][score_ld] */
    size_t score_ld;
    float *along;   /* [n] */
    float *dk, *dv; /* [n][size], summed over a group */
    float *dq_t;    /* [size][32] */
};

/* Cut the scratch; with base NULL only the bytes are counted. */
static size_t plan_cut(struct plan *p, char *base)
{
    size_t used = 0, panels = p->token_panels * p->size_steps * TILE_STEP * sizeof(uint16_t);
    uint16_t **const arrays[] = {&p->q_a,  &p->k_a, &p->v_a, &p->k_b,  &p->q_b,
                                 &p->do_b, &p->v_t, &p->q_t, &p->do_t, &p->k_t};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++, used += panels)
        *arrays[i] = (uint16_t *)(void *)(base + used);
    size_t strip = p->token_panels * TILE_STEP * sizeof(uint16_t);
    p->p = (uint16_t *)(void *)(base + used);
    p->ds = (uint16_t *)(void *)(base + used + strip);
    p->ds_b = (uint16_t *)(void *)(base + used + 2 * strip);
    used += (2 + p->token_panels) * strip;

    /* 16 floats more than the tokens: rows a power of two apart would share cache sets. */
    p->score_ld = p->n + 16;
    float **const floats[] = {&p->scores, &p->d_scores, &p->dk, &p->dv, &p->dq_t, &p->along};
    const size_t sizes[] = {TILE_SIDE * p->score_ld, TILE_SIDE * p->score_ld, p->n * p->size,
                            p->n * p->size,          p->size * TILE_SIDE,     p->n};
    for (size_t i = 0; i < sizeof floats / sizeof floats[0]; i++, used += sizes[i - 1] * 4)
        *floats[i] = (float *)(void *)(base + used);
    return used;
}

static struct plan plan_make(const struct train_heads *heads)
{
    size_t size = heads->head_size;
    return (struct plan){
        .n = heads->context,
        .size = size,
        .ld = (heads->n_heads + 2 * heads->n_kv_heads) * size,
        .out_ld = heads->n_heads * size,
        .token_panels = tile_panels(heads->context),
        .size_steps = tile_panels(size),
        .n_heads = heads->n_heads,
        .group = heads->n_heads / heads->n_kv_heads,
        .k_at = heads->n_heads * size,
        .v_at = (heads->n_heads + heads->n_kv_heads) * size,
        .scale = 1.0f / sqrtf((float)size),
    };
}

static bool attention_fits(const struct train_heads *heads)
{
    return heads->context % TILE_SIDE == 0 && heads->head_size % TILE_SIDE == 0;
}

static size_t attention_scratch(const struct train_heads *heads)
{
    struct plan p = plan_make(heads);
    return plan_cut(&p, NULL);
}

/* e^x by 2^t, degree 4 on the fraction: relative error 4e-5, far under bf16's 4e-3.  The scaling
 * instruction gives 0 where the result underflows, so masked scores need no care. */
static inline __m512 exp16(__m512 x)
{
    __m512 t = _mm512_mul_ps(x, _mm512_set1_ps(1.44269504f));
    __m512 whole = _mm512_roundscale_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 f = _mm512_sub_ps(t, whole);
    __m512 p = _mm512_set1_ps(9.61812911e-3f);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.55041087e-2f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.40226507e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.93147181e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, whole);
}

/* Panels over tokens with k = head size. */
static void panels_a(const struct plan *p, const uint16_t *x, size_t ld, uint16_t *to)
{
    for (size_t b = 0; b < p->token_panels; b++)
        tile_pack_a(x, ld, p->n, p->size, 32 * b, to + b * p->size_steps * TILE_STEP);
}

static void panels_b(const struct plan *p, const uint16_t *x, size_t ld, uint16_t *to)
{
    for (size_t b = 0; b < p->token_panels; b++)
        tile_pack_b_transposed(x, ld, p->n, p->size, 32 * b, to + b * p->size_steps * TILE_STEP);
}

/* B panels over the head size with k = tokens. */
static void panels_t(const struct plan *p, const uint16_t *x, size_t ld, uint16_t *to)
{
    for (size_t b = 0; b < p->size_steps; b++)
        tile_pack_b(x, ld, p->size, p->n, 32 * b, to + b * p->token_panels * TILE_STEP);
}

/* ---- forward ---- */

/* Largest of n scores. */
static float row_top(const float *scores, size_t n)
{
    size_t whole = n / 16 * 16;
    __mmask16 tail = (__mmask16)tile_mask(n, whole, 16);
    __m512 best = _mm512_set1_ps(-INFINITY);
    for (size_t k = 0; k < whole; k += 16)
        best = _mm512_max_ps(best, _mm512_load_ps(scores + k));
    best = _mm512_mask_max_ps(best, tail, best, _mm512_maskz_loadu_ps(tail, scores + whole));
    return _mm512_reduce_max_ps(best);
}

/* Row r of a block of queries, its scores over n_steps blocks of keys, the last one the diagonal:
 * unnormalised probabilities in bf16 become row r of the A panel.  Returns their sum; *top is the
 * scaled maximum. */
static float softmax_row(const struct plan *p, const float *scores, size_t n_steps, size_t r,
                         float *top)
{
    *top = row_top(scores, 32 * (n_steps - 1) + r + 1) * p->scale;
    __m512 scale = _mm512_set1_ps(p->scale), shift = _mm512_set1_ps(*top);
    __m512 sum[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()}, e[2];
    uint16_t *to = p->p + r / 16 * TILE_VALUES + r % 16 * 32;
    for (size_t s = 0; s < n_steps; s++, to += TILE_STEP, scores += 32) {
        for (size_t half = 0; half < 2; half++) {
            __m512 score = _mm512_load_ps(scores + 16 * half);
            e[half] = exp16(_mm512_fmsub_ps(score, scale, shift));
            if (s + 1 == n_steps)
                e[half] = _mm512_maskz_mov_ps((__mmask16)tile_mask(r + 1, 16 * half, 16), e[half]);
            sum[half] = _mm512_add_ps(sum[half], e[half]);
        }
        _mm512_store_si512(to, tile_to_bf16(e[0], e[1]));
    }
    return _mm512_reduce_add_ps(_mm512_add_ps(sum[0], sum[1]));
}

/* 32 queries from block `b` of a head: their rows of out and log_sum. */
static void attend_block(const struct plan *p, size_t b, uint16_t *out, float *log_sum)
{
    float sums[TILE_SIDE], block[TILE_BLOCK] __attribute__((aligned(64)));
    for (size_t k = 0; k <= b; k++)
        tile_block(p->size_steps, p->q_a + b * p->size_steps * TILE_STEP,
                   p->k_b + k * p->size_steps * TILE_STEP, p->scores + 32 * k, p->score_ld);
    for (size_t r = 0; r < TILE_SIDE; r++) {
        float top;
        sums[r] = softmax_row(p, p->scores + r * p->score_ld, b + 1, r, &top);
        log_sum[32 * b + r] = top + logf(sums[r]);
    }
    for (size_t i = 0; i < p->size_steps; i++) {
        tile_block(b + 1, p->p, p->v_t + i * p->token_panels * TILE_STEP, block, TILE_SIDE);
        for (size_t r = 0; r < TILE_SIDE; r++) {
            __m512 share = _mm512_set1_ps(1.0f / sums[r]);
            __m512 low = _mm512_mul_ps(_mm512_load_ps(block + 32 * r), share);
            __m512 high = _mm512_mul_ps(_mm512_load_ps(block + 32 * r + 16), share);
            _mm512_storeu_si512(out + (32 * b + r) * p->out_ld + 32 * i, tile_to_bf16(low, high));
        }
    }
}

static void attention_forward(const struct train_heads *heads, const void *qkv, void *out,
                              float *log_sum, void *scratch)
{
    struct plan p = plan_make(heads);
    const uint16_t *base = qkv;
    plan_cut(&p, scratch);
    tile_begin();
    for (size_t h = 0; h < p.n_heads; h++) {
        if (h % p.group == 0) {
            size_t kv = h / p.group * p.size;
            panels_b(&p, base + p.k_at + kv, p.ld, p.k_b);
            panels_t(&p, base + p.v_at + kv, p.ld, p.v_t);
        }
        panels_a(&p, base + h * p.size, p.ld, p.q_a);
        for (size_t b = 0; b < p.token_panels; b++)
            attend_block(&p, b, (uint16_t *)out + h * p.size, log_sum + h * p.n);
    }
    tile_end();
}

/* ---- backward ---- */

static inline __m512 bf16_load(const uint16_t *x)
{
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)x));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

/* along[q] = <d_out[q], out[q]>: what every score of a query loses for the softmax's sum. */
static void along_fill(const struct plan *p, const uint16_t *out, const uint16_t *d_out)
{
    for (size_t q = 0; q < p->n; q++) {
        __m512 sum = _mm512_setzero_ps();
        for (size_t i = 0; i < p->size; i += 16)
            sum = _mm512_fmadd_ps(bf16_load(out + q * p->out_ld + i),
                                  bf16_load(d_out + q * p->out_ld + i), sum);
        p->along[q] = _mm512_reduce_add_ps(sum);
    }
}

/* Words 0, 16, 1, 17, ...: two runs of 16 values become pairs. */
static const uint16_t weave_words[32]
    __attribute__((aligned(64))) = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                    8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};

/* Two key rows (2 pair, 2 pair + 1) of key block b against the 32 queries of query block q: scores
 * and d(probabilities) to P' and dS' in bf16, as A rows and as a row of B pairs. */
static void probabilities_back(const struct plan *p, const float *log_sum, size_t b, size_t q,
                               size_t pair)
{
    const __m512i weave = _mm512_load_si512(weave_words);
    __m512 scale = _mm512_set1_ps(p->scale), ds[2][2];
    size_t step = (q - b) * TILE_STEP, first = 32 * (q - b);
    for (size_t odd = 0; odd < 2; odd++) {
        size_t key = 2 * pair + odd;
        __m512 prob[2];
        for (size_t half = 0; half < 2; half++) {
            size_t at = key * p->score_ld + first + 16 * half, query = 32 * q + 16 * half;
            __m512 log_sums = _mm512_loadu_ps(log_sum + query);
            __m512 e = exp16(_mm512_fmsub_ps(_mm512_load_ps(p->scores + at), scale, log_sums));
            if (q == b) {
                /* On the diagonal a query sees the keys up to its own place. */
                uint32_t seen = UINT32_MAX << key;
                e = _mm512_maskz_mov_ps((__mmask16)(seen >> 16 * half), e);
            }
            __m512 d =
                _mm512_sub_ps(_mm512_load_ps(p->d_scores + at), _mm512_loadu_ps(p->along + query));
            prob[half] = e;
            ds[odd][half] = _mm512_mul_ps(_mm512_mul_ps(e, d), scale);
        }
        size_t row = step + key / 16 * TILE_VALUES + key % 16 * 32;
        _mm512_store_si512(p->p + row, tile_to_bf16(prob[0], prob[1]));
        _mm512_store_si512(p->ds + row, tile_to_bf16(ds[odd][0], ds[odd][1]));
    }
    for (size_t half = 0; half < 2; half++) {
        __m512i pairs = _mm512_permutexvar_epi16(weave, tile_to_bf16(ds[0][half], ds[1][half]));
        _mm512_store_si512(p->ds_b + (q * p->token_panels + b) * TILE_STEP + half * TILE_VALUES +
                               pair * 32,
                           pairs);
    }
}

/* Transposed scores and d(probabilities) of key block b against query block q. */
static void scores_back(const struct plan *p, size_t b, size_t q)
{
    size_t panel = p->size_steps * TILE_STEP, at = 32 * (q - b);
    tile_block(p->size_steps, p->k_a + b * panel, p->q_b + q * panel, p->scores + at, p->score_ld);
    tile_block(p->size_steps, p->v_a + b * panel, p->do_b + q * panel, p->d_scores + at,
               p->score_ld);
}

/* dk and dv of key block b from one query head; dS' goes to ds_b for dQ. */
static void keys_back(const struct plan *p, const float *log_sum, size_t b)
{
    size_t n_blocks = p->token_panels - b;
    /* The tiles run one block ahead, so that their results are there when they are read. */
    scores_back(p, b, b);
    for (size_t q = b; q < p->token_panels; q++) {
        if (q + 1 < p->token_panels)
            scores_back(p, b, q + 1);
        for (size_t pair = 0; pair < 16; pair++)
            probabilities_back(p, log_sum, b, q, pair);
    }
    for (size_t i = 0; i < p->size_steps; i++) {
        size_t tokens = (i * p->token_panels + b) * TILE_STEP, at = 32 * b * p->size + 32 * i;
        tile_block_add(n_blocks, p->p, p->do_t + tokens, p->dv + at, p->size);
        tile_block_add(n_blocks, p->ds, p->q_t + tokens, p->dk + at, p->size);
    }
}

/* d(query) of one head: dQ' = K' dS' block by block, transposed on the way out. */
static void queries_back(const struct plan *p, uint16_t *dq)
{
    for (size_t q = 0; q < p->token_panels; q++) {
        for (size_t i = 0; i < p->size_steps; i++)
            tile_block(q + 1, p->k_t + i * p->token_panels * TILE_STEP,
                       p->ds_b + q * p->token_panels * TILE_STEP, p->dq_t + 32 * i * TILE_SIDE,
                       TILE_SIDE);
        for (size_t i = 0; i < p->size; i += 16) {
            for (size_t half = 0; half < 2; half++) {
                __m512i r[16];
                for (size_t j = 0; j < 16; j++)
                    r[j] = _mm512_load_si512(p->dq_t + (i + j) * TILE_SIDE + 16 * half);
                tile_transpose(r);
                for (size_t j = 0; j < 16; j++)
                    _mm256_storeu_si256((void *)(dq + (32 * q + 16 * half + j) * p->ld + i),
                                        (__m256i)_mm512_cvtneps_pbh(_mm512_castsi512_ps(r[j])));
            }
        }
    }
}

static void sums_store(const struct plan *p, const float *sums, uint16_t *to)
{
    for (size_t r = 0; r < p->n; r++)
        for (size_t i = 0; i < p->size; i += 32)
            _mm512_storeu_si512(to + r * p->ld + i,
                                tile_to_bf16(_mm512_load_ps(sums + r * p->size + i),
                                             _mm512_load_ps(sums + r * p->size + i + 16)));
}

/* Panels of the keys and values of a group, and its sums at zero. */
static void group_begin(const struct plan *p, const uint16_t *keys, const uint16_t *values)
{
    panels_a(p, keys, p->ld, p->k_a);
    panels_a(p, values, p->ld, p->v_a);
    for (size_t i = 0; i < p->size_steps; i++)
        tile_pack_a_transposed(keys, p->ld, p->size, p->n, 32 * i,
                               p->k_t + i * p->token_panels * TILE_STEP);
    memset(p->dk, 0, p->n * p->size * sizeof(float));
    memset(p->dv, 0, p->n * p->size * sizeof(float));
}

static void attention_back(const struct train_heads *heads, const void *qkv, const void *out,
                           const float *log_sum, const void *d_out, void *d_qkv, void *scratch)
{
    struct plan p = plan_make(heads);
    const uint16_t *base = qkv;
    uint16_t *d_base = d_qkv;
    plan_cut(&p, scratch);
    tile_begin();
    for (size_t h = 0; h < p.n_heads; h++) {
        size_t kv = h / p.group * p.size;
        const uint16_t *query = base + h * p.size;
        const uint16_t *d_o = (const uint16_t *)d_out + h * p.size;
        if (h % p.group == 0)
            group_begin(&p, base + p.k_at + kv, base + p.v_at + kv);
        panels_b(&p, query, p.ld, p.q_b);
        panels_t(&p, query, p.ld, p.q_t);
        panels_b(&p, d_o, p.out_ld, p.do_b);
        panels_t(&p, d_o, p.out_ld, p.do_t);
        along_fill(&p, (const uint16_t *)out + h * p.size, d_o);
        for (size_t b = 0; b < p.token_panels; b++)
            keys_back(&p, log_sum + h * p.n, b);
        queries_back(&p, d_base + h * p.size);
        if (h % p.group == p.group - 1) {
            sums_store(&p, p.dk, d_base + p.k_at + kv);
            sums_store(&p, p.dv, d_base + p.v_at + kv);
        }
    }
    tile_end();
}
