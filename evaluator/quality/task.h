/* task.h - multiple choice, scored as lm-evaluation-harness does: the choice with the largest
 * log likelihood given the context, per character (acc_norm) or plain (acc).
 * File: JSONL, one {"context": text, "choices": [text, ...], "answer": index} a line. */
#ifndef KERF_TASK_H
#define KERF_TASK_H

#include "evaluator/forward.h"
#include "evaluator/tokenizer.h"

struct err;
struct task;

/* Untrusted input: ERR_DATA with file:line and what is wrong.  At most `max_items` (0 = all). */
struct task *task_read(const char *path, const struct tokenizer *tokenizer, uint32_t max_items,
                       struct err *err);
void task_destroy(struct task *task);
const char *task_name(const struct task *task); /* file name without .jsonl */
uint32_t task_n_items(const struct task *task);
double task_guess_rate(const struct task *task); /* mean of 1 / n_choices */

struct task_score {
    uint32_t n_items;
    double acc, acc_se;
    double acc_norm, acc_norm_se; /* per character: what is reported */
};

/* Context and choice are encoded together and split at the context's length in tokens; the context
 * is run once and its cache shared by the choices of an item.  Items longer than the forward's
 * n_ctx are ERR_DATA. */
int task_score(struct forward *forward, const struct task *task, struct task_score *score,
               struct err *err);

#endif
