/* The heat map to the letter, in one band and in several, with colours and without; and the lines.
 */
#include "results/show_heat.h"
#include "results/show_sensitivity.h"
#include "tests/tap.h"
#include "tests/unit/sensitivity_fixture.h"

static struct study study;
static struct space space;

/* Three layers; every figure follows from the fixture. */
static struct sensitivity *make_table(bool filled)
{
    struct geometry g = fixture_wide();
    struct err err = {0};
    g.n_layers = 3;
    fixture_study(&study, &g);
    if (space_init(&space, &g, &study.limits, &err) != 0)
        printf("# %s\n", err.text);
    struct sensitivity *table = sensitivity_create(&study, &space, FIXTURE_METHOD, &err);
    if (table == NULL)
        exit(1);
    if (filled)
        fixture_fill(table, -1);
    return table;
}

static char *shown(const struct sensitivity *table, enum show_format format, int width, bool colour)
{
    struct show_heat heat = {.width = width, .colour = colour};
    char *text = NULL;
    size_t n;
    FILE *out = open_memstream(&text, &n);
    show_sensitivity(out, format, &study, table, &heat);
    fclose(out);
    return text;
}

/* Lines of `text` from the one that begins with `begin`, up to the first empty one. */
static char *part(const char *text, const char *begin)
{
    const char *at = strstr(text, begin);
    const char *end = at != NULL ? strstr(at, "\n\n") : NULL;
    return at != NULL ? strndup(at, end != NULL ? (size_t)(end - at + 1) : strlen(at)) : NULL;
}

static void test_glyphs(void)
{
    static const double kld[] = {-1,   0,   9.9e-6, 1e-5, 3.1e-5, 3.2e-5, 1e-4, 1e-3,
                                 0.01, 0.1, 0.31,   0.32, 0.99,   1,      7};
    char text[sizeof kld / sizeof kld[0] + 1] = "";
    for (size_t i = 0; i < sizeof kld / sizeof kld[0]; i++)
        text[i] = show_heat_glyph(kld[i]);
    is_text(text, "...0012468899##", "half decades from 1e-5 nats to 1");
    ok(show_heat_glyph(NAN) == '?', "what is not measured is no glyph of the scale");
}

static void test_map(void)
{
    struct sensitivity *table = make_table(true);
    char *text = shown(table, SHOW_TABLE, 80, false);
    char *map = part(text, "     attn_kv"), *all = part(text, "     token_embd");
    is_text(map,
            "     attn_kv_groups  attn_qkv  attn_output  ffn_width  ffn_gate_up  ffn_down\n"
            "     d               Q         Q            d          Q            Q\n"
            "     r               4         4            r 5        4            4\n"
            "     o               _         _            o 1        _            _\n"
            "     p 2             0         0            p 2        0            0\n"
            "   0   8             8         8            7 5        7            7\n"
            "   1 8 6             7         7            6 4        6            6\n"
            "   2 7 5             6         6            6 4        5            5\n",
            "a line a layer, a column a choice; layer 0 has no attention to drop");
    is_text(all,
            "     token_embd\n"
            "     Q\n"
            "     4\n"
            "     _\n"
            "     0\n"
            " all 7\n",
            "what all layers share follows in a line of its own");
    ok(strstr(text, "rows      24 of 24, each on 1024 held-out tokens, kernels reference\n") !=
           NULL,
       "the head says how much is known");
    ok(strstr(text, "base      the finest of profile gguf-hetero: 0.00125 +-0.00020 nats") != NULL,
       "and what the base has");
    ok(strstr(text,
              "nats per token: . below 1e-5  0 1e-5  1 3.2e-5  2 1e-4  3 3.2e-4  4 1e-3\n"
              "                5 3.2e-3  6 0.01  7 0.032  8 0.1  9 0.32  # 1 and more\n") != NULL,
       "the legend tells where each glyph begins");
    /* Of attention that all have: 2 groups, qkv and o; in layer 1 the cube root of 0.3 x 0.15 x 0.1
     * x 0.1 (2 groups are its second level), times 0.4. */
    ok(strstr(text,
              "\nmost sensitive   blk.0.attn 0.17, blk.0.ffn 0.036, blk.1.attn 0.031\n"
              "least sensitive  blk.2.ffn 0.0058, blk.2.attn 0.012, blk.1.ffn 0.014\n") != NULL,
       "the most and the least sensitive units are named");
    free(all);
    free(map);
    free(text);

    text = shown(table, SHOW_TABLE, 44, false);
    map = part(text, "     ffn_width");
    is_text(map,
            "     ffn_width  ffn_gate_up  ffn_down\n"
            "     d          Q            Q\n"
            "     r 5        4            4\n"
            "     o 1        _            _\n"
            "     p 2        0            0\n"
            "   0 7 5        7            7\n"
            "   1 6 4        6            6\n"
            "   2 6 4        5            5\n",
            "a narrow terminal gets a second band");
    size_t widest = 0, column = 0;
    for (const char *c = strstr(text, "     attn_kv"); *c != '\0' && c < strstr(text, "most sens");
         c++) {
        column = *c == '\n' ? 0 : column + 1;
        widest = column > widest ? column : widest;
    }
    ok(widest <= 44, "no line of it is longer (%zu)", widest);
    free(map);
    free(text);
    sensitivity_destroy(table);
}

