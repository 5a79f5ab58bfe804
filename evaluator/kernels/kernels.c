/* kernels.c - which kernel set runs here.  A set is built once a process, on first demand, and
 * offered only when it reproduces the reference (kernels_check.c). */
#include "evaluator/kernels/act_pack.h"
#include "evaluator/kernels/kernel_sets.h"
#include "space/base/err.h"
#include "space/base/log.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static const char *const isa_names[N_ISAS] = {
    [ISA_REF] = "ref", [ISA_AVX2] = "avx2", [ISA_AVX512] = "avx512-vnni", [ISA_AMX] = "amx"};

static struct kernels sets[N_ISAS];
static struct err refusals[N_ISAS]; /* why a set is not offered; ERR_NONE when it is */

size_t kernels_act_bytes(enum format weights, enum act_format act, size_t n_in)
{
    if (act == ACT_FLOAT)
        return n_in * sizeof(float);
    assert(format_fits(weights, n_in));
    return act_pack_bytes(n_in, act_group(weights));
}

/* Keys, values and weights of a tile; of each column its query, its sum and three figures. */
static size_t tile_floats(size_t head_dim)
{
    size_t padded = attend_padded(head_dim), tile = attend_tile(head_dim), most_queries = 32;
    return (2 * tile + 1) * padded + tile * most_queries + ATTEND_COLUMNS * (2 * padded + 3);
}

/* Weights, plain and scaled; queries of bunches of eight, of which the last may be two, and sums. */
static size_t one_floats(size_t head_dim)
{
    return 2 * 8 * ATTEND_CHUNK + (ATTEND_COLUMNS / 8 + 2) * 16 * attend_pieces(head_dim);
}

size_t kernels_attend_bytes(size_t head_dim)
{
    size_t tile = tile_floats(head_dim), one = one_floats(head_dim);
    return (tile > one ? tile : one) * sizeof(float);
}

static void build_reference(void)
{
    struct kernels *set = &sets[ISA_REF];
    set->isa = ISA_REF;
    set->name = isa_names[ISA_REF];
    matmul_ref_fill(set);
    layer_ref_fill(set);
    moments_ref_fill(set);
    cache_ref_fill(set);
    attend_ref_fill(set);
}

const struct kernels *kernels_reference(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, build_reference);
    return &sets[ISA_REF];
}

/* The fast sets exist for x86-64 alone; elsewhere the reference serves. */
#if defined(__x86_64__)
static bool machine_has(enum isa isa)
{
    /* Conversions of f16 need no question: whoever has AVX2 has them. */
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (isa == ISA_AVX2)
        return avx2;
    return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni") && (isa != ISA_AMX || amx_is_there());
}

static int machine_permits(enum isa isa, struct err *err)
{
    return isa == ISA_AMX ? amx_permit(err) : 0;
}

static void set_fill(enum isa isa, struct kernels *set)
{
    if (isa == ISA_AVX2) {
        int8_avx2_fill(set);
        float_avx2_fill(set);
        layer_avx2_fill(set);
        moments_avx2_fill(set);
        cache_avx2_fill(set);
        attend_avx2_fill(set);
    } else if (isa == ISA_AMX) {
        int8_amx_fill(set);
        float_amx_fill(set);
    } else {
        int8_avx512_fill(set);
        float_avx512_fill(set);
        layer_avx512_fill(set);
        moments_avx512_fill(set);
        cache_avx512_fill(set);
        attend_avx512_fill(set);
    }
}
#else
static bool machine_has(enum isa isa)
{
    (void)isa;
    return false;
}

static int machine_permits(enum isa isa, struct err *err)
{
    (void)isa;
    (void)err;
    return 0;
}

static void set_fill(enum isa isa, struct kernels *set)
{
    (void)isa;
    (void)set;
}
#endif

static void build(enum isa isa)
{
    struct err *err = &refusals[isa];
    if (!machine_has(isa)) {
        err_set(err, ERR_RESOURCE, "kernels %s: this processor lacks the instructions",
                isa_names[isa]);
        return;
    }
    if (machine_permits(isa, err) != 0)
        return;
    const struct kernels *base =
        isa == ISA_AMX ? kernels_for(ISA_AVX512, err) : kernels_reference();
    if (base == NULL)
        return;
    sets[isa] = *base;
    sets[isa].isa = isa;
    sets[isa].name = isa_names[isa];
    set_fill(isa, &sets[isa]);
    if (kernels_check(&sets[isa], kernels_reference(), err) != 0)
        log_warn("kernels", "%s is not used: %s", isa_names[isa], err->text);
}

static void build_avx2(void)
{
    build(ISA_AVX2);
}

static void build_avx512(void)
{
    build(ISA_AVX512);
}

static void build_amx(void)
{
    build(ISA_AMX);
}

const struct kernels *kernels_for(enum isa isa, struct err *err)
{
    static pthread_once_t avx2_once = PTHREAD_ONCE_INIT, avx512_once = PTHREAD_ONCE_INIT,
                          amx_once = PTHREAD_ONCE_INIT;
    switch (isa) {
    case ISA_REF:
        return kernels_reference();
    case ISA_AVX2:
        pthread_once(&avx2_once, build_avx2);
        break;
    case ISA_AVX512:
        pthread_once(&avx512_once, build_avx512);
        break;
    case ISA_AMX:
        pthread_once(&amx_once, build_amx);
        break;
    default:
        assert(!"an instruction set");
    }
    if (refusals[isa].code != ERR_NONE) {
        if (err != NULL)
            *err = refusals[isa];
        return NULL;
    }
    return &sets[isa];
}

int kernels_check_variable(struct err *err)
{
    const char *name = getenv(KERNELS_VARIABLE);

    if (name == NULL)
        return 0;
    if (isa_parse(name) == N_ISAS) {
        err_set(err, ERR_USAGE,
                "%s: no kernels of that name; expected ref, avx2, avx512-vnni or amx", name);
        return -1;
    }
    return kernels_for(isa_parse(name), err) != NULL ? 0 : -1;
}

const struct kernels *kernels_select(void)
{
    const char *name = getenv(KERNELS_VARIABLE);
    const struct kernels *named =
        name != NULL && isa_parse(name) != N_ISAS ? kernels_for(isa_parse(name), NULL) : NULL;

    if (named != NULL)
        return named;
    for (int isa = N_ISAS - 1; isa > ISA_REF; isa--) {
        const struct kernels *set = kernels_for((enum isa)isa, NULL);
        if (set != NULL)
            return set;
    }
    return kernels_reference();
}

const char *isa_name(enum isa isa)
{
    return (int)isa >= 0 && isa < N_ISAS ? isa_names[isa] : "none";
}

enum isa isa_parse(const char *name)
{
    for (int isa = 0; isa < N_ISAS; isa++)
        if (strcmp(isa_names[isa], name) == 0)
            return (enum isa)isa;
    return N_ISAS;
}
