#include "cluster/message.h"
#include "space/base/err.h"
#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const kind_names[] = {"ready", "beat", "task", "verdict", "stop"};
static const char *const verdict_names[] = {"done",   "crash", "timeout", "bad",
                                            "unable", "disk",  "lost"};
static const char *const work_names[] = {"prepare", "sensitivity", "evaluate"};
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

const char *verdict_name(enum verdict verdict)
{
    return verdict_names[verdict];
}

/* --- reading numbers and texts of a message that may say anything --- */

static int bad(struct err *err, const char *what)
{
    err_set(err, ERR_DATA, "message without a sound '%s'", what);
    return -1;
}

/* Leases and sequences fit a double exactly: they count up from 0. */
static int read_count(const cJSON *node, const char *name, double most, uint64_t *value,
                      struct err *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(node, name);
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0) || item->valuedouble > most ||
        item->valuedouble != floor(item->valuedouble))
        return bad(err, name);
    *value = (uint64_t)item->valuedouble;
    return 0;
}

static int read_text(const cJSON *node, const char *name, char *text, size_t size, struct err *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(node, name);
    text[0] = '\0';
    if (item == NULL)
        return 0;
    if (!cJSON_IsString(item) || strlen(item->valuestring) >= size)
        return bad(err, name);
    strcpy(text, item->valuestring);
    return 0;
}

static int read_name(const cJSON *node, const char *name, const char *const *names, size_t n,
                     unsigned *index, struct err *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(node, name);
    for (unsigned i = 0; cJSON_IsString(item) && i < n; i++)
        if (strcmp(item->valuestring, names[i]) == 0) {
            *index = i;
            return 0;
        }
    return bad(err, name);
}

#define MAX_COUNT 9007199254740992.0 /* 2^53 */

/* --- work --- */

/* Levels travel as one hexadecimal digit each: SPACE_MAX_LEVELS is 16. */
static void put_levels(cJSON *node, const struct work *work)
{
    static const char digits[] = "0123456789abcdef";
    char text[SPACE_MAX_GENES + 1];
    for (uint32_t i = 0; i < work->n_levels; i++)
        text[i] = digits[work->levels[i] & 15];
    text[work->n_levels] = '\0';
    cJSON_AddStringToObject(node, "levels", text);
}

