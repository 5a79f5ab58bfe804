/* calibration_file.c - the file of a calibration (layout in calibration.h). */
#include "evaluator/compression/calibration_parts.h"

#include "space/base/err.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TRIANGLE_ALIGN = 64 };

struct file_head {
    char magic[8];
    uint32_t version, n_layers, d_model, n_heads, n_kv_heads, head_dim, d_ff, is_diagonal;
    uint64_t n_tokens;
    uint8_t parent[32];
    uint8_t text[32];
};
_Static_assert(sizeof(struct file_head) == 112, "the head of a calibration file has no holes");

/* Where things are, in bytes. */
struct file_plan {
    size_t influence, mean, mean_square, layer_sum, sum, triangle, end;
};

static struct file_plan plan_of(const struct geometry *g, bool is_diagonal)
{
    size_t mean_bytes = calibration_n_means(g) * sizeof(float);
    struct file_plan plan;

    plan.influence = sizeof(struct file_head);
    plan.mean = plan.influence + 2 * (size_t)g->n_layers * sizeof(double);
    plan.mean_square = plan.mean + mean_bytes;
    plan.layer_sum = plan.mean_square + mean_bytes;
    plan.sum = plan.layer_sum + (g->n_layers + 1) * sizeof(struct hash256);
    plan.triangle = plan.sum + sizeof(struct hash256);
    plan.triangle = (plan.triangle + TRIANGLE_ALIGN - 1) / TRIANGLE_ALIGN * TRIANGLE_ALIGN;
    plan.end = plan.triangle;
    if (!is_diagonal)
        plan.end += calibration_n_triangles(g) * sizeof(float);
    return plan;
}

size_t calibration_triangle_begin(const struct geometry *g)
{
    return plan_of(g, false).triangle;
}

static struct file_head head_of(const struct geometry *g, const struct hash256 *parent)
{
    struct file_head head = {.version = CALIBRATION_VERSION,
                             .n_layers = g->n_layers,
                             .d_model = g->d_model,
                             .n_heads = g->n_heads,
                             .n_kv_heads = g->n_kv_heads,
                             .head_dim = g->head_dim,
                             .d_ff = g->d_ff};

    memcpy(head.magic, calibration_magic, sizeof head.magic);
    memcpy(head.parent, parent->bytes, sizeof head.parent);
    return head;
}

uint8_t *calibration_front(const struct calibration *c, size_t *n_bytes, struct err *err)
{
    struct file_head head = head_of(&c->geometry, &c->parent);
    struct file_plan plan = plan_of(&c->geometry, c->is_diagonal);

    assert(c->named);
    head.is_diagonal = c->is_diagonal;
    head.n_tokens = c->n_tokens;
    memcpy(head.text, c->text.bytes, sizeof head.text);
    uint8_t *front = calloc(1, plan.triangle);
    if (front == NULL) {
        err_set(err, ERR_MEMORY, "calibration: out of memory");
        return NULL;
    }
    memcpy(front, &head, sizeof head);
    memcpy(front + plan.influence, c->influence, plan.mean - plan.influence);
    memcpy(front + plan.mean, c->mean, plan.mean_square - plan.mean);
    memcpy(front + plan.mean_square, c->mean_square, plan.layer_sum - plan.mean_square);
    memcpy(front + plan.layer_sum, c->layer_sum, plan.sum - plan.layer_sum);
    struct hash256 sum = sha256_of(front, plan.sum);
    memcpy(front + plan.sum, sum.bytes, sizeof sum.bytes);
    *n_bytes = plan.triangle;
    return front;
}

int calibration_save(const struct calibration *c, const char *path, struct err *err)
{
    struct file_plan plan = plan_of(&c->geometry, c->is_diagonal);
    struct file_draft draft;
    size_t n_bytes;
    int status = -1;

    uint8_t *front = calibration_front(c, &n_bytes, err);
    if (front == NULL)
        return -1;
    if (file_draft_open(&draft, path, err) == 0) {
        if (fwrite(front, 1, n_bytes, draft.stream) == n_bytes && !c->is_diagonal)
            fwrite(c->triangle, 1, plan.end - plan.triangle, draft.stream);
        status = file_draft_commit(&draft, err);
    }
    free(front);
    return status;
}

