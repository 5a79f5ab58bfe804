/* study.c - a study's config from reading to freezing.  Fields and JSON live in study_json. */
#include "space/study.h"

#include "space/base/config_json.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include "space/base/log.h"
#include "space/study_json.h"

#include <assert.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG_NAME   "study.json"
#define RESOLVED_NAME "study.resolved.json"

/* A folder's path and a name in it share STUDY_PATH_MAX: find_dir refuses longer folders, and no
 * name that kerf uses is near its limit. */
#define DIR_MAX      767
#define NAME_MAX_LEN 255
_Static_assert(DIR_MAX + 1 + NAME_MAX_LEN + 1 == STUDY_PATH_MAX, "they fill a path");

const char *study_path(const struct study *study, const char *name, char path[STUDY_PATH_MAX])
{
    assert(strlen(study->dir) <= DIR_MAX && strlen(name) <= NAME_MAX_LEN);
    snprintf(path, STUDY_PATH_MAX, "%.767s/%.255s", study->dir, name);
    return path;
}

/* ---- reading -------------------------------------------------------------------------------- */

static int find_dir(struct study *study, const char *dir, struct err *err)
{
    char absolute[PATH_MAX];

    if (realpath(dir, absolute) == NULL) {
        err_set(err, ERR_MISSING, "%s: no such folder; make a study with: kerf init DIR --model F",
                dir);
        return -1;
    }
    if (strlen(absolute) > DIR_MAX) {
        err_set(err, ERR_CONFIG, "%.80s...: the path of the study is too long", absolute);
        return -1;
    }
    strcpy(study->dir, absolute);
    return 0;
}

/* What stands where the user says nothing; what depends on the parent waits for study_resolve. */
static void set_defaults(struct study *study)
{
    study->limits.profile = PROFILE_GGUF;
    study->limits.drop_attn = study->limits.drop_ffn = true;
    study->calibration_tokens = 128 * 1024;
    study->sensitivity_tokens = 4 * 1024;
    study->search_tokens = 16 * 1024;
    study->final_tokens = 64 * 1024;
    study->prefill = (struct workload){WORKLOAD_PREFILL, 512, 0, 1};
    study->decode = (struct workload){WORKLOAD_DECODE, 128, 0, 1};
    study->rounds_min = 30;
    study->rounds_max = 120;
    study->ci = 0.01;
    study->seed = 1;
    study->population = 64;
    study->evals = 2000;
    study->time_s = 4 * 3600.0;
}

/* Fields that bound each other, before the parent is known. */
static int check_pairs(const struct config_json *config, const struct study *study, struct err *err)
{
    if (study->final_tokens < study->search_tokens) {
        config_json_error(config, "/quality/final/tokens", err,
                          "expected at least the %llu tokens of /quality/search, found %llu",
                          (unsigned long long)study->search_tokens,
                          (unsigned long long)study->final_tokens);
        return -1;
    }
    if (study->rounds_max < study->rounds_min) {
        config_json_error(config, "/latency/rounds/max", err,
                          "expected at least the minimum of %u rounds, found %u", study->rounds_min,
                          study->rounds_max);
        return -1;
    }
    return 0;
}

int study_read(struct study *study, const char *dir, struct err *err)
{
    struct study read;
    struct config_json config = {0};
    char path[STUDY_PATH_MAX];
    int status;

    memset(&read, 0, sizeof read);
    if (find_dir(&read, dir, err) != 0)
        return -1;
    study_path(&read, CONFIG_NAME, path);
    if (!file_exists(path)) {
        err_set(err, ERR_MISSING,
                "%.160s holds no study.json; make a study with: kerf init DIR --model F", read.dir);
        return -1;
    }
    if (config_json_open(&config, path, err) != 0)
        return -1;
    set_defaults(&read);
    status = study_json_read(&config, STUDY_CONFIG, &read, err);
    if (status == 0)
        status = check_pairs(&config, &read, err);
    config_json_close(&config);
    if (status == 0)
        *study = read;
    return status;
}

