#include "space/space.h"

#include "space/base/err.h"
#include "space/base/rng.h"
#include "tests/tap.h"
#include "tests/unit/space_fixture.h"

#include <stdlib.h>

static struct space space;

/* ---- a space small enough to list ----------------------------------------------------------- */

/* Two layers.  With one KV group rows of o are 16 long, with an FFN of 48 so are its last blocks:
 * there Q4_0 and Q8_0 both fall to F16, and two level vectors mean the same model.  With two groups
 * rows of o are one block: there the gguf profiles put Q5_0 and F16 in their place. */
static struct geometry tiny_geometry(void)
{
    struct geometry g = fixture_stories();

    g.n_layers = 2;
    g.n_heads = g.n_kv_heads = 2;
    g.head_dim = 16;
    g.d_ff = 64;
    return g;
}

static struct space_limits tiny_limits(enum profile profile, uint32_t min_layers)
{
    return (struct space_limits){.profile = profile,
                                 .types = {FORMAT_Q8_0, FORMAT_Q4_0},
                                 .n_types = 2,
                                 .embd_types = {FORMAT_Q4_0, FORMAT_F16},
                                 .n_embd_types = 2,
                                 .min_layers = min_layers,
                                 .drop_attn = true,
                                 .drop_ffn = true,
                                 .min_ffn = 0.75,
                                 .ffn_grid = 16};
}

struct entry {
    struct id128 id;
    uint8_t levels[16];
};

static int compare_entries(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    int order = id128_compare(x->id, y->id);

    return order != 0 ? order : memcmp(x->levels, y->levels, sizeof x->levels);
}

/* The next vector in counting order; false after the last. */
static bool count_up(uint8_t *levels)
{
    for (uint32_t i = 0; i < space.n_genes; i++) {
        if (++levels[i] < space.gene[i].n_levels)
            return true;
        levels[i] = 0;
    }
    return false;
}

/* List the whole space; `n_models` is its number of distinct models, counted by hand. */
static void test_listed(const struct geometry *g, const struct space_limits *limits,
                        size_t n_models)
{
    enum profile profile = limits->profile;
    struct hash256 parent = sha256_of("", 0);
    const char *name = profile_name(profile);
    size_t n = 0, room = 0, valid = 0, settled = 0, models = 0, twins = 0;
    struct entry *entries = NULL;
    uint8_t levels[16] = {0};
    struct genome genome, again;

    ok(space_init(&space, g, limits, NULL) == 0 && space.n_genes <= 16,
       "a tiny space under %s has %u genes", name, space.n_genes);
    do {
        struct entry entry = {.levels = {0}};
        uint8_t twice[16];

        memcpy(entry.levels, levels, space.n_genes);
        space_repair(&space, entry.levels);
        memcpy(twice, entry.levels, sizeof twice);
        space_repair(&space, twice);
        space_genome(&space, levels, &genome);
        space_genome(&space, entry.levels, &again);
        settled += memcmp(twice, entry.levels, sizeof twice) == 0 && genome_equal(&genome, &again);
        valid += profile_check(profile, &genome, g, NULL) == 0 &&
                 genome_layers_kept(&genome) >= limits->min_layers;
        entry.id = genome_id(&genome, &parent);
        if (n == room) {
            room = room ? 2 * room : 4096;
            entries = realloc(entries, room * sizeof *entries);
        }
        entries[n++] = entry;
    } while (count_up(levels));

    near(log10((double)n), space_log10_size(&space), 1e-9, "its %zu vectors are as many as told",
         n);
    ok(valid == n, "every vector stands for a genome that is valid under %s", name);
    ok(settled == n, "a repair keeps the model, and a second one changes nothing");

    qsort(entries, n, sizeof *entries, compare_entries);
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || !id128_equal(entries[i].id, entries[i - 1].id))
            models++;
        else
            twins += memcmp(entries[i].levels, entries[i - 1].levels, sizeof levels) != 0;
    }
    ok(twins == 0, "equal models have equal vectors under %s", name);
    ok(models == n_models, "they are %zu models, counted by hand %zu", models, n_models);

    free(entries);
}

