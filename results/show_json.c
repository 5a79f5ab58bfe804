/* show_json.c - one object per answer.  Stable: keys are added, never changed or taken away without
 * a new number in "schema".  Latencies are in milliseconds, sizes in bytes, KLD in nats per token;
 * what was not measured is absent. */
#include "results/peer_record.h"
#include "results/show_parts.h"
#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define SCHEMA 1

/* JSON has no NAN: such a number is left out. */
void put_number(cJSON *node, const char *name, double value)
{
    if (isfinite(value))
        cJSON_AddNumberToObject(node, name, value);
}

static void put_latency(cJSON *node, const char *name, const struct measured *m, double predicted)
{
    cJSON *latency = cJSON_AddObjectToObject(node, name);
    put_number(latency, "p50", m->median_ns * 1e-6);
    put_number(latency, "lo", m->lo_ns * 1e-6);
    put_number(latency, "hi", m->hi_ns * 1e-6);
    put_number(latency, "p10", m->p10_ns * 1e-6);
    put_number(latency, "p90", m->p90_ns * 1e-6);
    put_number(latency, "min", m->min_ns * 1e-6);
    put_number(latency, "n", m->n_accepted);
    put_number(latency, "rejected", m->n_rejected);
    put_number(latency, "ratio", m->ratio);
    put_number(latency, "ratio_lo", m->ratio_lo);
    put_number(latency, "ratio_hi", m->ratio_hi);
    put_number(latency, "predicted", predicted * 1e-6);
}

static void put_mean(cJSON *node, const char *name, double mean, double se)
{
    cJSON *value = cJSON_AddObjectToObject(node, name);
    put_number(value, "mean", mean);
    put_number(value, "se", se);
}

static void put_quality(cJSON *node, const struct evaluation *e)
{
    cJSON *kld = cJSON_AddObjectToObject(node, "kld");
    put_number(kld, "mean", e->kld);
    put_number(kld, "se", e->kld_se);
    put_number(kld, "p99", e->kld_p99);
    put_number(node, "n_tokens", e->n_tokens);
    put_number(node, "ppl", e->ppl);
    put_number(node, "parent_ppl", e->parent_ppl);
    put_mean(node, "ppl_ratio", e->ppl_ratio, e->ppl_ratio_se);
    put_mean(node, "top1", e->top1, e->top1_se);
    if (!isnan(e->accuracy)) {
        cJSON *accuracy = cJSON_AddObjectToObject(node, "accuracy");
        put_number(accuracy, "mean", e->accuracy);
        put_number(accuracy, "se", e->accuracy_se);
        put_number(accuracy, "n_tasks", e->n_tasks);
    }
}

static void put_bound(cJSON *node, uint32_t set)
{
    cJSON *names = cJSON_AddArrayToObject(node, "kernel_bound");
    for (int f = 0; f < N_FORMATS; f++)
        if (set >> f & 1)
            cJSON_AddItemToArray(names, cJSON_CreateString(format_name((enum format)f)));
}

static void put_shape(cJSON *node, const struct front_member *member, const struct study *study,
                      const struct front *front)
{
    struct show_facts facts;
    show_facts(member, &study->geometry, front, &facts);
    put_number(node, "weight_bytes", (double)member->evaluation.weight_bytes);
    cJSON_AddStringToObject(node, "kv_cache", format_name(member->genome.kv));
    put_number(node, "kv_bytes_per_token", (double)member->evaluation.kv_bytes_per_token);
    put_number(node, "peak_rss_bytes",
               member->evaluation.peak_rss_bytes > 0 ? (double)member->evaluation.peak_rss_bytes
                                                     : NAN);
    put_number(node, "joules_per_token", member->evaluation.decode_joules);
    put_number(node, "joules_per_prompt", member->evaluation.prefill_joules);
    if (front != NULL && front->private_cache_bytes > 0)
        cJSON_AddBoolToObject(node, "exceeds_private_cache", facts.exceeds_cache);
    put_number(node, "bits", facts.bits);
    put_number(node, "layers", facts.layers);
    put_number(node, "ffn_min", facts.ffn_min);
    put_number(node, "ffn_max", facts.ffn_max);
    put_number(node, "hidden", genome_geometry(&member->genome, &study->geometry).d_model);
    cJSON_AddStringToObject(node, "rotation", rotation_name(member->genome.rotation));
    cJSON_AddBoolToObject(node, "thinner", facts.thinner);
    cJSON_AddBoolToObject(node, "coarser", facts.coarser);
    cJSON_AddBoolToObject(node, "joint", show_is_joint(&facts));
    put_bound(node, member->evaluation.kernel_bound);
}

