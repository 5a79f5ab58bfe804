/* store.c - files of packed weights, and the table of those that this process has mapped. */
#include "evaluator/compression/store.h"

#include "space/base/clock.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include "space/base/log.h"

#include <assert.h>
#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { STORE_VERSION = 1, STORE_PAGE = 512, STALE_SECONDS = 3600, STORE_PATH = 4096 };

static const char magic[8] = "KERFVARI";

/* The first page of a variant's file, zeros up to 512 bytes. */
struct store_page {
    char magic[8];
    uint32_t version, part, layer, kept, heads_per_group, ggml_type, n_matrices;
    uint16_t compress_order, biased;
    uint64_t n_bytes; /* of the payload */
    double error;
    struct {
        uint64_t offset, n_bytes;
        uint32_t n_out, n_in;
    } matrix[3];
    uint8_t identity[32]; /* of the source */
    uint8_t payload[32];  /* SHA-256 */
    uint8_t page[32];     /* SHA-256 of what stands before it */
};
_Static_assert(sizeof(struct store_page) == 8 + 32 + 16 + 72 + 96, "the page has no holes");

/* A mapped variant, or an empty place of the table (no data). */
struct entry {
    struct id128 id;
    struct file_map map;
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
    uint64_t n_built, n_found;
    double build_seconds;
};

/* --- the table -------------------------------------------------------------------------------- */

/* Where `id` is, or the empty place where it would go.  The id is a hash already. */
static struct entry *table_place(struct entry *table, size_t capacity, struct id128 id)
{
    uint64_t bits;

    memcpy(&bits, id.bytes, sizeof bits);
    size_t i = bits & (capacity - 1);
    while (table[i].map.data != NULL && !id128_equal(table[i].id, id))
        i = (i + 1) & (capacity - 1);
    return &table[i];
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
        if (store->table[i].map.data != NULL)
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
    bool found = place->map.data != NULL;
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
        if (place->map.data == NULL) {
            *place = *entry;
            store->n_entries++;
        } else {
            /* Another thread was faster with the same bytes. */
            file_map_close(&entry->map);
        }
        *variant = place->variant;
    }
    pthread_mutex_unlock(&store->lock);
    if (status != 0)
        file_map_close(&entry->map);
    return status;
}

/* --- files ------------------------------------------------------------------------------------ */

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

static struct store_page page_of(const struct variant_source *source, const struct variant_key *key,
                                 const struct variant *layout)
{
    struct store_page page = {.version = STORE_VERSION,
                              .part = (uint32_t)key->part,
                              .layer = key->layer,
                              .kept = key->kept,
                              .heads_per_group = key->heads_per_group,
                              .ggml_type = format_to_ggml(key->format),
                              .n_matrices = layout->n_matrices,
                              .compress_order = (uint16_t)source->compress_order,
                              .biased = layout->biased,
                              .n_bytes = layout->n_bytes};

    memcpy(page.magic, magic, sizeof magic);
    memcpy(page.identity, source->identity.bytes, sizeof page.identity);
    for (uint32_t m = 0; m < layout->n_matrices; m++) {
        page.matrix[m].offset = layout->matrix[m].offset;
        page.matrix[m].n_bytes = layout->matrix[m].n_bytes;
        page.matrix[m].n_out = layout->matrix[m].n_out;
        page.matrix[m].n_in = layout->matrix[m].n_in;
    }
    return page;
}

static struct hash256 page_sum(const struct store_page *page)
{
    return sha256_of(page, offsetof(struct store_page, page));
}

/* What is wrong with a mapped file that should hold the variant; NULL when nothing is. */
static const char *find_flaw(const struct file_map *map, const struct store_page *want,
                             double *error)
{
    struct store_page page;

    if (map->size != STORE_PAGE + want->n_bytes)
        return "has the wrong length";
    memcpy(&page, map->data, sizeof page);
    struct hash256 sum = page_sum(&page);
    if (memcmp(sum.bytes, page.page, sizeof page.page) != 0)
        return "has a damaged head";
    struct hash256 payload = sha256_of(map->data + STORE_PAGE, map->size - STORE_PAGE);
    if (memcmp(payload.bytes, page.payload, sizeof page.payload) != 0)
        return "has damaged weights";
    /* Sound, but is it ours?  Everything but the error and the sums is known beforehand. */
    *error = page.error;
    page.error = 0;
    memset(page.payload, 0, sizeof page.payload);
    memset(page.page, 0, sizeof page.page);
    if (memcmp(&page, want, sizeof page) != 0)
        return "is another variant's";
    return NULL;
}

/* 1: mapped; 0: not there (or removed, for it was no good); -1: cannot be read. */
static int entry_open(const struct variant_source *source, const struct variant_key *key,
                      const char *path, struct entry *entry, struct err *err)
{
    struct store_page want = page_of(source, key, &entry->variant);
    double error = 0;

    if (!file_exists(path))
        return 0;
    if (file_map_open(&entry->map, path, err) != 0)
        return -1;
    const char *flaw = find_flaw(&entry->map, &want, &error);
    if (flaw != NULL) {
        log_warn("store", "%s %s: it is built anew", path, flaw);
        file_map_close(&entry->map);
        unlink(path);
        return 0;
    }
    entry->variant.error = error;
    entry->variant.data = entry->map.data + STORE_PAGE;
    return 1;
}

