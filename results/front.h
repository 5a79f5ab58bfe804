/* front.h - the candidates that nobody beats, with noise taken into account.
 * Objectives, all minimised: KLD, decode ns per token, prefill ns per prompt, weight bytes; each
 * with its standard error (bytes exact).  Only evaluations of one device class are compared.  A
 * candidate's newest evaluation of its highest rung speaks for it.  Dominated: some other is better
 * by more than one standard error somewhere and worse by more than that nowhere; and to be printed
 * as a front, members must also be mutually non-dominated on the plain numbers. */
#ifndef KERF_FRONT_H
#define KERF_FRONT_H

#include "results/archive.h"
#include "space/space.h"

struct front_member {
    struct candidate candidate;
    struct evaluation evaluation;
    struct genome genome;
};

struct front {
    struct front_member *member; /* sorted by decode latency, ascending */
    size_t n;
    struct front_member *all;    /* every evaluated candidate of the class, same order */
    size_t n_all;
    struct front_member parent;  /* the reference candidate */
    bool has_parent;
    char device[128];
};

/* `device` NULL: the class the archive names.  `geometry` to read genomes. */
int front_load(struct front *front, struct archive *archive, const struct geometry *geometry,
               struct err *err);
void front_fini(struct front *front); /* a zeroed struct is fine */

/* Index in front->member of the point farthest from the line between the ends in
 * (log decode, log KLD): the knee; 0 for n < 3. */
size_t front_knee(const struct front *front);

/* "@best" (lowest KLD), "@fastest", "@smallest", "@knee", "@parent", "@30ms" (best within that
 * budget on the upper bound), or an id prefix.  ERR_MISSING / ERR_USAGE. */
const struct front_member *front_resolve(const struct front *front, struct archive *archive,
                                         const char *name, struct err *err);

#endif
