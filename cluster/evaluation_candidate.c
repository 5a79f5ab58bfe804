/* evaluation_candidate.c - one candidate: stitched, scored against its parent, and timed against
 * it. At the final rung more tokens, more rounds, the multiple-choice tasks, and a sample of the
 * KLD through the decode path, which must agree with what the prefill path, which scored the rest,
 * makes of the same tokens. */
#include "cluster/evaluation_parts.h"
#include "evaluator/quality/task.h"
#include "space/base/err.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DECODE_CHECK_TOKENS 64
/* So long each workload runs for its energy, where that can be told. */
#define ENERGY_SEARCH_S 0.2
#define ENERGY_FINAL_S  1.0

static void put_quality(cJSON *result, const struct quality *quality)
{
    cJSON *node = cJSON_AddObjectToObject(result, "quality");
    cJSON_AddNumberToObject(node, "n_tokens", quality->n_tokens);
    cJSON_AddNumberToObject(node, "kld", quality->kld);
    cJSON_AddNumberToObject(node, "kld_se", quality->kld_se);
    cJSON_AddNumberToObject(node, "kld_p50", quality->kld_p50);
    cJSON_AddNumberToObject(node, "kld_p99", quality->kld_p99);
    cJSON_AddNumberToObject(node, "kld_max", quality->kld_max);
    cJSON_AddNumberToObject(node, "ppl", quality->ppl);
    cJSON_AddNumberToObject(node, "parent_ppl", quality->parent_ppl);
    cJSON_AddNumberToObject(node, "ppl_ratio", quality->ppl_ratio);
    cJSON_AddNumberToObject(node, "ppl_ratio_se", quality->ppl_ratio_se);
    cJSON_AddNumberToObject(node, "top1", quality->top1);
    cJSON_AddNumberToObject(node, "top1_se", quality->top1_se);
}

static int score_tasks(struct workbench *bench, struct forward *forward, cJSON *result,
                       struct err *err)
{
    const struct study *study = bench->study;
    cJSON *tasks = cJSON_AddArrayToObject(result, "tasks");
    for (uint32_t i = 0; i < study->n_tasks; i++) {
        struct task_score score;
        struct task *task = task_read(study->task[i], bench->tokenizer, study->task_items, err);
        int status = task != NULL ? task_score(forward, task, &score, err) : -1;
        if (status == 0) {
            cJSON *node = cJSON_CreateObject();
            cJSON_AddItemToArray(tasks, node);
            cJSON_AddStringToObject(node, "name", task_name(task));
            cJSON_AddNumberToObject(node, "n", score.n_items);
            cJSON_AddNumberToObject(node, "guess", task_guess_rate(task));
            cJSON_AddNumberToObject(node, "acc", score.acc);
            cJSON_AddNumberToObject(node, "acc_norm", score.acc_norm);
            cJSON_AddNumberToObject(node, "acc_norm_se", score.acc_norm_se);
        }
        task_destroy(task);
        if (status != 0 || quiet_work_step(bench->stand.quiet, err) != 0)
            return -1;
    }
    return 0;
}

/* Mean KLD against the parent over the tokens [begin, begin + n), which `forward` takes in steps of
 * at most `step`.  `logits` has room for one row. */
static int mean_kld(const struct workbench *bench, struct forward *forward, struct forward *parent,
                    uint32_t begin, uint32_t n, uint32_t step, float *logits, double *kld,
                    struct err *err)
{
    uint32_t n_vocab = bench->study->geometry.n_vocab;
    double sum = 0;
    forward_reset(forward);
    for (uint32_t t = 0; t < n; t += step) {
        uint32_t n_rows = n - t < step ? n - t : step;
        if (forward_tokens(forward, &bench->heldout.tokens[begin + t], n_rows, LOGITS_ALL, err) !=
            0)
            return -1;
        for (uint32_t i = 0; i < n_rows; i++) {
            forward_head(parent, parent_states_at(bench->states, begin + t + i), 1, logits);
            sum += quality_kld(logits, forward_logits(forward) + (size_t)i * n_vocab, n_vocab);
        }
    }
    *kld = sum / n;
    return 0;
}

/* The first tokens decoded one by one, and beside it the same tokens by prefill. */
static int check_decode_path(struct workbench *bench, struct forward *forward, cJSON *result,
                             struct err *err)
{
    uint32_t begin, end, n_batch = forward_n_batch(forward);
    token_set_sequence(&bench->heldout, 0, &begin, &end);
    uint32_t n = end - begin < DECODE_CHECK_TOKENS ? end - begin : DECODE_CHECK_TOKENS;
    struct forward *parent = workbench_forward(bench, bench->parent_model, err);
    float *logits = malloc((size_t)bench->study->geometry.n_vocab * sizeof *logits);
    double decoded, prefilled;
    int status = parent != NULL && logits != NULL ? 0 : -1;
    if (parent != NULL && logits == NULL)
        err_set(err, ERR_MEMORY, "evaluation: out of memory");
    if (status == 0)
        status = mean_kld(bench, forward, parent, begin, n, n_batch, logits, &prefilled, err);
    if (status == 0)
        status = mean_kld(bench, forward, parent, begin, n, 1, logits, &decoded, err);
    if (status == 0) {
        cJSON *node = cJSON_AddObjectToObject(result, "decode_path");
        cJSON_AddNumberToObject(node, "n_tokens", n);
        cJSON_AddNumberToObject(node, "kld", decoded);
        cJSON_AddNumberToObject(node, "prefill_kld", prefilled);
    }
    free(logits);
    forward_destroy(parent);
    return status;
}

