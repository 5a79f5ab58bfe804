/* task.h - multiple choice, scored as lm-evaluation-harness does: the choice with the largest
 * log likelihood given the context, per character (acc_norm) or plain (acc).
 * File: JSONL, one {"context": text, "choices": [text, ...], "answer": index} a line; further keys
 * are left alone.  Context and choice are joined as they stand, so a choice brings its own space in
 * front.  Characters are code points; the spaces in front do not count, as they are the delimiter
 * that the harness adds itself. */
#ifndef KERF_TASK_H
#define KERF_TASK_H

#include "evaluator/forward.h"
#include "evaluator/tokenizer.h"

struct err;
struct task;

/* Untrusted input: ERR_DATA with file:line and what is wrong.  At most `max_items` (0 = all).  Text
 * is encoded here, with BOS in front where the vocabulary adds one. */
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

/* Context and choice are encoded together and split at the context's length in tokens (white space
 * at the end of the context belongs to the choice); what the choices of an item have in common is
 * run once and its cache shared.  Standard errors: sd / sqrt(n) with n - 1.  ERR_DATA naming the
 * item when it is longer than the forward's n_ctx or a logit is not finite. */
int task_score(struct forward *forward, const struct task *task, struct task_score *score,
               struct err *err);

#endif
