/* store.c - the table of variants that this process has at hand, and how one gets there. */
#include "evaluator/compression/store.h"

#include "evaluator/compression/store_file.h"
#include "evaluator/compression/store_room.h"
#include "space/base/clock.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include "space/base/log.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A variant that is at hand, or an empty place of the table (no data). */
struct entry {
    struct id128 id;
    struct file_map map; /* of its file */
    uint8_t *own;        /* or its bytes, where there is no room for a file */
    struct variant variant;
};

struct zeros {
    struct zeros *next;
    uint32_t layer;
    size_t n_bytes;
    void *data;
};

struct store {
    char dir[STORE_PATH];
    pthread_mutex_t lock; /* of everything below */
    struct entry *table;  /* [capacity], open addressing, at most half full */
    size_t capacity, n_entries;
    struct zeros *zeros;
    struct store_counts counts; /* evictions are the room's */
    struct store_room *room;    /* has a lock of its own, taken before this one */
};

/* --- the table -------------------------------------------------------------------------------- */

/* Where `id` is, or the empty place where it would go.  The id is a hash already. */
static struct entry *table_place(struct entry *table, size_t capacity, struct id128 id)
{
    uint64_t bits;

    memcpy(&bits, id.bytes, sizeof bits);
    size_t i = bits & (capacity - 1);
    while (table[i].variant.data != NULL && !id128_equal(table[i].id, id))
        i = (i + 1) & (capacity - 1);
    return &table[i];
}

static void entry_close(struct entry *entry)
{
    file_map_close(&entry->map);
    free(entry->own);
    entry->own = NULL;
}

static int table_grow(struct store *store, struct err *err)
{
    size_t capacity = store->capacity > 0 ? 2 * store->capacity : 256;
    struct entry *table = calloc(capacity, sizeof *table);

    if (table == NULL) {
        err_set(err, ERR_MEMORY, "variant store: out of memory");
        return -1;
    }
    for (size_t i = 0; i < store->capacity; i++)
        if (store->table[i].variant.data != NULL)
            *table_place(table, capacity, store->table[i].id) = store->table[i];
    free(store->table);
    store->table = table;
    store->capacity = capacity;
    return 0;
}

/* True and *variant filled when the id is in the table. */
static bool table_find(struct store *store, struct id128 id, struct variant *variant)
{
    pthread_mutex_lock(&store->lock);
    struct entry *place = table_place(store->table, store->capacity, id);
    bool found = place->variant.data != NULL;
    if (found)
        *variant = place->variant;
    pthread_mutex_unlock(&store->lock);
    return found;
}

/* Takes the entry over; *variant is what the table has afterwards. */
static int table_add(struct store *store, struct entry *entry, struct variant *variant,
                     struct err *err)
{
    int status = 0;

    pthread_mutex_lock(&store->lock);
    if (2 * (store->n_entries + 1) > store->capacity)
        status = table_grow(store, err);
    if (status == 0) {
        struct entry *place = table_place(store->table, store->capacity, entry->id);
        if (place->variant.data == NULL) {
            *place = *entry;
            store->n_entries++;
        } else {
            /* Another thread was faster with the same bytes. */
            entry_close(entry);
        }
        *variant = place->variant;
    }
    pthread_mutex_unlock(&store->lock);
    if (status != 0)
        entry_close(entry);
    return status;
}

/* --- building --------------------------------------------------------------------------------- */

static int variant_path(const struct store *store, struct id128 id, char folder[STORE_PATH],
                        char path[STORE_PATH], struct err *err)
{
    char hex[ID128_HEX];

    id128_hex(id, hex);
    int length = snprintf(folder, STORE_PATH, "%s/%.2s", store->dir, hex);
    if (length + 40 >= STORE_PATH) {
        err_set(err, ERR_CREATE, "variant store %.64s...: the path is too long", store->dir);
        return -1;
    }
    snprintf(path, STORE_PATH, "%.*s/%s", length, folder, hex);
    return 0;
}

/* The variant's bytes: compressed, or cut from those of a wider one, which is then kept as well. */
static int entry_compress(struct store *store, const struct variant_source *source,
                          const struct variant_key *key, struct variant *built, uint8_t *payload,
                          struct err *err)
{
    struct variant_key wider;
    struct variant whole;

