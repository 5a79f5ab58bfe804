#include "cli/baseline.h"
#include "space/base/config_json.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCHEMA    1
#define MAX_FILE  (64 << 20)
#define PATH_ROOM (STUDY_PATH_MAX + 48)

static const char *path_in(const struct baseline *baseline, const char *name, char path[PATH_ROOM])
{
    snprintf(path, PATH_ROOM, "%s/%s", baseline->dir, name);
    return path;
}

const char *baseline_model(const struct baseline *baseline, size_t item, char path[PATH_ROOM])
{
    char name[ID128_HEX + 8], hex[ID128_HEX];
    id128_hex(baseline->item[item].id, hex);
    snprintf(name, sizeof name, "%s.gguf", hex);
    return path_in(baseline, name, path);
}

const char *baseline_program(const struct baseline *baseline, char path[PATH_ROOM])
{
    return path_in(baseline, "kerf", path);
}

/* --- writing --- */

int baseline_save(const struct baseline *baseline, struct err *err)
{
    char path[PATH_ROOM], hex[HASH256_HEX], number[32];
    cJSON *root = cJSON_CreateObject();
    cJSON_AddNumberToObject(root, "schema", SCHEMA);
    cJSON_AddStringToObject(root, "version", baseline->version);
    cJSON_AddStringToObject(root, "device", baseline->device);
    cJSON_AddStringToObject(root, "kernels", baseline->kernels);
    hash256_hex(baseline->parent, hex);
    cJSON_AddStringToObject(root, "parent", hex);
    cJSON_AddNumberToObject(root, "tokens", (double)baseline->tokens);
    cJSON *items = cJSON_AddArrayToObject(root, "items");
    for (size_t i = 0; i < baseline->n; i++) {
        const struct baseline_item *item = &baseline->item[i];
        cJSON *node = cJSON_CreateObject();
        cJSON_AddItemToArray(items, node);
        id128_hex(item->id, hex);
        cJSON_AddStringToObject(node, "id", hex);
        cJSON_AddStringToObject(node, "genome", item->genome);
        hash256_hex(item->weights, hex);
        cJSON_AddStringToObject(node, "weights", hex);
        /* To the last bit: cJSON's own numbers may lose it. */
        snprintf(number, sizeof number, "%.17g", item->kld);
        cJSON_AddRawToObject(node, "kld", number);
    }
    return config_json_save(root, path_in(baseline, "baseline.json", path), err);
}

/* --- reading --- */

static const char *text_of(const cJSON *node, const char *name)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(node, name));
    return text != NULL ? text : "";
}

static double number_of(const cJSON *node, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(node, name);
    return cJSON_IsNumber(item) ? item->valuedouble : NAN;
}

static int read_items(struct baseline *baseline, const cJSON *items)
{
    const cJSON *node;
    cJSON_ArrayForEach(node, items)
    {
        if (baseline->n == BASELINE_MAX_ITEMS)
            return -1;
        struct baseline_item *item = &baseline->item[baseline->n++];
        item->kld = number_of(node, "kld");
        item->genome = strdup(text_of(node, "genome"));
        if (id128_parse(text_of(node, "id"), &item->id) != 0 ||
            hash256_parse(text_of(node, "weights"), &item->weights) != 0 || item->genome == NULL ||
            !isfinite(item->kld))
            return -1;
    }
    return baseline->n > 0 ? 0 : -1;
}

static int read_root(struct baseline *baseline, const cJSON *root)
{
    double tokens = number_of(root, "tokens");
    if (number_of(root, "schema") != SCHEMA || !(tokens >= 1) || !(tokens < 1e12) ||
        hash256_parse(text_of(root, "parent"), &baseline->parent) != 0)
        return -1;
    baseline->tokens = (uint64_t)tokens;
    snprintf(baseline->version, sizeof baseline->version, "%s", text_of(root, "version"));
    snprintf(baseline->device, sizeof baseline->device, "%s", text_of(root, "device"));
    snprintf(baseline->kernels, sizeof baseline->kernels, "%s", text_of(root, "kernels"));
    return read_items(baseline, cJSON_GetObjectItemCaseSensitive(root, "items"));
}

int baseline_load(struct baseline *baseline, const char *dir, struct err *err)
{
    char path[PATH_ROOM];
    memset(baseline, 0, sizeof *baseline);
    snprintf(baseline->dir, sizeof baseline->dir, "%s", dir);
    if (!file_exists(path_in(baseline, "baseline.json", path))) {
        err_set(err, ERR_MISSING, "%s: no baseline yet; run kerf sweep --save first", dir);
        return -1;
    }
    char *text = file_read(path, MAX_FILE, NULL, err);
    if (text == NULL)
        return -1;
    cJSON *root = cJSON_Parse(text);
    int status = root != NULL ? read_root(baseline, root) : -1;
    if (status != 0) {
        err_set(err, ERR_DATA, "%s: no sound baseline; kerf sweep --save --force makes it anew",
                path);
        baseline_fini(baseline);
    }
    cJSON_Delete(root);
    free(text);
    return status;
}

void baseline_fini(struct baseline *baseline)
{
    for (size_t i = 0; i < baseline->n; i++)
        free(baseline->item[i].genome);
    memset(baseline, 0, sizeof *baseline);
}
