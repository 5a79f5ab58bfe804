/* message.h - what master and workers say to each other: one line of JSON a message, below
 * MESSAGE_MAX bytes (mpi.md rule 5); anything bigger goes through a file in the study's
 * spool/ and the message names it.  Every message is untrusted: decoded with checks, a bad one is
 * logged and dropped.
 *
 *   worker -> master   READY {host, cores}   BEAT {lease, phase}   VERDICT {lease, verdict, result}
 *   master -> worker   TASK {lease, attempt, kind, ...}   BEAT   STOP */
#ifndef KERF_MESSAGE_H
#define KERF_MESSAGE_H

#include "results/record.h"
#include "space/space.h"
#include <stdint.h>

struct err;

#define MESSAGE_MAX        4000
#define MESSAGE_RESULT_MAX (256 * 1024) /* what a child may answer */

/* What one evaluator child does. */
enum work_kind {
    WORK_PREPARE,     /* calibration, parent states, op table: files in tables/ */
    WORK_SENSITIVITY, /* losses of every one-dimensional deviation of one unit */
    WORK_EVALUATE     /* quality, latency and, at the final rung, tasks of one candidate */
};

struct work {
    enum work_kind kind;
    uint64_t lease;    /* names this assignment; a verdict with an old one is dropped */
    uint32_t attempt;  /* of the same work, from 0 */
    uint32_t unit;     /* sensitivity */
    enum rung rung;    /* evaluate */
    uint64_t sequence; /* evaluate: of the candidate */
    uint32_t n_levels;
    uint8_t levels[SPACE_MAX_GENES];
    double deadline_s; /* seconds the child may take */
};

enum verdict {
    VERDICT_DONE,
    VERDICT_CRASH, /* died of a signal or left with a status of its own making */
    VERDICT_TIMEOUT,
    VERDICT_BAD,    /* answered nonsense, or said that the candidate is bad (NaN...) */
    VERDICT_UNABLE, /* the machine's fault, not the candidate's: too noisy, no memory */
    VERDICT_DISK,   /* as UNABLE, because the worker's disk is full or failing */
    VERDICT_LOST    /* the worker fell silent: made by the master, never sent */
};
const char *verdict_name(enum verdict verdict);

enum message_kind { MESSAGE_READY, MESSAGE_BEAT, MESSAGE_TASK, MESSAGE_VERDICT, MESSAGE_STOP };

struct message {
    enum message_kind kind;
    uint32_t from;            /* worker, set by the link on receipt; 0 is the master */
    struct work work;         /* TASK */
    uint64_t lease;           /* BEAT, VERDICT; 0: none */
    enum verdict verdict;     /* VERDICT */
    char host[64];            /* READY */
    uint32_t n_cores;         /* READY */
    char reason[256];         /* VERDICT other than DONE: one line for people */
    char spool[128];          /* VERDICT: file below spool/ with the result, "" when inline */
    char result[MESSAGE_MAX]; /* VERDICT DONE: the child's JSON, when it is short enough */
};

/* Returns the length, or -1 when it does not fit (ERR_INTERNAL). */
int message_encode(const struct message *message, char *text, size_t size, struct err *err);
int message_decode(const char *text, size_t length, struct message *message, struct err *err);

/* The work part alone, as given to the child on its command line. */
int work_encode(const struct work *work, char *text, size_t size, struct err *err);
int work_decode(const char *text, struct work *work, struct err *err);

#endif
