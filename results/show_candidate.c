/* show_candidate.c - one candidate for people: what it is, layer by layer, and all that was
 * measured of it. */
#include "results/show_parts.h"
#include "space/base/units.h"
#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* --- measured --- */

static void print_latency(FILE *out, const char *name, const struct workload *workload,
                          const struct measured *m, double predicted_ns)
{
    char text[32], ratio[SHOW_NUMBER], p50[SHOW_NUMBER];
    fprintf(out, "%-10s%s %s ms p50 (%s)\n", name, workload_metric(workload), show_latency(m, p50),
            workload_format(workload, text));
    fprintf(out, "          p10 %.4g, p90 %.4g, min %.4g ms; %u samples, %u rejected\n",
            m->p10_ns * 1e-6, m->p90_ns * 1e-6, m->min_ns * 1e-6, m->n_accepted, m->n_rejected);
    fprintf(out, "          %s of the parent in the same rounds",
            show_interval(m->ratio, (m->ratio_hi - m->ratio_lo) / 2, ratio));
    if (!isnan(predicted_ns))
        fprintf(out, "; predicted %.4g ms (%+.1f %%)", predicted_ns * 1e-6,
                (predicted_ns / m->median_ns - 1) * 100);
    fputc('\n', out);
}

static void print_quality(FILE *out, const struct evaluation *e)
{
    char mean[SHOW_NUMBER];
    fprintf(out, "kld       %s nats per token, 99 %% of tokens below %.3g (%u tokens)\n",
            show_interval(e->kld, show_half(e->kld_se), mean), e->kld_p99, e->n_tokens);
    fprintf(out, "ppl       %.4g, parent %.4g, ratio %s\n", e->ppl, e->parent_ppl,
            show_interval(e->ppl_ratio, show_half(e->ppl_ratio_se), mean));
    fprintf(out, "top-1     %s of tokens as the parent\n",
            show_interval(e->top1, show_half(e->top1_se), mean));
}

static void print_size(FILE *out, const struct study *study, const struct front_member *member)
{
    struct show_facts facts;
    char weights[32], cache[32];
    show_facts(member, &study->geometry, NULL, &facts);
    fprintf(out, "size      %s of weights, %.2f bits each; KV cache %s per token\n",
            units_format_size((double)member->evaluation.weight_bytes, weights), facts.bits,
            units_format_size((double)member->evaluation.kv_bytes_per_token, cache));
}

/* Where the system told. */
static void print_needs(FILE *out, const struct evaluation *e)
{
    char peak[32];
    if (e->peak_rss_bytes > 0)
        fprintf(out, "memory    %s at most, program and caches included, on both workloads\n",
                units_format_size((double)e->peak_rss_bytes, peak));
    if (!isnan(e->decode_joules) && !isnan(e->prefill_joules))
        fprintf(out, "energy    %.3g J per token, %.3g J per prompt\n", e->decode_joules,
                e->prefill_joules);
}

static void print_bound(FILE *out, const struct front_member *member)
{
    char formats[128];
    if (member->evaluation.kernel_bound != 0)
        fprintf(out,
                "bound     kernel: our decode kernel of %s does not reach the memory bandwidth; "
                "the times are the kernel's, not the format's\n",
                show_formats(member->evaluation.kernel_bound, formats));
}

/* --- tasks --- */

static double number_of(const cJSON *node, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(node, name);
    return cJSON_IsNumber(item) ? item->valuedouble : NAN;
}

static void put_task(struct show_cells *cells, const cJSON *task)
{
    const cJSON *name = cJSON_GetObjectItemCaseSensitive(task, "name");
    double acc = number_of(task, "acc_norm"), guess = number_of(task, "guess");
    double half = show_half(number_of(task, "acc_norm_se")), n = number_of(task, "n");
    char text[SHOW_NUMBER];
    show_cell(cells, cJSON_IsString(name) ? name->valuestring : "?");
    show_cell(cells, show_interval(acc, half, text));
    snprintf(text, sizeof text, isnan(guess) ? "-" : "%.3g", guess);
    show_cell(cells, text);
    show_cell(cells, show_interval(acc - guess, half, text));
    snprintf(text, sizeof text, isnan(n) ? "-" : "%.0f", n);
    show_cell(cells, text);
}

static void print_tasks(FILE *out, const struct evaluation *e, const char *details)
{
    struct show_cells cells = {.n_columns = 5};
    const char *titles[] = {"task", "accuracy", "guess", "above guess", "items"};
    cJSON *root = details != NULL ? cJSON_Parse(details) : NULL;
    const cJSON *tasks = cJSON_GetObjectItemCaseSensitive(root, "tasks"), *task;
    char mean[SHOW_NUMBER];
    if (cJSON_GetArraySize(tasks) > 0) {
        fputc('\n', out);
        for (size_t c = 0; c < cells.n_columns; c++)
            show_cell(&cells, titles[c]);
        cJSON_ArrayForEach(task, tasks) put_task(&cells, task);
        show_cells_print(out, &cells);
        if (e->n_tasks > 0)
            fprintf(out, "mean %s over %u tasks\n",
                    show_interval(e->accuracy, show_half(e->accuracy_se), mean), e->n_tasks);
    }
    cJSON_Delete(root);
}

/* The KLD of a few tokens taken one by one, as in decoding, and of the same ones by prefill, which
 * scored the rest. */
