/* forward_parts.h - what the files of the forward pass share; for them alone.
 *
 * A pass is one team_run.  Inside it every member walks the same list of steps and does its share
 * of each; a barrier stands only where a step needs what another member made:
 *
 *   norm, pack -| q,k,v, rope, cache -| attention -| pack -| o, add -| norm, pack -| gate,up,silu
 *                                                              -| pack -| down, add -|
 *
 * With one token, norm and packing are so short that every member does them for itself (private
 * buffers) rather than wait for the others: the barriers behind them vanish.  The one between
 * q,k,v and attention vanishes where the KV groups can be dealt out evenly, for then a member
 * attends with nothing but what it has computed itself. */
#ifndef KERF_FORWARD_PARTS_H
#define KERF_FORWARD_PARTS_H

#include "evaluator/forward.h"
#include "space/base/arena.h"

#include <stdatomic.h>

/* Rows of an output that a member takes at a time: 16 floats are a cache line, and it is even, so
 * that the pairs that RoPE turns stay together. */
#define ROW_GRAIN 16

/* How activations are packed; what a matrix takes follows from its format and act. */
enum act_kind { KIND_FLOAT, KIND_Q8_32, KIND_Q8_K, N_ACT_KINDS };

/* n vectors, packed in every kind that the matrices of a linear group ask for. */
struct site_input {
    const char *packed[N_ACT_KINDS];
    size_t bytes[N_ACT_KINDS]; /* from one vector to the next */
};

/* What a member has for itself. */
struct scratch {
    float *normed;             /* [widest row], one token */
    char *packed[N_ACT_KINDS]; /* one token; none for KIND_FLOAT */
    char *attend;              /* room of the kernel */
    float *attn, *log_sums;    /* what attention makes of a part of its keys, one token of each
                                  sequence */
    float *weights;            /* [team_size] of such parts */
};

struct forward {
    const struct model *model;
    const struct kernels *kernels;
    struct team *team;
    uint32_t n_ctx, n_batch, position;
    uint32_t n_sequences, most_sequences; /* in step now, that there is room for */
    uint32_t d_model;                     /* the widest */
    forward_listen_fn *listen;
    void *listen_arg;
    struct arena arena;

    /* (cos, sin) of every position and pair, [n_ctx][head_dim]; the one for queries is multiplied
     * with the scale of the scores, 1 / sqrt(head_dim). */
    float *rope, *rope_q;

    /* The KV cache, [sequence][layer]; of a layer: keys, then values, each [group][n_ctx] rows of
     * head_dim in the model's KV format, so that one token more is one row more in any format.  A
     * narrower unit uses the first groups. */
    char *cache;
    size_t layer_room; /* bytes that there are for a layer of a sequence */
    size_t row_bytes;  /* of one position of a group */

    /* Batch buffers, rows of the unit's own width back to back: [n_batch][...]. */
    float *hidden, *normed, *q, *k, *v, *attn, *gate, *up, *sum, *logits;
    char *packed[N_ACT_KINDS];
    struct scratch *scratch;  /* [team_size] */
    atomic_uint *grains_done; /* [sequence][group] of keys that are attended to in parts; 0 between
                                 tokens */
};

/* One pass, the same for all members.  Column c of its n is token c / n_sequences of sequence
 * c % n_sequences. */
struct pass {
    struct forward *forward;
    const int32_t *tokens; /* NULL: hidden is given */
    float *hidden;         /* [n][d_model] */
    uint32_t n;
    uint32_t first, last;           /* layers */
    const struct model *head_model; /* NULL: no logits */
    const float *head_hidden;       /* [n_head][d_model] */
    uint32_t n_head;
    float *logits;       /* [n_head][n_vocab] */
    atomic_bool unsound; /* a logit that is not finite came by */
};

/* A member inside a pass. */
struct walker {
    struct pass *pass;
    unsigned member, n_members;
};

/* Rows or tokens [begin, end). */
struct span {
    size_t begin, end;
};

struct span walker_share(const struct walker *walker, size_t n, size_t grain);
void walker_wait(const struct walker *walker);

/* Norm (where `gain` is not NULL) and pack n vectors x[n][n_in] for the n_weights matrices in
 * `weights`.  x must be complete; what is returned is. */
struct site_input site_prepare(const struct walker *walker, uint32_t layer, enum linear_site site,
                               const float *x, uint32_t n, size_t n_in, const float *gain,
                               const struct weights *const *weights, int n_weights);

/* out[t * stride + r] = row r of w times vector t, for rows in `rows` and t < n. */
void site_multiply(const struct forward *forward, const struct weights *w,
                   const struct site_input *input, struct span rows, size_t n, float *out,
                   size_t stride);

/* Attention of one layer: projections, cache, scores, values; the result is in forward->attn.
 * Ends without a barrier. */
void attention_run(const struct walker *walker, uint32_t layer, const struct attn_unit *unit);

/* Whether keys and values of this model can be kept in the KV format that it asks for. */
bool attention_can_cache(const struct model *model);
/* Fill in the sizes that hang on the geometry and those that hang on the model's KV format; the
 * room of a layer is that of F16, or of the model's own format where that is larger. */
void attention_size_cache(struct forward *forward);
/* Lay the cache out for the model's KV format, which must fit the room. */
void attention_lay_out_cache(struct forward *forward);

/* Positions whose queries meet keys together. */
#define QUERY_BLOCK 32

#endif
