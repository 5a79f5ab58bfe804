/* config_json.h - JSON that people write: with comments, and errors that point at line and column.
 * `//` and block comments are blanked in place, then cJSON parses; positions are found again by
 * walking the text along a JSON pointer, so no second parser is needed. */
#ifndef KERF_CONFIG_JSON_H
#define KERF_CONFIG_JSON_H

#include <cjson/cJSON.h>
#include <stddef.h>

struct err;

struct config_json {
    char *path;  /* for messages */
    char *text;  /* comments blanked, same length as the file */
    cJSON *root; /* an object */
};

/* Read and parse; -1 with "file:line:col: ..." (ERR_CONFIG) on bad syntax, a top that is no object,
 * nesting beyond 64, a key that comes twice or a number that is not finite; a file that cannot be
 * read keeps file_read's code.  At most 16 MiB.  `config` is written only on success. */
int config_json_open(struct config_json *config, const char *path, struct err *err);
/* The same from memory; `text` is copied, `path` names it in messages. */
int config_json_parse(struct config_json *config, const char *path, const char *text,
                      struct err *err);
void config_json_close(struct config_json *config); /* a zeroed struct is fine */

/* Line and column (from 1, in characters) of the key or element that `pointer` (RFC 6901, such as
 * "/space/ffn/min"; "" is the whole) names.  0, or -1 when it is not there. */
int config_json_position(const struct config_json *config, const char *pointer, int *line,
                         int *column);

/* ERR_CONFIG "file:line:col: pointer: sentence".  An absent key is reported where the nearest
 * enclosing value that exists begins. */
void config_json_error(const struct config_json *config, const char *pointer, struct err *err,
                       const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* Every key of the object at `pointer` must be in `known` (NULL-terminated); the error names the
 * nearest known key.  An absent object is fine, a value that is no object is not.  0 or -1. */
int config_json_check_keys(const struct config_json *config, const char *pointer,
                           const char *const *known, struct err *err);

/* The node at `pointer`, or NULL when absent.  Case-sensitive. */
const cJSON *config_json_get(const struct config_json *config, const char *pointer);

/* The word of `known` (NULL-terminated) with the smallest edit distance to `word` (a swap of two
 * neighbours is one edit); the first of equals, NULL when `known` is empty. */
const char *config_json_nearest(const char *word, const char *const *known);

/* The other way: write `root`, which is gone afterwards, as a file, whole or not at all
 * (file_replace).  ERR_MEMORY, ERR_IO. */
int config_json_save(cJSON *root, const char *path, struct err *err);

#endif
