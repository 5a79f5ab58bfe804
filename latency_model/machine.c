#include "latency_model/machine.h"
#include "space/base/err.h"
#include <ctype.h>
#include <errno.h>
#include <hwloc.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct machine {
    hwloc_topology_t topology;
    uint32_t n_cores;
};

static struct machine *machine_wrap(hwloc_topology_t topology, struct err *err)
{
    struct machine *machine = malloc(sizeof *machine);
    int n_cores = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_CORE);
    int n_pus = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_PU);
    if (machine == NULL || (n_cores <= 0 && n_pus <= 0)) {
        err_set(err, machine == NULL ? ERR_MEMORY : ERR_RESOURCE,
                "topology: no core that may be used");
        hwloc_topology_destroy(topology);
        free(machine);
        return NULL;
    }
    /* Some virtual machines show PUs without cores: then each is one. */
    *machine = (struct machine){.topology = topology,
                                .n_cores = (uint32_t)(n_cores > 0 ? n_cores : n_pus)};
    return machine;
}

static hwloc_topology_t topology_new(unsigned long flags, struct err *err)
{
    hwloc_topology_t topology;
    if (hwloc_topology_init(&topology) != 0) {
        err_set(err, ERR_RESOURCE, "topology: hwloc cannot start");
        return NULL;
    }
    hwloc_topology_set_flags(topology, flags);
    hwloc_topology_set_io_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_NONE);
    return topology;
}

static struct machine *topology_ready(hwloc_topology_t topology, const char *from, struct err *err)
{
    if (hwloc_topology_load(topology) != 0) {
        err_set(err, ERR_RESOURCE, "topology: hwloc cannot read %s", from);
        hwloc_topology_destroy(topology);
        return NULL;
    }
    return machine_wrap(topology, err);
}

struct machine *machine_load(struct err *err)
{
    /* Without these flags hwloc ignores taskset and inherited affinity (mpi.md section 8). */
    hwloc_topology_t topology = topology_new(
        HWLOC_TOPOLOGY_FLAG_RESTRICT_TO_CPUBINDING | HWLOC_TOPOLOGY_FLAG_IS_THISSYSTEM, err);
    return topology != NULL ? topology_ready(topology, "this machine", err) : NULL;
}

struct machine *machine_load_synthetic(const char *description, struct err *err)
{
    hwloc_topology_t topology = topology_new(0, err);
    if (topology != NULL && hwloc_topology_set_synthetic(topology, description) != 0) {
        err_set(err, ERR_DATA, "topology: hwloc does not understand '%s'", description);
        hwloc_topology_destroy(topology);
        return NULL;
    }
    return topology != NULL ? topology_ready(topology, description, err) : NULL;
}

struct machine *machine_load_xml(const char *path, struct err *err)
{
    hwloc_topology_t topology = topology_new(0, err);
    if (topology != NULL && hwloc_topology_set_xml(topology, path) != 0) {
        err_set(err, ERR_DATA, "%s: no hwloc XML", path);
        hwloc_topology_destroy(topology);
        return NULL;
    }
    return topology != NULL ? topology_ready(topology, path, err) : NULL;
}

void machine_destroy(struct machine *machine)
{
    if (machine == NULL)
        return;
    hwloc_topology_destroy(machine->topology);
    free(machine);
}

uint32_t machine_n_cores(const struct machine *machine)
{
    return machine->n_cores;
}

bool machine_is_real(const struct machine *machine)
{
    return hwloc_topology_is_thissystem(machine->topology) == 1;
}

/* --- planning --- */

/* One PU of each whole core under `object`, in logical order; returns how many. */
static uint32_t list_cores(const struct machine *machine, hwloc_const_cpuset_t cpuset, int *pu,
                           uint32_t most)
{
    hwloc_bitmap_t one = hwloc_bitmap_dup(cpuset);
    if (one == NULL)
        return 0;
    hwloc_bitmap_and(one, one, hwloc_topology_get_allowed_cpuset(machine->topology));
    hwloc_bitmap_singlify_per_core(machine->topology, one, 0);
    uint32_t n = 0;
    /* hwloc's cores come in logical order, a bitmap's bits in the system's: ask core by core. */
    int depth = hwloc_get_type_or_below_depth(machine->topology, HWLOC_OBJ_CORE);
    for (hwloc_obj_t core = hwloc_get_obj_by_depth(machine->topology, depth, 0);
         core != NULL && n < most; core = core->next_cousin) {
        int first = -1;
        for (int i = hwloc_bitmap_first(core->cpuset); i >= 0 && first < 0;
             i = hwloc_bitmap_next(core->cpuset, i))
            if (hwloc_bitmap_isset(one, (unsigned)i))
                first = i;
        if (first >= 0)
            pu[n++] = first;
    }
    hwloc_bitmap_free(one);
    return n;
}

