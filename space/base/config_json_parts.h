/* config_json_parts.h - the text of a config as its two files walk it.
 *   config_json.c           the text checked and parsed
 *   config_json_pointer.c   values and positions by pointer
 * Offsets count bytes of the text.  Where it is called JSON, config_json_parse has found it so. */
#ifndef KERF_CONFIG_JSON_PARTS_H
#define KERF_CONFIG_JSON_PARTS_H

#include "space/base/config_json.h"

/* Line and column from 1; the column counts characters, not the bytes of UTF-8. */
void config_json_place(const char *text, size_t offset, int *line, int *column);
/* ERR_CONFIG "file:line:col: sentence". */
void config_json_syntax_error(const struct config_json *config, size_t offset, struct err *err,
                              const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* Behind the space at `at`. */
size_t config_json_skip_space(const char *text, size_t at);
/* Where the first value of the text begins, behind a byte order mark and space. */
size_t config_json_start(const char *text);
/* Of JSON: offset of child `n` of the container at `at`: of its key in an object, of itself in an
 * array.  `value` gets the offset of the child's value. */
size_t config_json_child_offset(const char *text, size_t at, size_t n, size_t *value);

#endif
