/* workload.h - what is timed, always spelled out:
 *   pp512@b1        prefill of 512 tokens, batch 1            -> ttft_ms, the whole prompt
 *   tg128@b1        128 tokens generated from an empty cache  -> tpot_ms, per token
 *   tg32@c64@b1     32 tokens generated after a context of 64 */
#ifndef KERF_WORKLOAD_H
#define KERF_WORKLOAD_H

#include <stdbool.h>
#include <stdint.h>

struct err;

enum workload_kind { WORKLOAD_PREFILL, WORKLOAD_DECODE };

struct workload {
    enum workload_kind kind;
    uint32_t n_tokens; /* prompt length or tokens generated */
    uint32_t context;  /* tokens in the cache before the first timed one */
    uint32_t batch;    /* 1 in this version */
};

/* ERR_CONFIG with the expected form. */
int workload_parse(const char *text, struct workload *workload, struct err *err);
const char *workload_format(const struct workload *workload, char text[32]);
bool workload_equal(const struct workload *a, const struct workload *b);
/* "ttft_ms" for prefill, "tpot_ms" for decode. */
const char *workload_metric(const struct workload *workload);

#endif
