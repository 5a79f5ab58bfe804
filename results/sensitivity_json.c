/* sensitivity_json.c - the table as a file: versioned, one line a row, atomic; and read back with
 * no trust in it. */
#include "results/sensitivity_parts.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* 1 was losses by number of gene and level, of no use to another space. */
#define SCHEMA    2
#define MAX_BYTES (64u << 20)
#define MAX_VALUE 1e6 /* nats, and relative errors: nothing sound is larger */

/* --- writing --- */

/* As few digits as bring back the same number (cJSON is content with nearly the same).  JSON has no
 * NAN: such a number is left out. */
static void put(cJSON *node, const char *name, double value)
{
    char text[32];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    if (isfinite(value))
        cJSON_AddRawToObject(node, name, text);
}

static void put_kld(cJSON *node, double mean, double se)
{
    cJSON *kld = cJSON_AddObjectToObject(node, "kld");
    put(kld, "mean", mean);
    put(kld, "se", se);
}

static void put_id(cJSON *node, struct id128 id)
{
    char hex[ID128_HEX];
    id128_hex(id, hex);
    cJSON_AddStringToObject(node, "id", hex);
}

/* On one line, and the node is gone. */
static void print(FILE *out, const char *before, cJSON *node)
{
    char *text = cJSON_PrintUnformatted(node);
    fprintf(out, "%s%s", before, text != NULL ? text : "null");
    free(text);
    cJSON_Delete(node);
}

static cJSON *grounds_json(const struct study *study)
{
    struct study_ground ground[STUDY_MAX_GROUNDS];
    size_t n = study_grounds(study, ground);
    cJSON *node = cJSON_CreateObject();
    for (size_t i = 0; i < n; i++)
        cJSON_AddItemToObject(node, ground[i].pointer, cJSON_CreateRaw(ground[i].value));
    return node;
}

static cJSON *base_json(const struct sensitivity *table)
{
    const struct space *space = table->space;
    uint8_t levels[SPACE_MAX_GENES];
    struct genome genome;
    cJSON *node = cJSON_CreateObject();
    char *text = malloc(GENOME_TEXT_MAX);
    sensitivity_levels(space, 0, space->gene[0].n_levels - 1, levels);
    space_genome(space, levels, &genome);
    cJSON_AddStringToObject(node, "profile", profile_name(space->limits.profile));
    if (text != NULL) {
        genome_format(&genome, text);
        cJSON_AddStringToObject(node, "genome", text);
    }
    free(text);
    put_id(node, table->base_id);
    put_kld(node, table->base_kld, table->base_kld_se);
    return node;
}

static cJSON *row_json(const struct sensitivity *table, uint32_t gene, uint32_t level,
                       struct id128 id)
{
    const struct sensitivity_row *row = &table->row[gene][level];
    char name[48], value[16];
    double weights, kv;
    cJSON *node = cJSON_CreateObject();
    sensitivity_saved(table, gene, level, &weights, &kv);
    cJSON_AddStringToObject(node, "gene", space_gene_name(table->space, gene, name));
    cJSON_AddStringToObject(node, "value", space_level_name(table->space, gene, level, value));
    put(node, "unit", table->space->gene[gene].unit);
    put(node, "layer_error", row->layer_error);
    put_kld(node, row->kld, row->kld_se);
    put(node, "weight_bytes_saved", weights);
    put(node, "kv_bytes_per_token_saved", kv);
    put_id(node, id);
    return node;
}

static int by_gene(const void *a, const void *b)
{
    const struct sensitivity_name *x = a, *y = b;
    if (x->gene != y->gene)
        return x->gene < y->gene ? -1 : 1;
    return (x->level > y->level) - (x->level < y->level);
}

static void write_rows(FILE *out, const struct sensitivity *table)
{
    const char *before = "\n    ";
    struct sensitivity_name *name = malloc(table->n_rows * sizeof *name);
    if (name == NULL)
        return;
    memcpy(name, table->name, table->n_rows * sizeof *name);
    qsort(name, table->n_rows, sizeof *name, by_gene);
    for (size_t i = 0; i < table->n_rows; i++) {
        if (isnan(table->row[name[i].gene][name[i].level].kld))
            continue;
        print(out, before, row_json(table, name[i].gene, name[i].level, name[i].id));
        before = ",\n    ";
    }
    free(name);
}