static void test_enumerated(enum profile profile, uint32_t min_layers, size_t n_models)
{
    struct geometry g = tiny_geometry();
    struct space_limits limits = tiny_limits(profile, min_layers);

    test_listed(&g, &limits, n_models);
}

/* One layer with activations and a KV cache to choose.  Attention: 2 groups and 1 group of heads of
 * 32 have both matrices in Q8_0 or F16, and activations unless both are F16: 3 * 2 + 1 each.  FFN:
 * 64 wide 7 likewise; 48 wide falls to F16 in down, 2 + 1.  Without attention the cache is none. */
static void test_engine_choices(void)
{
    struct geometry g = tiny_geometry();
    struct space_limits limits = tiny_limits(PROFILE_NATIVE, 1);

    g.n_layers = 1;
    g.head_dim = 32;
    limits.types[1] = FORMAT_F16;
    limits.kv[0] = FORMAT_F16, limits.kv[1] = FORMAT_Q4_0, limits.kv[2] = FORMAT_Q8_0;
    limits.n_kv = 3;
    limits.act[0] = ACT_FLOAT, limits.act[1] = ACT_Q8, limits.n_act = 2;
    test_listed(&g, &limits, 2 * (3 * (7 + 7) * (7 + 3 + 1) + (7 + 3)));
}

/* ---- spaces too large to list --------------------------------------------------------------- */

static void test_random(const struct geometry *g, enum profile profile, uint64_t stream,
                        bool turned)
{
    struct rng rng = rng_make(3, stream);
    struct hash256 parent = sha256_of("", 0);
    struct space_limits limits;
    const int n = 3000;
    int valid = 0, settled = 0, mapped = 0, untouched = 0;
    uint8_t levels[SPACE_MAX_GENES], before[SPACE_MAX_GENES], twice[SPACE_MAX_GENES];
    uint8_t other[SPACE_MAX_GENES];
    struct genome a, b;

    space_default_limits(&limits, g, profile);
    if (turned) {
        limits.hidden[limits.n_hidden++] = 0.5;
        limits.hidden[limits.n_hidden++] = 0.875;
        limits.rotation = ROTATION_HADAMARD;
    }
    if (!ok(space_init(&space, g, &limits, NULL) == 0, "the default limits of %s make a space",
            profile_name(profile)))
        return;
    for (int i = 0; i < n; i++) {
        for (uint32_t k = 0; k < space.n_genes; k++)
            levels[k] = (uint8_t)rng_below(&rng, 256);
        memcpy(before, levels, space.n_genes);
        space_genome(&space, levels, &a);
        untouched += memcmp(before, levels, space.n_genes) == 0;
        valid +=
            profile_check(profile, &a, g, NULL) == 0 && genome_layers_kept(&a) >= limits.min_layers;

        space_repair(&space, levels);
        memcpy(twice, levels, space.n_genes);
        space_repair(&space, twice);
        settled += memcmp(levels, twice, space.n_genes) == 0;

        /* A neighbour: the same model exactly when repaired to the same vector. */
        memcpy(other, levels, space.n_genes);
        other[rng_below(&rng, space.n_genes)] = (uint8_t)rng_below(&rng, SPACE_MAX_LEVELS);
        space_repair(&space, other);
        space_genome(&space, other, &b);
        mapped += id128_equal(genome_id(&a, &parent), genome_id(&b, &parent)) ==
                  (memcmp(levels, other, space.n_genes) == 0);
    }
    ok(valid == n, "%d random vectors are valid under %s", valid, profile_name(profile));
    ok(settled == n && untouched == n, "repair settles, and asking for a genome changes nothing");
    ok(mapped == n, "neighbours are the same model exactly when their vectors are equal");
}

/* ---- genes ---------------------------------------------------------------------------------- */