/* Workers take NUMA nodes in turn; on a node each takes the next `n_threads` cores. */
static int plan_on_nodes(const struct machine *machine, uint32_t worker, uint32_t n_threads,
                         int *cpu)
{
    int n_nodes = hwloc_get_nbobjs_by_type(machine->topology, HWLOC_OBJ_NUMANODE);
    int *pu = malloc((size_t)machine->n_cores * sizeof *pu);
    uint32_t turn = 0;
    int status = -1;
    for (uint32_t round = 0; pu != NULL && round < machine->n_cores && status != 0; round++) {
        bool fits = false;
        for (int node = 0; node < n_nodes && status != 0; node++) {
            hwloc_obj_t numa =
                hwloc_get_obj_by_type(machine->topology, HWLOC_OBJ_NUMANODE, (unsigned)node);
            uint32_t n = list_cores(machine, numa->cpuset, pu, machine->n_cores);
            if ((round + 1) * n_threads > n)
                continue;
            fits = true;
            if (turn++ == worker) {
                memcpy(cpu, pu + round * n_threads, n_threads * sizeof *cpu);
                status = 0;
            }
        }
        if (!fits)
            break;
    }
    free(pu);
    return status;
}

/* A worker too wide for one node takes cores in logical order across nodes. */
static int plan_across(const struct machine *machine, uint32_t worker, uint32_t n_threads, int *cpu)
{
    int *pu = malloc((size_t)machine->n_cores * sizeof *pu);
    uint32_t n = pu == NULL
                     ? 0
                     : list_cores(machine, hwloc_topology_get_topology_cpuset(machine->topology),
                                  pu, machine->n_cores);
    bool fits = (uint64_t)(worker + 1) * n_threads <= n;
    if (fits)
        memcpy(cpu, pu + (size_t)worker * n_threads, n_threads * sizeof *cpu);
    free(pu);
    return fits ? 0 : -1;
}

int machine_plan(const struct machine *machine, uint32_t worker, uint32_t n_workers,
                 uint32_t n_threads, int *cpu, struct err *err)
{
    if (n_threads >= 1 && worker < n_workers &&
        (uint64_t)n_workers * n_threads <= machine->n_cores &&
        (plan_on_nodes(machine, worker, n_threads, cpu) == 0 ||
         plan_across(machine, worker, n_threads, cpu) == 0))
        return 0;
    err_set(err, ERR_RESOURCE,
            "%u workers of %u threads need %llu cores, this machine gives %u; "
            "use fewer workers or --threads",
            n_workers, n_threads, (unsigned long long)n_workers * n_threads, machine->n_cores);
    return -1;
}

/* --- binding --- */

int machine_bind_thread(const struct machine *machine, int cpu, struct err *err)
{
    if (!machine_is_real(machine)) {
        err_set(err, ERR_RESOURCE, "this topology is not this machine's: binding would do nothing");
        return -1;
    }
    hwloc_bitmap_t wanted = hwloc_bitmap_alloc(), got = hwloc_bitmap_alloc();
    int status = -1;
    if (wanted == NULL || got == NULL)
        err_set(err, ERR_MEMORY, "binding: out of memory");
    else if (hwloc_bitmap_only(wanted, (unsigned)cpu) != 0 ||
             hwloc_set_cpubind(machine->topology, wanted,
                               HWLOC_CPUBIND_THREAD | HWLOC_CPUBIND_STRICT) != 0)
        err_set_errno(err, errno, "cannot bind a thread to PU %d", cpu);
    else if (hwloc_get_cpubind(machine->topology, got, HWLOC_CPUBIND_THREAD) != 0 ||
             !hwloc_bitmap_isequal(wanted, got))
        err_set(err, ERR_RESOURCE, "binding to PU %d did not take", cpu);
    else {
        /* New pages come from the PU's own node; where there is one node only this may be refused
         * and does not matter. */
        hwloc_set_membind(machine->topology, wanted, HWLOC_MEMBIND_BIND, HWLOC_MEMBIND_THREAD);
        status = 0;
    }
    hwloc_bitmap_free(got);
    hwloc_bitmap_free(wanted);
    return status;
}

void machine_free_thread(const struct machine *machine)
{
    hwloc_const_bitmap_t all = hwloc_topology_get_topology_cpuset(machine->topology);
    if (!machine_is_real(machine))
        return;
    hwloc_set_cpubind(machine->topology, all, HWLOC_CPUBIND_THREAD);
    hwloc_set_membind(machine->topology, all, HWLOC_MEMBIND_DEFAULT, HWLOC_MEMBIND_THREAD);
}

int machine_place_member(void *arg, unsigned member, struct err *err)
{
    const struct machine_place *place = arg;
    return machine_bind_thread(place->machine, place->cpu[member], err);
}

/* --- what it is --- */

size_t machine_private_cache(const struct machine *machine)
{
    size_t largest = 0;
    hwloc_obj_t object = hwloc_get_obj_by_type(machine->topology, HWLOC_OBJ_PU, 0);
    int core_pus = 1;
    for (; object != NULL; object = object->parent) {
        int n_pus = hwloc_bitmap_weight(object->cpuset);
        if (object->type == HWLOC_OBJ_CORE)
            core_pus = n_pus;
        if (hwloc_obj_type_is_dcache(object->type) && n_pus <= core_pus)
            largest = (size_t)object->attr->cache.size;
    }
    return largest;
}

