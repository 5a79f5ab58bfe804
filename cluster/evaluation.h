/* evaluation.h - the work itself, done in the evaluator child: nothing here knows MPI, leases or
 * the archive.  Input is a frozen study and a work item; output is one line of JSON:
 *
 *   {"kind":"evaluate","quality":{...},"decode":{...},"prefill":{...},"tasks":[...],
 *    "needs":{...},"samples":{...},"weights":"sha256...","fallbacks":[...],"kernels":"avx512-vnni",...}
 *
 * needs: "peak_rss_bytes", "decode_joules", "prefill_joules" (stand_weigh), each absent where the
 * system does not tell; weights: stitch_record's; fallbacks: parts that could not be compressed as
 * they should,
 * {"part":"blk.3.down","damping":0.1} or {"part":...,"rounding":"plain"}.
 * Quality is measured under the node's shared lock, latency alone on the node
 * (latency_model/quiet), threads bound to `cpu`. */
#ifndef KERF_EVALUATION_H
#define KERF_EVALUATION_H

#include "cluster/message.h"
#include "results/sensitivity.h"
#include "space/study.h"

struct evaluation_place {
    const int *cpu; /* [n_threads] PUs of this worker; NULL: as one alone would have them */
    uint32_t n_threads;
    const char *store; /* folder of the variant store (node-local) */
    uint64_t max_disk; /* bytes that it may hold, 0: no bound */
};

/* The result line, yours to free; NULL with `err` filled when the work cannot be done (ERR_DATA:
 * the candidate's fault, told as VERDICT_BAD). */
char *evaluation_run(const struct study *study, const struct evaluation_place *place,
                     const struct work *work, struct err *err);

/* Read a result line of an EVALUATE back into the record's fields and the samples' names; checks
 * everything (finite, in range).  Used by the master on untrusted text. */
struct evaluation_samples {
    char name[4][24];
    float *values[4];
    uint32_t n[4];
    uint32_t count;
};
int evaluation_parse(const char *json, const struct study *study, struct evaluation *evaluation,
                     struct evaluation_samples *samples, struct err *err);
/* The same for a SENSITIVITY of `unit`: its rows go into the table, which knows all of the unit
 * afterwards (else ERR_DATA, and some of it may be entered). */
int evaluation_parse_sensitivity(const char *json, uint32_t unit, struct sensitivity *table,
                                 struct err *err);
void evaluation_samples_fini(struct evaluation_samples *samples);

#endif
