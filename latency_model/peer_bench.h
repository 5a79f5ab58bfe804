/* peer_bench.h - the same model timed in another engine: llama-bench, the program by which users of
 * llama.cpp measure, on one GGUF file and one workload at a time.
 *
 * It is asked for `-o json` and answers with an array of one object per test, of which this reads
 * n_prompt, n_gen, n_depth (absent in builds before May 2025), n_threads, samples_ns (one time a
 * repetition, without the filling of the context), build_commit, build_number, cpu_info,
 * gpu_info, type_k and type_v.  Every field is untrusted.  It warms up by itself, feeds random
 * tokens, keeps its cache in 16 bits unless told otherwise, and times the evaluation alone, as
 * kerf's probe does. */
#ifndef KERF_PEER_BENCH_H
#define KERF_PEER_BENCH_H

#include "latency_model/program.h"
#include "space/format.h"
#include "space/workload.h"

#define PEER_BENCH_VARIABLE    "LLAMA_BENCH"
#define PEER_BENCH_NAME        "llama-bench"
#define PEER_BENCH_MAX_SAMPLES 64

struct peer_bench {
    char program[PROGRAM_PATH_MAX];
    uint32_t n_threads;
    const int *cpu;     /* [n_threads] PUs that it is confined to; NULL: wherever kerf may run */
    uint32_t n_samples; /* repetitions a run, 1..PEER_BENCH_MAX_SAMPLES */
    enum format kv;     /* of the KV cache; F16 is what it uses unasked */
    double limit_s;     /* of a run, the loading of the file included */
    const volatile sig_atomic_t *stop; /* see program.h */
};

struct peer_sample {
    double ns[PEER_BENCH_MAX_SAMPLES]; /* [n] per token (decode) or per prompt (prefill) */
    uint32_t n;
    char build[64]; /* "c392e509 (4756)"; "unknown" */
    char cpu[96];   /* as it names the processor; may be empty */
};

/* The program: `named` unless NULL, else what LLAMA_BENCH names, else llama-bench on PATH.
 * ERR_RESOURCE with the remedy where there is none. */
int peer_bench_find(const char *named, char program[PROGRAM_PATH_MAX], struct err *err);

/* ERR_RESOURCE for a workload that it cannot time: it decodes one sequence alone. */
int peer_bench_can(const struct workload *workload, struct err *err);

/* Time `workload`, which it can, on the file.  -1 with program_run's errors, or ERR_DATA when the
 * answer is not what was asked for; ERR_RESOURCE when it would have used a GPU. */
int peer_bench_run(const struct peer_bench *bench, const char *gguf,
                   const struct workload *workload, struct peer_sample *sample, struct err *err);

/* What peer_bench_run makes of an answer of `n_bytes`: exactly one test, of this workload, with
 * these threads, this KV cache and bench->n_samples positive times. */
int peer_bench_parse(const struct peer_bench *bench, const struct workload *workload,
                     const char *text, size_t n_bytes, struct peer_sample *sample, struct err *err);

#endif
