/* record.c - the two fixed layouts, as tables.
 *
 * A row says where a member stands in the bytes, where in the struct, and what it is; encoder and
 * decoder walk the same rows, so they cannot drift.  Bytes that no row names are zero and must be
 * zero.  The last four bytes of the fixed part are the beginning of a SHA-256 over the rest: LMDB
 * has no checksums of its own, and a flipped bit must not become a latency. */
#include "results/record.h"
#include "space/base/err.h"
#include <math.h>
#include <string.h>

/* 2: what it takes beside time. */
#define EVALUATION_VERSION 2
#define CANDIDATE_VERSION  1

enum kind {
    KIND_U8, /* an enum of at most 256 values, kept as an int in the struct */
    KIND_U32,
    KIND_U64,
    KIND_ID,
    KIND_F64,        /* finite */
    KIND_F64_OR_NAN, /* finite, or NAN for "not measured" */
};

struct field {
    uint16_t at;     /* in the record */
    uint16_t member; /* in the struct */
    enum kind kind;
    const char *name;
    uint8_t since; /* version; 0: the first */
};

#define EVALUATION(at, member, kind)                                                               \
    {                                                                                              \
        at, offsetof(struct evaluation, member), kind, #member, 0                                  \
    }
#define EVALUATION_2(at, member, kind)                                                             \
    {                                                                                              \
        at, offsetof(struct evaluation, member), kind, #member, 2                                  \
    }
#define MEASURED(at, name)                                                                         \
    EVALUATION((at), name.median_ns, KIND_F64), EVALUATION((at) + 8, name.lo_ns, KIND_F64),        \
        EVALUATION((at) + 16, name.hi_ns, KIND_F64), EVALUATION((at) + 24, name.p10_ns, KIND_F64), \
        EVALUATION((at) + 32, name.p90_ns, KIND_F64),                                              \
        EVALUATION((at) + 40, name.min_ns, KIND_F64), EVALUATION((at) + 48, name.ratio, KIND_F64), \
        EVALUATION((at) + 56, name.ratio_lo, KIND_F64),                                            \
        EVALUATION((at) + 64, name.ratio_hi, KIND_F64),                                            \
        EVALUATION((at) + 72, name.n_accepted, KIND_U32),                                          \
        EVALUATION((at) + 76, name.n_rejected, KIND_U32)

/* Byte 0 is the version; 376 to 507 are free for later members. */
static const struct field evaluation_fields[] = {
    EVALUATION(1, rung, KIND_U8),
    EVALUATION(4, attempt, KIND_U32),
    EVALUATION(8, candidate, KIND_ID),
    EVALUATION(24, device, KIND_ID),
    EVALUATION(40, n_tokens, KIND_U32),
    EVALUATION(44, n_tasks, KIND_U32),
    EVALUATION(48, kernel_bound, KIND_U32),
    EVALUATION(52, flags, KIND_U32),
    EVALUATION(56, kld, KIND_F64),
    EVALUATION(64, kld_se, KIND_F64),
    EVALUATION(72, kld_p99, KIND_F64),
    EVALUATION(80, ppl, KIND_F64),
    EVALUATION(88, parent_ppl, KIND_F64),
    EVALUATION(96, ppl_ratio, KIND_F64),
    EVALUATION(104, ppl_ratio_se, KIND_F64),
    EVALUATION(112, top1, KIND_F64),
    EVALUATION(120, top1_se, KIND_F64),
    MEASURED(128, decode),
    MEASURED(208, prefill),
    EVALUATION(288, predicted_decode_ns, KIND_F64_OR_NAN),
    EVALUATION(296, predicted_prefill_ns, KIND_F64_OR_NAN),
    EVALUATION(304, weight_bytes, KIND_U64),
    EVALUATION(312, kv_bytes_per_token, KIND_U64),
    EVALUATION(320, accuracy, KIND_F64_OR_NAN),
    EVALUATION(328, accuracy_se, KIND_F64_OR_NAN),
    EVALUATION(336, seconds, KIND_F64),
    EVALUATION(344, wall_s, KIND_U64),
    EVALUATION_2(352, peak_rss_bytes, KIND_U64),
    EVALUATION_2(360, decode_joules, KIND_F64_OR_NAN),
    EVALUATION_2(368, prefill_joules, KIND_F64_OR_NAN),
};

/* The level vector follows the fixed part, one byte a gene, as many as n_levels says. */
#define CANDIDATE_FIXED 64
#define CANDIDATE(at, member, kind)                                                                \
    {                                                                                              \
        at, offsetof(struct candidate, member), kind, #member, 0                                   \
    }
