/* show_tsv.c - one line per candidate, numbers in full, for spreadsheets and shell pipes.  What
 * concerns all (device, workloads) is repeated in every line, so that lines can be mixed. */
#include "results/show_parts.h"
#include <stdio.h>
#include <stdlib.h>

static void print_titles(FILE *out)
{
    fputs("id\trole\trung\ttpot_ms_p50\ttpot_ms_lo\ttpot_ms_hi\tttft_ms_p50\tttft_ms_lo\t"
          "ttft_ms_hi\tkld\tkld_se\tppl\tppl_ratio\tppl_ratio_se\ttop1\taccuracy\taccuracy_se\t"
          "weight_bytes\tkv_cache\tkv_bytes_per_token\tbits\tlayers\tffn_min\tffn_"
          "max\tjoint\tkernel_bound\tdecode\tprefill\t"
          "device\tgenome\n",
          out);
}

static void print_latency(FILE *out, const struct measured *m)
{
    fprintf(out, "%.9g\t%.9g\t%.9g\t", m->median_ns * 1e-6, m->lo_ns * 1e-6, m->hi_ns * 1e-6);
}

/* A tab or a newline inside a name would break the line. */
static void print_clean(FILE *out, const char *text)
{
    for (; *text != '\0'; text++)
        fputc((unsigned char)*text < ' ' ? ' ' : *text, out);
}

static void print_member(FILE *out, const struct study *study, const struct front *front,
                         const struct front_member *member, const char *role)
{
    const struct evaluation *e = &member->evaluation;
    struct show_facts facts;
    char hex[ID128_HEX], formats[128], decode[32], prefill[32];
    char *genome = malloc(GENOME_TEXT_MAX);
    show_facts(member, &study->geometry, front, &facts);
    id128_hex(member->candidate.id, hex);
    fprintf(out, "%s\t%s\t%s\t", hex, role, e->rung == RUNG_FINAL ? "final" : "search");
    print_latency(out, &e->decode);
    print_latency(out, &e->prefill);
    fprintf(out, "%.9g\t%.9g\t%.9g\t%.9g\t%.9g\t%.9g\t%.9g\t%.9g\t", e->kld, e->kld_se, e->ppl,
            e->ppl_ratio, e->ppl_ratio_se, e->top1, e->accuracy, e->accuracy_se);
    fprintf(out, "%llu\t%s\t%llu\t%.6g\t%u\t%u\t%u\t%d\t%s\t%s\t%s\t",
            (unsigned long long)e->weight_bytes, format_name(member->genome.kv),
            (unsigned long long)e->kv_bytes_per_token, facts.bits, facts.layers, facts.ffn_min,
            facts.ffn_max, show_is_joint(&facts), show_formats(e->kernel_bound, formats),
            workload_format(&study->decode, decode), workload_format(&study->prefill, prefill));
    if (front != NULL && front->device[0] != '\0') {
        print_clean(out, front->device);
    } else {
        id128_hex(e->device, hex);
        fputs(hex, out);
    }
    if (genome != NULL)
        genome_format(&member->genome, genome);
    fprintf(out, "\t%s\n", genome != NULL ? genome : "");
    free(genome);
}

static void print_parent(FILE *out, const struct study *study, const struct front *front)
{
    if (front->has_parent)
        print_member(out, study, front, &front->parent, "parent");
}

void show_front_tsv(FILE *out, const struct study *study, const struct front *front)
{
    print_titles(out);
    for (size_t i = 0; i < front->n; i++)
        print_member(out, study, front, &front->member[i], "front");
    print_parent(out, study, front);
}

void show_all_tsv(FILE *out, const struct study *study, const struct front *front)
{
    print_titles(out);
    for (size_t i = 0; i < front->n_all; i++)
        print_member(out, study, front, &front->all[i],
                     show_is_on_front(front, &front->all[i]) ? "front" : "dominated");
    print_parent(out, study, front);
}

void show_answer_tsv(FILE *out, const struct study *study, const struct front *front,
                     const struct query *query, const char *question,
                     const struct query_answer *answer)
{
    (void)query;
    (void)question;
    print_titles(out);
    for (uint32_t i = 0; i < answer->n_hits; i++)
        print_member(out, study, front, answer->hit[i], "hit");
    for (uint32_t i = 0; i < answer->n_nearest; i++)
        print_member(out, study, front, answer->nearest[i], "nearest");
    print_parent(out, study, front);
}

void show_candidate_tsv(FILE *out, const struct study *study, const struct front_member *member,
                        const char *details)
{
    (void)details;
    print_titles(out);
    print_member(out, study, NULL, member,
                 candidate_is_parent(&member->candidate) ? "parent" : "candidate");
}
