/* train_backend.c - which backends this machine can run.  Built without special flags: it only
 * asks, and hands out the tables of files that need more. */
#include "evaluator/reference/train_backend.h"

#include <cpuid.h>
#include <pthread.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

extern const struct train_backend train_table_amx, train_table_dot;

/* Tile data is off for a process until it asks once (Linux 5.16); threads started later inherit
 * the permission.  NULL when granted, else the reason. */
static const char *ask_kernel(void)
{
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    if (syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) != 0)
        return "the kernel does not grant AMX tiles to this process";
    return NULL;
}

static const char *probe_dot(void)
{
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq") ||
        !__builtin_cpu_supports("avx512bf16"))
        return "this processor has no AVX-512 with bf16";
    return NULL;
}

static const char *probe_amx(void)
{
    unsigned a, b, c, d;
    const char *why = probe_dot();
    if (why != NULL)
        return why;
    /* Leaf 7, EDX: bit 22 AMX-BF16, bit 24 AMX-TILE. */
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & 1u << 22) || !(d & 1u << 24))
        return "this processor has no AMX tiles for bf16";
    return ask_kernel();
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static const char *no_amx, *no_dot;

static void probe_once(void)
{
    no_amx = probe_amx();
    no_dot = probe_dot();
}

const struct train_backend *train_backend_find(const char *name, const char **why)
{
    pthread_once(&once, probe_once);
    *why = NULL;
    if (strcmp(name, "f32") == 0)
        return &train_backend_f32;
    if (strcmp(name, "amx") == 0) {
        *why = no_amx;
        return no_amx == NULL ? &train_table_amx : NULL;
    }
    if (strcmp(name, "dot") == 0) {
        *why = no_dot;
        return no_dot == NULL ? &train_table_dot : NULL;
    }
    *why = "backends are amx, dot and f32";
    return NULL;
}

const struct train_backend *train_backend_best(const struct train_heads *heads, const char **why)
{
    const struct train_backend *b = train_backend_find("amx", why);
    if (b == NULL)
        b = train_backend_find("dot", why);
    if (b == NULL)
        return &train_backend_f32;
    if (!b->attention_fits(heads)) {
        *why = "blocks need a context and a head size that are multiples of 32";
        return &train_backend_f32;
    }
    return b;
}