int study_read_resolved(struct study *study, const char *dir, struct err *err)
{
    struct study read;
    struct config_json config = {0};
    struct err why = {0};
    char path[STUDY_PATH_MAX];
    int status;

    memset(&read, 0, sizeof read);
    if (find_dir(&read, dir, err) != 0)
        return -1;
    study_path(&read, RESOLVED_NAME, path);
    if (!file_exists(path)) {
        err_set(err, ERR_MISSING,
                "%.160s: no search has begun here (no study.resolved.json); begin with: kerf "
                "search -C DIR",
                read.dir);
        return -1;
    }
    status = config_json_open(&config, path, &why);
    if (status == 0)
        status = study_json_read(&config, STUDY_RESOLVED, &read, &why);
    if (status == 0 && (status = geometry_check(&read.geometry, &why)) != 0)
        err_prefix(&why, "%.160s", path);
    config_json_close(&config);
    /* kerf wrote this file: what is wrong in it is damage, not a choice. */
    if (status != 0)
        err_set(err, why.code == ERR_CONFIG ? ERR_DATA : why.code, "%s", why.text);
    else
        *study = read;
    return status;
}

/* ---- resolving ------------------------------------------------------------------------------ */

/* ERR_CONFIG at the place in study.json that `pointer` names, as far as the file can still be read.
 */
__attribute__((format(printf, 4, 5))) static void
place_error(const struct study *study, const char *pointer, struct err *err, const char *fmt, ...)
{
    struct config_json config = {0};
    char path[STUDY_PATH_MAX], sentence[sizeof err->text];
    va_list args;

    va_start(args, fmt);
    vsnprintf(sentence, sizeof sentence, fmt, args);
    va_end(args);
    study_path(study, CONFIG_NAME, path);
    if (config_json_open(&config, path, NULL) == 0)
        config_json_error(&config, pointer, err, "%s", sentence);
    else
        err_set(err, ERR_CONFIG, "%.160s: %s: %s", path, pointer, sentence);
    config_json_close(&config);
}

/* space_init tells "pointer: sentence"; put file, line and column before it. */
static void place_space_error(const struct study *study, struct err *why, struct err *err)
{
    char *colon = strstr(why->text, ": ");

    if (why->code != ERR_CONFIG || why->text[0] != '/' || colon == NULL) {
        err_set(err, why->code, "%s", why->text);
        return;
    }
    *colon = '\0';
    place_error(study, why->text, err, "%s", colon + 2);
}

bool study_has_matrix(const struct study *study)
{
    const char *dot = strrchr(study->calibration, '.');

    return dot != NULL && (strcmp(dot, ".gguf") == 0 || strcmp(dot, ".dat") == 0);
}

static void fill_limits(struct space_limits *limits, const struct geometry *g, bool has_matrix)
{
    struct space_limits usual;

    space_default_limits(&usual, g, limits->profile);
    if (has_matrix)
        usual.hidden[0] = usual.n_hidden = 1;
    if (limits->n_types == 0) {
        limits->n_types = usual.n_types;
        memcpy(limits->types, usual.types, sizeof usual.types);
    }
    if (limits->n_embd_types == 0) {
        limits->n_embd_types = usual.n_embd_types;
        memcpy(limits->embd_types, usual.embd_types, sizeof usual.embd_types);
    }
    if (limits->min_layers == 0)
        limits->min_layers = usual.min_layers;
    if (limits->min_ffn == 0.0)
        limits->min_ffn = usual.min_ffn;
    if (limits->n_hidden == 0) {
        limits->n_hidden = usual.n_hidden;
        memcpy(limits->hidden, usual.hidden, sizeof usual.hidden);
    }
    if (limits->n_kv == 0) {
        limits->n_kv = usual.n_kv;
        memcpy(limits->kv, usual.kv, sizeof usual.kv);
    }
    if (limits->n_act == 0) {
        limits->n_act = usual.n_act;
        memcpy(limits->act, usual.act, sizeof usual.act);
    }
}

static int check_basis(const struct study *study, struct err *err)
{
    const struct space_limits *limits = &study->limits;
    bool narrows = limits->n_hidden > 1, turns = limits->rotation != ROTATION_NONE;

    if (!study_has_matrix(study) || (!narrows && !turns))
        return 0;
    place_error(study, narrows ? "/space/hidden" : "/space/rotation", err,
                "another basis of the hidden width needs more than the mean squares of an "
                "importance matrix; calibrate on a text, or leave this out");
    return -1;
}

