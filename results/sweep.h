/* sweep.h - has something become slower, or other than it was?  Judgement of paired times of two
 * builds (methods.md E); measures nothing.
 *
 * A point is one candidate on one workload.  Its rounds give log ratios, current over baseline.
 * Looks at 10, 20 and 40 rounds: suspect when the one-sided signed rank test says p <= .001, .004,
 * .005 and the Hodges-Lehmann effect exceeds the least one that matters; a point that looks
 * hopelessly even (p above .5 at 10, .2 at 20) is let go early.  A suspect is measured afresh with
 * 80 rounds, of new processes every tenth, and only if that says the same (p <= .005, effect), and
 * the discovery stands among all points of the sweep (Benjamini and Hochberg at .05, with the p of
 * the fresh rounds), is it a regression.  What must be equal is compared exactly, without
 * statistics. */
#ifndef KERF_SWEEP_H
#define KERF_SWEEP_H

#include "space/base/hash.h"
#include "space/workload.h"
#include <stdbool.h>
#include <stddef.h>

#define SWEEP_ROUNDS       40
#define SWEEP_ROUNDS_AGAIN 80
#define SWEEP_MIN_EFFECT   0.01 /* share by which a time must have grown to matter */

struct sweep_judgement {
    uint32_t n;            /* rounds; 0: none were made */
    double p;              /* of "not slower" */
    double effect, lo, hi; /* share by which the time grew, 95 % interval */
};

enum sweep_step { SWEEP_MORE, SWEEP_EVEN, SWEEP_SUSPECT };

/* What n log ratios say. */
void sweep_judge(const double *log_ratio, uint32_t n, struct sweep_judgement *judgement);
/* What to do after a round: only looks decide. */
enum sweep_step sweep_look(const struct sweep_judgement *judgement, double min_effect);
/* Whether n rounds are a look. */
bool sweep_is_look(uint32_t n);

struct sweep_point {
    struct id128 id;
    struct workload workload;
    double baseline_ns, current_ns; /* medians of the rounds */
    struct sweep_judgement first, again;
    uint32_t n_rejected; /* rounds that were made again */
    bool slower;         /* sweep_conclude */
};

/* Set `slower` where the fresh rounds confirm it among all points; their number. */
size_t sweep_conclude(struct sweep_point *points, size_t n, double min_effect);

/* What must be equal. */
enum sweep_equal { SWEEP_SAME, SWEEP_DIFFERS, SWEEP_NOT_COMPARED };
struct sweep_exact {
    struct id128 id;
    enum sweep_equal genome_id, weights, kld;
    double kld_was, kld_is;
};
bool sweep_exact_holds(const struct sweep_exact *exact);

#endif