void sensitivity_write(FILE *out, const struct sensitivity *table)
{
    fprintf(out, "{\n  \"schema\": %d", SCHEMA);
    print(out, ",\n  \"kerf\": ", cJSON_CreateString(KERF_VERSION));
    print(out, ",\n  \"method\": ", cJSON_CreateString(table->method));
    print(out, ",\n  \"kernels\": ", cJSON_CreateString(table->kernels));
    print(out, ",\n  \"grounds\": ", grounds_json(table->study));
    print(out, ",\n  \"base\": ", base_json(table));
    fputs(",\n  \"rows\": [", out);
    write_rows(out, table);
    fputs("\n  ]\n}\n", out);
}

int sensitivity_save(const struct sensitivity *table, const char *path, struct err *err)
{
    struct file_draft draft;
    if (file_draft_open(&draft, path, err) != 0)
        return -1;
    sensitivity_write(draft.stream, table);
    return file_draft_commit(&draft, err);
}

/* --- reading --- */

/* A word of the file, fit for one line of ours. */
static const char *quoted(const char *word, char text[48])
{
    snprintf(text, 48, "%s", word);
    for (char *c = text; *c != '\0'; c++)
        if (*c < ' ' || *c > '~')
            *c = '?';
    return text;
}

static int refuse(const char *name, struct err *err, const char *what)
{
    err_set(err, ERR_DATA, "%s: no sound table of sensitivities: %s", name, what);
    return -1;
}

/* Everything that the study's own measurements rest on must be the same there. */
static int check_grounds(const struct study *study, const char *name, const cJSON *root,
                         struct err *err)
{
    const cJSON *grounds = cJSON_GetObjectItemCaseSensitive(root, "grounds");
    struct study_ground ground[STUDY_MAX_GROUNDS];
    size_t n = study_grounds(study, ground);
    char theirs[48], ours[48];
    for (size_t i = 0; i < n; i++) {
        const cJSON *node = cJSON_GetObjectItemCaseSensitive(grounds, ground[i].pointer);
        char *value = node != NULL ? cJSON_PrintUnformatted(node) : NULL;
        bool same = value != NULL && strcmp(value, ground[i].value) == 0;
        if (!same)
            err_set(err, ERR_DATA,
                    "%s: these sensitivities are not of this study: %s is %.20s there, %.20s here",
                    name, ground[i].pointer, quoted(value != NULL ? value : "absent", theirs),
                    quoted(ground[i].value, ours));
        free(value);
        if (!same)
            return -1;
    }
    return 0;
}

/* A number of [least, most]; NAN where it may be absent and is.  False when it is not sound. */
static bool get(const cJSON *node, const char *name, bool may_lack, double least, double *value)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(node, name);
    *value = NAN;
    if (item == NULL)
        return may_lack;
    *value = cJSON_IsNumber(item) ? item->valuedouble : NAN;
    return *value >= least && *value <= MAX_VALUE;
}

static bool get_row(const cJSON *node, struct id128 *id, struct sensitivity_row *row)
{
    const cJSON *kld = cJSON_GetObjectItemCaseSensitive(node, "kld");
    const cJSON *hex = cJSON_GetObjectItemCaseSensitive(node, "id");
    return cJSON_IsString(hex) && id128_parse(hex->valuestring, id) == 0 &&
           get(kld, "mean", false, -MAX_VALUE, &row->kld) &&
           get(kld, "se", true, 0, &row->kld_se) &&
           get(node, "layer_error", true, 0, &row->layer_error);
}

