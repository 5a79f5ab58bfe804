/* workload.h - what is timed, always spelled out:
 *   pp512@b1        prefill of 512 tokens, batch 1            -> ttft_ms, the whole prompt
 *   tg128@b1        128 tokens generated from an empty cache  -> tpot_ms, per token
 *   tg32@c64@b1     32 tokens generated after a context of 64
 *   tg32@c256@b8    the same for 8 users at once, each with a context of 256 of his own
 *
 * The batch is so many sequences that go in step, as servers run them (forward.h): a decode pass
 * makes one token of each, a prefill pass reads the prompts of all at once.  Times are what one
 * user waits for: tpot_ms a step, in which each of them gets a token, ttft_ms the pass after which
 * each of them has his first logits.  The throughput of all together is workload_tokens_per_s. */
#ifndef KERF_WORKLOAD_H
#define KERF_WORKLOAD_H

#include <stdbool.h>
#include <stdint.h>

struct err;

enum workload_kind { WORKLOAD_PREFILL, WORKLOAD_DECODE };

struct workload {
    enum workload_kind kind;
    uint32_t n_tokens; /* prompt length or tokens generated, of each sequence */
    uint32_t context;  /* tokens in each cache before the first timed one */
    uint32_t batch;    /* sequences, 1 or more */
};

/* ERR_CONFIG with the expected form, and for more than WORKLOAD_MAX_POSITIONS in all. */
#define WORKLOAD_MAX_POSITIONS (1u << 26)
int workload_parse(const char *text, struct workload *workload, struct err *err);
const char *workload_format(const struct workload *workload, char text[32]);
bool workload_equal(const struct workload *a, const struct workload *b);
/* "ttft_ms" for prefill, "tpot_ms" for decode. */
const char *workload_metric(const struct workload *workload);

/* Positions of each sequence when it is through. */
uint32_t workload_positions(const struct workload *workload);
/* Tokens of a timed pass: one of each sequence (decode), all prompts (prefill). */
uint32_t workload_columns(const struct workload *workload);
/* Tokens that all sequences together get or have read in a second, from the workload's metric. */
double workload_tokens_per_s(const struct workload *workload, double metric_ns);

#endif
