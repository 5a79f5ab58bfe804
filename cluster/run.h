/* run.h - one `kerf search`, whatever it runs on: alone (master and supervisor in this process),
 * as a rank of an mpirun, or as the watchdog that starts mpirun by the recipe of mpi.md. */
#ifndef KERF_RUN_H
#define KERF_RUN_H

#include "space/study.h"

struct err;

struct run_options {
    uint64_t evals;          /* 0: the study's */
    double time_s;           /* 0: the study's */
    const char *scratch;     /* folder for archive/ and store/, NULL: inside the study */
    uint32_t threads;        /* of each worker, 0: the study's */
    uint64_t max_disk;       /* bytes of a node's variant store, 0: the study's */
    const char *sensitivity; /* file of another study's sensitivities, or NULL */
    bool
        sensitivity_only; /* no candidates: prepare, measure sensitivities, say nothing on stdout */
};

/* From here on SIGINT, SIGTERM and SIGUSR1 ask the search to stop: once saves and leaves, three
 * times leaves at once. */
void run_catch_stops(void);

/* Alone.  Exit status of conventions.md section 7. */
int run_alone(const struct study *study, const struct run_options *options);
/* A rank: the master when rank 0.  Writes status.json (rank 0) before it ends. */
int run_rank(const struct study *study, const struct run_options *options);
/* Start `mpirun -n ranks kerf search ...` with the launch recipe, watch it, clean up after it, and
 * return the status that status.json tells: never mpirun's own. */
int run_launch(const struct study *study, const struct run_options *options, uint32_t n_ranks);

#endif
