/* op_table_json.c - the op table as a file: versioned, one line an operation, atomic. */
#include "latency_model/op_table_parts.h"
#include "space/base/config_json.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCHEMA 2

/* --- writing --- */

static cJSON *put_entry(const struct op_entry *entry)
{
    const struct op *op = &entry->op;
    cJSON *node = cJSON_CreateObject();
    cJSON_AddNumberToObject(node, "kind", op->kind);
    cJSON_AddStringToObject(node, "name", op_kind_name(op->kind));
    cJSON_AddStringToObject(node, "format",
                            op->format == FORMAT_NONE ? "" : format_name(op->format));
    cJSON_AddStringToObject(node, "act", act_format_name(op->act));
    cJSON_AddNumberToObject(node, "n_out", op->n_out);
    cJSON_AddNumberToObject(node, "n_in", op->n_in);
    cJSON_AddNumberToObject(node, "n_cols", op->n_cols);
    if (op->n_sequences > 1)
        cJSON_AddNumberToObject(node, "n_sequences", op->n_sequences);
    cJSON_AddNumberToObject(node, "context", op->context);
    cJSON_AddNumberToObject(node, "ns", entry->ns);
    cJSON_AddNumberToObject(node, "median_ns", entry->median_ns);
    cJSON_AddNumberToObject(node, "near_ns", entry->near_ns);
    cJSON_AddNumberToObject(node, "n_samples", entry->n_samples);
    if (entry->bandwidth > 0)
        cJSON_AddNumberToObject(node, "bytes_per_ns", entry->bandwidth);
    return node;
}

static void put_geometry(cJSON *root, const struct geometry *g)
{
    cJSON *node = cJSON_AddObjectToObject(root, "geometry");
    cJSON_AddNumberToObject(node, "n_layers", g->n_layers);
    cJSON_AddNumberToObject(node, "d_model", g->d_model);
    cJSON_AddNumberToObject(node, "n_heads", g->n_heads);
    cJSON_AddNumberToObject(node, "n_kv_heads", g->n_kv_heads);
    cJSON_AddNumberToObject(node, "head_dim", g->head_dim);
    cJSON_AddNumberToObject(node, "d_ff", g->d_ff);
    cJSON_AddNumberToObject(node, "n_vocab", g->n_vocab);
}

static void put_bandwidths(cJSON *root, const struct op_table *table)
{
    cJSON *list = cJSON_AddArrayToObject(root, "read_bandwidth");
    for (int f = 0; f < N_FORMATS; f++) {
        if (!(table->read_bandwidth[f] > 0))
            continue;
        cJSON *node = cJSON_CreateObject();
        cJSON_AddItemToArray(list, node);
        cJSON_AddStringToObject(node, "format", format_name((enum format)f));
        cJSON_AddNumberToObject(node, "working_set", (double)table->working_set[f]);
        cJSON_AddNumberToObject(node, "bytes_per_ns", table->read_bandwidth[f]);
    }
}

int op_table_save(const struct op_table *table, const char *path, struct err *err)
{
    cJSON *root = cJSON_CreateObject();
    cJSON_AddNumberToObject(root, "schema", SCHEMA);
    cJSON_AddStringToObject(root, "device", table->device.name);
    cJSON_AddItemToObject(root, "device_details", cJSON_CreateRaw(table->device.details));
    cJSON_AddNumberToObject(root, "private_bytes", (double)table->device.private_bytes);
    cJSON_AddNumberToObject(root, "last_bytes", (double)table->device.last_bytes);
    put_geometry(root, &table->geometry);
    put_bandwidths(root, table);
    cJSON *ops = cJSON_AddArrayToObject(root, "ops");
    for (size_t i = 0; i < table->n; i++)
        cJSON_AddItemToArray(ops, put_entry(&table->entry[i]));
    return config_json_save(root, path, err);
}

/* --- reading --- */

struct reader {
    const char *path;
    const char *bad; /* the first thing that is not sound */
};

static double number(struct reader *reader, const cJSON *node, const char *name, double most)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(node, name);
    if (cJSON_IsNumber(item) && item->valuedouble >= 0 && item->valuedouble <= most)
        return item->valuedouble;
    if (reader->bad == NULL)
        reader->bad = name;
    return 0;
}

static const char *text(struct reader *reader, const cJSON *node, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(node, name);
    if (cJSON_IsString(item))
        return item->valuestring;
    if (reader->bad == NULL)
        reader->bad = name;
    return "";
}

static void get_geometry(struct reader *reader, const cJSON *root, struct geometry *g)
{
    const cJSON *node = cJSON_GetObjectItemCaseSensitive(root, "geometry");
    g->n_layers = (uint32_t)number(reader, node, "n_layers", GEOMETRY_MAX_LAYERS);
    g->d_model = (uint32_t)number(reader, node, "d_model", 1e6);
    g->n_heads = (uint32_t)number(reader, node, "n_heads", 1e6);
    g->n_kv_heads = (uint32_t)number(reader, node, "n_kv_heads", 1e6);
    g->head_dim = (uint32_t)number(reader, node, "head_dim", 1e6);
    g->d_ff = (uint32_t)number(reader, node, "d_ff", 1e7);
    g->n_vocab = (uint32_t)number(reader, node, "n_vocab", 1e7);
}