size_t machine_last_cache(const struct machine *machine)
{
    size_t last = 0;
    hwloc_obj_t object = hwloc_get_obj_by_type(machine->topology, HWLOC_OBJ_PU, 0);
    for (; object != NULL; object = object->parent)
        if (hwloc_obj_type_is_dcache(object->type))
            last = (size_t)object->attr->cache.size;
    return last;
}

uint64_t machine_memory(const struct machine *machine)
{
    return hwloc_get_root_obj(machine->topology)->total_memory;
}

static const char *cpu_info(const struct machine *machine, const char *name)
{
    hwloc_obj_t object = hwloc_get_obj_by_type(machine->topology, HWLOC_OBJ_PACKAGE, 0);
    const char *value = object != NULL ? hwloc_obj_get_info_by_name(object, name) : NULL;
    return value != NULL ? value : "unknown";
}

/* "Intel(R) Xeon(R) Processor" -> "intel-xeon": letters and digits, joined by single dashes. */
static void slug(const char *text, char *out, size_t size)
{
    size_t n = 0;
    for (; *text != '\0' && n + 1 < size; text++) {
        if (strncmp(text, "(R)", 3) == 0 || strncmp(text, "(TM)", 4) == 0) {
            text = strchr(text, ')');
        } else if (strncmp(text, "CPU", 3) == 0 || strncmp(text, "Processor", 9) == 0) {
            text += *text == 'C' ? 2 : 8;
        } else if (isalnum((unsigned char)*text)) {
            out[n++] = (char)tolower((unsigned char)*text);
        } else if (n > 0 && out[n - 1] != '-') {
            out[n++] = '-';
        }
    }
    while (n > 0 && out[n - 1] == '-')
        n--;
    out[n] = '\0';
}

void machine_device_class(const struct machine *machine, uint32_t n_threads, const char *isa,
                          struct device_class *device)
{
    char model[64];
    slug(cpu_info(machine, "CPUModel"), model, sizeof model);
    const char *family = cpu_info(machine, "CPUModelNumber");
    size_t private_cache = machine_private_cache(machine);
    int n_nodes = hwloc_get_nbobjs_by_type(machine->topology, HWLOC_OBJ_NUMANODE);
    snprintf(device->name, sizeof device->name, "cpu:%s-%s/%uc/L2-%zuK/%s/%ut", model, family,
             machine->n_cores, private_cache / 1024, isa, n_threads);
    snprintf(device->details, sizeof device->details,
             "{\"cpu\":\"%s\",\"model_number\":\"%s\",\"cores\":%u,\"numa_nodes\":%d,"
             "\"private_cache\":%zu,\"last_cache\":%zu,\"isa\":\"%s\",\"threads\":%u,"
             "\"pinning\":\"one thread a core\"}",
             model, family, machine->n_cores, n_nodes, private_cache, machine_last_cache(machine),
             isa, n_threads);
    device->private_bytes = private_cache * n_threads;
    device->last_bytes = machine_last_cache(machine);
    device->id = id128_of(sha256_of(device->details, strlen(device->details)));
}

/* --- its state --- */

/* The first line of a small system file, or "unknown". */
static void read_word(const char *path, char *text, size_t size)
{
    FILE *file = fopen(path, "r");
    snprintf(text, size, "unknown");
    if (file == NULL)
        return;
    char line[128];
    if (fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        snprintf(text, size, "%.*s", (int)size - 1, line);
    }
    fclose(file);
}

static void read_cpu_model(char *text, size_t size)
{
    FILE *file = fopen("/proc/cpuinfo", "r");
    char line[256];
    snprintf(text, size, "unknown");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, "model name", 10) == 0 && strchr(line, ':') != NULL) {
            line[strcspn(line, "\n")] = '\0';
            snprintf(text, size, "%.*s", (int)size - 1, strchr(line, ':') + 2);
            break;
        }
    if (file != NULL)
        fclose(file);
}

void machine_state_read(struct machine_state *state)
{
    char text[64], huge[128];
    read_cpu_model(state->cpu_model, sizeof state->cpu_model);
    read_word("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", state->governor,
              sizeof state->governor);
    read_word("/sys/devices/system/cpu/intel_pstate/no_turbo", text, sizeof text);
    snprintf(state->turbo, sizeof state->turbo, "%s",
             strcmp(text, "0") == 0   ? "on"
             : strcmp(text, "1") == 0 ? "off"
                                      : "unknown");
    read_word("/sys/devices/system/cpu/smt/control", state->smt, sizeof state->smt);
    /* "always [madvise] never": the word in brackets. */
    read_word("/sys/kernel/mm/transparent_hugepage/enabled", huge, sizeof huge);
    const char *open = strchr(huge, '[');
    snprintf(state->huge_pages, sizeof state->huge_pages, "%.*s",
             open != NULL ? (int)strcspn(open + 1, "]") : 7, open != NULL ? open + 1 : "unknown");
    read_word("/proc/loadavg", text, sizeof text);
    char *end;
    state->load1 = strtod(text, &end);
    if (end == text)
        state->load1 = -1;
}
