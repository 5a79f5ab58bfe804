#include "results/show_peer.h"
#include "results/show_parts.h"
#include "space/base/stats.h"
#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>

static const struct measured *ours_of(const struct show_peer_row *row, int metric)
{
    const struct evaluation *e = &row->member->evaluation;
    return metric == 0 ? &e->decode : &e->prefill;
}

static const struct show_peer_time *peers_of(const struct show_peer_row *row, int metric)
{
    return metric == 0 ? &row->decode : &row->prefill;
}

static double ratio_of(const struct show_peer_row *row, int metric)
{
    return peers_of(row, metric)->median_ns / ours_of(row, metric)->median_ns;
}

void show_peer_correlate(const struct show_peer *peer, double rho[2], size_t *n)
{
    double *ours = calloc(peer->n + 1, sizeof *ours), *peers = calloc(peer->n + 1, sizeof *peers);
    for (int metric = 0; metric < 2; metric++) {
        *n = 0;
        for (size_t i = 0; i < peer->n; i++) {
            if (peer->row[i].reason != NULL)
                continue;
            if (ours != NULL && peers != NULL) {
                ours[*n] = ours_of(&peer->row[i], metric)->median_ns;
                peers[*n] = peers_of(&peer->row[i], metric)->median_ns;
            }
            ++*n;
        }
        rho[metric] = ours != NULL && peers != NULL ? stats_spearman(ours, peers, *n) : NAN;
    }
    free(ours);
    free(peers);
}

/* --- table --- */

const char *show_rank(double rho, char text[32])
{
    snprintf(text, 32, isnan(rho) ? "not defined" : "%.3f", rho);
    return text;
}

static void put_times(struct show_cells *cells, const struct show_peer_row *row, int metric)
{
    const struct show_peer_time *time = peers_of(row, metric);
    char text[SHOW_NUMBER];
    show_cell(cells, show_latency(ours_of(row, metric), text));
    show_cell(cells,
              show_interval(time->median_ns * 1e-6, (time->hi_ns - time->lo_ns) / 2 * 1e-6, text));
    snprintf(text, sizeof text, "%.2f", ratio_of(row, metric));
    show_cell(cells, text);
}

static void put_rows(struct show_cells *cells, const struct show_peer *peer)
{
    static const char *const titles[] = {"  ID",       "decode ms", "peer ms", "ratio",
                                         "prefill ms", "peer ms",   "ratio",   "note"};
    char hex[ID128_HEX], text[SHOW_NUMBER];
    cells->n_columns = sizeof titles / sizeof titles[0];
    for (size_t c = 0; c < cells->n_columns; c++)
        show_cell(cells, titles[c]);
    for (size_t i = 0; i < peer->n; i++) {
        const struct show_peer_row *row = &peer->row[i];
        if (row->reason != NULL)
            continue;
        snprintf(text, sizeof text, "  %s", show_id(&row->member->candidate.id, hex));
        show_cell(cells, text);
        put_times(cells, row, 0);
        put_times(cells, row, 1);
        show_cell(cells, row->member->evaluation.flags != 0 ? "noisy" : "");
    }
}

static void show_peer_table(FILE *out, const struct study *study, const struct front *front,
                            const struct show_peer *peer)
{
    struct show_cells cells = {0};
    char decode[32], prefill[32], hex[ID128_HEX];
    double rho[2];
    size_t n;
    show_peer_correlate(peer, rho, &n);
    show_head(out, study, front);
    fprintf(out, "peer      %s, build %s, on the same cores; median of %u round%s of %u\n",
            peer->program, peer->build, peer->n_rounds, peer->n_rounds == 1 ? "" : "s",
            peer->n_samples);
    put_rows(&cells, peer);
    show_cells_print(out, &cells);
    fprintf(out, "rank correlation (Spearman) of %zu member%s: decode %s, prefill %s\n", n,
            n == 1 ? "" : "s", show_rank(rho[0], decode), show_rank(rho[1], prefill));
    for (size_t i = 0; i < peer->n; i++)
        if (peer->row[i].reason != NULL)
            fprintf(out, "left out: %s: %s\n", show_id(&peer->row[i].member->candidate.id, hex),
                    peer->row[i].reason);
}

/* --- JSON --- */

void put_ranks(cJSON *node, const double rho[2])
{
    cJSON *spearman = cJSON_AddObjectToObject(node, "spearman");
    put_number(spearman, "tpot_ms", rho[0]);
    put_number(spearman, "ttft_ms", rho[1]);
}

static void put_time(cJSON *node, const char *name, double median_ns, double lo_ns, double hi_ns)
{
    cJSON *time = cJSON_AddObjectToObject(node, name);
    put_number(time, "p50", median_ns * 1e-6);
    put_number(time, "lo", lo_ns * 1e-6);
    put_number(time, "hi", hi_ns * 1e-6);
}

static void put_metric(cJSON *node, const char *name, const struct show_peer_row *row, int metric)
{
    const struct measured *ours = ours_of(row, metric);
    const struct show_peer_time *peers = peers_of(row, metric);
    cJSON *both = cJSON_AddObjectToObject(node, name);
    put_time(both, "ours", ours->median_ns, ours->lo_ns, ours->hi_ns);
    put_time(both, "peer", peers->median_ns, peers->lo_ns, peers->hi_ns);
    put_number(both, "ratio", ratio_of(row, metric));
}

