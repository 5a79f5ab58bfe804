/* run_status.h - status.json of a study: how the last run ended, written by the master as its last
 * act (atomically), read by the watchdog, because mpirun's own exit status means nothing (mpi.md
 * rule 7); and progress.json, touched while a run is alive. */
#ifndef KERF_RUN_STATUS_H
#define KERF_RUN_STATUS_H

#include "cluster/master.h"
#include "space/base/err.h"

struct run_status {
    enum err_code code; /* ERR_NONE: the plan was carried out */
    char reason[400];
    struct master_summary summary;
};

int run_status_write(const struct study *study, const struct run_status *status, struct err *err);
/* ERR_MISSING when no run has ended yet. */
int run_status_read(const struct study *study, struct run_status *status, struct err *err);
void run_status_remove(const struct study *study);

/* A sign of life for the watchdog. */
void run_progress_touch(const struct study *study);
/* Seconds since then; a large number when there is none. */
double run_progress_age(const struct study *study);

/* What `kerf search` says on stdout at the end: counts, prediction error, the next commands. */
void run_status_print(const struct study *study, const struct run_status *status);

#endif