    if (!variant_is_shortened(source, key, &wider))
        return variant_build(source, key, built, payload, err);
    if (store_get(store, source, &wider, &whole, err) != 0)
        return -1;
    return variant_shorten(source, key, &whole, built, payload, err);
}

/* Into its file; 0 when there is no room for one. */
static int entry_keep(struct store *store, const struct variant_source *source,
                      const struct variant_key *key, const char *path, const uint8_t *payload,
                      struct entry *entry, struct err *err)
{
    size_t n_bytes = store_file_size(&entry->variant);
    struct err full = {0};

    for (int tries = 0;; tries++) {
        struct file_draft draft;
        int taken = store_room_take(store->room, path, n_bytes, &draft, &full);
        if (taken == 0)
            return 0;
        if (taken > 0) {
            if (store_file_write(&draft, source, key, payload, &entry->variant, &entry->map,
                                 &full) != 0)
                store_room_drop(store->room, &draft, n_bytes);
            else if (store_room_settle(store->room, &draft, n_bytes, &full) == 0)
                return 1;
            file_map_close(&entry->map);
        }
        if (full.code != ERR_IO || tries > 0 || !store_room_make(store->room, n_bytes))
            break;
        log_warn("store", "%s; removed what was used least recently and tries again", full.text);
    }
    err_set(err, full.code, "variant store (%s needs %.1f MB more): %s", store->dir,
            (double)n_bytes / 1e6, full.text);
    return -1;
}

/* Build the variant, and leave it in its file where there is room. */
static int entry_build(struct store *store, const struct variant_source *source,
                       const struct variant_key *key, const char *folder, const char *path,
                       struct entry *entry, struct err *err)
{
    size_t rounded = (entry->variant.n_bytes + 63) / 64 * 64;
    int64_t begin = clock_now_ns();

    uint8_t *payload = aligned_alloc(64, rounded);
    if (payload == NULL) {
        err_set(err, ERR_MEMORY, "variant store: no memory for %zu bytes", rounded);
        return -1;
    }
    int kept = entry_compress(store, source, key, &entry->variant, payload, err);
    if (kept == 0 && file_make_dirs(folder, err) != 0) {
        err_prefix(err, "variant store");
        kept = -1;
    }
    if (kept == 0)
        kept = entry_keep(store, source, key, path, payload, entry, err);
    if (kept == 0) {
        entry->own = payload;
        entry->variant.data = payload;
        entry->variant.payload = sha256_of(payload, entry->variant.n_bytes);
    } else {
        free(payload);
    }
    pthread_mutex_lock(&store->lock);
    store->counts.n_built += kept >= 0;
    store->counts.n_unkept += kept == 0;
    store->counts.build_seconds += (double)(clock_now_ns() - begin) * 1e-9;
    bool first = kept == 0 && store->counts.n_unkept == 1;
    pthread_mutex_unlock(&store->lock);
    if (first)
        log_info("store",
                 "%s: the bound is less than what is in use at once; what has no room is kept in "
                 "memory and built again by the next who needs it",
                 store->dir);
    return kept >= 0 ? 0 : -1;
}

int store_get(struct store *store, const struct variant_source *source,
              const struct variant_key *key, struct variant *variant, struct err *err)
{
    char folder[STORE_PATH], path[STORE_PATH];
    struct entry entry = {.id = variant_id(source, key)};

    if (table_find(store, entry.id, variant))
        return 0;
    variant_layout(source, key, &entry.variant);
    if (variant_path(store, entry.id, folder, path, err) != 0)
        return -1;
    int found = store_file_open(path, source, key, &entry.variant, &entry.map, err);
    if (found < 0)
        return -1;
    if (found == 0 && entry_build(store, source, key, folder, path, &entry, err) != 0)
        return -1;
    if (found > 0) {
        pthread_mutex_lock(&store->lock);
        store->counts.n_found++;
        pthread_mutex_unlock(&store->lock);
    }
    return table_add(store, &entry, variant, err);
}

/* --- open and close --------------------------------------------------------------------------- */

static bool is_mapped(void *arg, struct id128 id)
{
    struct variant variant;

    return table_find(arg, id, &variant);
}

