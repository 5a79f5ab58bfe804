/* workload.c - the names of workloads, read and written: KIND TOKENS [@c CONTEXT] @b BATCH. */
#include "space/workload.h"

#include "space/base/err.h"

#include <stdio.h>
#include <string.h>

#define MAX_TOKENS (1U << 24)

/* A decimal number from 1 (or 0) to MAX_TOKENS without leading zeros; advances *text past it. */
static bool take_number(const char **text, uint32_t *value)
{
    const char *at = *text;
    uint32_t number = 0;

    if (*at < '0' || *at > '9' || (at[0] == '0' && at[1] >= '0' && at[1] <= '9'))
        return false;
    for (; *at >= '0' && *at <= '9'; at++) {
        number = number * 10 + (uint32_t)(*at - '0');
        if (number > MAX_TOKENS)
            return false;
    }
    *text = at;
    *value = number;
    return true;
}

static bool take_word(const char **text, const char *word)
{
    size_t len = strlen(word);

    if (strncmp(*text, word, len) != 0)
        return false;
    *text += len;
    return true;
}

static bool scan(const char *at, struct workload *workload)
{
    memset(workload, 0, sizeof *workload);
    if (take_word(&at, "pp"))
        workload->kind = WORKLOAD_PREFILL;
    else if (take_word(&at, "tg"))
        workload->kind = WORKLOAD_DECODE;
    else
        return false;
    if (!take_number(&at, &workload->n_tokens) || workload->n_tokens == 0)
        return false;
    if (take_word(&at, "@c") && !take_number(&at, &workload->context))
        return false;
    return take_word(&at, "@b") && take_number(&at, &workload->batch) && workload->batch >= 1 &&
           *at == '\0';
}

int workload_parse(const char *text, struct workload *workload, struct err *err)
{
    struct workload read;

    if (!scan(text, &read)) {
        err_set(err, ERR_CONFIG,
                "\"%.40s\" is no workload; expected \"pp512@b1\" (prefill of 512 tokens), "
                "\"tg128@b1\" (128 tokens generated) or \"tg32@c64@b8\" (after 64 others, 8 "
                "sequences at once)",
                text);
        return -1;
    }
    if ((uint64_t)read.batch * ((uint64_t)read.context + read.n_tokens) > WORKLOAD_MAX_POSITIONS) {
        err_set(err, ERR_CONFIG, "workload \"%.40s\": more than %u positions in all", text,
                WORKLOAD_MAX_POSITIONS);
        return -1;
    }
    *workload = read;
    return 0;
}

const char *workload_format(const struct workload *workload, char text[32])
{
    const char *kind = workload->kind == WORKLOAD_PREFILL ? "pp" : "tg";

    if (workload->context > 0)
        snprintf(text, 32, "%s%u@c%u@b%u", kind, workload->n_tokens, workload->context,
                 workload->batch);
    else
        snprintf(text, 32, "%s%u@b%u", kind, workload->n_tokens, workload->batch);
    return text;
}

bool workload_equal(const struct workload *a, const struct workload *b)
{
    return a->kind == b->kind && a->n_tokens == b->n_tokens && a->context == b->context &&
           a->batch == b->batch;
}

const char *workload_metric(const struct workload *workload)
{
    return workload->kind == WORKLOAD_PREFILL ? "ttft_ms" : "tpot_ms";
}

uint32_t workload_positions(const struct workload *workload)
{
    return workload->context + workload->n_tokens;
}

uint32_t workload_columns(const struct workload *workload)
{
    return workload->batch * (workload->kind == WORKLOAD_PREFILL ? workload->n_tokens : 1);
}

double workload_tokens_per_s(const struct workload *workload, double metric_ns)
{
    return workload_columns(workload) / (metric_ns * 1e-9);
}
