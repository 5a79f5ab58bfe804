/* predictor_json.c - the latency model as a file: its points, read with suspicion. */
#include "latency_model/predictor.h"
#include "space/base/config_json.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SCHEMA   1
#define MAX_FILE (16 << 20)

/* --- writing --- */

static void put_points(cJSON *node, const struct predictor *p)
{
    cJSON *points = cJSON_AddArrayToObject(node, "points");
    for (size_t i = 0; i < p->n; i++) {
        char hex[ID128_HEX];
        cJSON *point = cJSON_CreateObject();
        cJSON_AddItemToArray(points, point);
        id128_hex(p->point[i].id, hex);
        cJSON_AddStringToObject(point, "id", hex);
        cJSON_AddNumberToObject(point, "ns", p->point[i].ns);
        cJSON_AddItemToObject(point, "terms",
                              cJSON_CreateDoubleArray(p->point[i].term, N_PREDICTOR_TERMS));
    }
}

int predictor_save(const struct predictor predictor[2], const struct predictor_origin *origin,
                   const char *path, struct err *err)
{
    char name[32], hex[HASH256_HEX];
    cJSON *root = cJSON_CreateObject();
    cJSON_AddNumberToObject(root, "schema", SCHEMA);
    cJSON_AddStringToObject(root, "device", origin->device);
    cJSON_AddStringToObject(root, "kernels", origin->kernels);
    hash256_hex(origin->parent, hex);
    cJSON_AddStringToObject(root, "parent", hex);
    cJSON *names = cJSON_AddArrayToObject(root, "terms");
    for (int t = 0; t < N_PREDICTOR_TERMS; t++)
        cJSON_AddItemToArray(names, cJSON_CreateString(predictor_term_name(t)));
    cJSON *workloads = cJSON_AddArrayToObject(root, "workloads");
    for (int w = 0; w < 2; w++) {
        cJSON *node = cJSON_CreateObject();
        cJSON_AddItemToArray(workloads, node);
        cJSON_AddStringToObject(node, "workload", workload_format(&predictor[w].workload, name));
        put_points(node, &predictor[w]);
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
    const cJSON *terms = cJSON_GetObjectItemCaseSensitive(node, "terms"), *term;
    int n = 0;
    if (id == NULL || id128_parse(id, &point->id) != 0 || !cJSON_IsNumber(ns) ||
        cJSON_GetArraySize(terms) != N_PREDICTOR_TERMS)
        return false;
    point->ns = ns->valuedouble;
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

static int get_workload(const cJSON *node, struct predictor *p, struct err *err)
{
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(node, "workload"));
    const cJSON *points = cJSON_GetObjectItemCaseSensitive(node, "points"), *each;
    int n = cJSON_GetArraySize(points);
    struct workload workload;
    if (name == NULL || workload_parse(name, &workload, NULL) != 0 || n < 2 ||
        n > TIME_FIT_MAX_POINTS) {
        err_set(err, ERR_DATA, "no sound workload");
        return -1;
    }
    struct predictor_point *point = calloc((size_t)n, sizeof *point);
    bool sound = point != NULL;
    n = 0;
    cJSON_ArrayForEach(each, points)
    {
        sound = sound && get_point(each, &point[n++]);
    }
    int status = -1;
    if (!sound)
        err_set(err, ERR_DATA, "point %d is not sound", n);
    else
        status = predictor_fit(p, &workload, point, (size_t)n, err);
    free(point);
    return status;
}

static int get_root(const cJSON *root, const struct predictor_origin *origin,
                    struct predictor predictor[2], struct err *err)
{
    char hex[HASH256_HEX];
    const cJSON *schema = cJSON_GetObjectItemCaseSensitive(root, "schema");
    const cJSON *workloads = cJSON_GetObjectItemCaseSensitive(root, "workloads");
    hash256_hex(origin->parent, hex);
    if (!cJSON_IsNumber(schema) || schema->valuedouble != SCHEMA || !same_terms(root) ||
        cJSON_GetArraySize(workloads) != 2) {
        err_set(err, ERR_DATA, "not a latency model of this version");
        return -1;
    }
    if (!same_text(root, "parent", hex)) {
        err_set(err, ERR_DATA, "it belongs to another parent");
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
        err_set(err, ERR_DATA, "%s: no JSON; kerf model fit makes it anew", path);
    else if ((status = get_root(root, origin, predictor, &why)) != 0)
        err_set(err, why.code, "%s: %.300s; kerf model fit makes it anew", path, why.text);
    if (status != 0)
        for (int w = 0; w < 2; w++)
            predictor_fini(&predictor[w]);
    cJSON_Delete(root);
    free(text);
    return status;
}
