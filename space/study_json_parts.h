/* study_json_parts.h - the table of a study's fields, which the files of study_json share.
 *   study_json.c        the table, and fields to JSON
 *   study_json_read.c   fields from JSON */
#ifndef KERF_STUDY_JSON_PARTS_H
#define KERF_STUDY_JSON_PARTS_H

#include "space/study_json.h"

#define CONFIG_SCHEMA   "https://kerf.invalid/schema/study-1.json"
#define RESOLVED_SCHEMA "https://kerf.invalid/schema/study-resolved-1.json"

enum study_kind {
    KIND_PATH,      /* char[STUDY_PATH_MAX], absolute; a file that exists */
    KIND_PATHS,     /* task */
    KIND_TEXT,      /* char[64] */
    KIND_COUNT,     /* uint64_t; 4096 or "4Ki" */
    KIND_COUNT_32,  /* uint32_t; the same */
    KIND_THREADS,   /* uint32_t; also "cores" */
    KIND_REAL,      /* double */
    KIND_TIME,      /* double, seconds; "4h" */
    KIND_SIZE,      /* uint64_t, bytes; "200GiB", "none" for 0 */
    KIND_PROFILE,   /* enum profile */
    KIND_FORMATS,   /* enum format[N_FORMATS] and, at `extra`, their number */
    KIND_KV_GROUPS, /* limits.kv_groups */
    KIND_ACTS,      /* limits.act */
    KIND_HIDDEN,    /* limits.hidden */
    KIND_ROTATION,  /* enum rotation */
    KIND_ORDER,     /* enum compress_order */
    KIND_DROP,      /* limits.drop_attn, limits.drop_ffn */
    KIND_WORKLOADS, /* decode, prefill */
    KIND_HASH,      /* struct hash256 */
    KIND_HASHES,    /* task_hash */
    KIND_BOOL,      /* bool */
    KIND_FLOAT      /* float */
};

enum {
    REQUIRED = 1, /* people must write it */
    FREE = 2,     /* may change after the study has begun */
    KERFS = 4     /* only in the resolved form */
};

struct study_field {
    const char *pointer;
    enum study_kind kind;
    unsigned flags;
    size_t offset, extra; /* in struct study */
    double least, most;   /* of a number */
    const char *expected;
};

#define STUDY_N_FIELDS 49
extern const struct study_field study_fields[STUDY_N_FIELDS];

/* Where a field lies in a study. */
static inline void *study_member(struct study *study, size_t offset)
{
    return (char *)study + offset;
}

static inline const void *study_member_const(const struct study *study, size_t offset)
{
    return (const char *)study + offset;
}

#endif
