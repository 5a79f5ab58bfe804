/* machine.h - the machine that latencies belong to, by hwloc: which cores may be used, where a
 * thread runs, what makes two latencies comparable.  The only file that knows hwloc.
 * A topology that is not this system's (synthetic, XML) plans but refuses to bind for measuring. */
#ifndef KERF_MACHINE_H
#define KERF_MACHINE_H

#include "space/base/hash.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct machine;

/* Topology restricted to the cores that this process may use (taskset and cpusets honoured). */
struct machine *machine_load(struct err *err);
/* From hwloc's synthetic description or an XML file, for tests of the planner. */
struct machine *machine_load_synthetic(const char *description, struct err *err);
struct machine *machine_load_xml(const char *path, struct err *err);
void machine_destroy(struct machine *machine);

uint32_t machine_n_cores(const struct machine *machine); /* whole cores, not hardware threads */
bool machine_is_real(const struct machine *machine);     /* binds do something */

/* One PU per core for `n_threads` threads of worker `worker` of `n_workers` on this node: whole
 * cores, NUMA node by NUMA node in turn, never across nodes while it fits.  Fills cpu[n_threads]
 * with OS indexes.  ERR_RESOURCE when there are not enough cores. */
int machine_plan(const struct machine *machine, uint32_t worker, uint32_t n_workers,
                 uint32_t n_threads, int *cpu, struct err *err);

/* Bind the calling thread to one PU (strict), its new memory to that PU's NUMA node, and read the
 * binding back. */
int machine_bind_thread(const struct machine *machine, int cpu, struct err *err);

/* The calling thread may run everywhere again that the machine was read with. */
void machine_free_thread(const struct machine *machine);

/* For team_create: arg is a struct machine_place; member i goes to cpu[i]. */
struct machine_place {
    const struct machine *machine;
    const int *cpu;
};
int machine_place_member(void *arg, unsigned member, struct err *err);

/* Bytes of the largest cache that one core owns alone (L2 on most servers), and of the last one. */
size_t machine_private_cache(const struct machine *machine);
size_t machine_last_cache(const struct machine *machine);

/* Bytes of memory of the NUMA nodes that may be used; 0 where it is not known. */
uint64_t machine_memory(const struct machine *machine);

/* What makes two latencies comparable: CPU model, ISA flags that kernels use, caches, topology,
 * thread count and pinning.  A short readable name ("cpu:xeon-6-167/2c/L2-2M/2t") and its hash. */
struct device_class {
    char name[128];
    struct id128 id;
    size_t private_bytes; /* of cache that the threads' cores own, all together; 0: not known */
    size_t last_bytes;    /* of the last cache before the memory; 0: not known */
    char details[512]; /* JSON object of what went into it */
};
void machine_device_class(const struct machine *machine, uint32_t n_threads, const char *isa,
                          struct device_class *device);

/* For `kerf doctor`: governor, turbo, SMT, huge pages; "unknown" where it cannot be read. */
struct machine_state {
    char cpu_model[96];
    char governor[32], turbo[16], smt[16], huge_pages[16];
    double load1; /* load average of the last minute, -1 unknown */
};
void machine_state_read(struct machine_state *state);

#endif
