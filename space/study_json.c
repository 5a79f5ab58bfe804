/* study_json.c - the table of a study's fields, and each kind of field to and from JSON. */
#include "space/study_json.h"

#include "space/base/config_json.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include "space/base/units.h"

#include <assert.h>
#include <cjson/cJSON.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG_SCHEMA   "https://kerf.invalid/schema/study-1.json"
#define RESOLVED_SCHEMA "https://kerf.invalid/schema/study-resolved-1.json"

/* ---- the table ------------------------------------------------------------------------------ */

enum kind {
    KIND_PATH,      /* char[STUDY_PATH_MAX], absolute; a file that exists */
    KIND_PATHS,     /* task */
    KIND_TEXT,      /* char[64] */
    KIND_COUNT,     /* uint64_t; 4096 or "4Ki" */
    KIND_COUNT_32,  /* uint32_t; the same */
    KIND_THREADS,   /* uint32_t; also "cores" */
    KIND_REAL,      /* double */
    KIND_TIME,      /* double, seconds; "4h" */
    KIND_PROFILE,   /* enum profile */
    KIND_FORMATS,   /* enum format[N_FORMATS] and, at `extra`, their number */
    KIND_KV_GROUPS, /* limits.kv_groups */
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

struct field {
    const char *pointer;
    enum kind kind;
    unsigned flags;
    size_t offset, extra; /* in struct study */
    double least, most;   /* of a number */
    const char *expected;
};

#define AT(member) offsetof(struct study, member)
#define TOKENS     "a number of tokens, such as 4096 or \"16Ki\""

/* clang-format off */
static const struct field fields[] = {
    {"/model/path", KIND_PATH, REQUIRED | FREE, AT(model), 0, 0, 0, "the path of a GGUF file"},
    {"/model/sha256", KIND_HASH, KERFS, AT(parent), 0, 0, 0, "64 hexadecimal digits"},
    {"/model/geometry/layers", KIND_COUNT_32, KERFS, AT(geometry.n_layers), 0, 1, 0x1p24, "a count"},
    {"/model/geometry/width", KIND_COUNT_32, KERFS, AT(geometry.d_model), 0, 1, 0x1p24, "a count"},
    {"/model/geometry/heads", KIND_COUNT_32, KERFS, AT(geometry.n_heads), 0, 1, 0x1p24, "a count"},
    {"/model/geometry/kv_heads", KIND_COUNT_32, KERFS, AT(geometry.n_kv_heads), 0, 1, 0x1p24, "a count"},
    {"/model/geometry/head_size", KIND_COUNT_32, KERFS, AT(geometry.head_dim), 0, 1, 0x1p24, "a count"},
    {"/model/geometry/ffn", KIND_COUNT_32, KERFS, AT(geometry.d_ff), 0, 1, 0x1p24, "a count"},
    {"/model/geometry/vocabulary", KIND_COUNT_32, KERFS, AT(geometry.n_vocab), 0, 1, 0x1p24, "a count"},
    {"/model/geometry/context", KIND_COUNT_32, KERFS, AT(geometry.n_ctx), 0, 1, 0x1p24, "a count"},
    {"/model/geometry/tied", KIND_BOOL, KERFS, AT(geometry.tied), 0, 0, 0, "true or false"},
    {"/model/geometry/rms_eps", KIND_FLOAT, KERFS, AT(geometry.rms_eps), 0, 0, 1, "a number"},
    {"/model/geometry/rope_base", KIND_FLOAT, KERFS, AT(geometry.rope_base), 0, 0, 1e30, "a number"},

    {"/target/profile", KIND_PROFILE, 0, AT(limits.profile), 0, 0, 0, "\"gguf\", \"gguf-hetero\" or \"native\""},

    {"/space/depth/min", KIND_COUNT_32, 0, AT(limits.min_layers), 0, 1, GEOMETRY_MAX_LAYERS, "the fewest layers that stay, from 1"},
    {"/space/drop", KIND_DROP, 0, 0, 0, 0, 0, "a list of \"attn\" and \"ffn\", or []"},
    {"/space/ffn/grid", KIND_COUNT_32, 0, AT(limits.ffn_grid), 0, 1, 0x1p22, "the step between FFN widths, such as 256"},
    {"/space/ffn/min", KIND_REAL, 0, AT(limits.min_ffn), 0, 1e-9, 1, "a share of the parent's FFN width, more than 0 and at most 1"},
    {"/space/kv_groups", KIND_KV_GROUPS, 0, 0, 0, 1, 0x1p24, "a list of at most 8 counts, such as [2, 4]"},
    {"/space/types", KIND_FORMATS, 0, AT(limits.types), AT(limits.n_types), 0, 0, "a list of formats, such as [\"Q2_K\", \"Q4_K\", \"Q8_0\"]"},
    {"/space/embedding", KIND_FORMATS, 0, AT(limits.embd_types), AT(limits.n_embd_types), 0, 0, "a list of formats, such as [\"Q4_K\", \"Q8_0\"]"},

    {"/quality/calibration/file", KIND_PATH, REQUIRED | FREE, AT(calibration), 0, 0, 0, "the path of a text file"},
    {"/quality/calibration/sha256", KIND_HASH, KERFS, AT(calibration_hash), 0, 0, 0, "64 hexadecimal digits"},
    {"/quality/calibration/tokens", KIND_COUNT, 0, AT(calibration_tokens), 0, 1, 0x1p40, TOKENS},
    {"/quality/heldout/file", KIND_PATH, REQUIRED | FREE, AT(heldout), 0, 0, 0, "the path of a text file"},
    {"/quality/heldout/sha256", KIND_HASH, KERFS, AT(heldout_hash), 0, 0, 0, "64 hexadecimal digits"},
    {"/quality/separator", KIND_TEXT, 0, AT(separator), 0, 0, 0, "a text of at most 63 bytes"},
    {"/quality/sequence", KIND_COUNT_32, 0, AT(sequence), 0, 2, 0x1p24, "tokens per sequence, from 2"},
    {"/quality/sensitivity/tokens", KIND_COUNT, 0, AT(sensitivity_tokens), 0, 2, 0x1p40, TOKENS},
    {"/quality/search/tokens", KIND_COUNT, 0, AT(search_tokens), 0, 2, 0x1p40, TOKENS},
    {"/quality/final/tokens", KIND_COUNT, 0, AT(final_tokens), 0, 2, 0x1p40, TOKENS},
    {"/quality/tasks", KIND_PATHS, FREE, 0, 0, 0, 0, "a list of at most 16 JSONL files"},
    {"/quality/tasks_sha256", KIND_HASHES, KERFS, 0, 0, 0, 0, "one hash for each task"},
    {"/quality/task_items", KIND_COUNT_32, 0, AT(task_items), 0, 0, 0x1p30, "items of each task that are scored, 0 for all"},

    {"/latency/workloads", KIND_WORKLOADS, 0, 0, 0, 0, 0, "one prefill and one decode workload, such as [\"pp128@b1\", \"tg32@b1\"]"},
    {"/latency/threads", KIND_THREADS, 0, AT(threads), 0, 1, 1024, "a number of threads or \"cores\""},
    {"/latency/rounds/min", KIND_COUNT_32, 0, AT(rounds_min), 0, 3, 256, "rounds of a probe, 3 to 256"},
    {"/latency/rounds/max", KIND_COUNT_32, 0, AT(rounds_max), 0, 3, 256, "rounds of a probe, 3 to 256"},
    {"/latency/ci", KIND_REAL, 0, AT(ci), 0, 1e-6, 0.5, "the wanted half-width of a ratio's interval, such as 0.01, at most 0.5"},

    {"/search/seed", KIND_COUNT, 0, AT(seed), 0, 0, 1e15 - 1, "a whole number from 0, at most 15 digits"},
    {"/search/population", KIND_COUNT_32, 0, AT(population), 0, 8, 65536, "a population from 8 to 65536"},
    {"/search/evals", KIND_COUNT, FREE, AT(evals), 0, 1, 1e15 - 1, "a number of candidates, from 1"},
    {"/search/time", KIND_TIME, FREE, AT(time_s), 0, 0, 0, "a time with its unit, such as \"10min\" or \"4h\""},
};
/* clang-format on */

#define N_FIELDS (sizeof fields / sizeof fields[0])

size_t study_json_n_fields(void)
{
    return N_FIELDS;
}

const char *study_json_pointer(size_t field)
{
    assert(field < N_FIELDS);
    return fields[field].pointer;
}

bool study_json_is_frozen(size_t field)
{
    assert(field < N_FIELDS);
    return (fields[field].flags & FREE) == 0;
}

bool study_json_is_hash(size_t field)
{
    assert(field < N_FIELDS);
    return fields[field].kind == KIND_HASH || fields[field].kind == KIND_HASHES;
}

static void *member(struct study *study, size_t offset)
{
    return (char *)study + offset;
}

static const void *member_const(const struct study *study, size_t offset)
{
    return (const char *)study + offset;
}

/* ---- from JSON ------------------------------------------------------------------------------ */

/* What a reader of values answers: the value does not fit the field's `expected`, or an error of
 * its own is told already. */
enum verdict { TAKEN, UNFIT, TOLD };

struct reading {
    const struct config_json *config;
    enum study_form form;
    const struct field *field;
    struct study *study;
    struct err *err;
};

/* Pointer of element `i` of the field's list. */
static const char *element_pointer(const struct reading *r, int i, char text[96])
{
    snprintf(text, 96, "%s/%d", r->field->pointer, i);
    return text;
}

static enum verdict take_count(const struct field *field, const cJSON *node, uint64_t *count)
{
    if (cJSON_IsString(node)) {
        if (units_parse_count(node->valuestring, count, NULL) != 0)
            return UNFIT;
    } else if (cJSON_IsNumber(node) && node->valuedouble >= 0.0 && node->valuedouble <= 0x1p53 &&
               floor(node->valuedouble) == node->valuedouble) {
        *count = (uint64_t)node->valuedouble;
    } else {
        return UNFIT;
    }
    return (double)*count >= field->least && (double)*count <= field->most ? TAKEN : UNFIT;
}

static enum verdict take_count_32(const struct field *field, const cJSON *node, uint32_t *value)
{
    uint64_t count;

