#include "latency_model/energy.h"

#include "space/base/file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A whole number in a file of its own; false where there is none. */
static bool read_count(const char *path, uint64_t *count)
{
    char *text = file_read(path, 4096, NULL, NULL), *end = NULL;
    bool sound;

    if (text == NULL)
        return false;
    *count = strtoull(text, &end, 10);
    sound = end != text && (*end == '\n' || *end == '\0');
    free(text);
    return sound;
}

/* Packages are intel-rapl:0, intel-rapl:1, ... (AMD's too); intel-rapl:0:1 is a part of one. */
bool energy_begin(struct energy *energy, const char *root)
{
    memset(energy, 0, sizeof *energy);
    for (size_t i = 0; i < ENERGY_MAX_PACKAGES; i++) {
        size_t n = energy->n_packages;
        char range[96];

        int length = snprintf(energy->path[n], sizeof energy->path[n],
                              "%s/intel-rapl:%zu/energy_uj", root, i);
        snprintf(range, sizeof range, "%s/intel-rapl:%zu/max_energy_range_uj", root, i);
        if (length < 0 || (size_t)length >= sizeof energy->path[n] ||
            !read_count(energy->path[n], &energy->start[n]) ||
            !read_count(range, &energy->range[n]))
            break;
        energy->n_packages++;
    }
    return energy->n_packages > 0;
}

double energy_joules(const struct energy *energy)
{
    double sum = 0;

    if (energy->n_packages == 0)
        return NAN;
    for (size_t i = 0; i < energy->n_packages; i++) {
        uint64_t now, start = energy->start[i];

        if (!read_count(energy->path[i], &now))
            return NAN;
        /* Once over its range at most: packages take a minute to get there. */
        sum += (double)(now >= start ? now - start : now + (energy->range[i] - start)) * 1e-6;
    }
    return sum;
}
