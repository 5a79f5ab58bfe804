/* file.c - whole files, and the four steps that make a replacement atomic:
 * write beside the target, fsync the content, rename over it, fsync the folder. */
#include "space/base/file.h"

#include "space/base/err.h"
#include "space/base/hash.h"
#include "space/base/log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

int file_map_open(struct file_map *map, const char *path, struct err *err)
{
    struct stat status;
    void *data = NULL;

    /* Without O_NONBLOCK a named pipe would hold us here until somebody writes to it. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        err_set_errno(err, errno, "cannot open %s", path);
        return -1;
    }
    if (fstat(fd, &status) != 0) {
        err_set_errno(err, errno, "cannot look at %s", path);
        goto undo_open;
    }
    if (!S_ISREG(status.st_mode)) {
        err_set(err, ERR_DATA, "%s is not a regular file", path);
        goto undo_open;
    }
    if (status.st_size > 0) {
        data = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (data == MAP_FAILED) {
            err_set_errno(err, errno, "cannot map %s", path);
            goto undo_open;
        }
    }
    close(fd);
    *map = (struct file_map){.data = data, .size = (size_t)status.st_size};
    return 0;

undo_open:
    close(fd);
    return -1;
}

void file_map_close(struct file_map *map)
{
    if (map->data != NULL)
        munmap((void *)map->data, map->size);
    *map = (struct file_map){0};
}

/* read(2) that does not mind signals. */
static ssize_t read_some(int fd, void *buffer, size_t n_bytes)
{
    ssize_t n;

    do
        n = read(fd, buffer, n_bytes);
    while (n < 0 && errno == EINTR);
    return n;
}

/* Everything that `fd` still holds, grown as it comes: pipes have no size to ask for. */
static char *read_all(int fd, const char *path, size_t max_bytes, size_t *n_bytes, struct err *err)
{
    size_t capacity = 4096, used = 0;
    char *text = malloc(capacity + 1);

    while (text != NULL) {
        ssize_t n = read_some(fd, text + used, capacity - used);
        if (n < 0) {
            err_set_errno(err, errno, "cannot read %s", path);
            goto undo_alloc;
        }
        if (n == 0) {
            text[used] = '\0';
            *n_bytes = used;
            return text;
        }
        used += (size_t)n;
        if (used > max_bytes) {
            err_set(err, ERR_DATA, "%s is larger than the %zu bytes allowed", path, max_bytes);
            goto undo_alloc;
        }
        if (used == capacity) {
            char *grown = capacity <= SIZE_MAX / 4 ? realloc(text, 2 * capacity + 1) : NULL;
            if (grown == NULL)
                break;
            text = grown;
            capacity *= 2;
        }
    }
    err_set(err, ERR_MEMORY, "%s: out of memory", path);

undo_alloc:
    free(text);
    return NULL;
}

char *file_read(const char *path, size_t max_bytes, size_t *n_bytes, struct err *err)
{
    size_t n_read = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        err_set_errno(err, errno, "cannot open %s", path);
        return NULL;
    }
    char *text = read_all(fd, path, max_bytes, &n_read, err);
    close(fd);
    if (text != NULL && n_bytes != NULL)
        *n_bytes = n_read;
    return text;
}

bool file_exists(const char *path)
{
    struct stat status;

    return stat(path, &status) == 0;
}

/* The folder that holds `path`: "." for a plain name, "/" for what lies in the root. */
static void parent_of(const char *path, char folder[4096])
{
    size_t n = strlen(path);

    while (n > 1 && path[n - 1] == '/')
        n--;
    while (n > 0 && path[n - 1] != '/')
        n--;
    while (n > 1 && path[n - 1] == '/')
        n--;
    if (n == 0)
        snprintf(folder, 4096, ".");
    else
        snprintf(folder, 4096, "%.*s", (int)n, path);
}

/* A file that cannot be made is ERR_CREATE, but rights and a full disk keep their own codes. */
static void create_error(struct err *err, int errnum, const char *path)
{
    if (errnum == ENOENT || errnum == ENOTDIR || errnum == EISDIR || errnum == EEXIST ||
        errnum == ENAMETOOLONG)
        err_set(err, ERR_CREATE, "cannot create %s: %s", path, strerror(errnum));
    else
        err_set_errno(err, errnum, "cannot create %s", path);
}

int file_draft_open(struct file_draft *draft, const char *path, struct err *err)
{
    static atomic_uint n_drafts;
    struct stat status;
    int fd = -1;

    if (strlen(path) >= sizeof draft->path) {
        err_set(err, ERR_CREATE, "cannot create %.64s...: the path is too long", path);
        return -1;
    }
    /* A rename over a device or a pipe would destroy it. */
    if (stat(path, &status) == 0 && !S_ISREG(status.st_mode)) {
        err_set(err, ERR_CREATE, "cannot replace %s: it is not a regular file", path);
        return -1;
    }
    strcpy(draft->path, path);
    /* Process and count name the draft; what a killed process of the same number left is skipped.
     */
    for (int tries = 0; fd < 0 && tries < 100; tries++) {
        snprintf(draft->temp, sizeof draft->temp, "%s.tmp.%ld.%u", path, (long)getpid(),
                 atomic_fetch_add(&n_drafts, 1));
        fd = open(draft->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd < 0 && errno != EEXIST)
            break;
    }
    if (fd < 0) {
        create_error(err, errno, path);
        return -1;
    }
    draft->stream = fdopen(fd, "w");
    if (draft->stream == NULL) {
        err_set_errno(err, errno, "cannot create %s", path);
        close(fd);
        unlink(draft->temp);
        return -1;
    }
    return 0;
}

void file_draft_discard(struct file_draft *draft)
{
    assert(draft->stream != NULL);
    fclose(draft->stream);
    draft->stream = NULL;
    unlink(draft->temp);
}