static void get_bandwidths(struct reader *reader, const cJSON *root, struct op_table *table)
{
    const cJSON *node;
    cJSON_ArrayForEach(node, cJSON_GetObjectItemCaseSensitive(root, "read_bandwidth"))
    {
        enum format format = format_parse(text(reader, node, "format"));
        if (format == FORMAT_NONE) {
            reader->bad = "read_bandwidth";
            return;
        }
        table->working_set[format] = (size_t)number(reader, node, "working_set", 1e15);
        table->read_bandwidth[format] = number(reader, node, "bytes_per_ns", 1e9);
    }
}

/* 1 is not written: tables from before there were several have none. */
static uint32_t get_sequences(struct reader *reader, const cJSON *node, enum op_kind kind)
{
    if (cJSON_GetObjectItemCaseSensitive(node, "n_sequences") == NULL)
        return kind == OP_ATTENTION || kind == OP_EMBED ? 1 : 0;
    return (uint32_t)number(reader, node, "n_sequences", 1e9);
}

static int get_entry(struct reader *reader, const cJSON *node, struct op_table *table,
                     struct err *err)
{
    bool known;
    struct op op = {
        .kind = (enum op_kind)number(reader, node, "kind", N_OP_KINDS - 1),
        .format = format_parse(text(reader, node, "format")),
        .act = act_format_parse(text(reader, node, "act"), &known),
        .n_out = (uint32_t)number(reader, node, "n_out", 1e9),
        .n_in = (uint32_t)number(reader, node, "n_in", 1e9),
        .n_cols = (uint32_t)number(reader, node, "n_cols", 1e9),
        .context = (uint32_t)number(reader, node, "context", 1e9),
        .count = 1,
    };
    op.n_sequences = get_sequences(reader, node, op.kind);
    if (!known || (op.kind == OP_MATMUL && op.format == FORMAT_NONE))
        reader->bad = "ops";
    int64_t index = reader->bad == NULL ? op_table_add(table, &op, err) : -1;
    if (index < 0)
        return -1;
    struct op_entry *entry = &table->entry[index];
    const cJSON *bandwidth = cJSON_GetObjectItemCaseSensitive(node, "bytes_per_ns");
    entry->ns = number(reader, node, "ns", 1e15);
    entry->median_ns = number(reader, node, "median_ns", 1e15);
    entry->near_ns = number(reader, node, "near_ns", 1e15);
    entry->n_samples = (uint32_t)number(reader, node, "n_samples", 1e9);
    entry->bandwidth = cJSON_IsNumber(bandwidth) ? bandwidth->valuedouble : 0;
    return 0;
}

static struct op_table *read_table(struct reader *reader, const cJSON *root,
                                   const struct device_class *device, struct err *err)
{
    struct geometry geometry = {0};
    struct device_class owner = {0};
    snprintf(owner.name, sizeof owner.name, "%s", text(reader, root, "device"));
    owner.private_bytes = (size_t)number(reader, root, "private_bytes", 1e15);
    owner.last_bytes = (size_t)number(reader, root, "last_bytes", 1e15);
    if (number(reader, root, "schema", SCHEMA) != SCHEMA)
        reader->bad = "schema";
    get_geometry(reader, root, &geometry);
    if (reader->bad == NULL && device != NULL && strcmp(device->name, owner.name) != 0) {
        err_set(err, ERR_RESOURCE, "%s: timed on %s, this is %s", reader->path, owner.name,
                device->name);
        return NULL;
    }
    struct op_table *table = op_table_new(&geometry, device != NULL ? device : &owner, err);
    if (table == NULL)
        return NULL;
    get_bandwidths(reader, root, table);
    const cJSON *node;
    cJSON_ArrayForEach(node, cJSON_GetObjectItemCaseSensitive(root, "ops"))
    {
        if (get_entry(reader, node, table, err) != 0)
            break;
    }
    if (reader->bad == NULL && table->n > 0)
        return table;
    op_table_destroy(table);
    err_set(err, ERR_DATA, "%s: no sound '%s'; remove it to time the operations again",
            reader->path, reader->bad != NULL ? reader->bad : "ops");
    return NULL;
}

struct op_table *op_table_load(const char *path, const struct device_class *device, struct err *err)
{
    struct reader reader = {.path = path};
    char *content = file_read(path, 256 << 20, NULL, err);
    if (content == NULL)
        return NULL;
    cJSON *root = cJSON_Parse(content);
    struct op_table *table = NULL;
    if (root == NULL)
        err_set(err, ERR_DATA, "%s: no JSON; remove it to time the operations again", path);
    else
        table = read_table(&reader, root, device, err);
    cJSON_Delete(root);
    free(content);
    return table;
}
