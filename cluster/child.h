/* child.h - an evaluator child process: spawned, watched, judged (mpi.md section 6).
 * Own process group, dies with its parent's thread, clean environment (no OMPI_*), limits,
 * deadline; one result on fd 3.  The supervisor calls child_poll from its loop and never blocks. */
#ifndef KERF_CHILD_H
#define KERF_CHILD_H

#include "cluster/message.h"

struct err;
struct child;

struct child_options {
    const char *study_dir;
    const char *store_dir;
    uint64_t max_disk; /* of the store; 0: no bound */
    const int *cpu;
    uint32_t n_threads;
};

/* Start `kerf evaluator` (this same binary) on `work`. */
struct child *child_start(const struct child_options *options, const struct work *work,
                          struct err *err);
/* Wait up to `timeout_ms` for news.  1: finished, *verdict, `reason` (one line, for a verdict other
 * than DONE) and *result (the JSON line, yours to free, NULL unless DONE) are set; 0: still
 * working. */
int child_poll(struct child *child, int timeout_ms, enum verdict *verdict, char reason[256],
               char **result);
/* Kill its group if it still lives, reap, free.  NULL is fine. */
void child_destroy(struct child *child);

/* Called first in the child: dies with its parent (PDEATHSIG, race closed by `parent_pid`). */
int child_tie_to_parent(long parent_pid, struct err *err);

#endif