/* Push the content to the disk.  0, or -1 with `err` filled; the stream stays open. */
static int draft_sync(struct file_draft *draft, struct err *err)
{
    errno = 0;
    if (ferror(draft->stream) || fflush(draft->stream) != 0 || ferror(draft->stream)) {
        /* An earlier failed write has taken its errno away. */
        if (errno != 0)
            err_set(err, ERR_IO, "cannot write %s: %s", draft->path, strerror(errno));
        else
            err_set(err, ERR_IO, "cannot write %s: the disk is full or failing", draft->path);
        return -1;
    }
    if (fsync(fileno(draft->stream)) != 0) {
        err_set(err, ERR_IO, "cannot save %s: %s", draft->path, strerror(errno));
        return -1;
    }
    return 0;
}

int file_rename(const char *from, const char *to, struct err *err)
{
    char folder[4096];

    parent_of(to, folder);
    int folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder_fd < 0) {
        err_set_errno(err, errno, "cannot open folder %s", folder);
        return -1;
    }
    if (rename(from, to) != 0) {
        create_error(err, errno, to);
        close(folder_fd);
        return -1;
    }
    /* The new content stands from here on, so a folder that cannot be synced is only told. */
    if (fsync(folder_fd) != 0 && errno != EINVAL)
        log_warn("file", "cannot sync folder %s: %s", folder, strerror(errno));
    close(folder_fd);
    return 0;
}

int file_draft_commit(struct file_draft *draft, struct err *err)
{
    assert(draft->stream != NULL);
    if (draft_sync(draft, err) != 0 || file_rename(draft->temp, draft->path, err) != 0) {
        file_draft_discard(draft);
        return -1;
    }
    fclose(draft->stream);
    draft->stream = NULL;
    return 0;
}

int file_replace(const char *path, const void *data, size_t n_bytes, struct err *err)
{
    struct file_draft draft;

    if (file_draft_open(&draft, path, err) != 0)
        return -1;
    if (n_bytes > 0 && fwrite(data, 1, n_bytes, draft.stream) != n_bytes) {
        err_set(err, ERR_IO, "cannot write %s: %s", path, strerror(errno));
        file_draft_discard(&draft);
        return -1;
    }
    return file_draft_commit(&draft, err);
}

int file_make_dirs(const char *path, struct err *err)
{
    char part[4096];
    struct stat status;
    size_t n = strlen(path);

    if (n == 0 || n >= sizeof part) {
        err_set(err, ERR_CREATE, "cannot create folder '%.64s': the path is %s", path,
                n == 0 ? "empty" : "too long");
        return -1;
    }
    memcpy(part, path, n + 1);
    for (size_t i = 1; i <= n; i++) {
        if (part[i] != '/' && part[i] != '\0')
            continue;
        part[i] = '\0';
        /* mkdir first: it may fail on a read-only parent that exists, which is fine. */
        if (mkdir(part, 0777) != 0) {
            int why = errno;
            if (stat(part, &status) != 0 || !S_ISDIR(status.st_mode)) {
                create_error(err, why, part);
                return -1;
            }
        }
        part[i] = path[i];
    }
    return 0;
}

int file_hash(const char *path, struct hash256 *hash, struct err *err)
{
    uint8_t buffer[65536];
    struct sha256 sha;
    ssize_t n;

    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        err_set_errno(err, errno, "cannot open %s", path);
        return -1;
    }
    sha256_init(&sha);
    while ((n = read_some(fd, buffer, sizeof buffer)) > 0)
        sha256_update(&sha, buffer, (size_t)n);
    if (n < 0)
        err_set_errno(err, errno, "cannot read %s", path);
    else
        *hash = sha256_final(&sha);
    close(fd);
    return n < 0 ? -1 : 0;
}

/* f_type of statfs(2), 32 bits of it; the values of linux/magic.h and of vendors' headers. */
static const struct network_row {
    uint32_t magic;
    const char *kind;
} network_rows[] = {
    {0x00006969, "NFS"},  {0x0BD00BD0, "Lustre"}, {0xFF534D42, "CIFS"},     {0xFE534D42, "SMB2"},
    {0x0000517B, "SMB"},  {0x01021997, "9p"},     {0x65735546, "FUSE"},     {0x00C36400, "Ceph"},
    {0x5346414F, "AFS"},  {0x6B414653, "kAFS"},   {0x47504653, "GPFS"},     {0x19830326, "BeeGFS"},
    {0x01161970, "GFS2"}, {0x7461636F, "OCFS2"},  {0x20030528, "OrangeFS"}, {0xAAD7AAEA, "PanFS"},
    {0x73757245, "Coda"}, {0x0000564C, "NCP"},
};

int file_is_on_network(const char *path, char kind[32], struct err *err)
{
    char place[4096], parent[4096];
    struct statfs fs;

    if (strlen(path) >= sizeof place) {
        err_set(err, ERR_MISSING, "%.64s...: the path is too long", path);
        return -1;
    }
    strcpy(place, path);
    while (statfs(place, &fs) != 0) {
        int why = errno;
        parent_of(place, parent);
        /* "." and "/" are their own parents. */
        if ((why != ENOENT && why != ENOTDIR) || strcmp(parent, place) == 0) {
            err_set_errno(err, why, "cannot tell the file system of %s", path);
            return -1;
        }
        strcpy(place, parent);
    }
    kind[0] = '\0';
    for (size_t i = 0; i < sizeof network_rows / sizeof network_rows[0]; i++) {
        if ((uint32_t)fs.f_type == network_rows[i].magic) {
            snprintf(kind, 32, "%s", network_rows[i].kind);
            return 1;
        }
    }
    return 0;
}
