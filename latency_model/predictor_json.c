/* predictor_json.c - the latency model as a file: its points, read with suspicion. */
#include "latency_model/predictor.h"
#include "space/base/config_json.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SCHEMA   2
#define MAX_FILE (16 << 20)

/* --- writing --- */

static void put_points(cJSON *node, const char *name, const struct predictor_point *points,
                       size_t n)
{
    cJSON *list = cJSON_AddArrayToObject(node, name);
    for (size_t i = 0; i < n; i++) {
        char hex[ID128_HEX];
        cJSON *point = cJSON_CreateObject();
        cJSON_AddItemToArray(list, point);
        id128_hex(points[i].id, hex);
        cJSON_AddStringToObject(point, "id", hex);
        cJSON_AddNumberToObject(point, "ns", points[i].ns);
        cJSON_AddNumberToObject(point, "table_ns", points[i].table_ns);
        cJSON_AddItemToObject(point, "terms",
                              cJSON_CreateDoubleArray(points[i].term, N_PREDICTOR_TERMS));
    }
}

int predictor_save(const struct predictor predictor[2], const struct predictor_origin *origin,
                   const char *path, struct err *err)
{
    char name[32], geometry[160];
    cJSON *root = cJSON_CreateObject();
    cJSON_AddNumberToObject(root, "schema", SCHEMA);
    cJSON_AddStringToObject(root, "device", origin->device);
    cJSON_AddStringToObject(root, "kernels", origin->kernels);
    cJSON_AddStringToObject(root, "geometry", geometry_describe(&origin->geometry, geometry));
    cJSON *names = cJSON_AddArrayToObject(root, "terms");
    for (int t = 0; t < N_PREDICTOR_TERMS; t++)
        cJSON_AddItemToArray(names, cJSON_CreateString(predictor_term_name(t)));
    cJSON *workloads = cJSON_AddArrayToObject(root, "workloads");
    for (int w = 0; w < 2; w++) {
        cJSON *node = cJSON_CreateObject();
        cJSON_AddItemToArray(workloads, node);
        cJSON_AddStringToObject(node, "workload", workload_format(&predictor[w].workload, name));
        put_points(node, "points", predictor[w].point, predictor[w].n);
        put_points(node, "held_out", predictor[w].held_out, predictor[w].n_held_out);
    }
    return config_json_save(root, path, err);
}

/* --- reading --- */

static bool same_text(const cJSON *root, const char *name, const char *want)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(root, name));
    return text != NULL && strcmp(text, want) == 0;
}

static bool get_point(const cJSON *node, struct predictor_point *point)
{
    const char *id = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(node, "id"));
    const cJSON *ns = cJSON_GetObjectItemCaseSensitive(node, "ns");
    const cJSON *table_ns = cJSON_GetObjectItemCaseSensitive(node, "table_ns");
    const cJSON *terms = cJSON_GetObjectItemCaseSensitive(node, "terms"), *term;
    int n = 0;
    if (id == NULL || id128_parse(id, &point->id) != 0 || !cJSON_IsNumber(ns) ||
        !(ns->valuedouble > 0) || !cJSON_IsNumber(table_ns) ||
        cJSON_GetArraySize(terms) != N_PREDICTOR_TERMS)
        return false;
    point->ns = ns->valuedouble;
    point->table_ns = table_ns->valuedouble;
    cJSON_ArrayForEach(term, terms)
    {
        if (!cJSON_IsNumber(term))
            return false;
        point->term[n++] = term->valuedouble;
    }
    return true;
}

/* The terms must be those of this build, in their order. */
static bool same_terms(const cJSON *root)
{
    const cJSON *names = cJSON_GetObjectItemCaseSensitive(root, "terms"), *name;
    int n = 0;
    if (cJSON_GetArraySize(names) != N_PREDICTOR_TERMS)
        return false;
    cJSON_ArrayForEach(name, names)
    {
        if (!cJSON_IsString(name) || strcmp(name->valuestring, predictor_term_name(n++)) != 0)
            return false;
    }
    return true;
}

/* A list of points, yours to free; NULL where there is no such list or it is not sound. */
static struct predictor_point *get_points(const cJSON *node, const char *name, size_t n_least,
                                          size_t *n, struct err *err)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(node, name), *each;
    size_t n_listed = (size_t)cJSON_GetArraySize(list);
    struct predictor_point *points = NULL;
    bool sound = cJSON_IsArray(list) && n_listed >= n_least && n_listed <= TIME_FIT_MAX_POINTS;
    *n = 0;
    if (sound)
        points = calloc(n_listed + 1, sizeof *points);
    sound = points != NULL;
    cJSON_ArrayForEach(each, list)
    {
        sound = sound && get_point(each, &points[(*n)++]);
    }
    if (sound)
        return points;
    err_set(err, ERR_DATA, "no sound %s", name);
    free(points);
    return NULL;
}

static int get_workload(const cJSON *node, struct predictor *p, struct err *err)
{
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(node, "workload"));
    struct workload workload;
    size_t n, n_held_out;
    if (name == NULL || workload_parse(name, &workload, NULL) != 0) {
        err_set(err, ERR_DATA, "no sound workload");
        return -1;
    }
    struct predictor_point *points = get_points(node, "points", 2, &n, err), *held_out = NULL;
    if (points != NULL)
        held_out = get_points(node, "held_out", 0, &n_held_out, err);
    int status = -1;
    if (held_out != NULL)
        status = predictor_fit(p, &workload, points, n, err);
    if (status == 0)
        status = predictor_hold_out(p, held_out, n_held_out, err);
    free(held_out);
    free(points);
    return status;
}

static int get_root(const cJSON *root, const struct predictor_origin *origin,
                    struct predictor predictor[2], struct err *err)
{
    char geometry[160];
    const cJSON *schema = cJSON_GetObjectItemCaseSensitive(root, "schema");
    const cJSON *workloads = cJSON_GetObjectItemCaseSensitive(root, "workloads");
    if (!cJSON_IsNumber(schema) || schema->valuedouble != SCHEMA || !same_terms(root) ||
        cJSON_GetArraySize(workloads) != 2) {
        err_set(err, ERR_DATA, "not a latency model of this version");
        return -1;
    }
    if (!same_text(root, "geometry", geometry_describe(&origin->geometry, geometry))) {
        err_set(err, ERR_DATA, "it belongs to another geometry");
        return -1;
    }
    if (!same_text(root, "device", origin->device) ||
        !same_text(root, "kernels", origin->kernels)) {
        err_set(err, ERR_RESOURCE, "it was measured on another class of machine than %s",
                origin->device);
        return -1;
    }
    for (int w = 0; w < 2; w++)
        if (get_workload(cJSON_GetArrayItem(workloads, w), &predictor[w], err) != 0)
            return -1;
    return 0;
}

int predictor_load(struct predictor predictor[2], const struct predictor_origin *origin,
                   const char *path, struct err *err)
{
    struct err why = {0};
    memset(predictor, 0, 2 * sizeof *predictor);
    char *text = file_read(path, MAX_FILE, NULL, err);
    if (text == NULL)
        return -1;
    cJSON *root = cJSON_Parse(text);
    int status = -1;
    if (root == NULL)
        err_set(err, ERR_DATA, "%s: no JSON; kerf model fit or measure makes it anew", path);
    else if ((status = get_root(root, origin, predictor, &why)) != 0)
        err_set(err, why.code, "%s: %.300s; kerf model fit or measure makes it anew", path,
                why.text);
    if (status != 0)
        for (int w = 0; w < 2; w++)
            predictor_fini(&predictor[w]);
    cJSON_Delete(root);
    free(text);
    return status;
}
