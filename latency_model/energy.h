/* energy.h - joules that the processor's packages took, where the system tells (RAPL through
 * powercap).  Where it does not, as on most virtual machines, there is no figure: absent, never 0.
 *
 * A package's counter covers all of its cores and runs over; what else runs on the package is in
 * the difference too. */
#ifndef KERF_ENERGY_H
#define KERF_ENERGY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ENERGY_MAX_PACKAGES 64

struct energy {
    size_t n_packages;
    char path[ENERGY_MAX_PACKAGES][96]; /* of the counters, microjoules */
    uint64_t range[ENERGY_MAX_PACKAGES], start[ENERGY_MAX_PACKAGES];
};

#define ENERGY_SYSTEM "/sys/class/powercap"

/* Find the packages under `root` (ENERGY_SYSTEM) and read their counters.  False where there are
 * none that this process may read. */
bool energy_begin(struct energy *energy, const char *root);
/* Joules since then; NAN when a counter cannot be read any more. */
double energy_joules(const struct energy *energy);

#endif