struct store *store_open(const char *dir, struct err *err)
{
    struct store *store = calloc(1, sizeof *store);

    if (store == NULL) {
        err_set(err, ERR_MEMORY, "variant store: out of memory");
        return NULL;
    }
    pthread_mutex_init(&store->lock, NULL);
    if (snprintf(store->dir, sizeof store->dir, "%s", dir) + 64 >= STORE_PATH) {
        err_set(err, ERR_CREATE, "variant store %.64s...: the path is too long", dir);
        goto undo;
    }
    if (file_make_dirs(dir, err) != 0 || table_grow(store, err) != 0)
        goto undo;
    store->room = store_room_open(dir, is_mapped, store, err);
    if (store->room == NULL)
        goto undo;
    return store;

undo:
    store_close(store);
    return NULL;
}

int store_bound(struct store *store, uint64_t max_bytes, struct err *err)
{
    return store_room_bound(store->room, max_bytes, err);
}

void store_claim(const char *dir, const struct hash256 *parent)
{
    char path[STORE_PATH + 16], hex[HASH256_HEX + 1];
    struct hash256 owner;
    size_t n_bytes = 0;

    hash256_hex(*parent, hex);
    snprintf(path, sizeof path, "%.*s/parent", STORE_PATH - 1, dir);
    char *text = file_read(path, 256, &n_bytes, NULL);
    if (text != NULL)
        text[strcspn(text, "\n")] = '\0';
    if (text == NULL || hash256_parse(text, &owner) != 0) {
        /* Nobody's, or damaged: a name that is not there costs a line in the log, no more. */
        strcat(hex, "\n");
        if (file_make_dirs(dir, NULL) == 0)
            file_replace(path, hex, strlen(hex), NULL);
    } else if (memcmp(&owner, parent, sizeof owner) != 0) {
        log_warn("store",
                 "%s was begun for another model (%.8s, this is %.8s): its variants are not used; "
                 "remove the folder, or bound it with --max-disk, and they go first",
                 dir, text, hex);
    }
    free(text);
}

void store_forget(struct store *store)
{
    pthread_mutex_lock(&store->lock);
    for (size_t i = 0; i < store->capacity; i++) {
        entry_close(&store->table[i]);
        store->table[i] = (struct entry){0};
    }
    store->n_entries = 0;
    pthread_mutex_unlock(&store->lock);
}

void store_close(struct store *store)
{
    if (store == NULL)
        return;
    for (size_t i = 0; i < store->capacity; i++)
        entry_close(&store->table[i]);
    while (store->zeros != NULL) {
        struct zeros *next = store->zeros->next;
        free(store->zeros->data);
        free(store->zeros);
        store->zeros = next;
    }
    store_room_close(store->room);
    pthread_mutex_destroy(&store->lock);
    free(store->table);
    free(store);
}

const void *store_zeros(struct store *store, uint32_t layer, size_t n_bytes, struct err *err)
{
    size_t rounded = (n_bytes + 63) / 64 * 64;
    struct zeros *z;

    pthread_mutex_lock(&store->lock);
    for (z = store->zeros; z != NULL; z = z->next)
        if (z->layer == layer && z->n_bytes == n_bytes)
            break;
    if (z == NULL) {
        z = calloc(1, sizeof *z);
        void *data = aligned_alloc(64, rounded);
        if (z == NULL || data == NULL) {
            err_set(err, ERR_MEMORY, "zero FFN: out of memory");
            free(data);
            free(z);
            z = NULL;
        } else {
            /* Written, not left to the kernel's one zero page: reading them takes real time. */
            memset(data, 0, rounded);
            *z = (struct zeros){store->zeros, layer, n_bytes, data};
            store->zeros = z;
        }
    }
    pthread_mutex_unlock(&store->lock);
    return z != NULL ? z->data : NULL;
}

void store_counts(struct store *store, struct store_counts *counts)
{
    uint64_t n_evicted, evicted_bytes;

    store_room_counts(store->room, &n_evicted, &evicted_bytes);
    pthread_mutex_lock(&store->lock);
    *counts = store->counts;
    pthread_mutex_unlock(&store->lock);
    counts->n_evicted = n_evicted;
    counts->evicted_bytes = evicted_bytes;
}