/* Everything that may run beside other workers of the node. */
static int score(struct workbench *bench, struct forward *forward, const struct work *work,
                 cJSON *result, struct err *err)
{
    const struct study *study = bench->study;
    bool final = work->rung == RUNG_FINAL;
    struct quality quality;
    uint64_t tokens = final ? study->final_tokens : study->search_tokens;
    if (quality_measure(forward, bench->parent_model, bench->states, &bench->heldout,
                        (uint32_t)tokens, &quality, err) != 0)
        return -1;
    put_quality(result, &quality);
    if (!final)
        return 0;
    if (score_tasks(bench, forward, result, err) != 0)
        return -1;
    return check_decode_path(bench, forward, result, err);
}

static void put_samples(cJSON *samples, const char *name, const struct probe_result *probe)
{
    cJSON *array = cJSON_AddArrayToObject(samples, name);
    for (uint32_t i = 0; i < probe->n_accepted; i++) {
        /* Microseconds with a resolution of 0.1 ns keep the line short. */
        cJSON_AddItemToArray(array, cJSON_CreateNumber(round(probe->sample_ns[i] * 10) / 10));
    }
}

/* What the system does not tell is absent. */
static int weigh_candidate(struct workbench *bench, struct forward *candidate,
                           const struct work *work, cJSON *result, struct err *err)
{
    static const char *const names[STAND_WORKLOADS] = {"decode_joules", "prefill_joules"};
    struct stand_needs needs;
    if (workbench_weigh(bench, candidate,
                        work->rung == RUNG_FINAL ? ENERGY_FINAL_S : ENERGY_SEARCH_S, &needs,
                        err) != 0)
        return -1;
    cJSON *node = cJSON_AddObjectToObject(result, "needs");
    if (isfinite(needs.peak_bytes))
        cJSON_AddNumberToObject(node, "peak_rss_bytes", needs.peak_bytes);
    for (int w = 0; w < STAND_WORKLOADS; w++)
        if (isfinite(needs.joules[w]))
            cJSON_AddNumberToObject(node, names[w], needs.joules[w]);
    return 0;
}

static int time_candidate(struct workbench *bench, struct forward *candidate,
                          const struct work *work, cJSON *result, struct err *err)
{
    struct forward *reference = workbench_forward(bench, bench->parent_model, err);
    struct probe_pair *pair = calloc(2, sizeof *pair);
    int status = -1;
    if (pair == NULL)
        err_set(err, ERR_MEMORY, "probe: out of memory");
    else if (reference != NULL)
        status = workbench_probe(bench, reference, candidate, bench->study->rounds_min,
                                 work->rung == RUNG_FINAL
                                     ? bench->study->rounds_max
                                     : (bench->study->rounds_min + bench->study->rounds_max) / 2,
                                 work->sequence + 1, pair, err);
    if (status == 0) {
        evaluation_put_probe(result, "decode", &pair[0].candidate, bench->reference_ns[0]);
        evaluation_put_probe(result, "prefill", &pair[1].candidate, bench->reference_ns[1]);
        cJSON *samples = cJSON_AddObjectToObject(result, "samples");
        put_samples(samples, "decode", &pair[0].candidate);
        put_samples(samples, "decode_ref", &pair[0].reference);
        put_samples(samples, "prefill", &pair[1].candidate);
        put_samples(samples, "prefill_ref", &pair[1].reference);
    }
    free(pair);
    forward_destroy(reference);
    return status;
}

/* Which kernels a genome decodes with. */
struct kernels_used {
    bool by[N_FORMATS][N_ACT_FORMATS];
};

static void use(struct kernels_used *used, enum format format, enum act_format act)
{
    used->by[format][genome_matrix_act(act, format)] = true;
}