    if (take_count(field, node, &count) != TAKEN || count > UINT32_MAX)
        return UNFIT;
    *value = (uint32_t)count;
    return TAKEN;
}

static enum verdict take_real(const struct field *field, const cJSON *node, double *value)
{
    if (!cJSON_IsNumber(node) || !(node->valuedouble >= field->least) ||
        !(node->valuedouble <= field->most))
        return UNFIT;
    *value = node->valuedouble;
    return TAKEN;
}

static enum verdict take_time(const struct reading *r, const cJSON *node, double *seconds)
{
    struct err why = {0};

    if (!cJSON_IsString(node))
        return UNFIT;
    if (units_parse_duration(node->valuestring, seconds, &why) == 0)
        return *seconds >= 1e-3 && *seconds <= 1e9 ? TAKEN : UNFIT;
    config_json_error(r->config, r->field->pointer, r->err, "%s", why.text);
    return TOLD;
}

/* A path relative to the study becomes absolute. */
static enum verdict take_path(const struct reading *r, const char *pointer, const cJSON *node,
                              char path[STUDY_PATH_MAX])
{
    int n;

    if (!cJSON_IsString(node) || node->valuestring[0] == '\0')
        return UNFIT;
    if (node->valuestring[0] == '/')
        n = snprintf(path, STUDY_PATH_MAX, "%s", node->valuestring);
    else
        n = snprintf(path, STUDY_PATH_MAX, "%s/%s", r->study->dir, node->valuestring);
    if (n >= STUDY_PATH_MAX) {
        config_json_error(r->config, pointer, r->err, "this path is longer than %d bytes",
                          STUDY_PATH_MAX - 1);
        return TOLD;
    }
    if (r->form == STUDY_CONFIG && !file_exists(path)) {
        config_json_error(r->config, pointer, r->err, "no such file: %.200s", path);
        if (r->err != NULL)
            r->err->code = ERR_MISSING;
        return TOLD;
    }
    return TAKEN;
}

static enum verdict take_paths(const struct reading *r, const cJSON *node)
{
    char pointer[96];
    int n = cJSON_GetArraySize(node);
    const cJSON *element = node->child;

