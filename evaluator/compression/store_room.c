/* store_room.c - the ledger, the count of the folder, and eviction. */
#include "evaluator/compression/store_room.h"

#include "evaluator/compression/store_file.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include "space/base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { STALE_SECONDS = 3600, LEDGER_VERSION = 1, SLACK = 16 };

struct ledger {
    char magic[8];
    uint32_t version, zero;
    uint64_t n_bytes, zeros;
    uint8_t sum[32]; /* SHA-256 of what stands before it */
};
_Static_assert(sizeof(struct ledger) == 64, "the ledger has no holes");

static const char magic[8] = "KERFROOM";

struct store_room {
    char dir[STORE_PATH];
    uint64_t max_bytes;
    store_in_use_fn *in_use;
    void *arg;
    pthread_mutex_t lock; /* of the threads; flock is between processes */
    int ledger;           /* -1: not opened yet */
    uint64_t n_evicted, evicted_bytes;
};

/* --- the folder ------------------------------------------------------------------------------- */

struct item {
    struct id128 id;
    struct timespec used;
    uint64_t n_bytes;
};

/* The variants of a folder, and the bytes of all that counts. */
struct listing {
    struct item *item;
    size_t n, room;
    uint64_t n_bytes;
};

static void item_path(const struct store_room *room, struct id128 id, char path[STORE_PATH + 64])
{
    char hex[ID128_HEX];

    id128_hex(id, hex);
    snprintf(path, STORE_PATH + 64, "%s/%.2s/%s", room->dir, hex, hex);
}

static int listing_add(struct listing *listing, const struct item *item)
{
    if (listing->n == listing->room) {
        size_t grown = listing->room > 0 ? 2 * listing->room : 512;
        struct item *items = realloc(listing->item, grown * sizeof *items);
        if (items == NULL)
            return -1;
        listing->item = items;
        listing->room = grown;
    }
    listing->item[listing->n++] = *item;
    return 0;
}

/* One file of a folder that is named by the first two digits of its files. */
static int look_at(struct listing *listing, const char *folder, const char *name)
{
    char path[STORE_PATH + 300], hex[ID128_HEX];
    struct item item = {0};
    struct stat status;

    snprintf(hex, sizeof hex, "%.32s", name);
    if (strlen(name) < 32 || id128_parse(hex, &item.id) != 0 ||
        strncmp(name, folder + strlen(folder) - 2, 2) != 0)
        return 0;
    bool is_draft = strncmp(name + 32, ".tmp.", 5) == 0;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if ((!is_draft && name[32] != '\0') || lstat(path, &status) != 0 || !S_ISREG(status.st_mode))
        return 0;
    /* The draft of a builder that was killed: a live one is never an hour old. */
    if (is_draft && status.st_mtime + STALE_SECONDS < time(NULL) && unlink(path) == 0) {
        log_info("store", "removed %s, left by a builder that was killed", path);
        return 0;
    }
    item.n_bytes = (uint64_t)status.st_size;
    item.used = status.st_mtim;
    listing->n_bytes += item.n_bytes;
    return is_draft ? 0 : listing_add(listing, &item);
}

/* -1 without memory; a folder that is not there holds nothing. */
static int list_all(const struct store_room *room, struct listing *listing)
{
    char folder[STORE_PATH + 8];
    int status = 0;

    *listing = (struct listing){0};
    for (unsigned byte = 0; byte < 256 && status == 0; byte++) {
        snprintf(folder, sizeof folder, "%s/%02x", room->dir, byte);
        DIR *entries = opendir(folder);
        if (entries == NULL)
            continue;
        for (struct dirent *entry; status == 0 && (entry = readdir(entries)) != NULL;)
            status = look_at(listing, folder, entry->d_name);
        closedir(entries);
    }
    return status;
}

/* --- the ledger ------------------------------------------------------------------------------- */

static int ledger_open(struct store_room *room, struct err *err)
{
    char path[STORE_PATH + 16];

    if (room->ledger >= 0)
        return 0;
    snprintf(path, sizeof path, "%s/ledger", room->dir);
    room->ledger = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (room->ledger >= 0)
        return 0;
    err_set_errno(err, errno, "variant store: cannot open %s", path);
    return -1;
}

