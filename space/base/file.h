/* file.h - whole files: read, map read-only, and replace atomically. */
#ifndef KERF_FILE_H
#define KERF_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct err;
struct hash256;

/* A file mapped read-only and shared, so that processes of a node use one copy. */
struct file_map {
    const uint8_t *data; /* NULL when the file is empty */
    size_t size;         /* bytes */
};

/* Map a regular file.  0, or -1 with `err` naming the path. */
int file_map_open(struct file_map *map, const char *path, struct err *err);
void file_map_close(struct file_map *map); /* a zeroed struct is fine */

/* The whole file (or pipe) with a NUL appended, which *n_bytes (may be NULL) does not count.  Yours
 * to free.  NULL with ERR_DATA when it holds more than `max_bytes`. */
char *file_read(const char *path, size_t max_bytes, size_t *n_bytes, struct err *err);

bool file_exists(const char *path);

/* Replace `path` as one step: temporary file beside it, fsync, rename, fsync of the folder.
 * After a failure the old content is still there and nothing lies beside it.  Devices, pipes and
 * folders are refused (ERR_CREATE); a folder that cannot be synced after the rename is only logged.
 * Codes: ERR_CREATE (no such folder...), ERR_PERMISSION, ERR_IO (disk full). */
int file_replace(const char *path, const void *data, size_t n_bytes, struct err *err);

/* The same in pieces: write to draft.stream, then commit or discard exactly once.  Failed writes
 * need no check of their own: commit sees them. */
struct file_draft {
    FILE *stream;
    char path[4096];
    char temp[4096 + 32];
};
int file_draft_open(struct file_draft *draft, const char *path, struct err *err);
/* 0, or -1: the draft is discarded and `err` says why. */
int file_draft_commit(struct file_draft *draft, struct err *err);
void file_draft_discard(struct file_draft *draft);

/* Give a file that is on the disk (synced) the name `to` in the same folder, as the last two steps of
 * file_replace do.  0, or -1 and nothing has changed. */
int file_rename(const char *from, const char *to, struct err *err);

/* Create a folder and its parents; an existing one is fine. */
int file_make_dirs(const char *path, struct err *err);

/* SHA-256 over the content of a file. */
int file_hash(const char *path, struct hash256 *hash, struct err *err);

/* "network" file systems (NFS, Lustre, CIFS, 9p, FUSE...) cannot carry LMDB's locks.
 * 1: `path` (or its nearest existing parent) is on one, its name in `kind` (32 bytes); 0: not;
 * -1: cannot tell. */
int file_is_on_network(const char *path, char kind[32], struct err *err);

#endif
