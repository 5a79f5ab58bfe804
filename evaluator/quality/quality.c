/* quality.c - the candidate runs over the sequences, the parent's head over the kept states; every
 * token is judged by one member of the team, sums are made afterwards in the order of the text. */
#include "evaluator/quality/quality.h"

#include "evaluator/quality/logits.h"
#include "space/base/err.h"
#include "space/base/stats.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What is known of each predicted token; arrays [n_tokens]. */
struct judged {
    double *kld, *nll, *parent_nll, *agree;
};

struct measure {
    struct forward *forward;
    const struct model *parent_head; /* NULL: the candidate alone */
    const struct parent_states *states;
    const struct token_set *set;
    uint32_t n_sequences, n_tokens; /* predicted ones */
    double *memory;
    struct judged judged;
    double *sequence_mean, *sequence_size; /* [n_sequences] */
    uint32_t n_batch;
    float *parent_logits; /* [n_batch][n_vocab] */
};

double quality_kld(const float *parent_logits, const float *logits, uint32_t n_vocab)
{
    struct logits_pair pair;

    logits_compare(parent_logits, logits, n_vocab, &pair);
    return pair.kld;
}

/* ---- memory --------------------------------------------------------------------------------- */

static void measure_fini(struct measure *m)
{
    free(m->memory);
    free(m->parent_logits);
}

static int measure_init(struct measure *m, uint32_t tokens, struct err *err)
{
    size_t n_vocab = forward_model(m->forward)->geometry.n_vocab;

    m->n_batch = forward_n_batch(m->forward);
    if (m->n_batch > QUALITY_BATCH)
        m->n_batch = QUALITY_BATCH;
    m->n_sequences = token_set_n_within(m->set, tokens);
    m->n_tokens = m->set->begin[m->n_sequences] - m->n_sequences;
    size_t n = m->n_tokens;
    m->memory = malloc((4 * n + 2 * (size_t)m->n_sequences) * sizeof *m->memory);
    if (m->parent_head != NULL)
        m->parent_logits = malloc(m->n_batch * n_vocab * sizeof(float));
    if (m->memory == NULL || (m->parent_head != NULL && m->parent_logits == NULL)) {
        err_set(err, ERR_MEMORY, "quality: out of memory");
        measure_fini(m);
        return -1;
    }
    m->judged = (struct judged){m->memory, m->memory + n, m->memory + 2 * n, m->memory + 3 * n};
    m->sequence_mean = m->memory + 4 * n;
    m->sequence_size = m->sequence_mean + m->n_sequences;
    return 0;
}

/* ---- the run -------------------------------------------------------------------------------- */

/* Rows of logits that are there, and where their judgements go. */
struct rows {
    const struct measure *measure;
    const int32_t *next; /* [n] the tokens that follow */
    uint32_t n;
    size_t at; /* in judged */
};

static void judge_rows(void *arg, unsigned member, unsigned n_members)
{
    const struct rows *rows = arg;
    const struct measure *m = rows->measure;
    uint32_t n_vocab = forward_model(m->forward)->geometry.n_vocab;
    size_t begin, end;

    team_share(rows->n, 1, member, n_members, &begin, &end);
    for (size_t t = begin; t < end; t++) {
        const float *x = forward_logits(m->forward) + t * n_vocab;
        size_t at = rows->at + t, next = (size_t)rows->next[t];
        if (m->parent_head == NULL) {
            m->judged.nll[at] = logits_log_sum(x, n_vocab, NULL) - (double)x[next];
            continue;
        }
        const float *parent = m->parent_logits + t * n_vocab;
        struct logits_pair pair;
        logits_compare(parent, x, n_vocab, &pair);
        m->judged.nll[at] = pair.log_sum - (double)x[next];
        m->judged.parent_nll[at] = pair.parent_log_sum - (double)parent[next];
        m->judged.kld[at] = pair.kld;
        m->judged.agree[at] = pair.best == pair.parent_best ? 1 : 0;
    }
}

/* Sequence i, whose predictions begin at judged[at]. */
static int run_sequence(struct measure *m, uint32_t i, size_t at, struct err *err)
{
    uint32_t begin, end, n_batch = m->n_batch;

    token_set_sequence(m->set, i, &begin, &end);
    forward_reset(m->forward);
    for (uint32_t t = begin; t < end - 1; t += n_batch) {
        /* The last token has no follower: it is not needed. */
        uint32_t n = end - 1 - t < n_batch ? end - 1 - t : n_batch;
        struct rows rows = {m, m->set->tokens + t + 1, n, at + (t - begin)};
        if (forward_tokens(m->forward, m->set->tokens + t, n, LOGITS_ALL, err) != 0) {
            err_prefix(err, "quality: sequence %u of the text", i);
            return -1;
        }
        if (m->parent_head != NULL)
            forward_head_of(m->forward, m->parent_head, parent_states_at(m->states, t), n,
                            m->parent_logits);
        team_run(forward_team(m->forward), judge_rows, &rows);
    }
    return 0;
}

static int run_all(struct measure *m, struct err *err)
{
    int status = 0;

    for (uint32_t i = 0; i < m->n_sequences && status == 0; i++)
        status = run_sequence(m, i, m->set->begin[i] - i, err);
    forward_reset(m->forward);
    return status;
}

