/* program.h - somebody else's program, run to its end: no shell between, an empty stdin, its own
 * process group, confined to the cores that kerf would use, ended at a time limit or when the user
 * stops, and by the kernel should kerf itself die.  What it says is untrusted and limited. */
#ifndef KERF_PROGRAM_H
#define KERF_PROGRAM_H

#include <signal.h>
#include <stddef.h>
#include <stdint.h>

struct err;

#define PROGRAM_PATH_MAX   4096
#define PROGRAM_OUTPUT_MAX (1u << 20) /* bytes of stdout; one that says more has failed */

/* Where `name` is: as given when it holds a slash, else on PATH.  ERR_RESOURCE when there is no
 * such file that may be run. */
int program_find(const char *name, char path[PROGRAM_PATH_MAX], struct err *err);

struct program_run {
    const char *path;
    char *const *argv; /* the program's name first, NULL last */
    const int *cpu;    /* [n_cpu] OS indexes of the PUs that all its threads share */
    uint32_t n_cpu;    /* 0: wherever kerf may run */
    double limit_s;
    const volatile sig_atomic_t *stop; /* not 0: end it; may be NULL */
};

/* Everything that it wrote to stdout, with a NUL that *n_bytes does not count, when it left with
 * status 0; yours to free.  NULL with
 *   ERR_RESOURCE  it cannot be started, or had to be killed at the limit
 *   ERR_DATA      it left with another status or by a signal, with its last line on stderr, or
 *                 wrote too much
 *   ERR_STOPPED   *stop
 * Whatever happens, nothing of its process group is left. */
char *program_run(const struct program_run *run, size_t *n_bytes, struct err *err);

#endif