    if (!cJSON_IsArray(node) || n > STUDY_MAX_TASKS)
        return UNFIT;
    for (int i = 0; i < n; i++, element = element->next) {
        enum verdict verdict =
            take_path(r, element_pointer(r, i, pointer), element, r->study->task[i]);

        if (verdict != TAKEN)
            return verdict;
    }
    r->study->n_tasks = (uint32_t)n;
    return TAKEN;
}

static enum verdict take_format(const struct reading *r, int i, const cJSON *node,
                                enum format *format)
{
    const char *names[N_FORMATS + 1] = {NULL};
    char pointer[96];

    if (!cJSON_IsString(node))
        return UNFIT;
    *format = format_parse(node->valuestring);
    if (*format != FORMAT_NONE)
        return TAKEN;
    for (int f = 0; f < N_FORMATS; f++)
        names[f] = format_name((enum format)f);
    config_json_error(r->config, element_pointer(r, i, pointer), r->err,
                      "\"%.24s\" is no format; the nearest one is \"%s\"", node->valuestring,
                      config_json_nearest(node->valuestring, names));
    return TOLD;
}

static enum verdict take_formats(const struct reading *r, const cJSON *node)
{
    enum format *formats = member(r->study, r->field->offset);
    uint32_t *n_formats = member(r->study, r->field->extra);
    int n = cJSON_GetArraySize(node);
    const cJSON *element = node->child;