/* Fill the limits and prove that a space follows from them. */
static int resolve_space(struct study *study, struct err *err)
{
    struct space *space = malloc(sizeof *space);
    struct err why = {0};
    int status;

    if (space == NULL) {
        err_set(err, ERR_MEMORY, "out of memory for the space of the study");
        return -1;
    }
    fill_limits(&study->limits, &study->geometry, study_has_matrix(study));
    status = space_init(space, &study->geometry, &study->limits, &why);
    if (status == 0)
        study->limits = space->limits;
    else
        place_space_error(study, &why, err);
    free(space);
    return status == 0 ? check_basis(study, err) : status;
}

static int check_workload(const struct study *study, const struct workload *workload,
                          struct err *err)
{
    uint32_t n_positions = workload_positions(workload);
    char text[32];

    if (n_positions > study->geometry.n_ctx)
        place_error(study, "/latency/workloads", err,
                    "%s needs %u positions, the parent's context has %u; choose a shorter one",
                    workload_format(workload, text), n_positions, study->geometry.n_ctx);
    else if (n_positions * workload->batch > study->final_tokens)
        place_error(study, "/latency/workloads", err,
                    "%s takes %u tokens of the held-out text, which has %llu here; raise "
                    "/quality/final/tokens",
                    workload_format(workload, text), n_positions * workload->batch,
                    (unsigned long long)study->final_tokens);
    else
        return 0;
    return -1;
}

static int check_machine(struct study *study, uint32_t n_cores, struct err *err)
{
    if (study->threads == 0)
        study->threads = n_cores > 0 ? n_cores : 1;
    if (n_cores > 0 && study->threads > n_cores) {
        place_error(study, "/latency/threads", err,
                    "%u threads asked for, this machine has %u cores; expected at most %u or "
                    "\"cores\"",
                    study->threads, n_cores, n_cores);
        return -1;
    }
    return 0;
}

/* RoPE computes positions that training never saw, and files name a shorter context than their
 * model was trained with: a longer sequence is the user's to ask for, within reason. */
#define SEQUENCE_MAX_CONTEXTS 8

static int check_sequence(struct study *study, struct err *err)
{
    if (study->sequence == 0)
        study->sequence = study->geometry.n_ctx < 512 ? study->geometry.n_ctx : 512;
    if ((uint64_t)study->sequence > (uint64_t)SEQUENCE_MAX_CONTEXTS * study->geometry.n_ctx) {
        place_error(study, "/quality/sequence", err,
                    "%u tokens a sequence, the parent's context has %u; expected at most %d times "
                    "that",
                    study->sequence, study->geometry.n_ctx, SEQUENCE_MAX_CONTEXTS);
        return -1;
    }
    if (study->sequence > study->geometry.n_ctx)
        log_warn("study", "sequence=%u is longer than the context that the file names (%u)",
                 study->sequence, study->geometry.n_ctx);
    return 0;
}

static int hash_files(struct study *study, struct err *err)
{
    if (file_hash(study->calibration, &study->calibration_hash, err) != 0 ||
        file_hash(study->heldout, &study->heldout_hash, err) != 0)
        return -1;
    for (uint32_t i = 0; i < study->n_tasks; i++)
        if (file_hash(study->task[i], &study->task_hash[i], err) != 0)
            return -1;
    return 0;
}

int study_resolve(struct study *study, const struct geometry *geometry,
                  const struct hash256 *parent, uint32_t n_cores, struct err *err)
{
    struct study filled = *study;

    filled.geometry = *geometry;
    filled.parent = *parent;
    if (geometry_check(geometry, err) != 0 || resolve_space(&filled, err) != 0 ||
        check_sequence(&filled, err) != 0 || check_workload(&filled, &filled.prefill, err) != 0 ||
        check_workload(&filled, &filled.decode, err) != 0 ||
        check_machine(&filled, n_cores, err) != 0 || hash_files(&filled, err) != 0)
        return -1;
    *study = filled;
    return 0;
}

/* ---- freezing ------------------------------------------------------------------------------- */

static int write_resolved(const struct study *study, const char *path, struct err *err)
{
    char *text = study_json_write(study);
    struct file_draft draft;

    if (text == NULL) {
        err_set(err, ERR_MEMORY, "%s: out of memory", path);
        return -1;
    }
    if (file_draft_open(&draft, path, err) != 0) {
        free(text);
        return -1;
    }
    fprintf(draft.stream, "%s\n", text);
    free(text);
    return file_draft_commit(&draft, err);
}

