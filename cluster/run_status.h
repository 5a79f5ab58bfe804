/* run_status.h - status.json of a study: how the last run ended, written by the master as its last
 * act (atomically), read by the watchdog, because mpirun's own exit status means nothing (mpi.md
 * rule 7); and progress.json, touched while a run is alive. */
#ifndef KERF_RUN_STATUS_H
#define KERF_RUN_STATUS_H

#include "cluster/master.h"
#include "space/base/err.h"
#include <sys/types.h>

struct run_status {
    enum err_code code; /* ERR_NONE: the plan was carried out */
    char reason[400];
    struct master_summary summary;
};

int run_status_write(const struct study *study, const struct run_status *status, struct err *err);
bool run_status_is_there(const struct study *study);
/* ERR_MISSING when no run has ended yet. */
int run_status_read(const struct study *study, struct run_status *status, struct err *err);
void run_status_remove(const struct study *study);

/* A watchdog names its run in the environment ($KERF_RUN, letters and digits), for its ranks and
 * for itself: status is then written to status-RUN.json, so that a second run on the same study,
 * which is refused, never speaks for the first. */
#define RUN_MARK "KERF_RUN"
bool run_is_watched(void);
/* The watchdog also says who it is ($KERF_WATCHDOG, "pid@host"): without it nobody would end the
 * run or clean up after it, so the master stops when it is gone.  Tell: for the ranks to come. */
#define RUN_WATCHDOG "KERF_WATCHDOG"
void run_watchdog_tell(void);
bool run_watchdog_is_dead(void); /* false where that cannot be known */
/* The watchdog has read it: status-RUN.json becomes status.json. */
void run_status_settle(const struct study *study);

/* A sign of life for the watchdog; `pid` of the master, 0 before there is one. */
void run_progress_touch(const struct study *study, pid_t pid);
/* Whether a master has touched since the watchdog did. */
bool run_progress_has_begun(const struct study *study);
/* Whether the master that touched last is surely dead: it ran on this host and its process is
 * gone. */
bool run_progress_is_dead(const struct study *study);
/* Seconds since then; a large number when there is none. */
double run_progress_age(const struct study *study);

/* What `kerf search` says on stdout at the end: counts, prediction error, the next commands. */
void run_status_print(const struct study *study, const struct run_status *status);

#endif