    if (!cJSON_IsArray(node) || n < 1 || n > N_FORMATS)
        return UNFIT;
    for (int i = 0; i < n; i++, element = element->next) {
        enum verdict verdict = take_format(r, i, element, &formats[i]);

        if (verdict != TAKEN)
            return verdict;
    }
    *n_formats = (uint32_t)n;
    return TAKEN;
}

static enum verdict take_kv_groups(const struct reading *r, const cJSON *node)
{
    struct space_limits *limits = &r->study->limits;
    int n = cJSON_GetArraySize(node);
    const cJSON *element = node->child;

    if (!cJSON_IsArray(node) || n < 1 ||
        n > (int)(sizeof limits->kv_groups / sizeof limits->kv_groups[0]))
        return UNFIT;
    for (int i = 0; i < n; i++, element = element->next)
        if (take_count_32(r->field, element, &limits->kv_groups[i]) != TAKEN)
            return UNFIT;
    limits->n_kv_groups = (uint32_t)n;
    return TAKEN;
}

/* "layer" is short for both halves. */
static enum verdict take_drop(const struct reading *r, const cJSON *node)
{
    struct space_limits *limits = &r->study->limits;
    const cJSON *element;

    if (!cJSON_IsArray(node))
        return UNFIT;
    limits->drop_attn = limits->drop_ffn = false;
    cJSON_ArrayForEach(element, node)
    {
        const char *word = cJSON_IsString(element) ? element->valuestring : "";
        bool both = strcmp(word, "layer") == 0;

        if (!both && strcmp(word, "attn") != 0 && strcmp(word, "ffn") != 0)
            return UNFIT;
        limits->drop_attn = limits->drop_attn || both || word[0] == 'a';
        limits->drop_ffn = limits->drop_ffn || both || word[0] == 'f';
    }
    return TAKEN;
}

static enum verdict take_workloads(const struct reading *r, const cJSON *node)
{
    struct workload workload[2];
    struct err why = {0};
    char pointer[96];
    const cJSON *element = node->child;