static void put_formats_bound(const struct workbench *bench, const struct genome *genome,
                              cJSON *result)
{
    struct kernels_used used = {{{false}}};
    uint32_t bound = 0;
    use(&used, genome->embd, act_format_of(genome->embd));
    use(&used, genome->head, act_format_of(genome->head));
    for (uint32_t l = 0; l < genome->n_layers; l++) {
        const struct attn_choice *attn = &genome->attn[l];
        const struct ffn_choice *ffn = &genome->ffn[l];
        if (attn->kv_groups > 0) {
            use(&used, attn->qkv, attn->act);
            use(&used, attn->o, attn->act);
        }
        if (ffn->width > 0) {
            use(&used, ffn->gate_up, ffn->act);
            use(&used, ffn->down, ffn->act);
        }
    }
    for (int f = 0; f < N_FORMATS; f++)
        for (int act = 0; act < N_ACT_FORMATS; act++)
            if (used.by[f][act] &&
                op_table_bandwidth_share(bench->ops, (enum format)f, (enum act_format)act) <
                    OP_TABLE_KERNEL_BOUND)
                bound |= 1u << f;
    cJSON_AddNumberToObject(result, "kernel_bound", bound);
}

static void put_account(const struct workbench *bench, const struct genome *genome, cJSON *result)
{
    const struct geometry *geometry = &bench->study->geometry;
    double decode = op_table_predict(bench->ops, genome, geometry, &bench->study->decode);
    double prefill = op_table_predict(bench->ops, genome, geometry, &bench->study->prefill);
    cJSON *node = cJSON_AddObjectToObject(result, "predicted");
    if (isfinite(decode))
        cJSON_AddNumberToObject(node, "decode_ns", decode);
    if (isfinite(prefill))
        cJSON_AddNumberToObject(node, "prefill_ns", prefill);
    cJSON_AddNumberToObject(result, "weight_bytes", (double)account_weight_bytes(genome, geometry));
    cJSON_AddNumberToObject(result, "kv_bytes_per_token",
                            (double)account_kv_bytes_per_token(genome, geometry));
    put_formats_bound(bench, genome, result);
}

static void put_fallback(void *arg, enum part part, uint32_t layer, double damping)
{
    cJSON *list = arg, *node = cJSON_CreateObject();
    char name[32];
    cJSON_AddItemToArray(list, node);
    snprintf(name, sizeof name, "blk.%u.%s", layer, part_name(part));
    cJSON_AddStringToObject(node, "part", part < PART_EMBD ? name : part_name(part));
    if (isfinite(damping))
        cJSON_AddNumberToObject(node, "damping", damping);
    else
        cJSON_AddStringToObject(node, "rounding", "plain");
}

/* What the candidate is made of, to the byte, and where compressing it had to fall back. */
static int put_weights(struct workbench *bench, const struct work *work,
                       const struct genome *genome, cJSON *result, struct err *err)
{
    struct hash256 weights;
    char hex[HASH256_HEX];
    if (work->n_levels == 0) /* the parent's are in the study's own hash */
        return 0;
    const struct variant_source *source = workshop_source(&bench->shop, genome, err);
    cJSON *fallbacks = cJSON_AddArrayToObject(result, "fallbacks");
    if (source == NULL || stitch_record(source, bench->shop.store, genome, &weights, put_fallback,
                                        fallbacks, err) != 0)
        return -1;
    hash256_hex(weights, hex);
    cJSON_AddStringToObject(result, "weights", hex);
    return 0;
}

/* The candidate of a work item: the parent itself when it carries no levels. */
static struct model *candidate_model(struct workbench *bench, const struct work *work,
                                     struct genome *genome, struct err *err)
{
    if (work->n_levels == 0) {
        parent_genome(bench->parent, genome);
        return model_of_parent(bench->parent, err);
    }
    if (work->n_levels != bench->space->n_genes) {
        err_set(err, ERR_DATA, "work item with %u levels, the space has %u genes", work->n_levels,
                bench->space->n_genes);
        return NULL;
    }
    for (uint32_t g = 0; g < work->n_levels; g++)
        if (work->levels[g] >= bench->space->gene[g].n_levels) {
            err_set(err, ERR_DATA, "work item: gene %u has no level %u", g, work->levels[g]);
            return NULL;
        }
    space_genome(bench->space, work->levels, genome);
    return workshop_model(&bench->shop, genome, err);
}

int evaluation_candidate(struct workbench *bench, const struct work *work, cJSON *result,
                         struct err *err)
{
    struct genome *genome = malloc(sizeof *genome);
    if (genome == NULL) {
        err_set(err, ERR_MEMORY, "evaluation: out of memory");
        return -1;
    }
    struct forward *forward = NULL;
    struct model *model = NULL;
    int status = quiet_work_begin(bench->stand.quiet, err);
    if (status == 0) {
        model = candidate_model(bench, work, genome, err);
        forward = model != NULL ? workbench_forward(bench, model, err) : NULL;
        status = forward != NULL ? score(bench, forward, work, result, err) : -1;
        quiet_work_end(bench->stand.quiet);
    }
    if (status == 0)
        status = put_weights(bench, work, genome, result, err);
    if (status == 0) {
        put_account(bench, genome, result);
        status = weigh_candidate(bench, forward, work, result, err);
    }
    if (status == 0)
        status = time_candidate(bench, forward, work, result, err);
    forward_destroy(forward);
    model_destroy(model);
    free(genome);
    return status;
}
