/* bench_program.h - the main function of a bench of one model: MODEL, CALIBRATION and HELDOUT come
 * first, tables go to stdout, and one line to stderr when it fails. */
#ifndef BENCH_PROGRAM_H
#define BENCH_PROGRAM_H

#include <stddef.h>

struct bench; /* every program has its own */
struct err;

struct bench_program {
    const char *name;
    const char *more; /* arguments behind those three, for the line of usage */
    size_t size;      /* of struct bench, which starts as zeroes */
    int (*open)(struct bench *bench, int argc, char **argv, struct err *err); /* argc >= 4 */
    int (*run)(struct bench *bench, struct err *err);
    void (*close)(struct bench *bench); /* also after open failed */
};

/* What main returns: 0, 1 when open or run failed, 2 when arguments are missing. */
int bench_program_run(const struct bench_program *program, int argc, char **argv);

#endif