static void test_genes(void)
{
    struct geometry g = fixture_wide(), s = fixture_stories();
    struct space_limits limits;
    uint8_t levels[SPACE_MAX_GENES];
    struct genome genome, dense;
    const struct gene *gene;
    char name[48];
    bool fine = true;

    space_default_limits(&limits, &g, PROFILE_GGUF_HETERO);
    ok(space_init(&space, &g, &limits, NULL) == 0 && space.n_genes == 8 * 6 + 2 &&
           space.n_units == 17,
       "gguf-hetero has 6 genes a layer, the embedding and the KV cache");
    gene = &space.gene[space_gene_of(&space, GENE_KV_GROUPS, 0)];
    ok(gene->n_levels == 2 && gene->value[0] == 2 && gene->value[1] == 4,
       "layer 0 cannot drop its attention");
    gene = &space.gene[space_gene_of(&space, GENE_KV_GROUPS, 1)];
    ok(gene->n_levels == 3 && gene->value[0] == 0 && gene->unit == 2, "layer 1 can");
    gene = &space.gene[space_gene_of(&space, GENE_FFN_WIDTH, 3)];
    ok(gene->n_levels == 5 && gene->value[0] == 0 && gene->value[1] == 256 &&
           gene->value[4] == 1024 && gene->unit == 7 && gene->layer == 3,
       "widths are 0, 256, 512, 768, 1024");
    gene = &space.gene[space_gene_of(&space, GENE_DOWN, 3)];
    ok(gene->n_levels == 7 && gene->value[0] == FORMAT_Q2_K && gene->value[6] == FORMAT_Q8_0,
       "formats go from the coarsest to the finest");
    is_text(space_gene_name(&space, (uint32_t)space_gene_of(&space, GENE_DOWN, 3), name),
            "blk.3.ffn_down", "genes have names");
    for (uint32_t i = 0; i < space.n_genes; i++)
        fine = fine && space.gene[i].n_levels >= 2 && space.gene[i].unit < space.n_units;
    ok(fine, "every gene has a choice and a unit");

    memset(levels, 255, sizeof levels);
    space_genome(&space, levels, &genome);
    genome_uniform(&dense, &g, FORMAT_Q8_0);
    ok(genome_equal(&genome, &dense),
       "the highest levels are the dense parent in its finest format");
    memset(levels, 0, sizeof levels);
    space_genome(&space, levels, &genome);
    ok(genome_layers_kept(&genome) == 4 && genome.attn[0].kv_groups == 2 &&
           genome.ffn[0].width == 0 && genome.zero_ffn == 32 && genome.ffn[3].width == 256,
       "the lowest levels keep half the layers, the first ones, at their smallest");

    limits.profile = PROFILE_GGUF;
    ok(space_init(&space, &g, &limits, NULL) == 0 && space.n_genes == 8 * 5 + 4,
       "gguf has 5 genes a layer and four global ones");
    ok(space_gene_of(&space, GENE_FFN_WIDTH, 3) == space_gene_of(&space, GENE_FFN_WIDTH, -1) &&
           space.gene[space_gene_of(&space, GENE_FFN_WIDTH, 3)].unit == 16,
       "widths are decided for all layers at once");
    limits.min_layers = 8;
    ok(space_init(&space, &g, &limits, NULL) == 0 && space_gene_of(&space, GENE_LAYER, 3) == -1,
       "where every layer must stay there is no gene that drops one");

    /* stories260K: no row takes a K-quant, 172 is not a multiple of 32. */
    space_default_limits(&limits, &s, PROFILE_NATIVE);
    limits.ffn_grid = 32;
    ok(space_init(&space, &s, &limits, NULL) == 0, "stories260K has a space");
    gene = &space.gene[space_gene_of(&space, GENE_FFN_WIDTH, 0)];
    ok(gene->n_levels == 6 && gene->value[1] == 64 && gene->value[4] == 160 &&
           gene->value[5] == 172,
       "the parent's own width is a level though it is off the grid");
    limits.types[0] = FORMAT_Q2_K, limits.types[1] = FORMAT_Q3_K, limits.types[2] = FORMAT_Q6_K;
    limits.n_types = 3;
    ok(space_init(&space, &s, &limits, NULL) == 0, "K-quants may be asked for");
    gene = &space.gene[space_gene_of(&space, GENE_QKV, 0)];
    ok(gene->n_levels == 2 && gene->value[0] == FORMAT_IQ4_NL && gene->value[1] == FORMAT_Q8_0,
       "formats that fall to the same one are one level");

    limits.ffn_grid = 0;
    ok(space_init(&space, &s, &limits, NULL) == 0 && space.limits.ffn_grid == 4,
       "without a grid the geometry's is used");
    gene = &space.gene[space_gene_of(&space, GENE_FFN_WIDTH, 0)];
    fine = gene->n_levels <= SPACE_MAX_LEVELS && gene->n_levels > SPACE_MAX_LEVELS / 2;
    for (uint32_t i = 1; i < gene->n_levels; i++)
        fine = fine && gene->value[i] > gene->value[i - 1] && gene->value[i] % 4 == 0;
    ok(fine && gene->value[gene->n_levels - 1] == 172 && gene->value[1] >= 43,
       "33 widths on a grid of 4 are thinned to %u levels", gene->n_levels);
}