static void tell_frozen(const struct study *study, size_t field, const char *was, const char *is,
                        struct err *err)
{
    if (study_json_is_hash(field))
        place_error(study, study_json_pointer(field - 1), err,
                    "the content has changed since the study began: its sha256 was %.13s..., is "
                    "now %.13s...; bring the old file back, or make another study (kerf init)",
                    was + 1, is + 1);
    else
        place_error(study, study_json_pointer(field), err,
                    "frozen since the study began: was %.72s, is now %.72s; put it back, or make "
                    "another study (kerf init)",
                    was, is);
}

/* Tasks are a list of files, so the one that differs is named, not the list. */
static int compare_tasks(const struct study *old, const struct study *study, struct err *err)
{
    char pointer[48], was[HASH256_HEX], is[HASH256_HEX];

    if (old->n_tasks != study->n_tasks) {
        place_error(study, "/quality/tasks", err,
                    "frozen since the study began: was %u files, is now %u; put them back, or make "
                    "another study (kerf init)",
                    old->n_tasks, study->n_tasks);
        return -1;
    }
    for (uint32_t i = 0; i < study->n_tasks; i++) {
        if (memcmp(&old->task_hash[i], &study->task_hash[i], sizeof old->task_hash[i]) == 0)
            continue;
        hash256_hex(old->task_hash[i], was);
        hash256_hex(study->task_hash[i], is);
        snprintf(pointer, sizeof pointer, "/quality/tasks/%u", i);
        place_error(study, pointer, err,
                    "the content has changed since the study began: its sha256 was %.12s..., is "
                    "now %.12s...; bring the old file back, or make another study (kerf init)",
                    was, is);
        return -1;
    }
    return 0;
}

/* 0 when equal, 1 when only free fields differ, -1 with `err` filled. */
static int compare(const struct study *old, const struct study *study, struct err *err)
{
    int differs = compare_tasks(old, study, err);

    for (size_t i = 0; i < study_json_n_fields() && differs >= 0; i++) {
        char *was = study_json_value(old, i), *is = study_json_value(study, i);

        if (was == NULL || is == NULL) {
            err_set(err, ERR_MEMORY, "out of memory while comparing the study");
            differs = -1;
        } else if (strcmp(was, is) != 0 && study_json_is_frozen(i)) {
            tell_frozen(study, i, was, is, err);
            differs = -1;
        } else if (strcmp(was, is) != 0) {
            differs = 1;
        }
        free(was);
        free(is);
    }
    return differs;
}

int study_freeze(const struct study *study, struct err *err)
{
    struct study old;
    char path[STUDY_PATH_MAX];
    int differs;

    study_path(study, RESOLVED_NAME, path);
    if (!file_exists(path))
        return write_resolved(study, path, err);
    if (study_read_resolved(&old, study->dir, err) != 0)
        return -1;
    differs = compare(&old, study, err);
    return differs > 0 ? write_resolved(study, path, err) : differs;
}

struct hash256 study_hash(const struct study *study)
{
    struct sha256 sha;

    sha256_init(&sha);
    for (size_t i = 0; i < study_json_n_fields(); i++) {
        const char *pointer = study_json_pointer(i);
        char *value = study_json_is_frozen(i) ? study_json_value(study, i) : NULL;

        if (value != NULL) {
            sha256_update(&sha, pointer, strlen(pointer) + 1);
            sha256_update(&sha, value, strlen(value) + 1);
        }
        free(value);
    }
    return sha256_final(&sha);
}

static bool is_ground(const char *pointer)
{
    static const char *const roots[] = {
        "/model/sha256",      "/compression/",     "/quality/calibration/", "/quality/heldout/",
        "/quality/separator", "/quality/sequence", "/quality/sensitivity/"};

    for (size_t i = 0; i < sizeof roots / sizeof roots[0]; i++)
        if (strncmp(pointer, roots[i], strlen(roots[i])) == 0)
            return true;
    return false;
}

size_t study_grounds(const struct study *study, struct study_ground ground[STUDY_MAX_GROUNDS])
{
    size_t n = 0;

    for (size_t i = 0; i < study_json_n_fields(); i++) {
        const char *pointer = study_json_pointer(i);

        if (!is_ground(pointer) || !study_json_is_frozen(i))
            continue;
        assert(n < STUDY_MAX_GROUNDS);
        char *value = study_json_value(study, i);
        ground[n].pointer = pointer;
        snprintf(ground[n++].value, sizeof ground->value, "%s", value != NULL ? value : "null");
        free(value);
    }
    return n;
}
