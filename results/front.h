/* front.h - the candidates that nobody beats, with noise taken into account.
 * Objectives, all minimised: KLD, decode ns per token, prefill ns per prompt, weight bytes; each
 * with its standard error (bytes exact).  Only evaluations of one device class are compared.  A
 * candidate's newest evaluation of its highest rung speaks for it.
 *
 * A candidate beats another if it is better by more than one standard error (of the difference)
 * somewhere and worse by more than that nowhere.  Whom nobody beats, the parent included, is in;
 * whom one of those beats is out and beats nobody any more; so on until all are settled.  With
 * noise this can run in a circle; who is left in one stays.  To be printed as a front, members must
 * also be mutually non-dominated on the plain numbers.  Standard error of a latency: its 95 %
 * interval / 3.92. */
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
    struct front_member *all; /* every DONE candidate measured on the class, the parent aside */
    size_t n_all;
    struct front_member parent; /* the reference candidate; neither in member nor in all */
    bool has_parent;
    struct geometry geometry;     /* of the study's parent */
    char device[128];             /* "" when nothing has been measured yet */
    char kernels[64];             /* the kernel set that was timed */
    uint64_t private_cache_bytes; /* of a core; 0: not known */
    bool is_diagonal;             /* compressed with the diagonals of an importance matrix */
};

/* Whether a candidate is the dense parent: proposed as such, without levels. */
bool candidate_is_parent(const struct candidate *candidate);

/* Everything of the class that the archive names.  `geometry` to read genomes.  ERR_DATA when a
 * genome does not fit it; `front` is then empty. */
int front_load(struct front *front, struct archive *archive, const struct geometry *geometry,
               struct err *err);
void front_fini(struct front *front); /* a zeroed struct is fine */

/* Index in front->member of the knee: the point farthest below the line from the fastest to the one
 * of lowest KLD, the two themselves aside; 0 for n < 3.  In plain units (decode, KLD): there a
 * front is bent like a bow, whereas on logarithmic axes nothing sticks out, for KLD falls about
 * exponentially with the time that is spent. */
size_t front_knee(const struct front *front);

/* "@best" (lowest KLD), "@fastest", "@smallest", "@knee", "@parent", "@30ms" (best within that
 * budget on the upper bound, as query.h), or an id prefix.  Borrowed from `front`.  ERR_MISSING
 * when there is none or it was not measured, ERR_USAGE. */
const struct front_member *front_resolve(const struct front *front, struct archive *archive,
                                         const char *name, struct err *err);

#endif
