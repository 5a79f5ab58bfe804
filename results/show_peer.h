/* show_peer.h - members of a front beside their times in another engine, and whether both rank them
 * alike.
 *
 * JSON: {"schema": 1, "study", "profile", "device", "kernels", "threads", "workloads": {"tpot_ms",
 *  "ttft_ms"}, "geometry": {"text"}, "peer": {"program", "build", "cpu"}, "rounds",
 *  "samples_per_run", "n", "spearman": {"tpot_ms", "ttft_ms"},
 *  "candidates": [{"id", "noisy", "tpot_ms", "ttft_ms": {"ours": {"p50", "lo", "hi"}, "peer":
 * {...}, "ratio"}}, ...], "left_out": [{"id", "reason"}, ...]} Times are milliseconds, `ratio` is
 * the peer's over ours, `n` the number of candidates behind "spearman", which is absent where ranks
 * are not defined (n < 2, all equal). */
#ifndef KERF_SHOW_PEER_H
#define KERF_SHOW_PEER_H

#include "results/show.h"

struct show_peer_time {
    double median_ns, lo_ns, hi_ns; /* lo and hi: 95 % interval */
};

struct show_peer_row {
    const struct front_member *member;
    struct show_peer_time decode, prefill; /* per token, per prompt; of the other engine */
    const char *reason;                    /* why it was left out; NULL: it was timed */
};

struct show_peer {
    const char *program, *build, *cpu;
    uint32_t n_rounds, n_samples; /* runs of a member, repetitions in each */
    const struct show_peer_row *row;
    size_t n;
};

void show_peer(FILE *out, enum show_format format, const struct study *study,
               const struct front *front, const struct show_peer *peer);

/* Spearman's rank correlation of our medians with the peer's over the rows that were timed, whose
 * number is *n: decode in rho[0], prefill in rho[1]; NAN where it is not defined. */
void show_peer_correlate(const struct show_peer *peer, double rho[2], size_t *n);

#endif