    if (!cJSON_IsArray(node) || cJSON_GetArraySize(node) != 2)
        return UNFIT;
    for (int i = 0; i < 2; i++, element = element->next) {
        if (!cJSON_IsString(element))
            return UNFIT;
        if (workload_parse(element->valuestring, &workload[i], &why) != 0) {
            config_json_error(r->config, element_pointer(r, i, pointer), r->err, "%s", why.text);
            return TOLD;
        }
    }
    if (workload[0].kind == workload[1].kind)
        return UNFIT;
    r->study->prefill = workload[workload[0].kind == WORKLOAD_PREFILL ? 0 : 1];
    r->study->decode = workload[workload[0].kind == WORKLOAD_DECODE ? 0 : 1];
    return TAKEN;
}

static enum verdict take_hash(const cJSON *node, struct hash256 *hash)
{
    return cJSON_IsString(node) && hash256_parse(node->valuestring, hash) == 0 ? TAKEN : UNFIT;
}

static enum verdict take_hashes(const struct reading *r, const cJSON *node)
{
    const cJSON *element = node->child;

    if (!cJSON_IsArray(node) || cJSON_GetArraySize(node) != (int)r->study->n_tasks)
        return UNFIT;
    for (uint32_t i = 0; i < r->study->n_tasks; i++, element = element->next)
        if (take_hash(element, &r->study->task_hash[i]) != TAKEN)
            return UNFIT;
    return TAKEN;
}

static enum verdict take_word(const struct reading *r, const cJSON *node, void *value)
{
    if (!cJSON_IsString(node))
        return UNFIT;
    if (r->field->kind == KIND_PROFILE) {
        enum profile profile = profile_parse(node->valuestring);

        *(enum profile *)value = profile;
        return profile == N_PROFILES ? UNFIT : TAKEN;
    }
    if (strlen(node->valuestring) >= sizeof r->study->separator)
        return UNFIT;
    strcpy(value, node->valuestring);
    return TAKEN;
}

static enum verdict take_value(const struct reading *r, const cJSON *node)
{
    void *value = member(r->study, r->field->offset);
    double real;