static const struct field candidate_fields[] = {
    CANDIDATE(1, status, KIND_U8),       CANDIDATE(4, origin, KIND_U32),
    CANDIDATE(8, sequence, KIND_U64),    CANDIDATE(16, id, KIND_ID),
    CANDIDATE(32, n_failures, KIND_U32), CANDIDATE(36, n_levels, KIND_U32),
};

_Static_assert(sizeof(enum rung) == sizeof(int) && sizeof(enum candidate_status) == sizeof(int),
               "KIND_U8 reads and writes an int");

struct layout {
    const char *name;
    uint8_t version;
    const struct field *field;
    size_t n_fields;
    size_t n_bytes; /* of the fixed part, checksum included */
};

static const struct layout evaluation_layout = {
    "evaluation", EVALUATION_VERSION, evaluation_fields,
    sizeof evaluation_fields / sizeof evaluation_fields[0], RECORD_EVALUATION_BYTES};
static const struct layout candidate_layout = {"candidate", CANDIDATE_VERSION, candidate_fields,
                                               sizeof candidate_fields / sizeof candidate_fields[0],
                                               CANDIDATE_FIXED};

static const size_t kind_bytes[] = {[KIND_U8] = 1,  [KIND_U32] = 4, [KIND_U64] = 8,
                                    [KIND_ID] = 16, [KIND_F64] = 8, [KIND_F64_OR_NAN] = 8};

/* --- little-endian integers --- */

