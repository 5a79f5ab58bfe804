/* parent.h - the pretrained model as it is on disk: a GGUF of architecture `llama` (or a `deci` or
 * `llama` file that kerf exported), mapped read-only, its tensors checked against its geometry. */
#ifndef KERF_PARENT_H
#define KERF_PARENT_H

#include "evaluator/formats/gguf.h"
#include "space/base/hash.h"
#include "space/profile.h"

struct err;
struct parent;

/* Open and check: known architecture, every tensor there with the right shape and a format kerf
 * computes with, no unknown tensors or keys in use that would change the result (rope factors,
 * biases of q, k, v, gate and up, q/k norms, experts are refused by name).  ERR_DATA or
 * ERR_MISSING, one clear line.
 *
 * Biases of the two writers, blk.N.attn_output.bias and blk.N.ffn_down.bias, F32 and finite, are
 * read.  In a layer that has no attention (no FFN) such a bias is what the dropped unit leaves
 * behind, a constant that is added in its place: kerf's own, no other engine computes it.
 *
 * Keys (prefix: the architecture): block_count, embedding_length, context_length,
 * feed_forward_length, attention.head_count, attention.layer_norm_rms_epsilon; optional
 * attention.head_count_kv (else: head_count), attention.key_length (else: embedding_length / heads
 * of layer 0), rope.freq_base (else: 10000).  value_length and rope.dimension_count must equal the
 * head size.  The three that may be arrays have an entry a layer; 0 heads or width 0 leave a unit
 * out.  The vocabulary is as long as the embedding; a file without output.weight is tied, one that
 * stores the same bytes twice is not. */
struct parent *parent_open(const char *path, struct err *err);
void parent_close(struct parent *parent); /* NULL is fine */

/* Of the largest layer where layers differ: most KV groups, most query heads in a group, widest FFN
 * (so no layer need have n_heads query heads).  Each layer's own widths: parent_genome. */
const struct geometry *parent_geometry(const struct parent *parent);
const struct gguf *parent_gguf(const struct parent *parent);
/* SHA-256 over names, shapes, types and bytes of all tensors in name order; computed on first use
 * (which must not be made by two threads at once).  Metadata may change without changing it. */
struct hash256 parent_hash(struct parent *parent);

/* The genome that the file itself is: its own formats and widths (for an exported candidate too).
 * Canonical.  Where a file mixes formats among q, k, v (or gate and up), which a genome cannot say,
 * the finest of them stands; a zero FFN is an FFN of its own width. */
void parent_genome(const struct parent *parent, struct genome *genome);

/* Tensors by role; NULL where the file has none (a unit that was dropped). */
enum tensor_role {
    TENSOR_ATTN_NORM,
    TENSOR_Q,
    TENSOR_K,
    TENSOR_V,
    TENSOR_O,
    TENSOR_FFN_NORM,
    TENSOR_GATE,
    TENSOR_UP,
    TENSOR_DOWN,
    TENSOR_O_BIAS,
    TENSOR_DOWN_BIAS,
    N_TENSOR_ROLES
};
const struct gguf_tensor *parent_tensor(const struct parent *parent, uint32_t layer,
                                        enum tensor_role role);
const struct gguf_tensor *parent_embd(const struct parent *parent);
const struct gguf_tensor *parent_head(const struct parent *parent); /* the embedding when tied */
const struct gguf_tensor *parent_out_norm(const struct parent *parent);
/* Whether any o or down has a bias, or a unit that is not there leaves one behind. */
bool parent_has_bias(const struct parent *parent);
/* ERR_CONFIG when the profile has no room for such biases: what is made of this parent would be
 * without them. */
int parent_check_profile(const struct parent *parent, enum profile profile, struct err *err);
/* What the quantized matrices of a unit are multiplied with: ACT_Q8, as in stock engines, unless a
 * native file of kerf's says otherwise in kerf.activations, "a8 a16 a8 a8 ...": attention and FFN
 * of each layer. */
enum act_format parent_act(const struct parent *parent, uint32_t layer, bool ffn);
/* The KV cache that the file was measured with (kerf.kv_cache); F16 where it does not say.  As a
 * parent it has F16 all the same. */
enum format parent_kv_cache(const struct parent *parent);
/* "attn_q.weight" for TENSOR_Q: what follows blk.N. in its name. */
const char *tensor_role_name(enum tensor_role role);

/* Every weight of the file is a finite number; ERR_DATA naming tensor, row and column of the first
 * that is none.  Reads all of it. */
int parent_check_weights(const struct parent *parent, struct err *err);

/* Exact: unpack rows [row0, row0 + n_rows) of a tensor to float, out[n_rows][row_len]. */
void parent_unpack(const struct gguf_tensor *tensor, size_t row0, size_t n_rows, float *out);

#endif
