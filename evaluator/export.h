/* export.h - a candidate as a GGUF, holding bit for bit the weights that were measured: one that
 * stock llama.cpp loads, or under PROFILE_NATIVE one for kerf.
 *
 * Which architecture.  `llama` when every layer that is left has both units and all are equally
 * wide, else `deci`, which has a width and head counts for each layer (ERR_CONFIG under
 * PROFILE_GGUF).  Layers without a unit vanish and the others are renumbered.  Under `deci` a layer
 * without attention has head counts of 0 and no attention tensor, not even its norm (the loader
 * counts tensors); a layer without an FFN must carry a zero one, or the loader's graph loses its
 * attention; the first layer keeps its attention, for head sizes are taken from there.  Head size
 * and rope dimension are always written: readers would derive them from the parent's head count.
 *
 * One trap is not in the loader: rows that the engine loads and gets wrong (profile_row_is_safe).
 * They are refused under both gguf profiles.
 *
 * The format of the KV cache is no part of a file: it is the engine's to be told
 * (profile_cache_options).  The key kerf.kv_cache says which was measured.
 *
 * A native file is for kerf, and needs to keep none of this but the names and keys.  Biases are F32
 * tensors blk.N.attn_output.bias and blk.N.ffn_down.bias of d_model values; where a unit was
 * dropped and left its mean output behind, the bias stands alone, without a weight and with 0 heads
 * (width 0) in the keys.  kerf.activations says which units take float activations though they are
 * quantized (parent.h).  No other engine computes those: the layer that is left with nothing but
 * such biases stays a layer of the file. */
#ifndef KERF_EXPORT_H
#define KERF_EXPORT_H

#include "evaluator/model.h"
#include "evaluator/parent.h"
#include "space/profile.h"

struct export_note {         /* written as kerf.* keys, all texts; any of them may be NULL */
    const char *candidate;   /* id in hexadecimal */
    const char *study;       /* hash of the study */
    const char *metrics;     /* JSON text */
    const char *calibration; /* hash of the calibration, in hexadecimal */
    const char *polish; /* JSON text, where the weights are not those of the variants: polish.h */
};

/* Whether export_gguf would write this model at all: ERR_CONFIG as below. */
int export_check(const struct model *model, const struct genome *genome, enum profile profile,
                 struct err *err);

/* Write `path` atomically: the new file is written beside it, opened again, compared with `model`
 * in shapes and bytes and (but for native) with the loader's rules, and only then renamed.
 * Tokenizer keys, licence and name are copied from the parent; its file size, counts and type are
 * written anew. ERR_CONFIG when the profile, or any stock loader, does not allow the model;
 * ERR_INTERNAL when what was written does not read back the same. */
int export_gguf(const struct parent *parent, const struct model *model, const struct genome *genome,
                enum profile profile, const struct export_note *note, const char *path,
                struct err *err);

/* Loader rules on any GGUF: 0 when stock llama.cpp would load it and compute what it says, -1 with
 * the rule that it breaks (ERR_NO), ERR_DATA when it is no sound GGUF, ERR_MISSING when it is not
 * there.  A file with the bias of a unit that is not there is said to be for kerf alone. */
int export_verify(const char *path, struct err *err);

#endif