/* Both locks. */
static int room_lock(struct store_room *room, struct err *err)
{
    int locked;

    pthread_mutex_lock(&room->lock);
    if (ledger_open(room, err) == 0) {
        do
            locked = flock(room->ledger, LOCK_EX);
        while (locked != 0 && errno == EINTR);
        if (locked == 0)
            return 0;
        err_set_errno(err, errno, "variant store: cannot lock %s/ledger", room->dir);
    }
    pthread_mutex_unlock(&room->lock);
    return -1;
}

static void room_unlock(struct store_room *room)
{
    flock(room->ledger, LOCK_UN);
    pthread_mutex_unlock(&room->lock);
}

static struct hash256 ledger_sum(const struct ledger *ledger)
{
    return sha256_of(ledger, offsetof(struct ledger, sum));
}

/* False when there is no sound account: count the folder. */
static bool ledger_read(const struct store_room *room, uint64_t *n_bytes)
{
    struct ledger ledger;

    if (pread(room->ledger, &ledger, sizeof ledger, 0) != (ssize_t)sizeof ledger)
        return false;
    struct hash256 sum = ledger_sum(&ledger);
    *n_bytes = ledger.n_bytes;
    return memcmp(ledger.magic, magic, sizeof magic) == 0 && ledger.version == LEDGER_VERSION &&
           memcmp(ledger.sum, sum.bytes, sizeof ledger.sum) == 0;
}

/* What cannot be written is counted anew by the next one, for its sum is wrong or it is short. */
static void ledger_write(const struct store_room *room, uint64_t n_bytes)
{
    struct ledger ledger = {.version = LEDGER_VERSION, .n_bytes = n_bytes};

    memcpy(ledger.magic, magic, sizeof magic);
    struct hash256 sum = ledger_sum(&ledger);
    memcpy(ledger.sum, sum.bytes, sizeof ledger.sum);
    if (pwrite(room->ledger, &ledger, sizeof ledger, 0) != (ssize_t)sizeof ledger &&
        ftruncate(room->ledger, 0) != 0)
        log_warn("store", "%s/ledger: %s", room->dir, strerror(errno));
}

/* --- eviction --------------------------------------------------------------------------------- */

static int by_use(const void *a, const void *b)
{
    const struct item *x = a, *y = b;

    if (x->used.tv_sec != y->used.tv_sec)
        return x->used.tv_sec < y->used.tv_sec ? -1 : 1;
    if (x->used.tv_nsec != y->used.tv_nsec)
        return x->used.tv_nsec < y->used.tv_nsec ? -1 : 1;
    return id128_compare(x->id, y->id);
}

/* Remove what was used least recently until the folder holds at most `goal` bytes, or nothing is
 * left that may go.  *n_bytes is what it holds then.  Both locks are held. */
static int evict(struct store_room *room, uint64_t goal, uint64_t *n_bytes, struct err *err)
{
    char path[STORE_PATH + 64];
    struct listing listing;
    uint64_t n = 0, gone = 0;

    if (list_all(room, &listing) != 0) {
        free(listing.item);
        err_set(err, ERR_MEMORY, "variant store: out of memory");
        return -1;
    }
    if (listing.n_bytes > goal && listing.n > 0)
        qsort(listing.item, listing.n, sizeof *listing.item, by_use);
    for (size_t i = 0; i < listing.n && listing.n_bytes - gone > goal; i++) {
        if (room->in_use(room->arg, listing.item[i].id))
            continue;
        item_path(room, listing.item[i].id, path);
        if (unlink(path) != 0 && errno != ENOENT)
            continue;
        gone += listing.item[i].n_bytes;
        n++;
    }
    *n_bytes = listing.n_bytes - gone;
    free(listing.item);
    ledger_write(room, *n_bytes);
    if (n > 0)
        log_info("store", "evicted=%llu mb=%.1f left_mb=%.1f max_mb=%.1f", (unsigned long long)n,
                 (double)gone * 1e-6, (double)*n_bytes * 1e-6, (double)room->max_bytes * 1e-6);
    room->n_evicted += n;
    room->evicted_bytes += gone;
    return 0;
}

/* --- room ------------------------------------------------------------------------------------- */

static int draft_make(const char *path, size_t n_bytes, struct file_draft *draft, struct err *err)
{
    if (file_draft_open(draft, path, err) != 0)
        return -1;
    if (ftruncate(fileno(draft->stream), (off_t)n_bytes) == 0)
        return 0;
    err_set(err, ERR_IO, "cannot write %s: %s", path, strerror(errno));
    file_draft_discard(draft);
    return -1;
}