/* ---- sums ----------------------------------------------------------------------------------- */

/* Mean over all predicted tokens and its standard error by sequences. */
static double clustered(const struct measure *m, const double *x, double *se)
{
    double sum = 0;

    for (uint32_t i = 0; i < m->n_sequences; i++) {
        uint32_t begin, end;
        token_set_sequence(m->set, i, &begin, &end);
        size_t at = begin - i, n = end - begin - 1;
        double part = 0;
        for (size_t t = at; t < at + n; t++)
            part += x[t];
        m->sequence_mean[i] = part / (double)n;
        m->sequence_size[i] = (double)n;
        sum += part;
    }
    *se = stats_cluster_se(m->sequence_mean, m->sequence_size, m->n_sequences);
    return sum / m->n_tokens;
}

static const struct quality unknown = {.kld = NAN,
                                       .kld_se = NAN,
                                       .kld_p50 = NAN,
                                       .kld_p99 = NAN,
                                       .kld_max = NAN,
                                       .nll = NAN,
                                       .nll_se = NAN,
                                       .parent_nll = NAN,
                                       .ppl = NAN,
                                       .parent_ppl = NAN,
                                       .ppl_ratio = NAN,
                                       .ppl_ratio_se = NAN,
                                       .top1 = NAN,
                                       .top1_se = NAN};

static void sum_candidate(const struct measure *m, struct quality *q)
{
    *q = unknown;
    q->n_tokens = m->n_tokens;
    q->nll = clustered(m, m->judged.nll, &q->nll_se);
    q->ppl = exp(q->nll);
}

/* The KLD of each sequence goes to `sequence_kld`, which may be NULL. */
static void sum_against_parent(const struct measure *m, double *sequence_kld, struct quality *q)
{
    double log_ratio_se, unused;

    sum_candidate(m, q);
    q->kld = clustered(m, m->judged.kld, &q->kld_se);
    if (sequence_kld != NULL)
        memcpy(sequence_kld, m->sequence_mean, m->n_sequences * sizeof *sequence_kld);
    q->top1 = clustered(m, m->judged.agree, &q->top1_se);
    q->parent_nll = clustered(m, m->judged.parent_nll, &unused);
    q->parent_ppl = exp(q->parent_nll);
    /* log(ppl / parent_ppl) is the mean of paired differences. */
    for (uint32_t t = 0; t < m->n_tokens; t++)
        m->judged.parent_nll[t] = m->judged.nll[t] - m->judged.parent_nll[t];
    q->ppl_ratio = exp(clustered(m, m->judged.parent_nll, &log_ratio_se));
    q->ppl_ratio_se = q->ppl_ratio * log_ratio_se;

    stats_sort(m->judged.kld, m->n_tokens);
    q->kld_p50 = stats_quantile(m->judged.kld, m->n_tokens, 0.5);
    q->kld_p99 = stats_quantile(m->judged.kld, m->n_tokens, 0.99);
    q->kld_max = m->judged.kld[m->n_tokens - 1];
}

int quality_measure(struct forward *forward, const struct model *parent_head,
                    const struct parent_states *states, const struct token_set *set,
                    uint32_t tokens, struct quality *quality, struct err *err)
{
    return quality_measure_sequences(forward, parent_head, states, set, tokens, quality, NULL, err);
}

int quality_measure_sequences(struct forward *forward, const struct model *parent_head,
                              const struct parent_states *states, const struct token_set *set,
                              uint32_t tokens, struct quality *quality, double *kld,
                              struct err *err)
{
    struct measure m = {
        .forward = forward, .parent_head = parent_head, .states = states, .set = set};

    if (measure_init(&m, tokens, err) != 0)
        return -1;
    int status = run_all(&m, err);
    if (status == 0) {
        struct quality q;
        sum_against_parent(&m, kld, &q);
        if (isfinite(q.kld)) {
            *quality = q;
        } else {
            err_set(err, ERR_DATA, "quality: the parent's own logits are not finite");
            status = -1;
        }
    }
    measure_fini(&m);
    return status;
}

int quality_perplexity(struct forward *forward, const struct token_set *set, uint32_t tokens,
                       struct quality *quality, struct err *err)
{
    struct measure m = {.forward = forward, .set = set};

    if (measure_init(&m, tokens, err) != 0)
        return -1;
    int status = run_all(&m, err);
    if (status == 0)
        sum_candidate(&m, quality);
    measure_fini(&m);
    return status;
}

double quality_difference(const struct token_set *set, uint32_t tokens, const double *kld,
                          const double *base, double *se)
{
    uint32_t n = token_set_n_within(set, tokens);
    double *difference = malloc(2 * (size_t)n * sizeof *difference), *size = difference + n;
    double sum = 0, total = 0;

    *se = NAN;
    if (difference == NULL)
        return NAN;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t begin, end;
        token_set_sequence(set, i, &begin, &end);
        size[i] = end - begin - 1;
        difference[i] = kld[i] - base[i];
        sum += difference[i] * size[i];
        total += size[i];
    }
    *se = stats_cluster_se(difference, size, n);
    free(difference);
    return sum / total;
}