    switch (r->field->kind) {
    case KIND_PATH:
        return take_path(r, r->field->pointer, node, value);
    case KIND_PATHS:
        return take_paths(r, node);
    case KIND_TEXT:
    case KIND_PROFILE:
        return take_word(r, node, value);
    case KIND_COUNT:
        return take_count(r->field, node, value);
    case KIND_THREADS:
        if (cJSON_IsString(node) && strcmp(node->valuestring, "cores") == 0) {
            *(uint32_t *)value = 0;
            return TAKEN;
        }
        return take_count_32(r->field, node, value);
    case KIND_COUNT_32:
        return take_count_32(r->field, node, value);
    case KIND_REAL:
        return take_real(r->field, node, value);
    case KIND_TIME:
        return take_time(r, node, value);
    case KIND_FORMATS:
        return take_formats(r, node);
    case KIND_KV_GROUPS:
        return take_kv_groups(r, node);
    case KIND_DROP:
        return take_drop(r, node);
    case KIND_WORKLOADS:
        return take_workloads(r, node);
    case KIND_HASH:
        return take_hash(node, value);
    case KIND_HASHES:
        return take_hashes(r, node);
    case KIND_BOOL:
        *(bool *)value = cJSON_IsTrue(node);
        return cJSON_IsBool(node) ? TAKEN : UNFIT;
    case KIND_FLOAT:
        if (take_real(r->field, node, &real) != TAKEN)
            return UNFIT;
        *(float *)value = (float)real;
        return TAKEN;
    }
    return UNFIT;
}

static int take_field(const struct reading *r)
{
    const cJSON *node = config_json_get(r->config, r->field->pointer);
    enum verdict verdict;
    char *found;

    if (node == NULL) {
        if (r->form == STUDY_CONFIG && (r->field->flags & REQUIRED) == 0)
            return 0;
        config_json_error(r->config, r->field->pointer, r->err, "is missing; expected %s",
                          r->field->expected);
        return -1;
    }
    verdict = take_value(r, node);
    if (verdict == UNFIT) {
        found = cJSON_PrintUnformatted(node);
        config_json_error(r->config, r->field->pointer, r->err, "expected %s, found %.48s",
                          r->field->expected, found != NULL ? found : "something else");
        cJSON_free(found);
    }
    return verdict == TAKEN ? 0 : -1;
}

/* Whether this form of the file has the field. */
static bool has_field(enum study_form form, const struct field *field)
{
    return form == STUDY_RESOLVED || (field->flags & KERFS) == 0;
}

/* Refuse what the table does not know in the object at the first `len` bytes of `pointer`. */
static int check_object(const struct config_json *config, enum study_form form, const char *pointer,
                        size_t len, struct err *err)
{
    char prefix[64], words[N_FIELDS][24];
    const char *known[N_FIELDS + 2];
    size_t n = 0;

    assert(len < sizeof prefix);
    memcpy(prefix, pointer, len);
    prefix[len] = '\0';
    for (size_t i = 0; i < N_FIELDS; i++) {
        const char *rest = fields[i].pointer + len;

        if (!has_field(form, &fields[i]) || strncmp(fields[i].pointer, prefix, len) != 0 ||
            *rest != '/')
            continue;
        snprintf(words[n], sizeof words[n], "%.*s", (int)strcspn(rest + 1, "/"), rest + 1);
        known[n] = words[n];
        n++;
    }
    if (len == 0)
        known[n++] = "$schema";
    known[n] = NULL;
    return config_json_check_keys(config, prefix, known, err);
}

/* Every object on the way to a field, the root first. */
static int check_objects(const struct config_json *config, enum study_form form, struct err *err)
{
    if (check_object(config, form, "", 0, err) != 0)
        return -1;
    for (size_t i = 0; i < N_FIELDS; i++) {
        const char *pointer = fields[i].pointer;

        if (!has_field(form, &fields[i]))
            continue;
        for (const char *slash = strchr(pointer + 1, '/'); slash != NULL;
             slash = strchr(slash + 1, '/'))
            if (check_object(config, form, pointer, (size_t)(slash - pointer), err) != 0)
                return -1;
    }
    return 0;
}

static int check_schema(const struct config_json *config, enum study_form form, struct err *err)
{
    const char *wanted = form == STUDY_CONFIG ? CONFIG_SCHEMA : RESOLVED_SCHEMA;
    const cJSON *schema = config_json_get(config, "/$schema");

    if (schema == NULL ? form == STUDY_CONFIG
                       : cJSON_IsString(schema) && strcmp(schema->valuestring, wanted) == 0)
        return 0;
    config_json_error(config, "/$schema", err, "expected \"%s\"", wanted);
    return -1;
}

int study_json_read(const struct config_json *config, enum study_form form, struct study *study,
                    struct err *err)
{
    struct reading r = {.config = config, .form = form, .study = study, .err = err};

