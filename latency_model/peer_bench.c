#include "latency_model/peer_bench.h"
#include "space/base/err.h"
#include "space/profile.h"
#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int peer_bench_find(const char *named, char program[PROGRAM_PATH_MAX], struct err *err)
{
    const char *variable = getenv(PEER_BENCH_VARIABLE);
    bool is_set = variable != NULL && variable[0] != '\0';
    if (program_find(named != NULL ? named
                     : is_set      ? variable
                                   : PEER_BENCH_NAME,
                     program, err) == 0)
        return 0;
    /* What was asked for is used or refused, never quietly replaced. */
    if (named != NULL)
        err_prefix(err, "--bench");
    else if (is_set)
        err_prefix(err, PEER_BENCH_VARIABLE);
    else
        err_set(err, ERR_RESOURCE,
                "%s is not on PATH, so nothing can be timed in llama.cpp; "
                "--bench PROGRAM or %s=PROGRAM names one",
                PEER_BENCH_NAME, PEER_BENCH_VARIABLE);
    return -1;
}

int peer_bench_can(const struct workload *workload, struct err *err)
{
    char name[32];
    if (workload->batch == 1)
        return 0;
    err_set(err, ERR_RESOURCE,
            "%s: %s times one sequence alone; only workloads of batch 1 can be compared",
            workload_format(workload, name), PEER_BENCH_NAME);
    return -1;
}

/* Its command line; numbers live in `number`. */
static void compose(const struct peer_bench *bench, const char *gguf,
                    const struct workload *workload, char number[4][16], const char *argv[26])
{
    bool decode = workload->kind == WORKLOAD_DECODE;
    int n = 0;
    snprintf(number[0], 16, "%u", workload->n_tokens);
    snprintf(number[1], 16, "%u", bench->n_threads);
    snprintf(number[2], 16, "%u", bench->n_samples);
    snprintf(number[3], 16, "%u", workload->context);
    argv[n++] = bench->program;
    argv[n++] = "-m";
    argv[n++] = gguf;
    argv[n++] = "-p";
    argv[n++] = decode ? "0" : number[0];
    argv[n++] = "-n";
    argv[n++] = decode ? number[0] : "0";
    argv[n++] = "-t";
    argv[n++] = number[1];
    argv[n++] = "-r";
    argv[n++] = number[2];
    argv[n++] = "-ngl";
    argv[n++] = "0";
    /* Older builds do not know the option and need not. */
    if (workload->context > 0) {
        argv[n++] = "-d";
        argv[n++] = number[3];
    }
    if (bench->kv != FORMAT_F16) {
        argv[n++] = "-ctk";
        argv[n++] = profile_cache_type(bench->kv);
        argv[n++] = "-ctv";
        argv[n++] = profile_cache_type(bench->kv);
        argv[n++] = "-fa"; /* values in blocks are for that kind of attention alone */
        argv[n++] = "1";
    }
    argv[n++] = "-o";
    argv[n++] = "json";
    argv[n] = NULL;
}

int peer_bench_run(const struct peer_bench *bench, const char *gguf,
                   const struct workload *workload, struct peer_sample *sample, struct err *err)
{
    char number[4][16];
    const char *argv[26];
    size_t n_bytes;
    assert(bench->n_samples >= 1 && bench->n_samples <= PEER_BENCH_MAX_SAMPLES);
    assert(workload->batch == 1);
    compose(bench, gguf, workload, number, argv);
    struct program_run run = {.path = bench->program,
                              .argv = (char *const *)argv,
                              .cpu = bench->cpu,
                              .n_cpu = bench->cpu != NULL ? bench->n_threads : 0,
                              .limit_s = bench->limit_s,
                              .stop = bench->stop};
    char *text = program_run(&run, &n_bytes, err);
    if (text == NULL)
        return -1;
    int status = peer_bench_parse(bench, workload, text, n_bytes, sample, err);
    free(text);
    return status;
}