static int get_levels(const cJSON *node, struct work *work, struct err *err)
{
    char text[SPACE_MAX_GENES + 1];
    if (read_text(node, "levels", text, sizeof text, err) != 0)
        return -1;
    work->n_levels = (uint32_t)strlen(text);
    for (uint32_t i = 0; i < work->n_levels; i++) {
        char c = text[i];
        if (c >= '0' && c <= '9')
            work->levels[i] = (uint8_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            work->levels[i] = (uint8_t)(c - 'a' + 10);
        else
            return bad(err, "levels");
    }
    return 0;
}

static void work_put(cJSON *node, const struct work *work)
{
    cJSON_AddStringToObject(node, "work", work_names[work->kind]);
    cJSON_AddNumberToObject(node, "lease", (double)work->lease);
    cJSON_AddNumberToObject(node, "attempt", work->attempt);
    cJSON_AddNumberToObject(node, "unit", work->unit);
    cJSON_AddNumberToObject(node, "rung", work->rung);
    cJSON_AddNumberToObject(node, "sequence", (double)work->sequence);
    cJSON_AddNumberToObject(node, "deadline", work->deadline_s);
    put_levels(node, work);
}

static int work_get(const cJSON *node, struct work *work, struct err *err)
{
    unsigned kind;
    uint64_t attempt, unit, rung;
    memset(work, 0, sizeof *work);
    if (read_name(node, "work", work_names, COUNT(work_names), &kind, err) != 0 ||
        read_count(node, "lease", MAX_COUNT, &work->lease, err) != 0 ||
        read_count(node, "attempt", 1e6, &attempt, err) != 0 ||
        read_count(node, "unit", 2 * GEOMETRY_MAX_LAYERS, &unit, err) != 0 ||
        read_count(node, "rung", RUNG_FINAL, &rung, err) != 0 ||
        read_count(node, "sequence", MAX_COUNT, &work->sequence, err) != 0 ||
        get_levels(node, work, err) != 0)
        return -1;
    const cJSON *deadline = cJSON_GetObjectItemCaseSensitive(node, "deadline");
    if (!cJSON_IsNumber(deadline) || !(deadline->valuedouble > 0 && deadline->valuedouble < 1e7))
        return bad(err, "deadline");
    work->kind = (enum work_kind)kind;
    work->attempt = (uint32_t)attempt;
    work->unit = (uint32_t)unit;
    work->rung = (enum rung)rung;
    work->deadline_s = deadline->valuedouble;
    return 0;
}

/* Print `node` into text[size]; frees it.  Returns the length. */
static int print_and_delete(cJSON *node, char *text, size_t size, struct err *err)
{
    char *line = node != NULL ? cJSON_PrintUnformatted(node) : NULL;
    size_t length = line != NULL ? strlen(line) : 0;
    cJSON_Delete(node);
    if (line == NULL || length >= size) {
        err_set(err, line == NULL ? ERR_MEMORY : ERR_INTERNAL, "message of %zu bytes, room for %zu",
                length, size);
        free(line);
        return -1;
    }
    memcpy(text, line, length + 1);
    free(line);
    return (int)length;
}

int work_encode(const struct work *work, char *text, size_t size, struct err *err)
{
    cJSON *node = cJSON_CreateObject();
    if (node != NULL)
        work_put(node, work);
    return print_and_delete(node, text, size, err);
}

int work_decode(const char *text, struct work *work, struct err *err)
{
    cJSON *node = cJSON_Parse(text);
    int status = node != NULL ? work_get(node, work, err) : bad(err, "JSON");
    cJSON_Delete(node);
    return status;
}

/* --- messages --- */

int message_encode(const struct message *message, char *text, size_t size, struct err *err)
{
    cJSON *node = cJSON_CreateObject();
    if (node == NULL)
        return print_and_delete(NULL, text, size, err);
    cJSON_AddStringToObject(node, "kind", kind_names[message->kind]);
    switch (message->kind) {
    case MESSAGE_READY:
        cJSON_AddStringToObject(node, "host", message->host);
        cJSON_AddNumberToObject(node, "cores", message->n_cores);
        break;
    case MESSAGE_TASK:
        work_put(node, &message->work);
        break;
    case MESSAGE_VERDICT:
        cJSON_AddStringToObject(node, "verdict", verdict_names[message->verdict]);
        cJSON_AddStringToObject(node, "reason", message->reason);
        cJSON_AddStringToObject(node, "spool", message->spool);
        cJSON_AddStringToObject(node, "result", message->result);
        /* fall through */
    case MESSAGE_BEAT:
        cJSON_AddNumberToObject(node, "lease", (double)message->lease);
        break;
    case MESSAGE_STOP:
        break;
    }
    return print_and_delete(node, text, size, err);
}

static int verdict_get(const cJSON *node, struct message *message, struct err *err)
{
    unsigned verdict;
    /* LOST is the master's own word. */
    if (read_name(node, "verdict", verdict_names, VERDICT_LOST, &verdict, err) != 0 ||
        read_count(node, "lease", MAX_COUNT, &message->lease, err) != 0 ||
        read_text(node, "reason", message->reason, sizeof message->reason, err) != 0 ||
        read_text(node, "spool", message->spool, sizeof message->spool, err) != 0 ||
        read_text(node, "result", message->result, sizeof message->result, err) != 0)
        return -1;
    message->verdict = (enum verdict)verdict;
    /* A spool name is a plain file name: nothing leads out of the folder. */
    return strchr(message->spool, '/') != NULL || message->spool[0] == '.' ? bad(err, "spool") : 0;
}

static int message_get(const cJSON *node, struct message *message, struct err *err)
{
    unsigned kind;
    uint64_t n_cores;
    if (read_name(node, "kind", kind_names, COUNT(kind_names), &kind, err) != 0)
        return -1;
    message->kind = (enum message_kind)kind;
    switch (message->kind) {
    case MESSAGE_READY:
        if (read_text(node, "host", message->host, sizeof message->host, err) != 0 ||
            read_count(node, "cores", 1e6, &n_cores, err) != 0)
            return -1;
        message->n_cores = (uint32_t)n_cores;
        return 0;
    case MESSAGE_TASK:
        return work_get(node, &message->work, err);
    case MESSAGE_VERDICT:
        return verdict_get(node, message, err);
    case MESSAGE_BEAT:
        return read_count(node, "lease", MAX_COUNT, &message->lease, err);
    case MESSAGE_STOP:
        return 0;
    }
    return bad(err, "kind");
}

int message_decode(const char *text, size_t length, struct message *message, struct err *err)
{
    memset(message, 0, sizeof *message);
    cJSON *node = cJSON_ParseWithLength(text, length);
    int status = node != NULL ? message_get(node, message, err) : bad(err, "JSON");
    cJSON_Delete(node);
    return status;
}
