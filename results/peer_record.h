/* peer_record.h - what another engine said of the front when it was last asked (kerf peer), kept in
 * the study so that a front is shown with it.
 *
 * tables/peer.json: {"schema": 1, "device", "kernels", "build", "rounds", "spearman": {"tpot_ms",
 * "ttft_ms"} (absent where ranks are not defined), "ids": [of the candidates behind them]} */
#ifndef KERF_PEER_RECORD_H
#define KERF_PEER_RECORD_H

#include "results/front.h"
#include "results/show_peer.h"

struct err;

struct peer_record {
    char build[64];
    size_t n, n_on_front; /* candidates behind the correlation, those of them on this front */
    double rho[2];        /* decode, prefill; NAN where not defined */
};

/* Atomic.  ERR_MEMORY, ERR_IO. */
int peer_record_save(const struct study *study, const struct front *front,
                     const struct show_peer *peer, struct err *err);

/* The record of `study` if it is of the device and the kernels of `front`.  False where there is
 * none; one that cannot be read is named in the log and is none. */
bool peer_record_load(const struct study *study, const struct front *front,
                      struct peer_record *record);

#endif
