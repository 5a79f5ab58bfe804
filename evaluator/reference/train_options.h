/* train_options.h - the command line of kerf_train: one table gives parsing and --help. */
#ifndef TRAIN_OPTIONS_H
#define TRAIN_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "evaluator/reference/train_geometry.h"

struct err;

enum { TRAIN_MAX_FILES = 16 };

struct train_options {
    const char *tokens[TRAIN_MAX_FILES];
    size_t n_tokens;
    const char *held_out, *vocab, *out, *checkpoint, *backend;
    bool resume, help;
    size_t steps;   /* length of the schedule in steps, used when minutes is 0 */
    double minutes; /* length of the schedule in time spent training, over all starts */
    size_t batch, threads, seed;
    double lr, final_lr, warmup, average, decay, clip;
    size_t save_every;     /* seconds */
    size_t report_every;   /* seconds */
    size_t held_out_every; /* steps */
    size_t held_out_count; /* windows */
    struct train_geometry g;
};

/* Defaults, then the arguments over them; texts are borrowed from argv.  0, or -1 with ERR_USAGE.
 */
int train_options_parse(struct train_options *o, int argc, const char *const *argv,
                        struct err *err);
/* The table for people, on stdout, with the defaults. */
void train_options_help(void);

#endif
