/* master.h - the loop that joins space, search, results and the workers.  Owns the archive (one
 * writer) and the search; never computes.
 *
 * Phases: prepare (tables) -> parent and reference -> sensitivities -> search -> final rung of the
 * front -> done.  Every phase looks at what is already committed, so a start after a kill goes on
 * where the last commit was; the same work is never done twice.  A proposal is committed PENDING
 * before it is sent; PENDING ones found at the start are sent first. */
#ifndef KERF_MASTER_H
#define KERF_MASTER_H

#include "cluster/link.h"
#include "results/archive.h"
#include "space/study.h"

struct master;

struct master_options {
    uint64_t evals;          /* stop after so many candidates in the archive */
    double time_s;           /* stop proposing after so long */
    bool local;              /* one worker in this process */
    bool sensitivity_only;   /* prepare, measure sensitivities, and no more */
    const char *sensitivity; /* a table to take rows from, or NULL */
};

struct master *master_create(const struct study *study, struct archive *archive, struct link *link,
                             const struct master_options *options, struct err *err);
void master_destroy(struct master *master);

/* One short step.  1: go on; 0: finished; -1: cannot go on (all workers lost, disk full, too many
 * failures); everything committed is saved. */
int master_step(struct master *master, struct err *err);
/* Stop proposing, finish what is in flight, commit (SIGINT, SIGTERM, SIGUSR1 once). */
void master_drain(struct master *master);
/* Whether a drain (not the plan's end) ended the run: exit code 75. */
bool master_was_drained(const struct master *master);

struct master_summary {
    uint64_t n_evaluated, n_failed, n_quarantined;
    uint32_t n_sensitivities; /* units of which something was measured */
    uint64_t n_evicted;       /* variants that went for want of room, and their bytes */
    double evicted_bytes;
    uint32_t n_workers_lost;
    double seconds;
    uint32_t n_predicted;           /* candidates with prediction and measurement */
    double decode_mape, decode_rho; /* prediction against measurement, over them */
    double prefill_mape, prefill_rho;
    double hypervolume;
};
void master_summary(const struct master *master, struct master_summary *summary);

#endif
