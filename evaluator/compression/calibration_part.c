#include "evaluator/compression/calibration_part.h"

#include "space/base/clock.h"
#include "space/base/err.h"
#include "space/base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const char magic[8] = "KERFCPRT";

struct state_head {
    char magic[8];
    uint32_t version, n_done;
    struct hash256 identity;
};
_Static_assert(sizeof(struct state_head) == 48, "the head of a state has no holes");

/* The arrays behind the head, in their order. */
enum { N_ARRAYS = 5 };
struct array {
    void *data;
    size_t n_bytes;
};

static void state_arrays(const struct calibration *c, const float *stream, size_t n_stream,
                         struct array array[N_ARRAYS])
{
    size_t mean_bytes = calibration_n_means(&c->geometry) * sizeof(float);

    array[0] =
        (struct array){c->influence, 2 * (size_t)c->geometry.n_layers * sizeof *c->influence};
    array[1] = (struct array){c->mean, mean_bytes};
    array[2] = (struct array){c->mean_square, mean_bytes};
    array[3] = (struct array){c->layer_sum, (c->geometry.n_layers + (size_t)1) * sizeof *c->layer_sum};
    array[4] = (struct array){(void *)(uintptr_t)stream, n_stream * sizeof *stream};
}

static struct state_head head_of(const struct calibration_part *part, uint32_t n_done)
{
    struct state_head head = {
        .version = CALIBRATION_VERSION, .n_done = n_done, .identity = part->identity};

    memcpy(head.magic, magic, sizeof magic);
    return head;
}

/* --- beginning -------------------------------------------------------------------------------- */

