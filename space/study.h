/* study.h - the user's config of a study: study.json read, checked, filled and frozen.
 *
 * study.json is for people (comments allowed); study.resolved.json is what runs: defaults filled in
 * and hashes added.  A study that has begun refuses a changed field by name.  Relative paths are
 * relative to the file. */
#ifndef KERF_STUDY_H
#define KERF_STUDY_H

#include "space/base/hash.h"
#include "space/compress_order.h"
#include "space/space.h"
#include "space/workload.h"

#define STUDY_PATH_MAX  1024
#define STUDY_MAX_TASKS 16

struct study {
    char dir[STUDY_PATH_MAX]; /* absolute */

    char model[STUDY_PATH_MAX]; /* absolute path of the parent GGUF */
    struct hash256 parent;      /* over its tensors; zero until resolved */
    struct geometry geometry;   /* of the parent; zero until resolved */

    struct space_limits limits;
    enum compress_order compress_order;

    /* Files are known by the hash of their content; the paths may change.  Zero until resolved. */
    char calibration[STUDY_PATH_MAX]; /* text file, or importance matrix: *.gguf, *.dat */
    struct hash256 calibration_hash;
    uint64_t calibration_tokens;
    char heldout[STUDY_PATH_MAX]; /* text file that quality is measured on */
    struct hash256 heldout_hash;
    char separator[64];     /* between documents of a text file; "" = one document */
    uint32_t sequence;      /* tokens per sequence, context reset after each */
    uint64_t search_tokens; /* fidelity of the search */
    uint64_t final_tokens;  /* fidelity of front members, >= search_tokens */
    uint64_t sensitivity_tokens;
    char task[STUDY_MAX_TASKS][STUDY_PATH_MAX]; /* JSONL files */
    struct hash256 task_hash[STUDY_MAX_TASKS];
    uint32_t n_tasks;
    uint32_t task_items; /* items of each task that are scored, 0 = all */

    struct workload decode, prefill;
    uint32_t threads;                /* 0 until resolved */
    uint32_t rounds_min, rounds_max; /* of a probe */
    double ci;                       /* wanted half-width of the ratio's interval, e.g. 0.01 */

    uint64_t seed;
    uint32_t population; /* of NSGA-II, at least the 8 that search_create wants */
    uint64_t evals;      /* stop after so many candidates */
    double time_s;       /* stop after so long */

    uint64_t max_disk; /* bytes that the variant store of a node may hold, 0: no bound */
};

/* Read DIR/study.json.  ERR_CONFIG with file:line:col, pointer, what was expected and the nearest
 * known key; ERR_MISSING when DIR is no study (remedy: kerf init) or a file that it names is not
 * there.  Paths become absolute.  What depends on the parent and is left out stays 0 until
 * study_resolve: depth/min, ffn/min, ffn/grid, kv_groups, hidden, types, embedding, sequence,
 * threads.  `study` is written only on success, here as in all calls below. */
int study_read(struct study *study, const char *dir, struct err *err);

/* With the parent and the machine known: fill what was left out, hash the files, and check the
 * whole (space not empty, workloads and sequences within the context, threads within `n_cores`).
 * ERR_CONFIG as above. */
int study_resolve(struct study *study, const struct geometry *geometry,
                  const struct hash256 *parent, uint32_t n_cores, struct err *err);

/* Write DIR/study.resolved.json if absent; else compare with it: 0, or -1 with ERR_CONFIG naming
 * the first frozen field that differs, old and new value.  Everything is frozen but evals, time,
 * the bound on the disk and the places of the files; where only those differ the file is replaced.
 */
int study_freeze(const struct study *study, struct err *err);

/* Read the frozen config of a study that has begun.  ERR_MISSING when it has not, ERR_DATA when the
 * file is damaged or of another version.  The files it names need not exist. */
int study_read_resolved(struct study *study, const char *dir, struct err *err);

/* Whether the calibration file is an importance matrix, by its name (imatrix.h): of what the
 * parent's matrices take in only mean squares are known then, too little for another basis of its
 * stream. */
bool study_has_matrix(const struct study *study);

/* SHA-256 over the frozen fields: what an archive belongs to. */
struct hash256 study_hash(const struct study *study);

/* What a KLD measured in this study rests on besides the genome, the method and the number of
 * tokens at the other rungs: the frozen fields of parent, calibration text, held-out text, how both
 * are cut, and the tokens of a sensitivity.  Pointers and values as compact JSON text; returns
 * their number. */
#define STUDY_MAX_GROUNDS 24
struct study_ground {
    const char *pointer; /* "/quality/heldout/sha256" */
    char value[416];
};
size_t study_grounds(const struct study *study, struct study_ground ground[STUDY_MAX_GROUNDS]);

/* Write a commented study.json for `kerf init`; makes the folder.  Paths are relative to the
 * working folder and must exist (ERR_MISSING).  ERR_CREATE when DIR already holds a study. */
struct study_template {
    const char *model;
    const char *calibration;
    const char *heldout;
    const char *separator;
    const char *const *tasks;
    uint32_t n_tasks;
    enum profile profile;
    bool quick; /* small budgets, for the demo and for tests */
};
int study_init(const char *dir, const struct study_template *wanted, struct err *err);

/* Path of a file inside the study: study_path(study, "tables/optable.json", buf). */
const char *study_path(const struct study *study, const char *name, char path[STUDY_PATH_MAX]);

#endif