/* `text` without its escapes, and without blanks at the ends of lines. */
static void strip(char *text)
{
    char *to = text;
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '\033') {
            c = strchr(c, 'm');
            continue;
        }
        while (*c == '\n' && to > text && to[-1] == ' ')
            to--;
        *to++ = *c;
    }
    *to = '\0';
}

static void test_colour(void)
{
    struct sensitivity *table = make_table(true);
    char *plain = shown(table, SHOW_TABLE, 80, false), *text = shown(table, SHOW_TABLE, 80, true);
    ok(strchr(plain, '\033') == NULL, "no escapes unasked");
    ok(strstr(text, "   0   \033[48;5;148;38;5;16m8 \033[0m") != NULL,
       "bright cells are written on darkly");
    ok(strstr(text, "\033[48;5;36;38;5;231m5 \033[0m") != NULL, "dark ones brightly");
    strip(text);
    is_text(text, plain, "without its colours it is the plain one");
    free(plain);
    free(text);
    sensitivity_destroy(table);
}

static void test_unfinished(void)
{
    struct sensitivity *table = make_table(false);
    fixture_fill(table, 3);
    sensitivity_put(table, (uint32_t)space_gene_of(&space, GENE_QKV, 0), 0,
                    &(struct sensitivity_row){-1e-6, 1e-6, 0.5});
    char *text = shown(table, SHOW_TABLE, 80, false);
    ok(strstr(text,
              "\n   0   ?             .         ?            ? ?        ?            ?\n"
              "   1 ? ?             ?         ?            6 4        6            6\n") != NULL,
       "what is not measured yet is marked, and what is noise");
    ok(strstr(text, "rows      5 of 24") != NULL, "and counted");
    ok(strstr(text, "1 of 5 rows are within two standard errors of no loss\n") != NULL,
       "noise is counted");
    ok(strstr(text, "most sensitive") == NULL, "no unit is ranked by what others lack");
    free(text);
    text = shown(table, SHOW_TSV, 80, false);
    is_text(text,
            "layer\tunit\tgene\tvalue\tlayer_error\tkld\tkld_se\tweight_bytes_saved\t"
            "kv_bytes_per_token_saved\n"
            "0\t0\tattn_qkv\tQ4_0\t0.5\t-1e-06\t1e-06\t98304\t0\n"
            "1\t3\tffn_width\tdrop\t0.01\t0.03\t0.001875\t786432\t0\n"
            "1\t3\tffn_width\t512\t0.001\t0.003\t0.0001875\t417792\t0\n"
            "1\t3\tffn_gate_up\tQ4_0\t0.008\t0.024\t0.0015\t262144\t0\n"
            "1\t3\tffn_down\tQ4_0\t0.00666666667\t0.02\t0.00125\t131072\t0\n",
            "a line for each row that is known");
    free(text);
    sensitivity_destroy(table);
}

static void test_json(void)
{
    struct sensitivity *table = make_table(true), *again = make_table(false);
    struct sensitivity_taken taken;
    char *json = shown(table, SHOW_JSON, 80, true), *file = fixture_text(table);
    is_text(json, file, "JSON is the file itself");
    ok(sensitivity_parse(again, "stdout", json, strlen(json), &taken, NULL) == 0 &&
           taken.n_taken == 24,
       "fit to be given to another study");
    free(json);
    free(file);
    sensitivity_destroy(again);
    sensitivity_destroy(table);
}

int main(void)
{
    test_glyphs();
    test_map();
    test_colour();
    test_unfinished();
    test_json();
    return tap_done();
}
