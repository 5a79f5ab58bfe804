/* profile.h - what the result must load in, and which genomes that allows (every rule was found by
 * building the case, loading it in the stock engine and comparing the logits).
 *   gguf         architecture `llama`: one FFN width and one head count for all layers, layers
 *                dropped whole, any mix of formats
 *   gguf-hetero  architecture `deci`: widths and head counts by layer; the first layer that is left
 *                keeps its attention, because the loader takes the head size from it; a layer that
 *                keeps attention but not its FFN carries a zero FFN of 32 columns
 *                (genome.zero_ffn), whose bytes and time are counted, because the engine would
 *                throw the attention's output away without one
 *   native       anything kerf can run; o and down have biases (genome.bias), and a dropped unit
 *                leaves its mean output behind
 * In the gguf profiles a unit's activations follow its weights: ACT_Q8 exactly when at least one of
 * its matrices is quantized, and no matrix has rows of one single block of Q4_0 or Q8_0 (32
 * weights): llama.cpp's kernels for AMX make garbage of them, while its other kernels compute them
 * (release v0.5.0, measured).  Longer rows, and rows of 32 in the other formats, are right
 * everywhere.  The KV format is a run-time flag of the engine and free. */
#ifndef KERF_PROFILE_H
#define KERF_PROFILE_H

#include "space/genome.h"

enum profile { PROFILE_GGUF, PROFILE_GGUF_HETERO, PROFILE_NATIVE, N_PROFILES };

/* Columns of the zero FFN that stands for a dropped one under `deci`. */
#define PROFILE_ZERO_FFN 32

const char *profile_name(enum profile profile);
enum profile profile_parse(const char *name); /* N_PROFILES when unknown */

/* genome.zero_ffn that the profile wants where an FFN is dropped: PROFILE_ZERO_FFN (or d_ff where
 * that is smaller) under gguf-hetero, else 0.  Set it before genome_canonicalize, which removes it
 * again where no layer needs it. */
uint32_t profile_zero_ffn(enum profile profile, const struct geometry *geometry);

/* genome.bias that the profile wants.  No bias under the gguf profiles, not even where some engines
 * would read one. */
bool profile_has_bias(enum profile profile);

/* Whether rows of `row_len` weights in `format` come out right in the engine on every processor. */
bool profile_row_is_safe(enum format format, size_t row_len);

/* What rows of `row_len` weights are kept in where `format` is wanted: format_fallback, and under
 * the gguf profiles, where the engine gets that wrong, the next finer one that it gets right (Q5_0
 * for Q4_0, F16 for Q8_0).  A finer `format` never leads to a coarser one. */
enum format profile_format(enum profile profile, enum format format, size_t row_len);

/* Whether a canonical genome loads under the profile; -1 with ERR_CONFIG naming layer and rule. */
int profile_check(enum profile profile, const struct genome *genome,
                  const struct geometry *geometry, struct err *err);

/* What a KV cache format is called by llama.cpp's programs: "q8_0". */
const char *profile_cache_type(enum format kv);
/* What has to be said to them on the command line for that cache: "-ctk q8_0 -ctv q8_0 -fa on"; ""
 * for F16, which they use unasked.  Builds before September 2025 want -fa without its value. */
const char *profile_cache_options(enum format kv, char text[64]);

/* Whether layer `layer` of this genome carries the zero FFN under the profile. */
bool profile_has_zero_ffn(enum profile profile, const struct genome *genome, uint32_t layer);

#endif
