/* store_file.h - one variant in one file of the store.
 *
 *   one page of 512 bytes: magic, version, key, order of compression, layout, error and fallback,
 *   identity of the source, SHA-256 of the payload, SHA-256 of the page's beginning | payload
 *
 * A file is written beside its place, synced and renamed, and then never changed: who opens it sees
 * all of it.  It may be removed while others have it mapped; their mapping stays.  Private to the
 * store. */
#ifndef KERF_STORE_FILE_H
#define KERF_STORE_FILE_H

#include "evaluator/compression/variant.h"
#include "space/base/file.h"

#define STORE_PATH 4096

/* Bytes of the file of a variant laid out so. */
size_t store_file_size(const struct variant *layout);

/* Map the variant of a key.  `variant` comes laid out; data, losses and payload are set, the data
 * borrowed from `map`.  1: mapped; 0: not there, or removed, for it was damaged or another
 * variant's (with a word in the log); -1: cannot be read.  Its time of change becomes now: that of
 * its last use. */
int store_file_open(const char *path, const struct variant_source *source,
                    const struct variant_key *key, struct variant *variant, struct file_map *map,
                    struct err *err);

/* Write `payload` into a draft that store_room_take opened, and to the disk; the draft stays open,
 * to be settled or dropped.  On success `variant`, laid out and with its error, is mapped as above,
 * from the bytes that were read back and found the same.  ERR_IO when the disk is full. */
int store_file_write(struct file_draft *draft, const struct variant_source *source,
                     const struct variant_key *key, const uint8_t *payload, struct variant *variant,
                     struct file_map *map, struct err *err);

#endif