/* Sizes, version and owner first, then the sum over everything in front of the triangles. */
static int check_file(const struct file_map *map, const char *path, const struct geometry *g,
                      const struct hash256 *parent, struct file_head *head, struct err *err)
{
    struct file_head ours = head_of(g, parent);

    if (map->size < sizeof *head || memcmp(map->data, calibration_magic, 8) != 0) {
        err_set(err, ERR_DATA, "%s is not a calibration file", path);
        return -1;
    }
    memcpy(head, map->data, sizeof *head);
    if (head->version != CALIBRATION_VERSION) {
        err_set(err, ERR_DATA,
                "%s: calibration version %u, this program knows %d; remove it to "
                "calibrate again",
                path, head->version, CALIBRATION_VERSION);
        return -1;
    }
    if (memcmp(head->parent, ours.parent, sizeof ours.parent) != 0 ||
        memcmp(&head->n_layers, &ours.n_layers, 6 * sizeof(uint32_t)) != 0) {
        err_set(err, ERR_DATA,
                "%s was made from another parent model; remove it to calibrate "
                "again",
                path);
        return -1;
    }
    struct file_plan plan = plan_of(g, head->is_diagonal == 1);
    struct hash256 sum = {0};
    bool padded = map->size == plan.end && head->is_diagonal <= 1;
    if (padded) {
        sum = sha256_of(map->data, plan.sum);
        for (size_t at = plan.sum + sizeof sum; at < plan.triangle; at++)
            padded = padded && map->data[at] == 0;
    }
    if (!padded || memcmp(sum.bytes, map->data + plan.sum, sizeof sum) != 0) {
        err_set(err, ERR_DATA,
                "%s is damaged (%zu bytes, expected %zu with a matching sum); "
                "remove it to calibrate again",
                path, map->size, plan.end);
        return -1;
    }
    return 0;
}

bool calibration_is_file(const char *path)
{
    struct file_map map;

    if (file_map_open(&map, path, NULL) != 0)
        return false;
    bool is_one = map.size >= sizeof calibration_magic &&
                  memcmp(map.data, calibration_magic, sizeof calibration_magic) == 0;
    file_map_close(&map);
    return is_one;
}

static bool all_sound(const struct calibration *c)
{
    for (size_t i = 0; i < calibration_n_means(&c->geometry); i++)
        if (!isfinite(c->mean[i]) || !isfinite(c->mean_square[i]) || c->mean_square[i] < 0)
            return false;
    for (uint32_t u = 0; u < 2 * c->geometry.n_layers; u++)
        if (!isfinite(c->influence[u]))
            return false;
    return true;
}

struct calibration *calibration_load(const char *path, const struct geometry *geometry,
                                     const struct hash256 *parent, struct err *err)
{
    struct calibration *c = NULL;
    struct file_head head;
    struct file_map map;

    if (file_map_open(&map, path, err) != 0)
        return NULL;
    if (check_file(&map, path, geometry, parent, &head, err) != 0)
        goto undo;
    c = calibration_alloc(geometry, err);
    if (c == NULL)
        goto undo;
    c->path = strdup(path);
    if (c->path == NULL) {
        err_set(err, ERR_MEMORY, "calibration: out of memory");
        goto undo;
    }
    struct file_plan plan = plan_of(geometry, head.is_diagonal == 1);
    c->is_diagonal = head.is_diagonal == 1;
    c->n_tokens = head.n_tokens;
    memcpy(c->text.bytes, head.text, sizeof head.text);
    calibration_name_parent(c, parent);
    memcpy(c->influence, map.data + plan.influence, plan.mean - plan.influence);
    memcpy(c->mean, map.data + plan.mean, plan.mean_square - plan.mean);
    memcpy(c->mean_square, map.data + plan.mean_square, plan.layer_sum - plan.mean_square);
    memcpy(c->layer_sum, map.data + plan.layer_sum, plan.sum - plan.layer_sum);
    if (head.n_tokens == 0 || !all_sound(c)) {
        err_set(err, ERR_DATA, "%s holds figures that cannot be", path);
        goto undo;
    }
    /* The map starts on a page and the triangles at a multiple of 64: floats are aligned. */
    c->map = map;
    if (!c->is_diagonal)
        c->triangle = (const float *)(const void *)(map.data + plan.triangle);
    return c;

undo:
    calibration_destroy(c);
    file_map_close(&map);
    return NULL;
}

uint32_t calibration_version(void)
{
    return CALIBRATION_VERSION;
}
