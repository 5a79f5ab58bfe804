#include "latency_model/stand.h"

#include "latency_model/resident.h"
#include "latency_model/workload_run.h"
#include "space/base/clock.h"
#include "space/base/err.h"
#include "space/base/units.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define ENERGY_S 1.0 /* counters tick every millisecond or so */

/* Of a stand whose machine and number of threads are known; cpu NULL: as planned for one worker. */
static int open_cores(struct stand *stand, const int *cpu, struct err *err)
{
    stand->cpu = calloc(stand->n_threads, sizeof *stand->cpu);
    if (stand->cpu == NULL) {
        err_set(err, ERR_MEMORY, "probe: out of memory");
        return -1;
    }
    if (cpu != NULL)
        memcpy(stand->cpu, cpu, stand->n_threads * sizeof *cpu);
    else if (machine_plan(stand->machine, 0, 1, stand->n_threads, stand->cpu, err) != 0)
        return -1;
    struct machine_place place = {.machine = stand->machine, .cpu = stand->cpu};
    machine_device_class(stand->machine, stand->n_threads, stand->kernels->name, &stand->device);
    stand->team = team_create(stand->n_threads, machine_place_member, &place, err);
    stand->quiet = stand->team != NULL ? quiet_open(err) : NULL;
    stand->place = (struct sample_place){.cpu = stand->cpu[0], .team = stand->team};
    return stand->quiet != NULL ? 0 : -1;
}

int stand_open_on(struct stand *stand, const int *cpu, uint32_t n_threads, struct err *err)
{
    *stand = (struct stand){.kernels = kernels_select()};
    stand->machine = machine_load(err);
    if (stand->machine == NULL)
        return -1;
    stand->n_threads = n_threads > 0 ? n_threads : machine_n_cores(stand->machine);
    if (open_cores(stand, cpu, err) == 0)
        return 0;
    stand_close(stand);
    return -1;
}

int stand_open(struct stand *stand, uint32_t n_threads, struct err *err)
{
    return stand_open_on(stand, NULL, n_threads, err);
}

void stand_close(struct stand *stand)
{
    quiet_close(stand->quiet);
    team_destroy(stand->team);
    free(stand->cpu);
    if (stand->machine != NULL)
        machine_free_thread(stand->machine);
    machine_destroy(stand->machine);
    memset(stand, 0, sizeof *stand);
}

/* --- timing --- */

void stand_recall(struct stand *stand)
{
    footing_recall(stand->device.name, &stand->place.best);
}

void stand_keep(const struct stand *stand)
{
    footing_keep(stand->device.name, &stand->place.best);
}

/* A number that another build of kerf does not have: the reference may be faster in it. */
static unsigned long long build_mark(void)
{
    struct stat self;

    if (stat("/proc/self/exe", &self) != 0)
        return 0;
    return (unsigned long long)self.st_mtim.tv_sec * 1000000007ull +
           (unsigned long long)self.st_mtim.tv_nsec + (unsigned long long)self.st_size;
}

/* Of what pressed caches cost a reference a model of so many of its bytes is spared this power
 * (sample.h).  A token waits for weights alone: half of them stay where they are.  A prefill waits
 * for arithmetic, too, and its activations take room whatever the weights.  Fitted to what
 * tests/bench/bench_repeat did on a 2-core virtual machine, tg32@b1 and pp128@b1. */
static double spared_of(const struct workload *workload, double share_of_bytes)
{
    double less = fmax(0, 1 - share_of_bytes);

    return workload->kind == WORKLOAD_DECODE ? fmin(1, 2 * less) : 0.75 * less * less;
}

/* Two probes of one pair differ by so much beyond what their rounds show (log ratios, standard
 * deviation), and the more, the more of the shared cache the candidate takes; measured likewise.  Of
 * models that no cache keeps no more is known. */
static double between_of(double share_of_bytes)
{
    return 0.0045 + 0.006 * share_of_bytes;
}

/* The name of a reference that the last cache keeps together with its candidate, how the two share
 * its pressure, and what is not known of it. */
static void set_reference(struct stand *stand, const struct model *reference,
                          const struct model *candidate, const struct workload *workload,
                          struct probe_plan *plan)
{
    uint64_t bytes[2] = {model_weight_bytes(reference), model_weight_bytes(candidate)};
    uint64_t all = reference == candidate ? bytes[0] : bytes[0] + bytes[1];
    double share = (double)bytes[1] / (double)bytes[0];
    char name[32], *text = stand->place.reference;

    text[0] = '\0';
    plan->between = between_of(0);
    if (all > machine_last_cache(stand->machine))
        return;
    snprintf(text, sizeof stand->place.reference, "%s/%s/%llu-bytes/%llx", stand->device.name,
             workload_format(workload, name), (unsigned long long)bytes[0], build_mark());
    stand->place.spared = spared_of(workload, share);
    plan->between = between_of(reference == candidate ? 0 : share);
}