static void print_decode_check(FILE *out, const char *details)
{
    cJSON *root = details != NULL ? cJSON_Parse(details) : NULL;
    const cJSON *check = cJSON_GetObjectItemCaseSensitive(root, "decode_path");
    double kld = number_of(check, "kld"), n = number_of(check, "n_tokens");
    double prefill = number_of(check, "prefill_kld");
    if (!isnan(kld) && !isnan(n)) {
        fprintf(out, "check     %.3g nats through the decode path, ", kld);
        /* Evaluations of earlier versions hold the first figure alone. */
        if (!isnan(prefill))
            fprintf(out, "%.3g by prefill, ", prefill);
        fprintf(out, "over the first %.0f tokens\n", n);
    }
    cJSON_Delete(root);
}

/* --- genome --- */

static const char *dropped(const struct genome *genome)
{
    return genome->bias ? "dropped (mean output)" : "dropped";
}

static void put_attention(struct show_cells *cells, const struct genome *genome, uint32_t layer)
{
    const struct attn_choice *attn = &genome->attn[layer];
    char text[SHOW_NUMBER];
    if (attn->kv_groups == 0) {
        show_cell(cells, dropped(genome));
        return;
    }
    snprintf(text, sizeof text, "%ux%u heads, qkv %s, o %s, %s", attn->kv_groups,
             attn->heads_per_group, format_name(attn->qkv), format_name(attn->o),
             act_format_name(attn->act));
    show_cell(cells, text);
}

static void put_ffn(struct show_cells *cells, const struct genome *genome, uint32_t layer)
{
    const struct ffn_choice *ffn = &genome->ffn[layer];
    char text[SHOW_NUMBER];
    if (ffn->width > 0)
        snprintf(text, sizeof text, "%u wide, gate/up %s, down %s, %s", ffn->width,
                 format_name(ffn->gate_up), format_name(ffn->down), act_format_name(ffn->act));
    else if (genome_has_zero_ffn(genome, layer))
        snprintf(text, sizeof text, "dropped (zero FFN of %u)", genome->zero_ffn);
    else
        snprintf(text, sizeof text, "%s", dropped(genome));
    show_cell(cells, text);
}

static void print_genome(FILE *out, const struct study *study, const struct genome *genome)
{
    struct show_cells cells = {.n_columns = 3};
    char text[SHOW_NUMBER];
    char options[64];
    struct geometry own = genome_geometry(genome, &study->geometry);
    fputc('\n', out);
    if (genome_is_turned(genome))
        fprintf(out, "stream    %u wide of %u, rotation %s\n", own.d_model, study->geometry.d_model,
                rotation_name(genome->rotation));
    fprintf(out, "embedding %s, head %s%s, KV cache %s%s\n", format_name(genome->embd),
            format_name(genome->head), own.tied ? " (the same matrix)" : "",
            format_name(genome->kv), genome->bias ? ", o and down with bias" : "");
    if (study->limits.profile != PROFILE_NATIVE && genome->kv != FORMAT_F16)
        fprintf(out, "llama.cpp %s keeps its KV cache so\n",
                profile_cache_options(genome->kv, options));
    show_cell(&cells, "layer");
    show_cell(&cells, "attention");
    show_cell(&cells, "ffn");
    for (uint32_t l = 0; l < genome->n_layers; l++) {
        snprintf(text, sizeof text, "%5u", l);
        show_cell(&cells, text);
        put_attention(&cells, genome, l);
        put_ffn(&cells, genome, l);
    }
    show_cells_print(out, &cells);
}

/* --- all of it --- */

static void print_head(FILE *out, const struct study *study, const struct front_member *member)
{
    const struct evaluation *e = &member->evaluation;
    char hex[ID128_HEX], device[ID128_HEX], shape[160], when[32] = "?";
    time_t time = (time_t)e->wall_s;
    struct tm utc;
    id128_hex(member->candidate.id, hex);
    id128_hex(e->device, device);
    if (gmtime_r(&time, &utc) != NULL)
        strftime(when, sizeof when, "%Y-%m-%d %H:%M UTC", &utc);
    fprintf(out, "candidate %s\n", hex);
    fprintf(out, "origin    %s, proposal %llu; attempt %u measured %s\n",
            show_origin(member->candidate.origin), (unsigned long long)member->candidate.sequence,
            e->attempt, when);
    fprintf(out, "rung      %s\n",
            e->rung == RUNG_FINAL ? "final: verified on the study's full token set"
                                  : "search only: unverified, fewer tokens and rounds");
    fprintf(out, "device    class %.8s, %u thread%s\n", device, study->threads,
            study->threads == 1 ? "" : "s");
    fprintf(out, "parent    %s\n", geometry_describe(&study->geometry, shape));
}

void show_candidate_table(FILE *out, const struct study *study, const struct front_member *member,
                          const char *details)
{
    const struct evaluation *e = &member->evaluation;
    print_head(out, study, member);
    print_latency(out, "decode", &study->decode, &e->decode, e->predicted_decode_ns);
    print_latency(out, "prefill", &study->prefill, &e->prefill, e->predicted_prefill_ns);
    print_bound(out, member);
    print_quality(out, e);
    print_decode_check(out, details);
    print_size(out, study, member);
    print_needs(out, e);
    print_tasks(out, e, details);
    print_genome(out, study, &member->genome);
}
