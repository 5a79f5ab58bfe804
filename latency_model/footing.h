/* footing.h - whether the cores of a team are whole and close together right now.
 *
 * On a shared host a virtual machine's cores change under it, and nothing that it can read says so:
 * another tenant starts on the other hardware thread of a core, or the host moves a core to where
 * it no longer shares a cache with the others.  The first slows kernels by a quarter to a half, the
 * second a small model by half, and neither slows two models alike, so that ratios lie too.  Three
 * fixed pieces of work, 15 us together on every member at once and off the caches, tell:
 *
 *   clock   dependent arithmetic, which only the core's clock changes
 *   width   independent arithmetic over dependent: how much of the core's width there is
 *   meet    the time until all members have met at a barrier: how far apart the cores are
 *
 * The last two are constants of a machine that is left alone.  The best that a node has shown is
 * kept in a file beside the locks of quiet.h, since a disturbance may outlast a process; so is what
 * the references of probes take at rest. */
#ifndef KERF_FOOTING_H
#define KERF_FOOTING_H

#include <stddef.h>

struct team;

struct footing {
    double clock_ns; /* of the slowest member */
    double width;    /* of the worst member, 1 would be no wider than dependent */
    double meet_ns;  /* 0 in a team of one */
};

/* Run it on all members of `team`; NULL: on the calling thread alone. */
void footing_take(struct team *team, struct footing *footing);

/* The best known; a zeroed one knows nothing and finds no fault. */
struct footing_best {
    double width, meet_ns;
};

enum footing_fault {
    FOOTING_FIRM,
    FOOTING_SHARED, /* a core does much less at once than it can */
    FOOTING_APART   /* members meet much later than they can */
};
enum footing_fault footing_judge(const struct footing *footing, const struct footing_best *best);

#define FOOTING_LEARN_MIN 20
/* Take the lower tenth of `n` footings where it is better than `best`; fewer than FOOTING_LEARN_MIN
 * teach nothing. */
void footing_learn(struct footing_best *best, const struct footing *footings, size_t n);

/* What this node has shown with so many members on such a device (names of device_class); nothing
 * where it is not known.  To be called by who holds the node alone (quiet.h); a file that cannot be
 * read or written is no error. */
void footing_recall(const char *device, struct footing_best *best);
void footing_keep(const char *device, const struct footing_best *best);

/* The same for one number of any name without blanks that is better when it is less; 0: unknown.  A
 * number that is known stays unless the new one is less by `fall`, a share of it. */
double footing_recall_least(const char *name);
void footing_keep_least(const char *name, double least, double fall);

#endif
