/* profile.h - what the result must load in, and which genomes that allows (peer.md has the cases,
 * each one loaded and compared).
 *   gguf         architecture `llama`: one FFN width and one head count for all layers, layers
 *                dropped whole, any mix of formats
 *   gguf-hetero  architecture `deci`: widths and head counts by layer; layer 0 keeps its attention;
 *                a layer that keeps attention but not its FFN carries a zero FFN of 32 columns,
 *                whose bytes and time are counted
 *   native       anything kerf can run */
#ifndef KERF_PROFILE_H
#define KERF_PROFILE_H

#include "space/genome.h"

enum profile { PROFILE_GGUF, PROFILE_GGUF_HETERO, PROFILE_NATIVE, N_PROFILES };

/* Columns of the zero FFN that stands for a dropped one under `deci`. */
#define PROFILE_ZERO_FFN 32

const char *profile_name(enum profile profile);
enum profile profile_parse(const char *name); /* N_PROFILES when unknown */

/* Whether a canonical genome loads under the profile; -1 with ERR_CONFIG naming layer and rule.
 * In the gguf profiles activations must follow the weights (act_format_of). */
int profile_check(enum profile profile, const struct genome *genome,
                  const struct geometry *geometry, struct err *err);

/* Whether layer `layer` of this genome carries the zero FFN. */
bool profile_has_zero_ffn(enum profile profile, const struct genome *genome, uint32_t layer);

#endif