static cJSON *member_json(const struct front_member *member, const struct study *study,
                          const struct front *front)
{
    const struct evaluation *e = &member->evaluation;
    cJSON *node = cJSON_CreateObject();
    char hex[ID128_HEX];
    char *genome = malloc(GENOME_TEXT_MAX);
    id128_hex(member->candidate.id, hex);
    cJSON_AddStringToObject(node, "id", hex);
    cJSON_AddStringToObject(node, "rung", e->rung == RUNG_FINAL ? "final" : "search");
    cJSON_AddBoolToObject(node, "verified", e->rung == RUNG_FINAL);
    cJSON_AddBoolToObject(node, "noisy", e->flags != 0);
    put_latency(node, "tpot_ms", &e->decode, e->predicted_decode_ns);
    put_latency(node, "ttft_ms", &e->prefill, e->predicted_prefill_ns);
    put_quality(node, e);
    put_shape(node, member, study, front);
    cJSON_AddStringToObject(node, "origin", show_origin(member->candidate.origin));
    put_number(node, "sequence", (double)member->candidate.sequence);
    put_number(node, "attempt", e->attempt);
    put_number(node, "wall_s", (double)e->wall_s);
    id128_hex(e->device, hex);
    cJSON_AddStringToObject(node, "device_id", hex);
    if (genome != NULL) {
        genome_format(&member->genome, genome);
        cJSON_AddStringToObject(node, "genome", genome);
    }
    free(genome);
    return node;
}

/* --- what every answer begins with --- */

static void put_geometry(cJSON *root, const struct geometry *g)
{
    cJSON *node = cJSON_AddObjectToObject(root, "geometry");
    char text[160];
    cJSON_AddStringToObject(node, "text", geometry_describe(g, text));
    put_number(node, "n_layers", g->n_layers);
    put_number(node, "d_model", g->d_model);
    put_number(node, "n_heads", g->n_heads);
    put_number(node, "n_kv_heads", g->n_kv_heads);
    put_number(node, "head_dim", g->head_dim);
    put_number(node, "d_ff", g->d_ff);
    put_number(node, "n_vocab", g->n_vocab);
    put_number(node, "n_ctx", g->n_ctx);
    cJSON_AddBoolToObject(node, "tied", g->tied);
}

void show_json_head(cJSON *root, const struct study *study, const struct front *front)
{
    char decode[32], prefill[32];
    put_number(root, "schema", SCHEMA);
    cJSON_AddStringToObject(root, "study", study->dir);
    cJSON_AddStringToObject(root, "profile", profile_name(study->limits.profile));
    if (front != NULL) {
        cJSON_AddStringToObject(root, "device", front->device);
        cJSON_AddStringToObject(root, "kernels", front->kernels);
    }
    put_number(root, "threads", study->threads);
    cJSON *workloads = cJSON_AddObjectToObject(root, "workloads");
    cJSON_AddStringToObject(workloads, "tpot_ms", workload_format(&study->decode, decode));
    cJSON_AddStringToObject(workloads, "ttft_ms", workload_format(&study->prefill, prefill));
}

static cJSON *begin(const struct study *study, const struct front *front)
{
    cJSON *root = cJSON_CreateObject();
    show_json_head(root, study, front);
    put_geometry(root, &study->geometry);
    if (front != NULL && front->private_cache_bytes > 0)
        put_number(root, "private_cache_bytes", (double)front->private_cache_bytes);
    if (front != NULL && front->is_diagonal)
        cJSON_AddStringToObject(root, "calibration", "diagonal");
    return root;
}

static void put_parent(cJSON *root, const struct study *study, const struct front *front)
{
    cJSON_AddItemToObject(root, "parent",
                          front->has_parent ? member_json(&front->parent, study, front)
                                            : cJSON_CreateNull());
}

static void end(FILE *out, cJSON *root)
{
    char *text = cJSON_Print(root);
    if (text != NULL)
        fprintf(out, "%s\n", text);
    free(text);
    cJSON_Delete(root);
}