/* ---- the residual stream -------------------------------------------------------------------- */

static void test_basis(void)
{
    struct geometry g = fixture_wide();
    struct space_limits limits;
    uint8_t levels[SPACE_MAX_GENES];
    struct genome genome;
    const struct gene *gene;
    enum rotation rotation;
    uint32_t width;

    space_default_limits(&limits, &g, PROFILE_GGUF);
    ok(limits.n_hidden == 1 && space_init(&space, &g, &limits, NULL) == 0 &&
           space_gene_of(&space, GENE_BASIS, -1) == -1,
       "a small parent keeps its stream unless more is asked for");
    limits.hidden[0] = 1, limits.hidden[1] = 0.75, limits.hidden[2] = 0.88, limits.n_hidden = 3;
    ok(space_init(&space, &g, &limits, NULL) == 0 && space.limits.hidden[0] == 0.75 &&
           space.limits.hidden[1] == 0.88 && space.limits.hidden[2] == 1,
       "shares are kept ascending");
    gene = &space.gene[space_gene_of(&space, GENE_BASIS, -1)];
    ok(gene->n_levels == 3 && gene->unit == 16 &&
           gene->value[0] == space_basis_value(192, ROTATION_HADAMARD) &&
           gene->value[1] == space_basis_value(224, ROTATION_HADAMARD) &&
           gene->value[2] == space_basis_value(256, ROTATION_NONE),
       "75 %% and 88 %% of 256 are 192 and 224, turned");
    limits.rotation = ROTATION_HADAMARD;
    ok(space_init(&space, &g, &limits, NULL) == 0, "the full one may be turned too");
    gene = &space.gene[space_gene_of(&space, GENE_BASIS, -1)];
    space_basis_of(gene->value[2], &width, &rotation);
    ok(gene->n_levels == 4 && width == 256 && rotation == ROTATION_HADAMARD &&
           gene->value[3] == space_basis_value(256, ROTATION_NONE) &&
           gene->value[0] == space_basis_value(192, ROTATION_HADAMARD),
       "and is there turned and as it is");
    memset(levels, 255, sizeof levels);
    levels[space_gene_of(&space, GENE_BASIS, -1)] = 1;
    space_genome(&space, levels, &genome);
    ok(genome.hidden == 224 && genome.rotation == ROTATION_HADAMARD && genome.head == FORMAT_Q8_0,
       "a level becomes width and rotation of the genome");

    g.d_model = 2048;
    space_default_limits(&limits, &g, PROFILE_GGUF);
    ok(limits.n_hidden == 2 && space_hidden_width(&g, limits.hidden[0]) == 1792,
       "a wide parent may lose an eighth, on the grid of 256");
    g.d_model = 60;
    ok(space_hidden_grid(&g) == 4 && space_hidden_width(&g, 0.5) == 32,
       "narrow ones have finer grids");
}

/* ---- what is no weight ---------------------------------------------------------------------- */

