/* study_json_read.c - each kind of field from JSON, checked where it stands in the file. */
#include "space/study_json.h"

#include "space/base/config_json.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include "space/base/units.h"
#include "space/study_json_parts.h"

#include <assert.h>
#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- values --------------------------------------------------------------------------------- */

/* What a reader of values answers: the value does not fit the field's `expected`, or an error of
 * its own is told already. */
enum verdict { TAKEN, UNFIT, TOLD };

struct reading {
    const struct config_json *config;
    enum study_form form;
    const struct study_field *field;
    struct study *study;
    struct err *err;
};

/* Pointer of element `i` of the field's list. */
static const char *element_pointer(const struct reading *r, int i, char text[96])
{
    snprintf(text, 96, "%s/%d", r->field->pointer, i);
    return text;
}

static enum verdict take_count(const struct study_field *field, const cJSON *node, uint64_t *count)
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

static enum verdict take_count_32(const struct study_field *field, const cJSON *node,
                                  uint32_t *value)
{
    uint64_t count;

    if (take_count(field, node, &count) != TAKEN || count > UINT32_MAX)
        return UNFIT;
    *value = (uint32_t)count;
    return TAKEN;
}

static enum verdict take_real(const struct study_field *field, const cJSON *node, double *value)
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

static enum verdict take_size(const struct reading *r, const cJSON *node, uint64_t *n_bytes)
{
    struct err why = {0};

    if (!cJSON_IsString(node))
        return UNFIT;
    *n_bytes = 0;
    if (strcmp(node->valuestring, "none") == 0)
        return TAKEN;
    if (units_parse_size(node->valuestring, n_bytes, &why) == 0)
        return *n_bytes > 0 ? TAKEN : UNFIT;
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
    enum format *formats = study_member(r->study, r->field->offset);
    uint32_t *n_formats = study_member(r->study, r->field->extra);
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

static enum verdict take_hidden(const struct reading *r, const cJSON *node)
{
    struct space_limits *limits = &r->study->limits;
    int n = cJSON_GetArraySize(node);
    const cJSON *element = node->child;

    if (!cJSON_IsArray(node) || n < 1 ||
        n > (int)(sizeof limits->hidden / sizeof limits->hidden[0]))
        return UNFIT;
    for (int i = 0; i < n; i++, element = element->next)
        if (take_real(r->field, element, &limits->hidden[i]) != TAKEN)
            return UNFIT;
    limits->n_hidden = (uint32_t)n;
    return TAKEN;
}

static enum verdict take_acts(const struct reading *r, const cJSON *node)
{
    struct space_limits *limits = &r->study->limits;
    int n = cJSON_GetArraySize(node);
    const cJSON *element = node->child;

    if (!cJSON_IsArray(node) || n < 1 || n > N_ACT_FORMATS)
        return UNFIT;
    for (int i = 0; i < n; i++, element = element->next) {
        bool known = false;

        if (cJSON_IsString(element))
            limits->act[i] = act_format_parse(element->valuestring, &known);
        if (!known)
            return UNFIT;
    }
    limits->n_act = (uint32_t)n;
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
    if (r->field->kind == KIND_ROTATION) {
        enum rotation rotation = rotation_parse(node->valuestring);

        *(enum rotation *)value = rotation;
        return rotation == N_ROTATIONS ? UNFIT : TAKEN;
    }
    if (r->field->kind == KIND_ORDER) {
        enum compress_order order = compress_order_parse(node->valuestring);

        *(enum compress_order *)value = order;
        return order == N_COMPRESS_ORDERS ? UNFIT : TAKEN;
    }
    if (strlen(node->valuestring) >= sizeof r->study->separator)
        return UNFIT;
    strcpy(value, node->valuestring);
    return TAKEN;
}

static enum verdict take_value(const struct reading *r, const cJSON *node)
{
    void *value = study_member(r->study, r->field->offset);
    double real;

    switch (r->field->kind) {
    case KIND_PATH:
        return take_path(r, r->field->pointer, node, value);
    case KIND_PATHS:
        return take_paths(r, node);
    case KIND_TEXT:
    case KIND_PROFILE:
    case KIND_ROTATION:
    case KIND_ORDER:
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
    case KIND_SIZE:
        return take_size(r, node, value);
    case KIND_TIME:
        return take_time(r, node, value);
    case KIND_FORMATS:
        return take_formats(r, node);
    case KIND_KV_GROUPS:
        return take_kv_groups(r, node);
    case KIND_ACTS:
        return take_acts(r, node);
    case KIND_HIDDEN:
        return take_hidden(r, node);
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
static bool has_field(enum study_form form, const struct study_field *field)
{
    return form == STUDY_RESOLVED || (field->flags & KERFS) == 0;
}

/* Refuse what the table does not know in the object at the first `len` bytes of `pointer`. */
static int check_object(const struct config_json *config, enum study_form form, const char *pointer,
                        size_t len, struct err *err)
{
    char prefix[64], words[STUDY_N_FIELDS][24];
    const char *known[STUDY_N_FIELDS + 2];
    size_t n = 0;

    assert(len < sizeof prefix);
    memcpy(prefix, pointer, len);
    prefix[len] = '\0';
    for (size_t i = 0; i < STUDY_N_FIELDS; i++) {
        const char *rest = study_fields[i].pointer + len;

        if (!has_field(form, &study_fields[i]) ||
            strncmp(study_fields[i].pointer, prefix, len) != 0 || *rest != '/')
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
    for (size_t i = 0; i < STUDY_N_FIELDS; i++) {
        const char *pointer = study_fields[i].pointer;

        if (!has_field(form, &study_fields[i]))
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
    for (size_t i = 0; i < STUDY_N_FIELDS; i++) {
        r.field = &study_fields[i];
        if (has_field(form, r.field) && take_field(&r) != 0)
            return -1;
    }
    return 0;
}