static void put_le(uint8_t *bytes, uint64_t value, size_t n)
{
    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t get_le(const uint8_t *bytes, size_t n)
{
    uint64_t value = 0;
    for (size_t i = 0; i < n; i++)
        value |= (uint64_t)bytes[i] << (8 * i);
    return value;
}

/* --- one field --- */

static void put_field(const struct field *field, const void *member, uint8_t *bytes)
{
    uint32_t u32;
    uint64_t u64;
    int small;
    switch (field->kind) {
    case KIND_U8:
        memcpy(&small, member, sizeof small);
        bytes[0] = (uint8_t)small;
        break;
    case KIND_U32:
        memcpy(&u32, member, sizeof u32);
        put_le(bytes, u32, sizeof u32);
        break;
    case KIND_ID:
        memcpy(bytes, member, 16);
        break;
    case KIND_U64:
    case KIND_F64:
    case KIND_F64_OR_NAN:
        memcpy(&u64, member, sizeof u64);
        put_le(bytes, u64, sizeof u64);
        break;
    }
}

/* False when the value may not stand there. */
static bool get_field(const struct field *field, const uint8_t *bytes, void *member)
{
    uint32_t u32;
    uint64_t u64 = 0;
    double real;
    int small;
    switch (field->kind) {
    case KIND_U8:
        small = bytes[0];
        memcpy(member, &small, sizeof small);
        return true;
    case KIND_U32:
        u32 = (uint32_t)get_le(bytes, sizeof u32);
        memcpy(member, &u32, sizeof u32);
        return true;
    case KIND_ID:
        memcpy(member, bytes, 16);
        return true;
    case KIND_U64:
    case KIND_F64:
    case KIND_F64_OR_NAN:
        u64 = get_le(bytes, sizeof u64);
        memcpy(member, &u64, sizeof u64);
        break;
    }
    if (field->kind == KIND_U64)
        return true;
    memcpy(&real, &u64, sizeof real);
    return isfinite(real) || (isnan(real) && field->kind == KIND_F64_OR_NAN);
}

/* What an older record does not have; the struct is zero. */
static void set_absent(const struct field *field, void *member)
{
    const double absent = NAN;
    if (field->kind == KIND_F64_OR_NAN)
        memcpy(member, &absent, sizeof absent);
}

/* --- a whole record --- */

/* Over everything but the four bytes that hold it. */
static uint32_t checksum(const struct layout *layout, const uint8_t *bytes, size_t n)
{
    struct sha256 sha;
    sha256_init(&sha);
    sha256_update(&sha, bytes, layout->n_bytes - 4);
    sha256_update(&sha, bytes + layout->n_bytes, n - layout->n_bytes);
    struct hash256 hash = sha256_final(&sha);
    return (uint32_t)get_le(hash.bytes, 4);
}

static void put_fields(const struct layout *layout, const void *record, uint8_t *bytes)
{
    memset(bytes, 0, layout->n_bytes);
    bytes[0] = layout->version;
    for (size_t i = 0; i < layout->n_fields; i++) {
        const struct field *field = &layout->field[i];
        put_field(field, (const char *)record + field->member, bytes + field->at);
    }
}

static int fail(const struct layout *layout, const char *why, struct err *err)
{
    err_set(err, ERR_DATA, "%s record: %s", layout->name, why);
    return -1;
}

/* What no row of the record's version names must be zero. */
static bool gaps_are_zero(const struct layout *layout, const uint8_t *bytes)
{
    uint8_t rest[RECORD_EVALUATION_BYTES];
    memcpy(rest, bytes, layout->n_bytes - 4);
    rest[0] = 0;
    for (size_t i = 0; i < layout->n_fields; i++)
        if (layout->field[i].since <= bytes[0])
            memset(rest + layout->field[i].at, 0, kind_bytes[layout->field[i].kind]);
    for (size_t i = 0; i < layout->n_bytes - 4; i++)
        if (rest[i] != 0)
            return false;
    return true;
}

static int get_fields(const struct layout *layout, const uint8_t *bytes, size_t n, void *record,
                      struct err *err)
{
    if (n >= 1 && bytes[0] > layout->version)
        return fail(layout, "archive from a newer version; use that version of kerf", err);
    if (n < layout->n_bytes || bytes[0] == 0)
        return fail(layout, n < layout->n_bytes ? "truncated" : "no such version", err);
    if (get_le(bytes + layout->n_bytes - 4, 4) != checksum(layout, bytes, n))
        return fail(layout, "damaged (its checksum differs)", err);
    if (!gaps_are_zero(layout, bytes))
        return fail(layout, "bytes set that have no meaning", err);
    for (size_t i = 0; i < layout->n_fields; i++) {
        const struct field *field = &layout->field[i];
        char *member = (char *)record + field->member;
        if (field->since > bytes[0])
            set_absent(field, member);
        else if (!get_field(field, bytes + field->at, member)) {
            err_set(err, ERR_DATA, "%s record: %s is not a finite number", layout->name,
                    field->name);
            return -1;
        }
    }
    return 0;
}

size_t record_put_evaluation(const struct evaluation *evaluation, uint8_t *bytes)
{
    const struct layout *layout = &evaluation_layout;
    put_fields(layout, evaluation, bytes);
    put_le(bytes + layout->n_bytes - 4, checksum(layout, bytes, layout->n_bytes), 4);
    return layout->n_bytes;
}

int record_get_evaluation(const uint8_t *bytes, size_t n, struct evaluation *evaluation,
                          struct err *err)
{
    struct evaluation read;
    memset(&read, 0, sizeof read);
    if (get_fields(&evaluation_layout, bytes, n, &read, err) != 0)
        return -1;
    if (n != RECORD_EVALUATION_BYTES)
        return fail(&evaluation_layout, "too long", err);
    if (read.rung > RUNG_FINAL)
        return fail(&evaluation_layout, "no such rung", err);
    if (!(read.decode.median_ns > 0) || !(read.prefill.median_ns > 0))
        return fail(&evaluation_layout, "a latency that is not positive", err);
    *evaluation = read;
    return 0;
}

size_t record_put_candidate(const struct candidate *candidate, uint8_t *bytes)
{
    const struct layout *layout = &candidate_layout;
    size_t n = layout->n_bytes + candidate->n_levels;
    put_fields(layout, candidate, bytes);
    memcpy(bytes + layout->n_bytes, candidate->levels, candidate->n_levels);
    put_le(bytes + layout->n_bytes - 4, checksum(layout, bytes, n), 4);
    return n;
}

int record_get_candidate(const uint8_t *bytes, size_t n, struct candidate *candidate,
                         struct err *err)
{
    struct candidate read;
    memset(&read, 0, sizeof read);
    if (get_fields(&candidate_layout, bytes, n, &read, err) != 0)
        return -1;
    if (read.n_levels > SPACE_MAX_GENES || n != CANDIDATE_FIXED + (size_t)read.n_levels)
        return fail(&candidate_layout, "its length is not that of its levels", err);
    if (read.status > STATUS_QUARANTINED)
        return fail(&candidate_layout, "no such status", err);
    for (uint32_t i = 0; i < read.n_levels; i++) {
        read.levels[i] = bytes[CANDIDATE_FIXED + i];
        if (read.levels[i] >= SPACE_MAX_LEVELS)
            return fail(&candidate_layout, "a level that no gene has", err);
    }
    *candidate = read;
    return 0;
}
