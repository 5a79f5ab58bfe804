/* bench_model.h - a parent made ready for measuring quality: its calibration, the held-out tokens
 * and its states on them, a forward pass, and a folder of its own for variants. */
#ifndef BENCH_MODEL_H
#define BENCH_MODEL_H

#include "evaluator/compression/calibration.h"
#include "evaluator/quality/quality.h"

struct bench_model {
    struct parent *parent;
    struct model *model; /* of the parent as it is */
    struct tokenizer *tokenizer;
    struct team *team;
    const struct kernels *kernels;
    struct token_set heldout;
    struct calibration *calibration;
    struct parent_states *states;
    struct forward *forward;
    char folder[32];
};

/* What is opened and how much of it. */
struct bench_model_plan {
    const char *model, *calibration, *heldout; /* paths */
    const char *separator;                     /* of documents; NULL: none */
    uint32_t n_calibration, n_quality;         /* tokens, in sequences of 512 */
    unsigned n_threads;
    team_place_fn *place; /* where they run; NULL: anywhere */
    void *place_arg;
};

/* Takes the paths, and the calibration tokens where they are said, from the arguments of a program:
 * argv[] is {program, MODEL, CALIBRATION, HELDOUT [, CALIBRATION_TOKENS]}, of which argc >= 4. */
void bench_model_plan_read(struct bench_model_plan *plan, int argc, char **argv);
/* 0, or -1 with `err`; bench_model_close in both cases. */
int bench_model_open(struct bench_model *bench, const struct bench_model_plan *plan,
                     struct err *err);
/* Two lines on stdout: the parent's shape; tokens and kernels. */
void bench_model_describe(const struct bench_model *bench);
/* The folder goes too. */
void bench_model_close(struct bench_model *bench);

#endif
