/* peer_bench_json.c - the answer of llama-bench, read with suspicion. */
#include "latency_model/peer_bench.h"
#include "space/base/err.h"
#include "space/profile.h"
#include <cjson/cJSON.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static int refuse(const struct peer_bench *bench, struct err *err, const char *what)
{
    err_set(err, ERR_DATA, "%.160s: %s; its -o json is expected to be that of llama.cpp's %s",
            bench->program, what, PEER_BENCH_NAME);
    return -1;
}

/* The field counts `wanted`; where it is absent, only `optional` lets that pass. */
static int check_count(const struct peer_bench *bench, const cJSON *test, const char *name,
                       uint32_t wanted, bool optional, struct err *err)
{
    const cJSON *node = cJSON_GetObjectItemCaseSensitive(test, name);
    char what[120];
    if (node == NULL && optional)
        return 0;
    if (node == NULL)
        snprintf(what, sizeof what, "answers without \"%s\"", name);
    else if (!cJSON_IsNumber(node))
        snprintf(what, sizeof what, "answers with a \"%s\" that is no number", name);
    else if (node->valuedouble != wanted)
        snprintf(what, sizeof what, "was asked for %s %u and answers for %.10g", name, wanted,
                 node->valuedouble);
    else
        return 0;
    return refuse(bench, err, what);
}

/* The KV cache is what was asked for; builds that do not say have what they use unasked. */
static int check_cache(const struct peer_bench *bench, const cJSON *test, const char *name,
                       struct err *err)
{
    const cJSON *node = cJSON_GetObjectItemCaseSensitive(test, name);
    const char *wanted = profile_cache_type(bench->kv);
    char what[120];
    if (node == NULL && bench->kv == FORMAT_F16)
        return 0;
    if (cJSON_IsString(node) && strcmp(node->valuestring, wanted) == 0)
        return 0;
    snprintf(what, sizeof what, "was asked for %s %s and answers for another", name, wanted);
    return refuse(bench, err, what);
}

static int check_test(const struct peer_bench *bench, const struct workload *workload,
                      const cJSON *test, struct err *err)
{
    bool decode = workload->kind == WORKLOAD_DECODE;
    uint32_t n = workload->n_tokens;
    if (check_count(bench, test, "n_prompt", decode ? 0 : n, false, err) != 0 ||
        check_count(bench, test, "n_gen", decode ? n : 0, false, err) != 0 ||
        check_count(bench, test, "n_threads", bench->n_threads, false, err) != 0 ||
        check_cache(bench, test, "type_k", err) != 0 ||
        check_cache(bench, test, "type_v", err) != 0)
        return -1;
    return check_count(bench, test, "n_depth", workload->context, workload->context == 0, err);
}

static int read_samples(const struct peer_bench *bench, const cJSON *test, double n_units,
                        struct peer_sample *sample, struct err *err)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(test, "samples_ns"), *node;
    char what[120];
    if (!cJSON_IsArray(list))
        return refuse(bench, err, "answers without a list \"samples_ns\"");
    int n = cJSON_GetArraySize(list);
    if (n != (int)bench->n_samples) {
        snprintf(what, sizeof what, "was asked for %u repetitions and answers with %d samples",
                 bench->n_samples, n);
        return refuse(bench, err, what);
    }
    cJSON_ArrayForEach(node, list)
    {
        if (!cJSON_IsNumber(node) || !isfinite(node->valuedouble) || !(node->valuedouble > 0))
            return refuse(bench, err, "answers with a sample that is no time");
        sample->ns[sample->n++] = node->valuedouble / n_units;
    }
    return 0;
}

/* A text for people: printable ASCII, cut to `size`. */
static void copy_text(const cJSON *test, const char *name, char *text, size_t size)
{
    const cJSON *node = cJSON_GetObjectItemCaseSensitive(test, name);
    text[0] = '\0';
    if (!cJSON_IsString(node))
        return;
    snprintf(text, size, "%s", node->valuestring);
    for (; *text != '\0'; text++)
        if (*text < 0x20 || *text > 0x7e)
            *text = '?';
}

static void read_origin(const cJSON *test, struct peer_sample *sample)
{
    const cJSON *number = cJSON_GetObjectItemCaseSensitive(test, "build_number");
    char commit[41];
    copy_text(test, "build_commit", commit, sizeof commit);
    copy_text(test, "cpu_info", sample->cpu, sizeof sample->cpu);
    if (commit[0] == '\0' || strcmp(commit, "unknown") == 0)
        snprintf(sample->build, sizeof sample->build, "unknown");
    else if (cJSON_IsNumber(number))
        snprintf(sample->build, sizeof sample->build, "%s (%.10g)", commit, number->valuedouble);
    else
        snprintf(sample->build, sizeof sample->build, "%s", commit);
}

static int read_test(const struct peer_bench *bench, const struct workload *workload,
                     const cJSON *root, struct peer_sample *sample, struct err *err)
{
    char gpu[96];
    if (!cJSON_IsArray(root) || cJSON_GetArraySize(root) != 1 || !cJSON_IsObject(root->child))
        return refuse(bench, err, "does not answer with a list of one test");
    if (check_test(bench, workload, root->child, err) != 0)
        return -1;
    copy_text(root->child, "gpu_info", gpu, sizeof gpu);
    if (gpu[0] != '\0') {
        /* Without layers there it would still be given the large products of a prefill. */
        err_set(err, ERR_RESOURCE,
                "%.160s: sees the GPU %s, where this study times the CPU; hide it from the "
                "program or name a build for the CPU",
                bench->program, gpu);
        return -1;
    }
    read_origin(root->child, sample);
    return read_samples(bench, root->child,
                        workload->kind == WORKLOAD_DECODE ? workload->n_tokens : 1, sample, err);
}

int peer_bench_parse(const struct peer_bench *bench, const struct workload *workload,
                     const char *text, size_t n_bytes, struct peer_sample *sample, struct err *err)
{
    const char *end = text;
    struct peer_sample read = {0};
    int status = -1;
    cJSON *root = cJSON_ParseWithLengthOpts(text, n_bytes, &end, false);
    while (root != NULL && end < text + n_bytes && strchr(" \t\r\n", *end) != NULL && *end != '\0')
        end++;
    if (root == NULL || end != text + n_bytes)
        refuse(bench, err, n_bytes == 0 ? "answers nothing" : "does not answer in JSON");
    else
        status = read_test(bench, workload, root, &read, err);
    cJSON_Delete(root);
    if (status == 0)
        *sample = read;
    return status;
}