static void put_candidates(cJSON *root, const struct show_peer *peer)
{
    cJSON *timed = cJSON_AddArrayToObject(root, "candidates");
    cJSON *left_out = cJSON_AddArrayToObject(root, "left_out");
    for (size_t i = 0; i < peer->n; i++) {
        const struct show_peer_row *row = &peer->row[i];
        cJSON *node = cJSON_CreateObject();
        char hex[ID128_HEX];
        id128_hex(row->member->candidate.id, hex);
        cJSON_AddStringToObject(node, "id", hex);
        if (row->reason != NULL) {
            cJSON_AddStringToObject(node, "reason", row->reason);
            cJSON_AddItemToArray(left_out, node);
            continue;
        }
        cJSON_AddBoolToObject(node, "noisy", row->member->evaluation.flags != 0);
        put_metric(node, "tpot_ms", row, 0);
        put_metric(node, "ttft_ms", row, 1);
        cJSON_AddItemToArray(timed, node);
    }
}

static void put_head(cJSON *root, const struct study *study, const struct front *front,
                     const struct show_peer *peer)
{
    char shape[160];
    show_json_head(root, study, front);
    cJSON *geometry = cJSON_AddObjectToObject(root, "geometry");
    cJSON_AddStringToObject(geometry, "text", geometry_describe(&study->geometry, shape));
    cJSON *engine = cJSON_AddObjectToObject(root, "peer");
    cJSON_AddStringToObject(engine, "program", peer->program);
    cJSON_AddStringToObject(engine, "build", peer->build);
    cJSON_AddStringToObject(engine, "cpu", peer->cpu);
    put_number(root, "rounds", peer->n_rounds);
    put_number(root, "samples_per_run", peer->n_samples);
}

static void show_peer_json(FILE *out, const struct study *study, const struct front *front,
                           const struct show_peer *peer)
{
    cJSON *root = cJSON_CreateObject();
    double rho[2];
    size_t n;
    show_peer_correlate(peer, rho, &n);
    put_head(root, study, front, peer);
    put_number(root, "n", (double)n);
    put_ranks(root, rho);
    put_candidates(root, peer);
    char *text = cJSON_Print(root);
    if (text != NULL)
        fprintf(out, "%s\n", text);
    free(text);
    cJSON_Delete(root);
}

/* --- TSV: what concerns all is repeated in every line, as in show_tsv.c --- */

/* Empty where there is nothing to say: a field that is no number and must not look like one. */
static void print_number(FILE *out, double value)
{
    if (isfinite(value))
        fprintf(out, "%.9g", value);
    fputc('\t', out);
}

static void print_metric(FILE *out, const struct show_peer_row *row, int metric)
{
    const struct show_peer_time *peers = peers_of(row, metric);
    bool timed = row->reason == NULL;
    print_number(out, ours_of(row, metric)->median_ns * 1e-6);
    print_number(out, timed ? peers->median_ns * 1e-6 : NAN);
    print_number(out, timed ? peers->lo_ns * 1e-6 : NAN);
    print_number(out, timed ? peers->hi_ns * 1e-6 : NAN);
    print_number(out, timed ? ratio_of(row, metric) : NAN);
}

static void print_clean(FILE *out, const char *text)
{
    for (; *text != '\0'; text++)
        fputc((unsigned char)*text < ' ' ? ' ' : *text, out);
}

static void show_peer_tsv(FILE *out, const struct study *study, const struct front *front,
                          const struct show_peer *peer)
{
    char hex[ID128_HEX], decode[32], prefill[32];
    double rho[2];
    size_t n;
    show_peer_correlate(peer, rho, &n);
    fputs("id\trole\ttpot_ms\tpeer_tpot_ms\tpeer_tpot_ms_lo\tpeer_tpot_ms_hi\ttpot_ratio\tttft_ms\t"
          "peer_ttft_ms\tpeer_ttft_ms_lo\tpeer_ttft_ms_hi\tttft_ratio\tspearman_tpot\t"
          "spearman_ttft\tn\tdecode\tprefill\tdevice\tbuild\treason\n",
          out);
    for (size_t i = 0; i < peer->n; i++) {
        const struct show_peer_row *row = &peer->row[i];
        id128_hex(row->member->candidate.id, hex);
        fprintf(out, "%s\t%s\t", hex, row->reason != NULL ? "left-out" : "timed");
        print_metric(out, row, 0);
        print_metric(out, row, 1);
        print_number(out, rho[0]);
        print_number(out, rho[1]);
        fprintf(out, "%zu\t%s\t%s\t", n, workload_format(&study->decode, decode),
                workload_format(&study->prefill, prefill));
        print_clean(out, front->device);
        fprintf(out, "\t%s\t", peer->build);
        print_clean(out, row->reason != NULL ? row->reason : "");
        fputc('\n', out);
    }
}

void show_peer(FILE *out, enum show_format format, const struct study *study,
               const struct front *front, const struct show_peer *peer)
{
    if (format == SHOW_JSON)
        show_peer_json(out, study, front, peer);
    else if (format == SHOW_TSV)
        show_peer_tsv(out, study, front, peer);
    else
        show_peer_table(out, study, front, peer);
}