static void test_cache_and_activations(void)
{
    struct geometry g = fixture_wide(), s = fixture_stories();
    struct space_limits limits;
    uint8_t levels[SPACE_MAX_GENES];
    struct genome genome;
    const struct gene *gene;

    space_default_limits(&limits, &g, PROFILE_GGUF);
    ok(space_init(&space, &g, &limits, NULL) == 0 &&
           space_gene_of(&space, GENE_ATTN_ACT, 0) == -1 &&
           space_gene_of(&space, GENE_FFN_ACT, 0) == -1,
       "under gguf activations follow the weights");
    gene = &space.gene[space_gene_of(&space, GENE_KV, -1)];
    ok(gene->n_levels == 3 && gene->unit == 16 && gene->value[0] == FORMAT_Q4_0 &&
           gene->value[1] == FORMAT_Q8_0 && gene->value[2] == FORMAT_F16,
       "the KV cache has 4, 8 or 16 bits where heads are 32 wide");
    memset(levels, 255, sizeof levels);
    space_genome(&space, levels, &genome);
    ok(genome.kv == FORMAT_F16 && genome.attn[3].act == ACT_Q8, "the highest level is F16");
    levels[space_gene_of(&space, GENE_KV, -1)] = 0;
    space_genome(&space, levels, &genome);
    ok(genome.kv == FORMAT_Q4_0, "the lowest is Q4_0");

    space_default_limits(&limits, &g, PROFILE_NATIVE);
    ok(space_init(&space, &g, &limits, NULL) == 0 && space.n_genes == 8 * 8 + 2,
       "native has activations to choose for each unit");
    gene = &space.gene[space_gene_of(&space, GENE_FFN_ACT, 3)];
    ok(gene->n_levels == 2 && gene->unit == 7 && gene->value[0] == ACT_Q8 &&
           gene->value[1] == ACT_FLOAT,
       "8 bits are the cheaper");
    char name[16];
    is_text(space_level_name(&space, (uint32_t)(gene - space.gene), 1, name), "a16",
            "levels of activations have names");
    is_text(space_level_name(&space, (uint32_t)space_gene_of(&space, GENE_KV, -1), 0, name), "Q4_0",
            "and so have those of the KV cache");
    memset(levels, 255, sizeof levels);
    levels[space_gene_of(&space, GENE_FFN_ACT, 3)] = 0;
    space_genome(&space, levels, &genome);
    ok(genome.ffn[3].act == ACT_Q8 && genome.ffn[2].act == ACT_FLOAT &&
           genome.attn[3].act == ACT_FLOAT && genome.ffn[3].gate_up == FORMAT_Q8_0,
       "a level becomes the activations of one unit");

    space_default_limits(&limits, &s, PROFILE_NATIVE);
    ok(limits.n_kv == 1 && limits.kv[0] == FORMAT_F16 &&
           space_init(&space, &s, &limits, NULL) == 0 && space_gene_of(&space, GENE_KV, -1) == -1,
       "heads of 8 keep their cache in F16");
}

/* ---- what is refused ------------------------------------------------------------------------ */

static bool refused(struct space_limits limits, const char *pointer)
{
    struct geometry g = fixture_wide();
    struct err err = {0};

    return space_init(&space, &g, &limits, &err) == -1 && err.code == ERR_CONFIG &&
           strncmp(err.text, pointer, strlen(pointer)) == 0 && err.text[strlen(pointer)] == ':' &&
           space.n_genes == 0;
}

