/* master_parts.h - what the files of the master share: master.c (the loop), master_phase.c (what
 * is to be done next), master_sensitivity.c (one of its phases), master_forecast.c (what is known
 * of latencies) and master_verdict.c (what an answer changes). */
#ifndef KERF_MASTER_PARTS_H
#define KERF_MASTER_PARTS_H

#include "cluster/job.h"
#include "cluster/lease.h"
#include "cluster/master.h"
#include "cluster/study_problem.h"
#include "search/search.h"

enum phase {
    PHASE_PREPARE,
    PHASE_PARENT,
    PHASE_SENSITIVITY,
    PHASE_SEARCH,
    PHASE_FINAL,
    PHASE_DONE
};

struct master {
    const struct study *study;
    struct archive *archive;
    struct link *link;
    struct master_options options;
    struct space space;
    struct op_table *ops;
    struct sensitivity *sensitivity;
    double loss[SPACE_MAX_GENES][SPACE_MAX_LEVELS]; /* of the table, for the search */
    struct forecast forecast;
    struct study_problem problem;
    struct search *search;
    struct leases *leases;
    struct jobs jobs;
    enum phase phase;
    uint32_t final_passes;
    double start_s, beat_s, heard_s;               /* heard_s: last word of any worker */
    double longest_s;                              /* slowest evaluation so far */
    uint64_t n_candidates;                         /* with levels, in the archive */
    uint64_t n_evaluated, n_failed, n_quarantined; /* of this run */
    uint32_t n_sensitivities;                      /* work items of this run */
    uint32_t n_unable_in_row;
    uint64_t n_evicted, evicted_bytes, n_unkept; /* variants, of this run's stores */
    bool drained, transaction;
    double drained_s; /* when the stop was asked for */
    struct device_class device;
    struct message incoming, outgoing;
};

double master_now_s(void);

/* Every write of a step is one transaction, begun with the first. */
int master_begin(struct master *master, struct err *err);

/* master_sensitivity.c: the table of the study with what is known of it, and, where the options
 * name another study's, what fits of that (ERR_DATA when nothing does); the jobs for the units of
 * which something is missing; and what a worker found. */
int master_open_sensitivity(struct master *master, struct err *err);
int master_add_sensitivities(struct master *master, struct err *err);
int master_enter_sensitivity(struct master *master, const struct job *job, const char *result,
                             struct err *err);

/* master_forecast.c: open it for a search that begins; enter what a candidate measured, where that
 * was in quiet; fit it where it is time to, which is logged and noted in the archive; put what was
 * foretold of a candidate, before it was measured for the first time, into its evaluation. */
int master_open_forecast(struct master *master, struct err *err);
int master_learn_latency(struct master *master, const uint8_t *levels,
                         const struct evaluation *evaluation, struct err *err);
int master_refit_forecast(struct master *master, struct err *err);
void master_foretell(struct master *master, const struct job *job, struct evaluation *evaluation);

/* Make jobs of the present phase for up to `n_free` workers; moves to the next phase when nothing
 * is left and nothing is out. */
int master_fill(struct master *master, uint32_t n_free, struct err *err);

/* Enter the answer to a job (removed when finished, waiting again when it is to be tried again). */
int master_enter(struct master *master, struct job *job, enum verdict verdict, const char *reason,
                 const char *result, struct err *err);

#endif
