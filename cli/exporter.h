/* exporter.h - members of a study written as GGUF files, one or many from one opened workshop. */
#ifndef KERF_EXPORTER_H
#define KERF_EXPORTER_H

#include "cli/reading.h"
#include "evaluator/compression/workshop.h"

struct exporter {
    const struct reading *reading; /* borrowed */
    struct workshop shop;
};

/* --max-disk, for every command that exports; exporter_limit puts it in the place of the study's.
 */
#define EXPORTER_ROWS                                                                              \
    {                                                                                              \
        "max-disk", 0, OPTION_TEXT, "SIZE", "most that store/ may hold (200GiB)", NULL             \
    }
int exporter_limit(struct reading *reading, const struct options *options, struct err *err);

/* Checks that the parent's file is still the one the study was searched with (ERR_DATA). */
int exporter_open(struct exporter *exporter, const struct reading *reading, struct err *err);
void exporter_close(struct exporter *exporter); /* a zeroed struct is fine */

/* Write `member` to `path` (replaced), with its newest details as a note.  *weight_bytes may be
 * NULL.  ERR_CONFIG when stock engines cannot load it: see export.h. */
int exporter_write(struct exporter *exporter, const struct front_member *member, const char *path,
                   uint64_t *weight_bytes, struct err *err);

/* The same for `model`, of the member's genome but with weights of its own; `polish` says what they
 * are, in JSON. */
int exporter_write_polished(struct exporter *exporter, const struct front_member *member,
                            const struct model *model, const char *polish, const char *path,
                            struct err *err);

#endif
