/* task.c - log likelihoods of the choices, and what share of the best ones is right. */
#include "evaluator/quality/task_parts.h"

#include "evaluator/quality/logits.h"
#include "space/base/err.h"

#include <math.h>

const char *task_name(const struct task *task)
{
    return task->name;
}

uint32_t task_n_items(const struct task *task)
{
    return task->n_items;
}

double task_guess_rate(const struct task *task)
{
    double sum = 0;

    for (uint32_t i = 0; i < task->n_items; i++)
        sum += 1.0 / task->items[i].n_choices;
    return sum / task->n_items;
}

/* log p(token) under row `row` of the forward's logits. */
static double log_likelihood(const struct forward *forward, uint32_t row, int32_t token)
{
    uint32_t n_vocab = forward_model(forward)->geometry.n_vocab;
    const float *x = forward_logits(forward) + (size_t)row * n_vocab;

    return (double)x[token] - logits_log_sum(x, n_vocab, NULL);
}

/* Run what the choices share, and score the first token of those that are scored right behind it
 * (the others begin with 0). */
static int score_shared(struct forward *forward, const struct item *item, double *score,
                        struct err *err)
{
    uint32_t n_batch = forward_n_batch(forward);

    forward_reset(forward);
    for (uint32_t t = 0; t < item->n_shared; t += n_batch) {
        uint32_t n = item->n_shared - t < n_batch ? item->n_shared - t : n_batch;
        if (forward_tokens(forward, item->choices[0].tokens + t, n, LOGITS_LAST, err) != 0)
            return -1;
    }
    for (uint32_t c = 0; c < item->n_choices; c++) {
        const struct choice *choice = &item->choices[c];
        score[c] = choice->n_context == item->n_shared
                       ? log_likelihood(forward, 0, choice->tokens[item->n_shared])
                       : 0;
    }
    return 0;
}

/* The rest of one choice, behind the shared beginning. */
static int score_rest(struct forward *forward, const struct item *item, const struct choice *choice,
                      double *score, struct err *err)
{
    uint32_t n_batch = forward_n_batch(forward), last = choice->n_tokens - 1;

    forward_rewind(forward, item->n_shared);
    for (uint32_t t = item->n_shared; t < last; t += n_batch) {
        uint32_t n = last - t < n_batch ? last - t : n_batch;
        if (forward_tokens(forward, choice->tokens + t, n, LOGITS_ALL, err) != 0)
            return -1;
        for (uint32_t i = 0; i < n; i++)
            if (t + i + 1 >= choice->n_context)
                *score += log_likelihood(forward, i, choice->tokens[t + i + 1]);
    }
    return 0;
}

/* Whether the choice with the largest score, plain and per character, is the answer. */
static int score_item(struct forward *forward, const struct item *item, bool right[2],
                      struct err *err)
{
    double score[TASK_MAX_CHOICES];
    uint32_t best[2] = {0, 0};

    if (score_shared(forward, item, score, err) != 0)
        return -1;
    for (uint32_t c = 0; c < item->n_choices; c++) {
        if (score_rest(forward, item, &item->choices[c], &score[c], err) != 0)
            return -1;
        if (score[c] > score[best[0]])
            best[0] = c;
        if (score[c] / item->choices[c].n_characters >
            score[best[1]] / item->choices[best[1]].n_characters)
            best[1] = c;
    }
    right[0] = best[0] == item->answer;
    right[1] = best[1] == item->answer;
    return 0;
}

/* Standard error of a share of n: sd / sqrt(n), where the sd has n - 1. */
static double share_se(double share, uint32_t n)
{
    return n > 1 ? sqrt(share * (1 - share) / (n - 1)) : NAN;
}

int task_score(struct forward *forward, const struct task *task, struct task_score *score,
               struct err *err)
{
    uint32_t n_right[2] = {0, 0};

    for (uint32_t i = 0; i < task->n_items; i++) {
        bool right[2];
        if (score_item(forward, &task->items[i], right, err) != 0) {
            err_prefix(err, "task %.64s, item %u", task->name, i + 1);
            return -1;
        }
        n_right[0] += right[0];
        n_right[1] += right[1];
    }
    forward_reset(forward);
    double n = task->n_items;
    *score = (struct task_score){
        .n_items = task->n_items, .acc = n_right[0] / n, .acc_norm = n_right[1] / n};
    score->acc_se = share_se(score->acc, task->n_items);
    score->acc_norm_se = share_se(score->acc_norm, task->n_items);
    return 0;
}