/* Open PATH.part and lock it; the name may be another file's by the time the lock is ours. */
static int open_locked(struct calibration_part *part, struct err *err)
{
    for (;;) {
        struct stat ours, named;
        part->fd = open(part->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
        if (part->fd < 0) {
            int reason = errno;
            if (reason == ENOENT || reason == ENOTDIR || reason == EISDIR || reason == ELOOP)
                err_set(err, ERR_CREATE, "cannot create %s: %s", part->target, strerror(reason));
            else
                err_set_errno(err, reason, "cannot create %s", part->target);
            return -1;
        }
        if (flock(part->fd, LOCK_EX | LOCK_NB) != 0) {
            if (errno == EWOULDBLOCK)
                err_set(err, ERR_RESOURCE,
                        "%s is being made by another process; wait for it, or stop it",
                        part->target);
            else
                err_set_errno(err, errno, "cannot lock %s", part->path);
            close(part->fd);
            return -1;
        }
        if (fstat(part->fd, &ours) == 0 && stat(part->path, &named) == 0 &&
            ours.st_ino == named.st_ino && ours.st_dev == named.st_dev)
            return 0;
        close(part->fd);
    }
}

/* The triangles of the first n_done layers have the sums that c has of them. */
static bool triangles_agree(const struct calibration_part *part, const struct calibration *c,
                            uint32_t n_done)
{
    size_t layer_bytes = calibration_triangle_offset(&c->geometry, 1, 0) * sizeof(float);
    size_t begin = calibration_triangle_begin(&c->geometry);
    struct file_map map;
    bool agree = true;

    if (file_map_open(&map, part->path, NULL) != 0)
        return false;
    for (uint32_t l = 0; l < n_done && agree; l++) {
        size_t at = begin + l * layer_bytes;
        agree = map.size >= at + layer_bytes;
        if (!agree)
            break;
        struct hash256 sum = sha256_of(map.data + at, layer_bytes);
        agree = memcmp(&sum, &c->layer_sum[l], sizeof sum) == 0;
    }
    file_map_close(&map);
    return agree;
}

/* What a kill in the middle of make_safe left: as large as the stream, and nobody's any more. */
static void remove_torn(const struct calibration_part *part)
{
    char folder[sizeof part->state];
    const char *slash = strrchr(part->state, '/'),
               *name = slash != NULL ? slash + 1 : part->state;
    const struct dirent *entry;

    snprintf(folder, sizeof folder, "%.*s", (int)(name - part->state), part->state);
    size_t n = strlen(name);
    DIR *dir = opendir(slash != NULL ? folder : ".");
    while (dir != NULL && (entry = readdir(dir)) != NULL)
        if (strncmp(entry->d_name, name, n) == 0 && strncmp(entry->d_name + n, ".tmp.", 5) == 0)
            unlinkat(dirfd(dir), entry->d_name, 0);
    if (dir != NULL)
        closedir(dir);
}

/* Whether the state in the map is whole and ours; if so its arrays are read. */
static bool state_read(const struct calibration_part *part, const struct file_map *map,
                       const struct array array[N_ARRAYS], uint32_t n_layers, uint32_t *n_done)
{
    struct state_head head, ours;
    size_t size = sizeof head, at = sizeof head;
    struct hash256 sum;

    for (int i = 0; i < N_ARRAYS; i++)
        size += array[i].n_bytes;
    if (map->size != size + sizeof sum)
        return false;
    memcpy(&head, map->data, sizeof head);
    ours = head_of(part, head.n_done);
    sum = sha256_of(map->data, size);
    if (memcmp(&head, &ours, sizeof head) != 0 || head.n_done == 0 || head.n_done > n_layers ||
        memcmp(&sum, map->data + size, sizeof sum) != 0)
        return false;
    for (int i = 0; i < N_ARRAYS; i++) {
        memcpy(array[i].data, map->data + at, array[i].n_bytes);
        at += array[i].n_bytes;
    }
    *n_done = head.n_done;
    return true;
}

/* Layers to go on from; 0 when there are none, and the figures are zeros. */
static uint32_t take_over(struct calibration_part *part, struct calibration *c, float *stream)
{
    struct array array[N_ARRAYS];
    struct file_map map;
    uint32_t n_done = 0;

    if (file_map_open(&map, part->state, NULL) != 0)
        return 0;
    state_arrays(c, stream, part->n_stream, array);
    bool ours = state_read(part, &map, array, c->geometry.n_layers, &n_done);
    file_map_close(&map);
    if (ours && triangles_agree(part, c, n_done))
        return n_done;
    for (int i = 0; i < N_ARRAYS - 1; i++)
        memset(array[i].data, 0, array[i].n_bytes);
    log_info("calibration", "%s is of another text, parent, program or processor: begun anew",
             part->state);
    return 0;
}

int calibration_part_open(struct calibration_part *part, const char *path, struct calibration *c,
                          const struct hash256 *identity, double interval_s, float *stream,
                          size_t n_stream, uint32_t *n_done, struct err *err)
{
    struct stat status;

    *part = (struct calibration_part){.fd = -1,
                                      .identity = *identity,
                                      .n_stream = n_stream,
                                      .interval_ns = (int64_t)(interval_s * 1e9)};
    if (strlen(path) >= sizeof part->target) {
        err_set(err, ERR_CREATE, "cannot create %.64s...: the path is too long", path);
        return -1;
    }
    /* A rename over a device or a pipe would destroy it. */
    if (stat(path, &status) == 0 && !S_ISREG(status.st_mode)) {
        err_set(err, ERR_CREATE, "cannot replace %s: it is not a regular file", path);
        return -1;
    }
    strcpy(part->target, path);
    snprintf(part->path, sizeof part->path, "%s.part", path);
    snprintf(part->state, sizeof part->state, "%s.part.state", path);
    if (open_locked(part, err) != 0)
        return -1;
    remove_torn(part);
    *n_done = take_over(part, c, stream);
    part->has_state = *n_done > 0;
    if (!part->has_state) {
        unlink(part->state);
        if (ftruncate(part->fd, 0) != 0) {
            err_set_errno(err, errno, "cannot write %s", part->path);
            calibration_part_close(part);
            return -1;
        }
    }
    part->safe_ns = clock_now_ns();
    return 0;
}

/* --- going on --------------------------------------------------------------------------------- */

static int write_at(const struct calibration_part *part, const void *data, size_t n_bytes,
                    size_t at, struct err *err)
{
    const char *from = data;

    while (n_bytes > 0) {
        ssize_t n = pwrite(part->fd, from, n_bytes, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            err_set(err, ERR_IO, "cannot write %s: %s", part->path,
                    n < 0 ? strerror(errno) : "no room");
            return -1;
        }
        from += n;
        at += (size_t)n;
        n_bytes -= (size_t)n;
    }
    return 0;
}

static int sync_part(const struct calibration_part *part, struct err *err)
{
    if (fsync(part->fd) == 0)
        return 0;
    err_set(err, ERR_IO, "cannot save %s: %s", part->path, strerror(errno));
    return -1;
}

/* The triangles first: a state vouches for them. */
static int make_safe(struct calibration_part *part, const struct calibration *c, uint32_t n_done,
                     const float *stream, struct err *err)
{
    struct state_head head = head_of(part, n_done);
    struct array array[N_ARRAYS];
    struct file_draft draft;
    struct sha256 sha;

    if (sync_part(part, err) != 0 || file_draft_open(&draft, part->state, err) != 0)
        return -1;
    state_arrays(c, stream, part->n_stream, array);
    sha256_init(&sha);
    sha256_update(&sha, &head, sizeof head);
    fwrite(&head, sizeof head, 1, draft.stream);
    for (int i = 0; i < N_ARRAYS; i++) {
        sha256_update(&sha, array[i].data, array[i].n_bytes);
        fwrite(array[i].data, 1, array[i].n_bytes, draft.stream);
    }
    struct hash256 sum = sha256_final(&sha);
    fwrite(&sum, sizeof sum, 1, draft.stream);
    if (file_draft_commit(&draft, err) != 0)
        return -1;
    part->has_state = true;
    part->safe_ns = clock_now_ns();
    log_info("calibration", "layers=%u of %u are kept", n_done, c->geometry.n_layers);
    return 0;
}

int calibration_part_keep(struct calibration_part *part, const struct calibration *c,
                          uint32_t layer, const float *stream, struct err *err)
{
    const struct geometry *g = &c->geometry;
    size_t at = calibration_triangle_begin(g) +
                calibration_triangle_offset(g, layer, 0) * sizeof *c->own;

    if (write_at(part, c->own, calibration_n_triangles_of(g, layer) * sizeof *c->own, at, err) != 0)
        return -1;
    /* Behind the last layer all that is left is short. */
    if (layer + 1 >= g->n_layers || clock_now_ns() - part->safe_ns < part->interval_ns)
        return 0;
    return make_safe(part, c, layer + 1, stream, err);
}

int calibration_part_finish(struct calibration_part *part, const struct calibration *c,
                            struct err *err)
{
    size_t n_bytes;
    uint8_t *front = calibration_front(c, &n_bytes, err);
    int status = -1;

    if (front != NULL && write_at(part, front, n_bytes, 0, err) == 0 &&
        sync_part(part, err) == 0)
        status = file_rename(part->path, part->target, err);
    free(front);
    if (status == 0) {
        unlink(part->state);
        close(part->fd);
        part->fd = -1;
        return 0;
    }
    calibration_part_close(part);
    return -1;
}

void calibration_part_close(struct calibration_part *part)
{
    if (part->fd < 0)
        return;
    if (!part->has_state)
        unlink(part->path);
    close(part->fd);
    part->fd = -1;
}

void calibration_part_drop(struct calibration_part *part)
{
    unlink(part->state);
    part->has_state = false;
    calibration_part_close(part);
}
