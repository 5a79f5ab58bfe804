/* train_backend_amx.c - the table of the tile backend, and whether this machine can run it.
 * Built without special flags: it only asks. */
#include <cpuid.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "evaluator/reference/train_gemm_amx.h"
#include "evaluator/reference/train_rows.h"

static const struct train_backend table = {
    .name = "amx",
    .rows = &train_rows_bf16,
    .weight_bytes = gemm_amx_weight_bytes,
    .weight_pack = gemm_amx_weight_pack,
    .linear_scratch = gemm_amx_scratch,
    .linear = gemm_amx_linear,
    .linear_back = gemm_amx_linear_back,
    .linear_weight = gemm_amx_linear_weight,
    .attention_fits = attention_amx_fits,
    .attention_scratch = attention_amx_scratch,
    .attention = attention_amx,
    .attention_back = attention_amx_back,
};

/* Tile data is off for a process until it asks once (Linux 5.16); threads started later inherit
 * the permission.  NULL when granted, else the reason. */
static const char *ask_kernel(void)
{
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    if (syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) != 0)
        return "the kernel does not grant AMX tiles to this process";
    return NULL;
}

static const char *probe(void)
{
    unsigned a, b, c, d;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq") ||
        !__builtin_cpu_supports("avx512bf16"))
        return "this processor has no AVX-512 with bf16";
    /* Leaf 7, EDX: bit 22 AMX-BF16, bit 24 AMX-TILE. */
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & 1u << 22) || !(d & 1u << 24))
        return "this processor has no AMX tiles for bf16";
    return ask_kernel();
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static const char *refusal;

static void probe_once(void)
{
    refusal = probe();
}

const struct train_backend *train_backend_amx(const char **why)
{
    pthread_once(&once, probe_once);
    *why = refusal;
    return refusal == NULL ? &table : NULL;
}
