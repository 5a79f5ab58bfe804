/* job.h - the master's list of work that is not finished: waiting to be sent, or out on a lease.
 * A job counts what went wrong with it, so that one bad candidate ends in quarantine and not in a
 * loop (mpi.md section 6). */
#ifndef KERF_JOB_H
#define KERF_JOB_H

#include "cluster/message.h"
#include <stdbool.h>
#include <stddef.h>

struct err;

struct job {
    struct work work;
    struct id128 id;   /* of the candidate, for evaluations */
    uint32_t n_failed; /* crash, timeout or bad: its own fault */
    uint32_t n_lost;   /* workers that fell silent over it */
    uint32_t n_unable; /* the machine's fault */
    bool out;
    double not_before_s; /* pause before the next try */
};

struct jobs {
    struct job *job;
    size_t n, room;
};

/* Add a copy, waiting.  -1 without memory. */
int jobs_add(struct jobs *jobs, const struct job *job, struct err *err);
/* A waiting job whose pause is over, oldest first; NULL when there is none.  Valid until the list
 * changes. */
struct job *jobs_next(struct jobs *jobs, double now_s);
/* The job that is out under this lease; NULL when there is none. */
struct job *jobs_find(struct jobs *jobs, uint64_t lease);
void jobs_remove(struct jobs *jobs, struct job *job);
void jobs_fini(struct jobs *jobs);

#endif
