/* study_json.h - the fields of a study as JSON: one table serves study.json, study.resolved.json,
 * the comparison of two studies and their hash.  Private to study.c. */
#ifndef KERF_STUDY_JSON_H
#define KERF_STUDY_JSON_H

#include "space/study.h"

struct config_json;

enum study_form {
    STUDY_CONFIG,  /* what people write: fields may be left out, files must exist */
    STUDY_RESOLVED /* what kerf wrote: every field is there, hashes too */
};

size_t study_json_n_fields(void);
const char *study_json_pointer(size_t field); /* "/space/ffn/min" */
bool study_json_is_frozen(size_t field);
/* Whether it stands for the content of a file (a hash); the field before it is the file's place. */
bool study_json_is_hash(size_t field);

/* Read all fields into `study`, whose `dir` and defaults are set.  ERR_CONFIG or ERR_MISSING with
 * file:line:col and pointer; `study` is then partly written. */
int study_json_read(const struct config_json *config, enum study_form form, struct study *study,
                    struct err *err);
/* The value of a field as compact JSON; yours to free, NULL without memory. */
char *study_json_value(const struct study *study, size_t field);
/* study.resolved.json; yours to free, NULL without memory. */
char *study_json_write(const struct study *study);

#endif
