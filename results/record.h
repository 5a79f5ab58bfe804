/* record.h - what the archive keeps of a candidate.
 * The ranked numbers have a fixed little-endian layout; everything else that was measured is a JSON
 * text beside it.  A record is written once per evaluation and never changed: a newer evaluation of
 * the same candidate gets the next attempt number and supersedes the older one. */
#ifndef KERF_RECORD_H
#define KERF_RECORD_H

#include "space/base/hash.h"
#include "space/space.h"
#include <stdint.h>

struct err;

/* A median with its 95 % interval, and how it was had. */
struct measured {
    double median_ns, lo_ns, hi_ns; /* per token (decode) or per prompt (prefill) */
    double p10_ns, p90_ns, min_ns;
    double ratio, ratio_lo, ratio_hi; /* to the reference candidate of the same rounds */
    uint32_t n_accepted, n_rejected;
};

enum rung { RUNG_SEARCH, RUNG_FINAL };

/* Validity flags: the machine was not quiet while this latency was measured. */
#define EVALUATION_DECODE_NOISY 1u
#define EVALUATION_PREFILL_NOISY 2u

enum candidate_status {
    STATUS_PENDING,     /* proposed, not yet told */
    STATUS_DONE,
    STATUS_QUARANTINED  /* failed twice; `reason` in the JSON */
};

struct evaluation {
    struct id128 candidate;
    uint32_t attempt;           /* 0, 1, ... per candidate */
    enum rung rung;
    uint32_t n_tokens;          /* that quality rests on */
    double kld, kld_se, kld_p99;
    double ppl, parent_ppl, ppl_ratio, ppl_ratio_se;
    double top1, top1_se;
    struct measured decode, prefill;
    double predicted_decode_ns, predicted_prefill_ns; /* NAN: not predicted */
    uint64_t weight_bytes, kv_bytes_per_token;
    double accuracy, accuracy_se; /* mean of the tasks, NAN: not scored */
    uint32_t n_tasks;
    double seconds;             /* that the evaluation took */
    int64_t wall_s;             /* when it was committed */
    struct id128 device;        /* class that the latencies belong to */
    uint32_t flags;             /* EVALUATION_...: a flagged latency meets no budget by itself */
    uint32_t kernel_bound;      /* bit set of formats (1 << enum format) labelled kernel-bound */
    /* Since version 2, absent in older records and where the system does not tell. */
    uint64_t peak_rss_bytes; /* of the evaluator while it ran both workloads; 0: not known */
    double decode_joules, prefill_joules; /* per token, per prompt; NAN: not known */
};

struct candidate {
    struct id128 id;
    uint64_t sequence;          /* order of proposal, from 0 */
    uint32_t origin;            /* enum search_origin as a number */
    enum candidate_status status;
    uint32_t n_failures;
    uint32_t n_levels;
    uint8_t levels[SPACE_MAX_GENES]; /* the level vector */
};

/* Fixed layouts, version byte first.  Encoders return the length; decoders check every byte of
 * untrusted input and return -1 with ERR_DATA (or "archive from a newer version"). */
#define RECORD_EVALUATION_BYTES 512
#define RECORD_CANDIDATE_BYTES (64 + SPACE_MAX_GENES)
size_t record_put_evaluation(const struct evaluation *evaluation, uint8_t *bytes);
int record_get_evaluation(const uint8_t *bytes, size_t n, struct evaluation *evaluation,
                          struct err *err);
size_t record_put_candidate(const struct candidate *candidate, uint8_t *bytes);
int record_get_candidate(const uint8_t *bytes, size_t n, struct candidate *candidate,
                         struct err *err);

#endif