int stand_time(struct stand *stand, struct forward *reference, struct forward *candidate,
               const int32_t *tokens, const struct workload *workload,
               const struct probe_plan *plan, struct rng *rng, struct probe_result results[2],
               struct err *err)
{
    uint32_t n_vocab = forward_model(reference)->geometry.n_vocab;
    struct workload_run run[2] = {workload_run_make(reference, tokens, workload, n_vocab),
                                  workload_run_make(candidate, tokens, workload, n_vocab)};
    struct probe_plan own = *plan;

    stand_recall(stand);
    set_reference(stand, forward_model(reference), forward_model(candidate), workload, &own);
    for (int i = 0; i < 2 && stand->place.reference[0] != '\0'; i++)
        workload_run_settle(&run[i]);
    struct probe_item items[2] = {workload_run_item(&run[0]), workload_run_item(&run[1])};
    int status = probe_run(items, 2, &own, &stand->place, rng, results, err);
    stand_keep(stand);
    return status;
}

static struct forward *make_forward(struct stand *stand, const struct model *model,
                                    const struct workload *workload, struct err *err)
{
    struct forward_options options = {0};

    workload_run_room(workload, &options);
    struct forward *forward = forward_create(model, stand->kernels, stand->team, &options, err);
    char name[32];
    if (forward == NULL)
        err_prefix(err, "%s", workload_format(workload, name));
    return forward;
}

/* What is more than the machine has would not be refused when it is touched, but killed for. */
static int check_memory(const struct stand *stand, const struct forward *a, const struct forward *b,
                        const struct workload *workload, struct err *err)
{
    double wanted = (double)forward_bytes(a) + (double)forward_bytes(b);
    double there = (double)machine_memory(stand->machine);
    char name[32], size[2][32];

    if (there == 0 || wanted <= there)
        return 0;
    err_set(err, ERR_MEMORY, "%s: caches and buffers of two models take %s, this machine has %s",
            workload_format(workload, name), units_format_size(wanted, size[0]),
            units_format_size(there, size[1]));
    return -1;
}

int stand_probe(struct stand *stand, const struct stand_pair *pair, const struct workload *workload,
                const struct probe_plan *plan, struct rng *rng, struct probe_result results[2],
                struct err *err)
{
    struct forward *reference = make_forward(stand, pair->reference, workload, err);
    struct forward *candidate =
        reference != NULL ? make_forward(stand, pair->candidate, workload, err) : NULL;
    int status = -1;

    if (candidate != NULL && check_memory(stand, reference, candidate, workload, err) == 0 &&
        quiet_probe_begin(stand->quiet, err) == 0) {
        status = stand_time(stand, reference, candidate, pair->tokens, workload, plan, rng, results,
                            err);
        quiet_probe_end(stand->quiet);
    }
    forward_destroy(candidate);
    forward_destroy(reference);
    return status;
}

/* --- what else it takes --- */

static int run_once(const struct probe_item *item, struct err *err)
{
    if (item->prepare != NULL && item->prepare(item->arg, err) != 0)
        return -1;
    return item->run(item->arg, err);
}

/* Joules for a unit of the workload; users share the energy of a pass, not its time. */
static int take_energy(struct forward *forward, const int32_t *tokens,
                       const struct workload *workload, double seconds, double *joules,
                       struct err *err)
{
    struct workload_run run =
        workload_run_make(forward, tokens, workload, forward_model(forward)->geometry.n_vocab);
    struct probe_item item = workload_run_item(&run);
    int64_t end = clock_now_ns() + (int64_t)(seconds * 1e9);
    struct energy energy;
    double n_units = 0;

    *joules = NAN;
    if (!energy_begin(&energy, ENERGY_SYSTEM))
        return 0;
    do {
        if (run_once(&item, err) != 0)
            return -1;
        n_units += item.n_units * workload->batch;
    } while (clock_now_ns() < end);
    *joules = energy_joules(&energy) / n_units;
    return 0;
}

int stand_energy(struct stand *stand, const struct stand_pair *pair,
                 const struct workload *workload, double *joules, struct err *err)
{
    struct forward *forward = make_forward(stand, pair->candidate, workload, err);
    int status = -1;

    if (forward != NULL && quiet_probe_begin(stand->quiet, err) == 0) {
        status = take_energy(forward, pair->tokens, workload, ENERGY_S, joules, err);
        quiet_probe_end(stand->quiet);
    }
    forward_destroy(forward);
    return status;
}

int stand_weigh(struct forward *forward, const int32_t *tokens,
                const struct workload workloads[STAND_WORKLOADS], double seconds,
                struct stand_needs *needs, struct err *err)
{
    bool known = resident_begin();

    for (int w = 0; w < STAND_WORKLOADS; w++) {
        struct workload_run run = workload_run_make(forward, tokens, &workloads[w],
                                                    forward_model(forward)->geometry.n_vocab);
        struct probe_item item = workload_run_item(&run);
        if (run_once(&item, err) != 0)
            return -1;
    }
    needs->peak_bytes = known ? resident_peak() : NAN;
    for (int w = 0; w < STAND_WORKLOADS; w++)
        if (take_energy(forward, tokens, &workloads[w], seconds, &needs->joules[w], err) != 0)
            return -1;
    return 0;
}
