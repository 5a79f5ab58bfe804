/* units.h - typed quantities, as people write them: "30ms", "1.5GiB", "4h", "16Ki".
 * A bare number where a unit belongs is an error that suggests one (ERR_USAGE).  Units are
 * case-sensitive: ns us ms s min h d; B kB KB MB GB TB (powers of 1000), KiB MiB GiB TiB (of 1024);
 * counts k M G T, Ki Mi Gi Ti. */
#ifndef KERF_UNITS_H
#define KERF_UNITS_H

#include <stddef.h>
#include <stdint.h>

struct err;

/* "250us", "30ms", "2s", "5min", "4h" -> seconds, > 0. */
int units_parse_duration(const char *text, double *seconds, struct err *err);
/* "512B", "64KiB", "200MB", "1.5GiB" -> bytes, rounded to whole ones. */
int units_parse_size(const char *text, uint64_t *n_bytes, struct err *err);
/* "4096", "16Ki", "2k", "1.5Ki" -> a plain count (no unit needed); it must come out whole. */
int units_parse_count(const char *text, uint64_t *count, struct err *err);

/* For people: "1.53 ms", "18.3 MB".  Returns `text`. */
const char *units_format_duration(double seconds, char text[32]);
const char *units_format_size(double n_bytes, char text[32]);

#endif
