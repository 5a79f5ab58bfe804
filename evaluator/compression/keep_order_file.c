/* keep_order_file.c - the file of an order (layout in keep_order.h). */
#include "evaluator/compression/keep_order.h"

#include "space/base/err.h"
#include "space/base/file.h"
#include "space/base/log.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Another way to order is another version: 1 damped alike whatever the number of tokens. */
enum { KEEP_ORDER_VERSION = 2 };

uint32_t keep_order_version(void)
{
    return KEEP_ORDER_VERSION;
}

static const char magic[8] = "KERFKEEP";

struct file_head {
    char magic[8];
    uint32_t version, n_layers;
    struct hash256 identity;
};
_Static_assert(sizeof(struct file_head) == 48, "the head of an order's file has no holes");

struct layer_head {
    uint32_t n_channels, n_groups, n_heads, zero;
    double damping[2];
};
_Static_assert(sizeof(struct layer_head) == 32, "the head of a layer has no holes");

/* What tells a centred order from others. */
static const char centred_mark[] = "centred";

static struct file_head head_of(uint32_t n_layers, const struct calibration *calibration,
                                bool centred)
{
    struct file_head head = {.version = KEEP_ORDER_VERSION, .n_layers = n_layers};
    struct hash256 name = calibration_hash(calibration),
                   figures = calibration_values_hash(calibration);
    struct sha256 sha;

    memcpy(head.magic, magic, sizeof magic);
    sha256_init(&sha);
    sha256_update(&sha, name.bytes, sizeof name.bytes);
    sha256_update(&sha, figures.bytes, sizeof figures.bytes);
    if (centred)
        sha256_update(&sha, centred_mark, sizeof centred_mark);
    head.identity = sha256_final(&sha);
    return head;
}

static struct layer_head layer_head_of(const struct keep_order *order, uint32_t l)
{
    return (struct layer_head){order->n_channels[l],
                               order->n_groups[l],
                               order->n_heads[l],
                               0,
                               {order->damping[2 * l], order->damping[2 * l + 1]}};
}

static size_t layer_bytes(const struct keep_order *order, uint32_t l)
{
    return sizeof(struct layer_head) +
           ((size_t)order->n_channels[l] + order->n_groups[l] + order->n_heads[l]) *
               sizeof(uint32_t);
}

/* --- writing ---------------------------------------------------------------------------------- */

static char *put(char *at, const void *data, size_t n_bytes)
{
    if (n_bytes > 0)
        memcpy(at, data, n_bytes);
    return at + n_bytes;
}

/* The layers one after another. */
static void put_layers(const struct keep_order *order, char *at)
{
    for (uint32_t l = 0; l < order->n_layers; l++) {
        struct layer_head head = layer_head_of(order, l);
        at = put(at, &head, sizeof head);
        at = put(at, order->channel[l], order->n_channels[l] * sizeof(uint32_t));
        at = put(at, order->group[l], order->n_groups[l] * sizeof(uint32_t));
        at = put(at, order->head[l], order->n_heads[l] * sizeof(uint32_t));
    }
}

struct hash256 keep_order_hash(const struct keep_order *order)
{
    struct sha256 sha;

    sha256_init(&sha);
    if (order->centred)
        sha256_update(&sha, centred_mark, sizeof centred_mark);
    for (uint32_t l = 0; l < order->n_layers; l++) {
        struct layer_head head = layer_head_of(order, l);
        sha256_update(&sha, &head, sizeof head);
        sha256_update(&sha, order->channel[l], order->n_channels[l] * sizeof(uint32_t));
        sha256_update(&sha, order->group[l], order->n_groups[l] * sizeof(uint32_t));
        sha256_update(&sha, order->head[l], order->n_heads[l] * sizeof(uint32_t));
    }
    return sha256_final(&sha);
}

int keep_order_save(const struct keep_order *order, const struct calibration *calibration,
                    const char *path, struct err *err)
{
    struct file_head head = head_of(order->n_layers, calibration, order->centred);
    size_t n_bytes = sizeof head;

    for (uint32_t l = 0; l < order->n_layers; l++)
        n_bytes += layer_bytes(order, l);
    char *data = malloc(n_bytes + sizeof(struct hash256));
    if (data == NULL) {
        err_set(err, ERR_MEMORY, "keep order: out of memory");
        return -1;
    }
    memcpy(data, &head, sizeof head);
    put_layers(order, data + sizeof head);
    struct hash256 sum = sha256_of(data, n_bytes);
    memcpy(data + n_bytes, &sum, sizeof sum);
    int status = file_replace(path, data, n_bytes + sizeof sum, err);
    free(data);
    return status;
}

/* --- reading ---------------------------------------------------------------------------------- */

/* What is left to read. */
struct cursor {
    const uint8_t *at;
    size_t left;
};

static bool take(struct cursor *c, void *out, size_t n_bytes)
{
    if (n_bytes > c->left)
        return false;
    memcpy(out, c->at, n_bytes);
    c->at += n_bytes;
    c->left -= n_bytes;
    return true;
}

/* Each class of `per_class` numbers is 0..per_class-1 in some order. */
static bool are_permutations(const uint32_t *order, uint32_t n, uint32_t per_class)
{
    bool sound = true;
    bool *seen = calloc(n + 1, sizeof *seen);

    for (uint32_t i = 0; i < n && sound && seen != NULL; i++) {
        size_t place = i / per_class * (size_t)per_class + order[i];
        sound = order[i] < per_class && !seen[place];
        if (sound)
            seen[place] = true;
    }
    sound = sound && seen != NULL;
    free(seen);
    return sound;
}

