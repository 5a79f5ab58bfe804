/* call_log.h - what a pass asks of its kernels: written down, and done again without the pass.
 *
 * call_log_kernels is a kernel set like another, but each call is noted by the thread that makes it
 * before it is passed on.  Done again, the calls of one kind run on the same threads, with the same
 * arguments and in the same order as in the pass, but without barriers and without what stood
 * between them: their time is what the pass would take if it did nothing else.
 *
 * The calls point into the buffers of the pass, which must still be there; those that work in place
 * change them. */
#ifndef CALL_LOG_H
#define CALL_LOG_H

#include "evaluator/kernels/kernels.h"
#include "evaluator/team.h"

struct err;
struct call_log;

enum call_kind {
    CALLS_PRODUCT, /* matrix products */
    CALLS_ATTEND,  /* and what puts its parts together */
    CALLS_PACK,    /* activations to 8 bits */
    CALLS_NORM,
    CALLS_GATE,  /* silu(gate) * up */
    CALLS_SMALL, /* RoPE, rows written to the KV cache, additions to the stream, embeddings */
    N_CALL_KINDS
};

const char *call_kind_name(enum call_kind kind);

/* One log at a time.  `kernels` and `team` are borrowed.  NULL without memory. */
struct call_log *call_log_create(const struct kernels *kernels, struct team *team, struct err *err);
void call_log_destroy(struct call_log *log); /* NULL is fine */
/* Notes while `on` is set by call_log_note; passes on, always. */
const struct kernels *call_log_kernels(const struct call_log *log);

/* Begin anew, and note from here on, or stop. */
void call_log_note(struct call_log *log, bool on);
/* Calls noted of a kind; 0 for all when memory ran out while noting. */
size_t call_log_n(const struct call_log *log, enum call_kind kind);
/* Do the calls of a kind again, `times` times over; how many ns it took. */
double call_log_run(struct call_log *log, enum call_kind kind, uint32_t times);

#endif