static int entry_write(const struct variant_source *source, const struct variant_key *key,
                       const char *path, const struct variant *layout, const uint8_t *payload,
                       struct err *err)
{
    uint8_t first[STORE_PAGE] = {0};
    struct store_page page = page_of(source, key, layout);
    struct file_draft draft;

    page.error = layout->error;
    struct hash256 sum = sha256_of(payload, layout->n_bytes);
    memcpy(page.payload, sum.bytes, sizeof page.payload);
    sum = page_sum(&page);
    memcpy(page.page, sum.bytes, sizeof page.page);
    memcpy(first, &page, sizeof page);

    if (file_draft_open(&draft, path, err) != 0)
        return -1;
    if (fwrite(first, 1, sizeof first, draft.stream) == sizeof first)
        fwrite(payload, 1, layout->n_bytes, draft.stream);
    return file_draft_commit(&draft, err);
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

/* Build the variant and leave it in its file. */
static int entry_build(struct store *store, const struct variant_source *source,
                       const struct variant_key *key, const char *folder, const char *path,
                       const struct variant *layout, struct err *err)
{
    struct variant built = *layout;
    int64_t begin = clock_now_ns();
    int status = -1;

    uint8_t *payload = malloc(layout->n_bytes);
    if (payload == NULL) {
        err_set(err, ERR_MEMORY, "variant store: no memory for %zu bytes", layout->n_bytes);
        return -1;
    }
    if (entry_compress(store, source, key, &built, payload, err) != 0)
        goto done;
    if (file_make_dirs(folder, err) != 0 ||
        entry_write(source, key, path, &built, payload, err) != 0) {
        err_prefix(err, "variant store (%s needs %.1f MB more)", store->dir,
                   (double)layout->n_bytes / 1e6);
        goto done;
    }
    pthread_mutex_lock(&store->lock);
    store->n_built++;
    store->build_seconds += (double)(clock_now_ns() - begin) * 1e-9;
    pthread_mutex_unlock(&store->lock);
    status = 0;
done:
    free(payload);
    return status;
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
    int found = entry_open(source, key, path, &entry, err);
    if (found < 0)
        return -1;
    if (found == 0) {
        if (entry_build(store, source, key, folder, path, &entry.variant, err) != 0)
            return -1;
        found = entry_open(source, key, path, &entry, err);
        if (found <= 0) {
            if (found == 0)
                err_set(err, ERR_IO, "%s was written but does not read back the same", path);
            return -1;
        }
    } else {
        pthread_mutex_lock(&store->lock);
        store->n_found++;
        pthread_mutex_unlock(&store->lock);
    }
    return table_add(store, &entry, variant, err);
}

/* --- open and close --------------------------------------------------------------------------- */

/* Remove the drafts of builders that were killed.  A live one is never an hour old. */
static void sweep_folder(const char *folder)
{
    char path[STORE_PATH + 300];
    struct dirent *item;
    struct stat status;

    DIR *listing = opendir(folder);
    if (listing == NULL)
        return;
    while ((item = readdir(listing)) != NULL) {
        if (strstr(item->d_name, ".tmp.") == NULL)
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, item->d_name);
        if (lstat(path, &status) == 0 && S_ISREG(status.st_mode) &&
            status.st_mtime + STALE_SECONDS < time(NULL) && unlink(path) == 0)
            log_info("store", "removed %s, left by a builder that was killed", path);
    }
    closedir(listing);
}

static void sweep(const struct store *store)
{
    char folder[STORE_PATH + 8];

    for (unsigned byte = 0; byte < 256; byte++) {
        snprintf(folder, sizeof folder, "%s/%02x", store->dir, byte);
        sweep_folder(folder);
    }
}

struct store *store_open(const char *dir, struct err *err)
{
    struct store *store = calloc(1, sizeof *store);

    if (store == NULL) {
        err_set(err, ERR_MEMORY, "variant store: out of memory");
        return NULL;
    }
    if (strlen(dir) + 64 >= sizeof store->dir) {
        err_set(err, ERR_CREATE, "variant store %.64s...: the path is too long", dir);
        goto undo;
    }
    strcpy(store->dir, dir);
    if (file_make_dirs(dir, err) != 0 || table_grow(store, err) != 0)
        goto undo;
    pthread_mutex_init(&store->lock, NULL);
    sweep(store);
    return store;

undo:
    free(store);
    return NULL;
}

void store_close(struct store *store)
{
    if (store == NULL)
        return;
    for (size_t i = 0; i < store->capacity; i++)
        file_map_close(&store->table[i].map);
    while (store->zeros != NULL) {
        struct zeros *next = store->zeros->next;
        free(store->zeros->data);
        free(store->zeros);
        store->zeros = next;
    }
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

void store_counts(const struct store *store, uint64_t *n_built, uint64_t *n_found,
                  double *build_seconds)
{
    *n_built = store->n_built;
    *n_found = store->n_found;
    *build_seconds = store->build_seconds;
}
