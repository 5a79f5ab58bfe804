/* study_json.c - the table of a study's fields, and each kind of field to JSON. */
#include "space/study_json.h"

#include "space/study_json_parts.h"

#include <assert.h>
#include <cjson/cJSON.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* ---- the table ------------------------------------------------------------------------------ */

#define AT(member) offsetof(struct study, member)
#define TOKENS     "a number of tokens, such as 4096 or \"16Ki\""

/* clang-format off */
const struct study_field study_fields[] = {
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
    {"/space/hidden", KIND_HIDDEN, 0, 0, 0, 1e-9, 1, "a list of at most 8 shares of the hidden width, such as [0.875, 1]"},
    {"/space/rotation", KIND_ROTATION, 0, AT(limits.rotation), 0, 0, 0, "\"none\" or \"hadamard\""},
    {"/space/kv_groups", KIND_KV_GROUPS, 0, 0, 0, 1, 0x1p24, "a list of at most 8 counts, such as [2, 4]"},
    {"/space/types", KIND_FORMATS, 0, AT(limits.types), AT(limits.n_types), 0, 0, "a list of formats, such as [\"Q2_K\", \"Q4_K\", \"Q8_0\"]"},
    {"/space/embedding", KIND_FORMATS, 0, AT(limits.embd_types), AT(limits.n_embd_types), 0, 0, "a list of formats, such as [\"Q4_K\", \"Q8_0\"]"},
    {"/space/kv", KIND_FORMATS, 0, AT(limits.kv), AT(limits.n_kv), 0, 0, "a list of formats of the KV cache, such as [\"F16\", \"Q8_0\", \"Q4_0\"]"},
    {"/space/act", KIND_ACTS, 0, 0, 0, 0, 0, "a list of \"a8\" and \"a16\""},

    {"/compression/order", KIND_ORDER, 0, AT(compress_order), 0, 0, 0, "\"prune-quantize\" or \"quantize-prune\""},

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

    {"/limits/disk", KIND_SIZE, FREE, AT(max_disk), 0, 0, 0, "a size with its unit, such as \"200GiB\", or \"none\""},

    {"/search/seed", KIND_COUNT, 0, AT(seed), 0, 0, 1e15 - 1, "a whole number from 0, at most 15 digits"},
    {"/search/population", KIND_COUNT_32, 0, AT(population), 0, 8, 65536, "a population from 8 to 65536"},
    {"/search/evals", KIND_COUNT, FREE, AT(evals), 0, 1, 1e15 - 1, "a number of candidates, from 1"},
    {"/search/time", KIND_TIME, FREE, AT(time_s), 0, 0, 0, "a time with its unit, such as \"10min\" or \"4h\""},
};
/* clang-format on */

size_t study_json_n_fields(void)
{
    return STUDY_N_FIELDS;
}

const char *study_json_pointer(size_t field)
{
    assert(field < STUDY_N_FIELDS);
    return study_fields[field].pointer;
}

bool study_json_is_frozen(size_t field)
{
    assert(field < STUDY_N_FIELDS);
    return (study_fields[field].flags & FREE) == 0;
}

bool study_json_is_hash(size_t field)
{
    assert(field < STUDY_N_FIELDS);
    return study_fields[field].kind == KIND_HASH || study_fields[field].kind == KIND_HASHES;
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

static cJSON *give_list(const struct study *study, const struct study_field *field)
{
    const struct space_limits *limits = &study->limits;
    const enum format *formats = study_member_const(study, field->offset);
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
        for (uint32_t i = 0; i < *(const uint32_t *)study_member_const(study, field->extra); i++)
            cJSON_AddItemToArray(list, cJSON_CreateString(format_name(formats[i])));
        break;
    case KIND_KV_GROUPS:
        for (uint32_t i = 0; i < limits->n_kv_groups; i++)
            cJSON_AddItemToArray(list, cJSON_CreateNumber(limits->kv_groups[i]));
        break;
    case KIND_HIDDEN:
        for (uint32_t i = 0; i < limits->n_hidden; i++)
            cJSON_AddItemToArray(list, cJSON_CreateNumber(limits->hidden[i]));
        break;
    case KIND_ACTS:
        for (uint32_t i = 0; i < limits->n_act; i++)
            cJSON_AddItemToArray(list, cJSON_CreateString(act_format_name(limits->act[i])));
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

static cJSON *give_value(const struct study *study, const struct study_field *field)
{
    const void *value = study_member_const(study, field->offset);
    char text[48];

    switch (field->kind) {
    case KIND_PATH:
        return give_path(study, value);
    case KIND_TEXT:
        return cJSON_CreateString(value);
    case KIND_PROFILE:
        return cJSON_CreateString(profile_name(*(const enum profile *)value));
    case KIND_ORDER:
        return cJSON_CreateString(compress_order_name(*(const enum compress_order *)value));
    case KIND_ROTATION:
        return cJSON_CreateString(rotation_name(*(const enum rotation *)value));
    case KIND_COUNT:
        return cJSON_CreateNumber((double)*(const uint64_t *)value);
    case KIND_COUNT_32:
    case KIND_THREADS:
        return cJSON_CreateNumber(*(const uint32_t *)value);
    case KIND_REAL:
        return cJSON_CreateNumber(*(const double *)value);
    case KIND_FLOAT:
        return cJSON_CreateNumber(*(const float *)value);
    case KIND_SIZE:
        snprintf(text, sizeof text, "%lluB", (unsigned long long)*(const uint64_t *)value);
        return cJSON_CreateString(*(const uint64_t *)value > 0 ? text : "none");
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
    cJSON *value = give_value(study, &study_fields[field]);
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

    for (size_t i = 0; i < STUDY_N_FIELDS; i++)
        whole =
            put_value(root, study_fields[i].pointer, give_value(study, &study_fields[i])) && whole;
    text = whole ? cJSON_Print(root) : NULL;
    cJSON_Delete(root);
    return text;
}
