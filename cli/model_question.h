/* model_question.h - what kerf model measure was asked: of what, how much, and where it goes. */
#ifndef KERF_MODEL_QUESTION_H
#define KERF_MODEL_QUESTION_H

#include "cli/option.h"
#include "space/study.h"

struct model_question {
    const char *dir, *model, *geometry, *to; /* one of the first three; `to` with the others */
    uint64_t n_points, n_held_out, rounds, seed, n_threads;
    double max_seconds;
};

/* By the options of MODEL_MEASURE_ROWS; their texts are borrowed.  ERR_USAGE. */
int model_question_ask(struct model_question *question, const struct options *options,
                       uint64_t n_points, struct err *err);
/* Whether it is about a study, not a GGUF or a shape. */
bool model_question_is_study(const struct model_question *question);
/* The study, or for a GGUF or a shape one that only has geometry, limits and workloads; and the
 * paths of its op table and its latency model, whose folder is made. */
int model_question_study(const struct model_question *question, const struct options *options,
                         struct study *study, char path[2][STUDY_PATH_MAX], struct err *err);

#endif
