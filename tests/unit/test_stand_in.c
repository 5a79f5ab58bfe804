/* Models whose weights are stand-ins: the bytes and shapes of the real ones, no byte twice, and
 * finite logits; and a study of such models from end to end.  How long anything takes is not
 * judged. */
#include "evaluator/forward.h"
#include "latency_model/latency_study.h"
#include "latency_model/stand_in.h"
#include "space/account.h"
#include "space/base/err.h"
#include "space/base/rng.h"
#include "space/space.h"
#include "tests/tap.h"
#include "tests/unit/space_fixture.h"

#include <stdlib.h>

#define N_GENOMES    12
#define MAX_MATRICES (GEOMETRY_MAX_LAYERS * 7 + 2)

static struct space space;
static struct genome genomes[N_GENOMES];

/* The finest, the coarsest, and random ones. */
static void draw_genomes(const struct geometry *geometry, enum profile profile)
{
    struct space_limits limits;
    struct rng rng = rng_make(7, (uint64_t)profile);
    struct err err = {0};

    space_default_limits(&limits, geometry, profile);
    limits.hidden[0] = 0.875;
    limits.hidden[1] = 1;
    limits.n_hidden = 2;
    if (!ok(space_init(&space, geometry, &limits, &err) == 0, "a space under %s %s",
            profile_name(profile), err.text))
        exit(1);
    for (size_t i = 0; i < N_GENOMES; i++) {
        uint8_t levels[SPACE_MAX_GENES] = {0};
        for (uint32_t g = 0; g < space.n_genes; g++) {
            uint8_t last = (uint8_t)(space.gene[g].n_levels - 1);
            levels[g] = i == 0 ? last : i == 1 ? 0 : (uint8_t)rng_below(&rng, last + 1u);
        }
        space_genome(&space, levels, &genomes[i]);
    }
}

/* --- one model --- */

struct stretch {
    const unsigned char *begin, *end;
};

static size_t collect(const struct model *model, struct stretch *stretches)
{
    size_t n = 0;
    const struct weights *ends[2] = {&model->embd, &model->head};

    for (int i = 0; i < (model->head.data == model->embd.data ? 1 : 2); i++)
        stretches[n++].begin = ends[i]->data;
    stretches[0].end = stretches[0].begin +
                       model->embd.n_out * format_row_bytes(model->embd.format, model->embd.n_in);
    if (n == 2)
        stretches[1].end =
            stretches[1].begin +
            model->head.n_out * format_row_bytes(model->head.format, model->head.n_in);
    for (uint32_t l = 0; l < model->n_layers; l++) {
        const struct attn_unit *a = &model->attn[l];
        const struct ffn_unit *f = &model->ffn[l];
        const struct weights *all[7] = {&a->q, &a->k, &a->v, &a->o, &f->gate, &f->up, &f->down};
        for (int i = a->present ? 0 : 4; i < (f->present ? 7 : 4); i++)
            stretches[n++] = (struct stretch){
                all[i]->data, (const unsigned char *)all[i]->data +
                                  all[i]->n_out * format_row_bytes(all[i]->format, all[i]->n_in)};
    }
    return n;
}

static bool apart(const struct model *model)
{
    static struct stretch s[MAX_MATRICES];
    size_t n = collect(model, s);

    for (size_t i = 0; i < n; i++)
        for (size_t k = i + 1; k < n; k++)
            if (s[i].begin < s[k].end && s[k].begin < s[i].end)
                return false;
    return true;
}

static bool as_chosen(const struct model *model, const struct genome *genome)
{
    bool same = model->kv == genome->kv && model->n_layers == genome->n_layers;

    for (uint32_t l = 0; l < genome->n_layers; l++) {
        const struct attn_choice *a = &genome->attn[l];
        const struct ffn_choice *f = &genome->ffn[l];
        const struct attn_unit *attn = &model->attn[l];
        const struct ffn_unit *ffn = &model->ffn[l];
        same = same && attn->present == (a->kv_groups > 0) &&
               (attn->bias != NULL) == genome->bias && (ffn->bias != NULL) == genome->bias;
        if (a->kv_groups > 0)
            same = same && attn->n_groups == a->kv_groups && attn->k.format == a->qkv &&
                   attn->o.format == a->o && attn->o.act == genome_matrix_act(a->act, a->o);
        if (f->width > 0)
            same = same && ffn->width == f->width && ffn->up.format == f->gate_up &&
                   ffn->down.n_in == f->width && ffn->down.format == f->down;
        else
            same = same && ffn->width == (genome_has_zero_ffn(genome, l) ? genome->zero_ffn : 0);
    }
    return same;
}