static int check_rows(const char *name, const cJSON *rows, size_t *n, struct err *err)
{
    const cJSON *node;
    char what[48];
    *n = 0;
    if (!cJSON_IsArray(rows))
        return refuse(name, err, "no list of rows");
    cJSON_ArrayForEach(node, rows)
    {
        struct id128 id;
        struct sensitivity_row row;
        snprintf(what, sizeof what, "row %zu", ++*n);
        if (!get_row(node, &id, &row))
            return refuse(name, err, what);
    }
    return 0;
}

/* The base must be ours, or nothing was measured above the same. */
static int take_rows(struct sensitivity *table, const char *name, const cJSON *root,
                     struct sensitivity_taken *taken, struct err *err)
{
    const cJSON *rows = cJSON_GetObjectItemCaseSensitive(root, "rows");
    const cJSON *base = cJSON_GetObjectItemCaseSensitive(root, "base"), *node;
    const cJSON *kernels = cJSON_GetObjectItemCaseSensitive(root, "kernels");
    struct sensitivity_row row = {0};
    struct id128 id;
    char word[48];
    if (check_rows(name, rows, &taken->n_given, err) != 0)
        return -1;
    /* The base is as good as a row, but may not have been measured yet. */
    const cJSON *hex = cJSON_GetObjectItemCaseSensitive(base, "id");
    const cJSON *kld = cJSON_GetObjectItemCaseSensitive(base, "kld");
    if (!cJSON_IsString(hex) || id128_parse(hex->valuestring, &id) != 0 ||
        !get(kld, "mean", true, -MAX_VALUE, &row.kld) || !get(kld, "se", true, 0, &row.kld_se) ||
        !cJSON_IsString(kernels))
        return refuse(name, err, "the base");
    if (!id128_equal(id, table->base_id)) {
        snprintf(taken->why, sizeof taken->why,
                 "it was measured above a base with other finest formats or sizes");
        return 0;
    }
    if (!isnan(row.kld))
        sensitivity_put_base(table, row.kld, row.kld_se, quoted(kernels->valuestring, word));
    cJSON_ArrayForEach(node, rows)
    {
        if (get_row(node, &id, &row))
            taken->n_taken += sensitivity_enter(table, id, &row);
    }
    return 0;
}

static int take(struct sensitivity *table, const char *name, const cJSON *root,
                struct sensitivity_taken *taken, struct err *err)
{
    const cJSON *schema = cJSON_GetObjectItemCaseSensitive(root, "schema");
    const cJSON *method = cJSON_GetObjectItemCaseSensitive(root, "method");
    char word[48];
    if (!cJSON_IsNumber(schema) || !(schema->valuedouble >= 1))
        return refuse(name, err, "no schema");
    if (schema->valuedouble > SCHEMA)
        return refuse(name, err, "a newer kerf wrote it");
    if (schema->valuedouble < SCHEMA) {
        snprintf(taken->why, sizeof taken->why, "an earlier kerf wrote it");
        return 0;
    }
    if (!cJSON_IsString(method))
        return refuse(name, err, "no method");
    if (check_grounds(table->study, name, root, err) != 0)
        return -1;
    if (strcmp(method->valuestring, table->method) != 0) {
        snprintf(taken->why, sizeof taken->why,
                 "its weights were made in another way (%s; this kerf: %s)",
                 quoted(method->valuestring, word), table->method);
        return 0;
    }
    return take_rows(table, name, root, taken, err);
}

int sensitivity_parse(struct sensitivity *table, const char *name, const char *text, size_t length,
                      struct sensitivity_taken *taken, struct err *err)
{
    *taken = (struct sensitivity_taken){0};
    cJSON *root = cJSON_ParseWithLength(text, length);
    int status =
        cJSON_IsObject(root) ? take(table, name, root, taken, err) : refuse(name, err, "no JSON");
    cJSON_Delete(root);
    return status;
}

int sensitivity_take(struct sensitivity *table, const char *path, struct sensitivity_taken *taken,
                     struct err *err)
{
    size_t length;
    char *text = file_read(path, MAX_BYTES, &length, err);
    if (text == NULL)
        return -1;
    int status = sensitivity_parse(table, path, text, length, taken, err);
    free(text);
    return status;
}