int store_room_take(struct store_room *room, const char *path, size_t n_bytes,
                    struct file_draft *draft, struct err *err)
{
    uint64_t held;
    int status = 0;

    if (room->max_bytes == 0)
        return draft_make(path, n_bytes, draft, err) == 0 ? 1 : -1;
    if (n_bytes > room->max_bytes)
        return 0;
    if (room_lock(room, err) != 0)
        return -1;
    if (!ledger_read(room, &held))
        status = evict(room, UINT64_MAX, &held, err);
    if (status == 0 && held + n_bytes > room->max_bytes) {
        uint64_t most = room->max_bytes - n_bytes, slack = room->max_bytes / SLACK;
        status = evict(room, most > slack ? most - slack : 0, &held, err);
    }
    if (status == 0 && held + n_bytes <= room->max_bytes) {
        status = draft_make(path, n_bytes, draft, err) == 0 ? 1 : -1;
        if (status == 1)
            ledger_write(room, held + n_bytes);
    }
    room_unlock(room);
    return status;
}

/* What was taken is not there after all; locked. */
static void give_back(struct store_room *room, size_t n_bytes)
{
    uint64_t held;

    if (ledger_read(room, &held) && held >= n_bytes)
        ledger_write(room, held - n_bytes);
}

int store_room_settle(struct store_room *room, struct file_draft *draft, size_t n_bytes,
                      struct err *err)
{
    bool locked = room->max_bytes > 0 && room_lock(room, NULL) == 0;

    int status = file_draft_commit(draft, err);
    if (locked && status != 0)
        give_back(room, n_bytes);
    if (locked)
        room_unlock(room);
    return status;
}

void store_room_drop(struct store_room *room, struct file_draft *draft, size_t n_bytes)
{
    bool locked = room->max_bytes > 0 && room_lock(room, NULL) == 0;

    file_draft_discard(draft);
    if (!locked)
        return;
    give_back(room, n_bytes);
    room_unlock(room);
}

bool store_room_make(struct store_room *room, size_t n_bytes)
{
    uint64_t before, after = 0;
    bool made = false;

    if (room->max_bytes == 0 || room_lock(room, NULL) != 0)
        return false;
    if (evict(room, UINT64_MAX, &before, NULL) == 0 && before > 0) {
        uint64_t wanted = 2 * (uint64_t)n_bytes;
        made = evict(room, before > wanted ? before - wanted : 0, &after, NULL) == 0 &&
               before - after >= n_bytes;
    }
    room_unlock(room);
    return made;
}

/* --- open and close --------------------------------------------------------------------------- */

struct store_room *store_room_open(const char *dir, store_in_use_fn *in_use, void *arg,
                                   struct err *err)
{
    struct store_room *room = calloc(1, sizeof *room);
    struct listing listing = {0};

    if (room == NULL) {
        err_set(err, ERR_MEMORY, "variant store: out of memory");
        return NULL;
    }
    snprintf(room->dir, sizeof room->dir, "%s", dir);
    room->in_use = in_use;
    room->arg = arg;
    room->ledger = -1;
    pthread_mutex_init(&room->lock, NULL);
    int status = list_all(room, &listing); /* for the drafts */
    free(listing.item);
    if (status == 0)
        return room;
    err_set(err, ERR_MEMORY, "variant store: out of memory");
    store_room_close(room);
    return NULL;
}

int store_room_bound(struct store_room *room, uint64_t max_bytes, struct err *err)
{
    uint64_t held;

    room->max_bytes = max_bytes;
    /* A folder that can only be read may serve all the same; who writes will hear of it. */
    if (max_bytes == 0 || room_lock(room, NULL) != 0)
        return 0;
    int status = evict(room, max_bytes, &held, err);
    room_unlock(room);
    return status;
}

void store_room_close(struct store_room *room)
{
    if (room == NULL)
        return;
    if (room->ledger >= 0)
        close(room->ledger);
    pthread_mutex_destroy(&room->lock);
    free(room);
}

void store_room_counts(struct store_room *room, uint64_t *n_evicted, uint64_t *evicted_bytes)
{
    pthread_mutex_lock(&room->lock);
    *n_evicted = room->n_evicted;
    *evicted_bytes = room->evicted_bytes;
    pthread_mutex_unlock(&room->lock);
}