static void test_models(const struct geometry *geometry, enum profile profile, struct team *team)
{
    struct err err = {0};
    int n_bytes = 0, n_apart = 0, n_chosen = 0, n_finite = 0;

    draw_genomes(geometry, profile);
    struct stand_in *weights = stand_in_create(geometry, genomes, N_GENOMES, &err);
    if (!ok(weights != NULL, "memory for %d models %s", N_GENOMES, err.text))
        return;
    size_t most = 0;
    for (int i = 0; i < N_GENOMES; i++) {
        struct model *model = stand_in_model(weights, &genomes[i], &err);
        struct forward_options options = {.n_ctx = 8, .n_batch = 8, .d_model = geometry->d_model};
        int32_t tokens[5] = {3, 1, 4, 1, 5};
        if (model == NULL)
            break;
        size_t bytes = account_weight_bytes(&genomes[i], geometry);
        most = bytes > most ? bytes : most;
        n_bytes += model_weight_bytes(model) == bytes;
        n_apart += apart(model);
        n_chosen += as_chosen(model, &genomes[i]);
        struct forward *forward = forward_create(model, kernels_select(), team, &options, &err);
        n_finite += forward != NULL && forward_tokens(forward, tokens, 5, LOGITS_ALL, &err) == 0 &&
                    forward_tokens(forward, tokens, 1, LOGITS_LAST, &err) == 0;
        forward_destroy(forward);
        model_destroy(model);
    }
    ok(n_bytes == N_GENOMES, "each has the bytes that its genome accounts for");
    ok(n_apart == N_GENOMES, "no two matrices of a model share a byte");
    ok(n_chosen == N_GENOMES, "units, formats and activations are those of the genome");
    ok(n_finite == N_GENOMES, "and logits are finite %s", err.text);
    ok(stand_in_bytes(weights) >= most, "together they lie in %zu bytes, the largest has %zu",
       stand_in_bytes(weights), most);
    stand_in_destroy(weights);
}

/* --- a study --- */

static void count_round(void *arg, uint32_t n_rounds)
{
    *(uint32_t *)arg = n_rounds;
}

static void test_study(const struct geometry *geometry)
{
    struct latency_times times[N_GENOMES] = {0};
    struct latency_effort effort;
    struct stand stand;
    struct err err = {0};
    uint32_t n_told = 0;
    struct latency_study study = {
        .geometry = geometry,
        .genome = genomes,
        .n = N_GENOMES,
        .workload = {{WORKLOAD_DECODE, 2, 3, 1}, {WORKLOAD_PREFILL, 8, 0, 1}},
        .rounds_max = LATENCY_STUDY_MIN_ROUNDS + 1,
        .progress = count_round,
        .arg = &n_told};
    bool timed = true;
    struct machine *machine = machine_load(&err);
    uint32_t n_cores, all_cores = machine != NULL ? machine_n_cores(machine) : 0;

    machine_destroy(machine);
    if (stand_open(&stand, 1, &err) != 0) {
        printf("# no study: %s\n", err.text);
        return;
    }
    ok(latency_study_run(&stand, &study, 1, times, &effort, &err) == 0, "a study of them %s",
       err.text);
    for (int i = 0; i < N_GENOMES; i++)
        for (int w = 0; w < 2; w++)
            timed = timed && times[i].workload[w].n > 0 && times[i].workload[w].ns > 0;
    ok(timed, "times each of them on both workloads");
    ok(effort.n_rounds == study.rounds_max && n_told == study.rounds_max &&
           effort.n_samples >= 2ull * N_GENOMES * study.rounds_max,
       "in %u rounds, %llu of %llu samples disturbed", effort.n_rounds,
       (unsigned long long)effort.n_disturbed, (unsigned long long)effort.n_samples);
    study.max_seconds = 1e-9;
    ok(latency_study_run(&stand, &study, 1, times, &effort, &err) == 0 &&
           effort.n_rounds == LATENCY_STUDY_MIN_ROUNDS,
       "without time the least rounds are made");
    study.workload[1].n_tokens = geometry->n_ctx + 1;
    ok(latency_study_run(&stand, &study, 1, times, &effort, &err) == -1 && err.code == ERR_CONFIG,
       "%s", err.text);
    stand_close(&stand);
    err.text[0] = '\0';
    /* Bound threads hand down where they may run. */
    ok(stand_open(&stand, 0, &err) == 0, "the next stand may have every core %s", err.text);
    n_cores = stand.n_threads;
    stand_close(&stand);
    ok(stand_open(&stand, 0, &err) == 0 && stand.n_threads == n_cores && n_cores == all_cores,
       "and the one after it, %u", n_cores);
    stand_close(&stand);
}

int main(void)
{
    struct geometry wide = fixture_wide(), stories = fixture_stories();
    struct team *team = team_create(2, NULL, NULL, NULL);

    test_models(&wide, PROFILE_GGUF_HETERO, team);
    test_models(&wide, PROFILE_NATIVE, team);
    test_models(&stories, PROFILE_GGUF, team);
    test_study(&stories);
    team_destroy(team);
    return tap_done();
}
