/* beginning.h - a study of -C made ready to be measured: read, resolved against the parent as it is
 * now, and frozen. */
#ifndef KERF_BEGINNING_H
#define KERF_BEGINNING_H

#include "space/study.h"

struct err;

/* As study_read, study_resolve and study_freeze say. */
int beginning_open(struct study *study, const char *dir, struct err *err);
/* The same without freezing a study that has not begun; one that has must agree. */
int beginning_look(struct study *study, const char *dir, struct err *err);

#endif