    if (check_schema(config, form, err) != 0 || check_objects(config, form, err) != 0)
        return -1;
    for (size_t i = 0; i < N_FIELDS; i++) {
        r.field = &fields[i];
        if (has_field(form, r.field) && take_field(&r) != 0)
            return -1;
    }
    return 0;
}

/* ---- to JSON -------------------------------------------------------------------------------- */

/* What lies in the study's folder is told relative to it, so that the folder can move. */
static cJSON *give_path(const struct study *study, const char *path)
{
    size_t len = strlen(study->dir);

    if (strncmp(path, study->dir, len) == 0 && path[len] == '/')
        path += len + 1;
    return cJSON_CreateString(path);
}

static cJSON *give_hash(const struct hash256 *hash)
{
    char text[HASH256_HEX];

    hash256_hex(*hash, text);
    return cJSON_CreateString(text);
}

static cJSON *give_list(const struct study *study, const struct field *field)
{
    const struct space_limits *limits = &study->limits;
    const enum format *formats = member_const(study, field->offset);
    cJSON *list = cJSON_CreateArray();
    char text[32];

    switch (field->kind) {
    case KIND_PATHS:
        for (uint32_t i = 0; i < study->n_tasks; i++)
            cJSON_AddItemToArray(list, give_path(study, study->task[i]));
        break;
    case KIND_HASHES:
        for (uint32_t i = 0; i < study->n_tasks; i++)
            cJSON_AddItemToArray(list, give_hash(&study->task_hash[i]));
        break;
    case KIND_FORMATS:
        for (uint32_t i = 0; i < *(const uint32_t *)member_const(study, field->extra); i++)
            cJSON_AddItemToArray(list, cJSON_CreateString(format_name(formats[i])));
        break;
    case KIND_KV_GROUPS:
        for (uint32_t i = 0; i < limits->n_kv_groups; i++)
            cJSON_AddItemToArray(list, cJSON_CreateNumber(limits->kv_groups[i]));
        break;
    case KIND_DROP:
        if (limits->drop_attn)
            cJSON_AddItemToArray(list, cJSON_CreateString("attn"));
        if (limits->drop_ffn)
            cJSON_AddItemToArray(list, cJSON_CreateString("ffn"));
        break;
    default:
        cJSON_AddItemToArray(list, cJSON_CreateString(workload_format(&study->prefill, text)));
        cJSON_AddItemToArray(list, cJSON_CreateString(workload_format(&study->decode, text)));
        break;
    }
    return list;
}

static cJSON *give_value(const struct study *study, const struct field *field)
{
    const void *value = member_const(study, field->offset);
    char text[48];

    switch (field->kind) {
    case KIND_PATH:
        return give_path(study, value);
    case KIND_TEXT:
        return cJSON_CreateString(value);
    case KIND_PROFILE:
        return cJSON_CreateString(profile_name(*(const enum profile *)value));
    case KIND_COUNT:
        return cJSON_CreateNumber((double)*(const uint64_t *)value);
    case KIND_COUNT_32:
    case KIND_THREADS:
        return cJSON_CreateNumber(*(const uint32_t *)value);
    case KIND_REAL:
        return cJSON_CreateNumber(*(const double *)value);
    case KIND_FLOAT:
        return cJSON_CreateNumber(*(const float *)value);
    case KIND_TIME:
        snprintf(text, sizeof text, "%.12gs", *(const double *)value);
        return cJSON_CreateString(text);
    case KIND_HASH:
        return give_hash(value);
    case KIND_BOOL:
        return cJSON_CreateBool(*(const bool *)value);
    default:
        return give_list(study, field);
    }
}

char *study_json_value(const struct study *study, size_t field)
{
    cJSON *value = give_value(study, &fields[field]);
    char *text = cJSON_PrintUnformatted(value);

    cJSON_Delete(value);
    return text;
}

/* Put `value` (taken over) at `pointer`, making the objects on the way.  False without memory. */
static bool put_value(cJSON *root, const char *pointer, cJSON *value)
{
    cJSON *object = root;
    const char *word = pointer + 1, *slash;
    char key[24];

    while ((slash = strchr(word, '/')) != NULL) {
        cJSON *child;

        snprintf(key, sizeof key, "%.*s", (int)(slash - word), word);
        child = cJSON_GetObjectItemCaseSensitive(object, key);
        object = child != NULL ? child : cJSON_AddObjectToObject(object, key);
        word = slash + 1;
    }
    if (value != NULL && object != NULL && cJSON_AddItemToObject(object, word, value))
        return true;
    cJSON_Delete(value);
    return false;
}

char *study_json_write(const struct study *study)
{
    cJSON *root = cJSON_CreateObject();
    bool whole = put_value(root, "/$schema", cJSON_CreateString(RESOLVED_SCHEMA));
    char *text;

    for (size_t i = 0; i < N_FIELDS; i++)
        whole = put_value(root, fields[i].pointer, give_value(study, &fields[i])) && whole;
    text = whole ? cJSON_Print(root) : NULL;
    cJSON_Delete(root);
    return text;
}
