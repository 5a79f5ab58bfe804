/* export.h - a candidate as a GGUF that stock llama.cpp loads, holding bit for bit the weights that
 * were measured.  Rules by profile: peer.md; kerf.* keys tell where the file comes from. */
#ifndef KERF_EXPORT_H
#define KERF_EXPORT_H

#include "evaluator/model.h"
#include "evaluator/parent.h"
#include "space/profile.h"

struct export_note {       /* written as kerf.* keys, all texts */
    const char *candidate; /* id in hexadecimal */
    const char *study;     /* hash of the study */
    const char *metrics;   /* JSON text, may be NULL */
};

/* Write `path` atomically, open it again and check shapes and bytes against `model` before saying
 * yes.  Architecture `llama` when all kept layers are equal and complete, else `deci` (ERR_CONFIG
 * under PROFILE_GGUF).  Tokenizer keys, licence and name are copied from the parent. */
int export_gguf(const struct parent *parent, const struct model *model,
                const struct genome *genome, enum profile profile, const struct export_note *note,
                const char *path, struct err *err);

/* Loader rules of peer.md on any GGUF: 0 when stock llama.cpp would load it and compute what it
 * says, -1 with the rule that it breaks (ERR_NO), ERR_DATA when it is no sound GGUF. */
int export_verify(const char *path, struct err *err);

#endif
