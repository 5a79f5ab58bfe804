/* store_room.h - how much the folder of a store may hold, and what goes when there is no room.
 *
 * The bound is on the bytes of the variants' files and of the drafts beside them.  Their sum is
 * kept in DIR/ledger, 64 bytes that are read and written under its lock (flock, which the kernel
 * takes from whoever dies), so that all processes of a node share one account and a build costs no
 * look at the folder.  A draft has its full length from its first moment and is made under the
 * lock: what is being written is counted, and every count of the folder agrees with the account.
 * The folder is counted when a store with a bound is opened, when room must be made, and when the
 * ledger is damaged; a killed builder or a writer without a bound can only make the account wrong
 * until then.
 *
 * Room is made by removing the files that were used least recently.  A use is the opening of a file
 * by a process, kept as its time of change.  A file that this process has mapped is not removed:
 * that would free nothing while it is mapped, and cost a build later.  One that another process has
 * mapped may go; its mapping stays, and its blocks are only free when that process ends.  Once room
 * must be made, 1/16 of the bound is left free, so that not every build counts the folder.
 *
 * Nothing but what a store has written is counted or removed: DIR/xx/ with 32 hexadecimal digits
 * that begin with xx, and drafts of that.  Private to the store. */
#ifndef KERF_STORE_ROOM_H
#define KERF_STORE_ROOM_H

#include "space/base/hash.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct file_draft;
struct store_room;

/* Whether this process has the file of a variant mapped. */
typedef bool store_in_use_fn(void *arg, struct id128 id);

/* `dir` is there.  No bound yet, and no account.  Drafts that nobody has touched for an hour are
 * removed.  `arg` is borrowed. */
struct store_room *store_room_open(const char *dir, store_in_use_fn *in_use, void *arg,
                                   struct err *err);
/* At most so many bytes; 0: no bound. */
int store_room_bound(struct store_room *room, uint64_t max_bytes, struct err *err);
void store_room_close(struct store_room *room); /* NULL is fine */

/* Room for `n_bytes` at `path`: 1, with a draft of that length; 0: there cannot be so much within
 * the bound; -1: ERR_IO, ERR_PERMISSION... */
int store_room_take(struct store_room *room, const char *path, size_t n_bytes,
                    struct file_draft *draft, struct err *err);
/* What is written gets its name (0; -1: ERR_IO, and it is dropped), or is dropped.  Names are given
 * and drafts removed under the lock: a count of the folder would miss one that changes meanwhile.
 */
int store_room_settle(struct store_room *room, struct file_draft *draft, size_t n_bytes,
                      struct err *err);
void store_room_drop(struct store_room *room, struct file_draft *draft, size_t n_bytes);
/* The disk was full although the bound was not reached: remove at least twice `n_bytes` of files,
 * by the same rules.  False where that much could not be found, and without a bound: without leave
 * nothing is removed. */
bool store_room_make(struct store_room *room, size_t n_bytes);

void store_room_counts(struct store_room *room, uint64_t *n_evicted, uint64_t *evicted_bytes);

#endif