/* --- answers --- */

static void put_candidates(cJSON *root, const struct study *study, const struct front *front,
                           const struct front_member *member, size_t n, bool mark_front)
{
    cJSON *array = cJSON_AddArrayToObject(root, "candidates");
    for (size_t i = 0; i < n; i++) {
        cJSON *node = member_json(&member[i], study, front);
        if (mark_front)
            cJSON_AddBoolToObject(node, "front", show_is_on_front(front, &member[i]));
        cJSON_AddItemToArray(array, node);
    }
}

/* Of the other engine's ranks, where it was asked. */
static void put_peer(cJSON *root, const struct study *study, const struct front *front)
{
    struct peer_record peer;
    if (!peer_record_load(study, front, &peer))
        return;
    cJSON *node = cJSON_AddObjectToObject(root, "peer");
    cJSON_AddStringToObject(node, "build", peer.build);
    put_number(node, "n", (double)peer.n);
    put_number(node, "n_on_front", (double)peer.n_on_front);
    put_ranks(node, peer.rho);
}

void show_front_json(FILE *out, const struct study *study, const struct front *front)
{
    cJSON *root = begin(study, front);
    put_number(root, "n_measured", (double)front->n_all);
    put_peer(root, study, front);
    put_parent(root, study, front);
    put_candidates(root, study, front, front->member, front->n, false);
    end(out, root);
}

void show_all_json(FILE *out, const struct study *study, const struct front *front)
{
    cJSON *root = begin(study, front);
    put_number(root, "n_measured", (double)front->n_all);
    put_parent(root, study, front);
    put_candidates(root, study, front, front->all, front->n_all, true);
    end(out, root);
}

static void put_list(cJSON *root, const char *name, const struct study *study,
                     const struct front *front, const struct front_member *const *member, size_t n)
{
    cJSON *array = cJSON_AddArrayToObject(root, name);
    for (size_t i = 0; i < n; i++)
        cJSON_AddItemToArray(array, member_json(member[i], study, front));
}

static void put_query(cJSON *root, const struct query *query, const char *question)
{
    cJSON *node = cJSON_AddObjectToObject(root, "query");
    cJSON_AddStringToObject(node, "metric", show_metric(query->metric));
    if (query->budget_ns > 0) {
        cJSON_AddStringToObject(node, "budget", question);
        put_number(node, "budget_ms", query->budget_ns * 1e-6);
    }
    if (query->max_loss >= 0)
        put_number(node, "max_loss", query->max_loss);
    if (query->max_bytes > 0)
        put_number(node, "max_bytes", (double)query->max_bytes);
    put_number(node, "n", query->n);
}

void show_answer_json(FILE *out, const struct study *study, const struct front *front,
                      const struct query *query, const char *question,
                      const struct query_answer *answer)
{
    cJSON *root = begin(study, front);
    put_query(root, query, question);
    cJSON_AddBoolToObject(root, "feasible", answer->n_hits > 0);
    put_number(root, "n_measured", answer->n_measured);
    put_number(root, "n_over_budget", answer->n_over_budget);
    cJSON_AddBoolToObject(root, "parent_meets", answer->parent_meets);
    put_list(root, "hits", study, front, answer->hit, answer->n_hits);
    put_list(root, "nearest", study, front, answer->nearest, answer->n_nearest);
    put_parent(root, study, front);
    if (answer->n_hits > 0) {
        char option[STUDY_PATH_MAX + 8], hex[ID128_HEX], next[STUDY_PATH_MAX + 64];
        snprintf(next, sizeof next, "kerf export%s %s model.gguf", show_study_option(study, option),
                 show_id(&answer->hit[0]->candidate.id, hex));
        cJSON_AddStringToObject(root, "next", next);
    }
    end(out, root);
}

void show_candidate_json(FILE *out, const struct study *study, const struct front_member *member,
                         const char *details)
{
    cJSON *root = begin(study, NULL);
    cJSON *rest = details != NULL ? cJSON_Parse(details) : NULL;
    cJSON_AddItemToObject(root, "candidate", member_json(member, study, NULL));
    if (rest != NULL)
        cJSON_AddItemToObject(root, "details", rest);
    end(out, root);
}
