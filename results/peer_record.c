#include "results/peer_record.h"
#include "results/show_parts.h"
#include "space/base/config_json.h"
#include "space/base/err.h"
#include "space/base/log.h"
#include <math.h>
#include <string.h>

#define TABLE_PEER "tables/peer.json"
#define SCHEMA     1

int peer_record_save(const struct study *study, const struct front *front,
                     const struct show_peer *peer, struct err *err)
{
    char path[STUDY_PATH_MAX], hex[ID128_HEX];
    cJSON *root = cJSON_CreateObject();
    double rho[2];
    size_t n;
    show_peer_correlate(peer, rho, &n);
    put_number(root, "schema", SCHEMA);
    cJSON_AddStringToObject(root, "device", front->device);
    cJSON_AddStringToObject(root, "kernels", front->kernels);
    cJSON_AddStringToObject(root, "build", peer->build);
    put_number(root, "rounds", peer->n_rounds);
    put_ranks(root, rho);
    cJSON *ids = cJSON_AddArrayToObject(root, "ids");
    for (size_t i = 0; i < peer->n; i++) {
        if (peer->row[i].reason != NULL)
            continue;
        id128_hex(peer->row[i].member->candidate.id, hex);
        cJSON_AddItemToArray(ids, cJSON_CreateString(hex));
    }
    return config_json_save(root, study_path(study, TABLE_PEER, path), err);
}

/* --- reading, with no trust in it --- */

static const char *text_at(const struct config_json *json, const char *pointer)
{
    const char *text = cJSON_GetStringValue(config_json_get(json, pointer));
    return text != NULL ? text : "";
}

/* A correlation, or NAN. */
static double rank_at(const struct config_json *json, const char *pointer)
{
    const cJSON *node = config_json_get(json, pointer);
    return cJSON_IsNumber(node) && fabs(node->valuedouble) <= 1 ? node->valuedouble : NAN;
}

static bool is_on_front(const struct front *front, const char *hex)
{
    char own[ID128_HEX];
    for (size_t i = 0; i < front->n; i++) {
        id128_hex(front->member[i].candidate.id, own);
        if (strcmp(own, hex) == 0)
            return true;
    }
    return false;
}

static bool fill(const struct config_json *json, const struct front *front,
                 struct peer_record *record)
{
    const cJSON *schema = config_json_get(json, "/schema"), *id;
    if (!cJSON_IsNumber(schema) || schema->valuedouble != SCHEMA ||
        strcmp(text_at(json, "/device"), front->device) != 0 ||
        strcmp(text_at(json, "/kernels"), front->kernels) != 0)
        return false;
    *record = (struct peer_record){
        .rho = {rank_at(json, "/spearman/tpot_ms"), rank_at(json, "/spearman/ttft_ms")}};
    snprintf(record->build, sizeof record->build, "%s", text_at(json, "/build"));
    for (char *c = record->build; *c != '\0'; c++)
        if ((unsigned char)*c < ' ' || *c == 127)
            *c = '?';
    cJSON_ArrayForEach(id, config_json_get(json, "/ids"))
    {
        const char *hex = cJSON_GetStringValue(id);
        record->n++;
        record->n_on_front += hex != NULL && is_on_front(front, hex);
    }
    return record->n > 0;
}

bool peer_record_load(const struct study *study, const struct front *front,
                      struct peer_record *record)
{
    char path[STUDY_PATH_MAX];
    struct config_json json;
    struct err err = {0};
    if (config_json_open(&json, study_path(study, TABLE_PEER, path), &err) != 0) {
        if (err.code != ERR_MISSING)
            log_warn("front", "%s; ranks in another engine are not shown", err.text);
        return false;
    }
    bool found = fill(&json, front, record);
    config_json_close(&json);
    return found;
}
