/* screen.h - predicted use of a vector that nobody has evaluated.  Lives for one proposal. */
#ifndef KERF_SCREEN_H
#define KERF_SCREEN_H

#include "search/search_parts.h"

#define SCREEN_N_NICHES 8

struct screen {
    const struct search *search; /* borrowed */
    struct frontier aims;        /* what was told and what is out, as predicted */
    double reference[PROBLEM_MAX_OBJ];
    double least, most;            /* of the first log cost on the front */
    double count[SCREEN_N_NICHES]; /* out or told recently */
    double quota;
};

/* The search has an additive prior.  -1 without memory. */
int screen_init(struct screen *screen, const struct search *search, struct err *err);
void screen_fini(struct screen *screen);
/* Log objectives as predicted. */
void screen_predict(const struct search *search, const uint8_t *levels, double *point);
/* Hypervolume that `levels` would add, or how far they fall short of adding any, as a number below
 * 0.  *is_crowded: their region has its quota. */
double screen_score(const struct screen *screen, const uint8_t *levels, bool *is_crowded);

#endif
