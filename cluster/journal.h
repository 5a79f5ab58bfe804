/* journal.h - journal.jsonl of a study: what happened, one JSON object a line, appended and synced.
 * For people and for other nodes; the archive, not the journal, is what a run continues from. */
#ifndef KERF_JOURNAL_H
#define KERF_JOURNAL_H

#include "space/study.h"
#include <cjson/cJSON.h>

struct err;

/* Append {"time":..., "event":event, ...fields}; `fields` (may be NULL) is consumed.  Failures are
 * logged, not returned: a full disk is found by the archive first. */
void journal_write(const struct study *study, const char *event, cJSON *fields);

#endif