static void test_refused(void)
{
    struct geometry g = fixture_wide(), s = fixture_stories();
    struct space_limits good, bad;
    struct err err = {0};

    space_default_limits(&good, &g, PROFILE_GGUF);
    bad = good, bad.min_layers = 9;
    ok(refused(bad, "/space/depth/min"), "more layers than the parent has are refused");
    bad = good, bad.min_layers = 0;
    ok(refused(bad, "/space/depth/min"), "no layers at all are refused");
    bad = good, bad.min_ffn = 0.0;
    ok(refused(bad, "/space/ffn/min"), "an FFN share of 0 is refused");
    bad = good, bad.min_ffn = 1.5;
    ok(refused(bad, "/space/ffn/min"), "an FFN share above 1 is refused");
    bad = good, bad.min_ffn = NAN;
    ok(refused(bad, "/space/ffn/min"), "a share that is no number is refused");
    bad = good, bad.ffn_grid = 2048;
    ok(refused(bad, "/space/ffn/grid"), "a grid wider than the FFN is refused");
    bad = good, bad.n_kv_groups = 2, bad.kv_groups[0] = 4, bad.kv_groups[1] = 8;
    ok(refused(bad, "/space/kv_groups/1"), "more KV groups than the parent has are refused");
    bad = good, bad.n_kv_groups = 1, bad.kv_groups[0] = 2;
    ok(refused(bad, "/space/kv_groups"), "a list without the parent's own count is refused");
    bad = good, bad.n_types = 0;
    ok(refused(bad, "/space/types"), "no formats are refused");
    bad = good, bad.n_embd_types = 0;
    ok(refused(bad, "/space/embedding"), "no formats for the embedding are refused");
    bad = good, bad.hidden[0] = 0.875;
    ok(refused(bad, "/space/hidden"), "limits without the parent's own hidden width are refused");
    bad = good, bad.hidden[1] = 0.97, bad.n_hidden = 2;
    ok(refused(bad, "/space/hidden/1"), "so is a share that the grid rounds to all of it");
    bad = good, bad.hidden[1] = 1.5, bad.n_hidden = 2;
    ok(refused(bad, "/space/hidden/1"), "and one above it");
    bad = good, bad.kv[1] = FORMAT_Q5_0;
    ok(refused(bad, "/space/kv/1"), "a KV cache in Q5_0 is refused");
    bad = good, bad.act[1] = ACT_FLOAT, bad.n_act = 2;
    ok(refused(bad, "/space/act/1"), "activations of their own are refused under gguf");
    bad = good, bad.drop_attn = false;
    ok(refused(bad, "/space/drop"), "gguf refuses to drop the FFN alone");
    bad = good, bad.n_types = bad.n_embd_types = 1, bad.drop_attn = bad.drop_ffn = false;
    bad.min_ffn = 1.0, bad.n_kv_groups = 1, bad.kv_groups[0] = 4, bad.n_kv = 0;
    ok(refused(bad, "/space"), "limits that leave a single model are refused");

    s.d_model = 60;
    space_default_limits(&bad, &s, PROFILE_GGUF);
    ok(bad.n_types == 1 && bad.types[0] == FORMAT_F16, "rows of 60 are searched in F16 only");
    bad.types[0] = FORMAT_Q4_K;
    ok(space_init(&space, &s, &bad, &err) == -1 && strstr(err.text, "/space/types") != NULL &&
           strstr(err.text, "F16") != NULL,
       "quantized formats alone are refused there, with the remedy");
    bad.types[0] = FORMAT_F16, bad.kv[0] = FORMAT_Q8_0;
    ok(space_init(&space, &s, &bad, &err) == -1 && strstr(err.text, "/space/kv: heads of 8") &&
           strstr(err.text, "F16") != NULL,
       "so is a quantized KV cache alone where heads are 8 wide");
    g.n_heads = 0;
    ok(space_init(&space, &g, &good, &err) == -1 && err.code == ERR_DATA,
       "an impossible geometry is refused");
}

int main(void)
{
    struct geometry wide = fixture_wide(), stories = fixture_stories();

    /* Choices of a unit.  Attention: 2 groups 2*2, 1 group 2*1, dropped 1.  FFN: 64 wide 2*2, 48
     * wide 2*1, dropped 1.  Twice for the embedding.  Under gguf-hetero layer 0 keeps its
     * attention; under gguf four pairs of global widths leave a layer 16, 8, 8 or 4 choices. */
    test_enumerated(PROFILE_GGUF_HETERO, 1, 6 * 7 * 7 * 7 * 2);
    test_enumerated(PROFILE_GGUF_HETERO, 2, 6 * 7 * (7 * 7 - 1) * 2);
    test_enumerated(PROFILE_NATIVE, 1, (49 * 49 - 1) * 2);
    test_enumerated(PROFILE_NATIVE, 2, 48 * 48 * 2);
    test_enumerated(PROFILE_GGUF, 1, (17 * 17 - 1 + 2 * (9 * 9 - 1) + 5 * 5 - 1) * 2);
    test_enumerated(PROFILE_GGUF, 2, (16 * 16 + 2 * (8 * 8) + 4 * 4) * 2);

    test_engine_choices();

    for (int p = 0; p < N_PROFILES; p++) {
        test_random(&wide, (enum profile)p, (uint64_t)p, false);
        test_random(&stories, (enum profile)p, (uint64_t)(10 + p), false);
        test_random(&wide, (enum profile)p, (uint64_t)(20 + p), true);
        test_random(&stories, (enum profile)p, (uint64_t)(30 + p), true);
    }
    test_genes();
    test_basis();
    test_cache_and_activations();
    test_refused();
    return tap_done();
}