/* An array of `n` numbers, in classes.  NULL when there is none or it is not sound. */
static uint32_t *take_order(struct cursor *c, uint32_t n, uint32_t per_class)
{
    uint32_t *order = NULL;

    if (n == 0 || n > c->left / sizeof *order || (order = malloc(n * sizeof *order)) == NULL)
        return NULL;
    if (take(c, order, n * sizeof *order) && are_permutations(order, n, per_class))
        return order;
    free(order);
    return NULL;
}

/* How many channels, groups and heads the parent has in a layer. */
static void count_parts(const struct parent *parent, uint32_t layer, uint32_t count[3])
{
    const struct gguf_tensor *down = parent_tensor(parent, layer, TENSOR_DOWN);
    const struct gguf_tensor *k = parent_tensor(parent, layer, TENSOR_K);
    const struct gguf_tensor *o = parent_tensor(parent, layer, TENSOR_O);
    uint32_t head_dim = parent_geometry(parent)->head_dim;

    count[0] = down != NULL ? (uint32_t)down->dims[0] : 0;
    count[1] = k != NULL && o != NULL ? (uint32_t)(k->dims[1] / head_dim) : 0;
    count[2] = k != NULL && o != NULL ? (uint32_t)(o->dims[0] / head_dim) : 0;
}

static bool read_layer(struct keep_order *order, uint32_t l, struct cursor *c,
                       const struct parent *parent)
{
    struct layer_head head;
    uint32_t count[3];

    count_parts(parent, l, count);
    if (!take(c, &head, sizeof head) || head.n_channels != count[0] || head.n_groups != count[1] ||
        head.n_heads != count[2])
        return false;
    for (int i = 0; i < 2; i++) {
        if (!(head.damping[i] >= 0)) /* infinity is fine */
            return false;
        order->damping[2 * l + (uint32_t)i] = head.damping[i];
    }
    order->n_channels[l] = head.n_channels;
    order->n_groups[l] = head.n_groups;
    order->n_heads[l] = head.n_heads;
    order->channel[l] = take_order(c, head.n_channels, head.n_channels);
    order->group[l] = take_order(c, head.n_groups, head.n_groups);
    order->head[l] =
        take_order(c, head.n_heads, head.n_groups > 0 ? head.n_heads / head.n_groups : 0);
    return (order->channel[l] != NULL) == (count[0] > 0) &&
           (order->group[l] != NULL) == (count[1] > 0) &&
           (order->head[l] != NULL) == (count[2] > 0);
}

/* Everything behind the head; `order` is zeroed. */
static bool read_layers(struct keep_order *order, const struct file_map *map,
                        const struct parent *parent)
{
    struct hash256 sum;
    struct cursor c = {map->data + sizeof(struct file_head),
                       map->size - sizeof(struct file_head) - sizeof sum};

    sum = sha256_of(map->data, map->size - sizeof sum);
    if (memcmp(&sum, map->data + map->size - sizeof sum, sizeof sum) != 0)
        return false;
    for (uint32_t l = 0; l < order->n_layers; l++)
        if (!read_layer(order, l, &c, parent))
            return false;
    return c.left == 0;
}

int keep_order_load(struct keep_order *order, const char *path, const struct parent *parent,
                    const struct calibration *calibration, bool centred, struct err *err)
{
    struct file_head ours = head_of(parent_geometry(parent)->n_layers, calibration, centred), head;
    struct keep_order *fresh = calloc(1, sizeof *fresh);
    struct file_map map;
    int status = -1;

    if (fresh == NULL) {
        err_set(err, ERR_MEMORY, "keep order: out of memory");
        return -1;
    }
    if (file_map_open(&map, path, err) != 0) {
        free(fresh);
        return -1;
    }
    fresh->n_layers = ours.n_layers;
    fresh->centred = centred;
    if (map.size < sizeof head + sizeof(struct hash256) ||
        memcmp(map.data, magic, sizeof magic) != 0) {
        err_set(err, ERR_DATA, "%s is not a keep order", path);
        goto done;
    }
    memcpy(&head, map.data, sizeof head);
    if (memcmp(&head, &ours, sizeof head) != 0) {
        err_set(err, ERR_DATA, "%s belongs to another calibration, parent or version", path);
        goto done;
    }
    if (!read_layers(fresh, &map, parent)) {
        err_set(err, ERR_DATA, "%s is damaged", path);
        goto done;
    }
    *order = *fresh;
    status = 0;
done:
    if (status != 0)
        keep_order_fini(fresh);
    free(fresh);
    file_map_close(&map);
    return status;
}

int keep_order_open(struct keep_order *order, const char *path, const struct parent *parent,
                    const struct calibration *calibration, bool centred, struct err *err)
{
    struct err why = {0};

    if (keep_order_load(order, path, parent, calibration, centred, &why) == 0)
        return 0;
    if (why.code != ERR_MISSING)
        log_info("keep_order", "%s: it is made anew", why.text);
    if ((centred ? keep_order_init_centred : keep_order_init)(order, parent, calibration, err) != 0)
        return -1;
    if (keep_order_save(order, calibration, path, &why) != 0)
        log_warn("keep_order", "%s: the order is not kept", why.text);
    return 0;
}
