/* err.h - why a call failed, told by the callee, kept by the caller.
 * World faults (files, messages, memory, user input) fill a `struct err` and return -1 or NULL;
 * programmer faults assert.  The struct is owned by the caller, passed last and may be NULL when
 * the reason does not matter.  A failed call changes nothing else that the caller owns. */
#ifndef KERF_ERR_H
#define KERF_ERR_H

#include <stddef.h>

/* One row a code: name, phrase, exit status of the command that fails with it. */
#define ERR_CODES(X)                                                                               \
    X(ERR_NONE, "no error", 0)                                                                     \
    X(ERR_NO, "the answer is no", 1)            /* infeasible, mismatch, regression */             \
    X(ERR_USAGE, "wrong usage", 2)              /* command line, budget without a unit */          \
    X(ERR_DATA, "bad data", 65)                 /* truncated or lying model, foreign store */      \
    X(ERR_MISSING, "not found", 66)             /* file, candidate or key that is not there */     \
    X(ERR_RESOURCE, "not available", 69)        /* locked study, absent device, MPI unusable */    \
    X(ERR_INTERNAL, "internal error", 70)       /* a bug of kerf */                                \
    X(ERR_MEMORY, "out of memory", 70)                                                             \
    X(ERR_CREATE, "cannot create output", 73)                                                      \
    X(ERR_IO, "input/output error", 74)         /* disk full included */                           \
    X(ERR_STOPPED, "stopped, run again", 75)    /* everything committed is saved */                \
    X(ERR_PERMISSION, "permission denied", 77)                                                     \
    X(ERR_CONFIG, "bad configuration", 78)      /* unknown key, impossible space, frozen field */

enum err_code {
#define ERR_ENUM(code, phrase, status) code,
    ERR_CODES(ERR_ENUM)
#undef ERR_ENUM
};

struct err {
    enum err_code code;
    char text[400]; /* one line: what, where, remedy; no newline at the end */
};

/* Fill `err` (which may be NULL) with a code and a printf-style sentence, cut to fit. */
void err_set(struct err *err, enum err_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* As err_set, with the code that `errnum` (an errno value) stands for (ENOENT: ERR_MISSING,
 * EACCES/EPERM: ERR_PERMISSION, ENOMEM: ERR_MEMORY, else ERR_IO) and ": strerror" appended. */
void err_set_errno(struct err *err, int errnum, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Put "context: " in front of the text that a callee left. */
void err_prefix(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

const char *err_phrase(enum err_code code);    /* "bad data" */
const char *err_name(enum err_code code);      /* "ERR_DATA" */
int err_exit_status(enum err_code code);       /* 65 */

#endif
