/* What people and programs get to read: golden tables, JSON parsed back, and pictures whose marks
 * are where the numbers are. */
#include "results/show.h"
#include "results/show_parts.h"
#include "tests/tap.h"
#include "tests/unit/results_fixture.h"
#include <cjson/cJSON.h>
#include <ctype.h>

struct scene {
    char dir[128];
    struct study study;
    struct archive *archive;
    struct front front;
};

static void enter_parent(struct archive *archive, const struct geometry *geometry)
{
    struct genome genome;
    char text[GENOME_TEXT_MAX];
    struct err err = {0};
    struct hash256 hash = fixture_hash("parent");
    genome_uniform(&genome, geometry, FORMAT_BF16);
    genome_format(&genome, text);
    struct candidate parent = {.id = genome_id(&genome, &hash), .origin = FIXTURE_ORIGIN_PARENT};
    struct evaluation e = fixture_evaluation(&parent.id, 0, 512e3, 9e6, 18600000);
    e.rung = RUNG_FINAL;
    e.accuracy = 0.87;
    e.accuracy_se = 0.005;
    e.n_tasks = 7;
    archive_put_candidate(archive, &parent, text, &err);
    archive_put_evaluation(archive, &e, "{}", &err);
}

/* Half the layers and narrow ones, in 3 bits. */
static void enter_joint(struct archive *archive, const struct geometry *geometry)
{
    struct genome genome;
    char text[GENOME_TEXT_MAX];
    struct err err = {0};
    struct hash256 hash = fixture_hash("parent");
    genome_uniform(&genome, geometry, FORMAT_Q3_K);
    for (uint32_t l = 1; l < geometry->n_layers; l += 2)
        genome.attn[l].kv_groups = genome.ffn[l].width = 0;
    genome.ffn[0].width = 512;
    genome_canonicalize(&genome, geometry, NULL);
    genome_format(&genome, text);
    struct candidate joint = {.id = genome_id(&genome, &hash), .origin = 3, .n_levels = 1};
    struct evaluation e = fixture_evaluation(&joint.id, 0.81, 103e3, 2.4e6, 1900000);
    e.rung = RUNG_FINAL;
    e.accuracy = 0.61;
    e.accuracy_se = 0.008;
    e.n_tasks = 7;
    e.kernel_bound = 1U << FORMAT_Q3_K;
    e.peak_rss_bytes = 23400000;
    e.decode_joules = 0.00125;
    e.prefill_joules = 0.04;
    archive_put_candidate(archive, &joint, text, &err);
    archive_put_evaluation(
        archive, &e,
        "{\"tasks\":[{\"name\":\"order\",\"n\":500,\"guess\":0.25,\"acc_norm\":0.71,"
        "\"acc_norm_se\":0.02},{\"name\":\"recall\",\"n\":500,\"guess\":0.5,\"acc_norm\":0.51,"
        "\"acc_norm_se\":0.02}],\"decode_path\":{\"n_tokens\":64,\"kld\":0.8,\"prefill_kld\":0.79}"
        "}",
        &err);
}

static void begin_scene(struct scene *scene, bool filled)
{
    struct err err = {0};
    memset(scene, 0, sizeof *scene);
    fixture_folder(scene->dir);
    strcpy(scene->study.dir, "/some/where/demo");
    scene->study.geometry = fixture_wide();
    scene->study.threads = 2;
    scene->study.limits.profile = PROFILE_GGUF_HETERO;
    workload_parse("tg128@b1", &scene->study.decode, &err);
    workload_parse("pp512@b1", &scene->study.prefill, &err);
    scene->archive = fixture_archive(scene->dir);
    if (filled) {
        archive_begin(scene->archive, &err);
        enter_parent(scene->archive, &scene->study.geometry);
        enter_joint(scene->archive, &scene->study.geometry);
        fixture_enter(scene->archive, 0, 0.0011, 287e3, 4.1e6, 9900000, RUNG_FINAL);
        fixture_enter(scene->archive, 27, 0.031, 172e3, 3.2e6, 4200000, RUNG_SEARCH);
        fixture_enter(scene->archive, 31, 0.9, 300e3, 5e6, 9950000, RUNG_SEARCH);
        archive_commit(scene->archive, &err);
    }
    if (front_load(&scene->front, scene->archive, &scene->study.geometry, &err) != 0)
        printf("# %s\n", err.text);
}

static void end_scene(struct scene *scene)
{
    front_fini(&scene->front);
    archive_close(scene->archive);
    fixture_remove(scene->dir);
}

/* What a function printed, yours to free. */
struct capture {
    FILE *stream;
    char *text;
    size_t n;
};

static FILE *capture_begin(struct capture *capture)
{
    memset(capture, 0, sizeof *capture);
    return capture->stream = open_memstream(&capture->text, &capture->n);
}

static char *capture_end(struct capture *capture)
{
    fclose(capture->stream);
    return capture->text;
}

static char *front_text(const struct scene *scene, enum show_format format, bool all)
{
    struct capture capture;
    FILE *out = capture_begin(&capture);
    (all ? show_all : show_front)(out, format, &scene->study, &scene->front);
    return capture_end(&capture);
}

static char *answer_text(const struct scene *scene, enum show_format format,
                         const struct query *query, const char *question)
{
    struct capture capture;
    struct query_answer answer;
    FILE *out = capture_begin(&capture);
    query_run(&scene->front, query, &answer);
    show_answer(out, format, &scene->study, &scene->front, query, question, &answer);
    return capture_end(&capture);
}

/* --- tables --- */

/* clang-format off */
static const char golden_candidate[] =
    "candidate b873ce4c951e917faf4c31f46a413e61\n"
    "origin    child, proposal 1; attempt 0 measured 2023-11-14 22:13 UTC\n"
    "rung      final: verified on the study's full token set\n"
    "device    class 263a4dbe, 2 threads\n"
    "parent    dim 256, 8 layers, 16/4 heads of 32, FFN 1024, vocabulary 1536\n"
    "decode    tpot_ms 0.1030 +-0.0010 ms p50 (tg128@b1)\n"
    "          p10 0.1009, p90 0.1081, min 0.09991 ms; 20 samples, 1 rejected\n"
    "          0.500 +-0.010 of the parent in the same rounds; predicted 0.1061 ms (+3.0 %)\n"
    "prefill   ttft_ms 2.40 +-0.02 ms p50 (pp512@b1)\n"
    "          p10 2.352, p90 2.52, min 2.328 ms; 20 samples, 1 rejected\n"
    "          0.500 +-0.010 of the parent in the same rounds\n"
    "bound     kernel: our decode kernel of Q3_K does not reach the memory bandwidth; the times are the kernel's, not the format's\n"
    "kld       0.81 +-0.03 nats per token, 99 % of tokens below 7.29 (2048 tokens)\n"
    "ppl       8.992, parent 4, ratio 2.2479 +-0.0020\n"
    "top-1     0.552 +-0.004 of tokens as the parent\n"
    "check     0.8 nats through the decode path, 0.79 by prefill, over the first 64 tokens\n"
    "size      1.90 MB of weights, 3.44 bits each; KV cache 2.05 kB per token\n"
    "memory    23.4 MB at most, program and caches included, on both workloads\n"
    "energy    0.00125 J per token, 0.04 J per prompt\n"
    "\n"
    "task    accuracy     guess  above guess  items\n"
    "order   0.71 +-0.04  0.25   0.46 +-0.04  500\n"
    "recall  0.51 +-0.04  0.5    0.01 +-0.04  500\n"
    "mean 0.610 +-0.016 over 7 tasks\n"
    "\n"
    "embedding Q3_K, head Q3_K (the same matrix), KV cache F16\n"
    "layer  attention                        ffn\n"
    "    0  4x4 heads, qkv Q3_K, o Q3_K, a8  512 wide, gate/up Q3_K, down Q3_K, a8\n"
    "    1  dropped                          dropped\n"
    "    2  4x4 heads, qkv Q3_K, o Q3_K, a8  1024 wide, gate/up Q3_K, down Q3_K, a8\n"
    "    3  dropped                          dropped\n"
    "    4  4x4 heads, qkv Q3_K, o Q3_K, a8  1024 wide, gate/up Q3_K, down Q3_K, a8\n"
    "    5  dropped                          dropped\n"
    "    6  4x4 heads, qkv Q3_K, o Q3_K, a8  1024 wide, gate/up Q3_K, down Q3_K, a8\n"
    "    7  dropped                          dropped\n";

static const char golden_no[] =
    "device    cpu:test/2c, kernels reference, 2 threads\n"
    "workload  decode tg128@b1 (tpot_ms), prefill pp512@b1 (ttft_ms); median +- 95 % interval\n"
    "parent    dim 256, 8 layers, 16/4 heads of 32, FFN 1024, vocabulary 1536; its 18.6 MB of weights exceed the 2.10 MB of cache that a core owns\n"
    "metric    tpot_ms.p50 of tg128@b1, compared by its upper 95 % bound\n"
    "no measured candidate meets tpot_ms.p50 <= 50us on this device (best 0.1030 +-0.0010 ms: b873ce4c)\n"
    "  ID        tpot p50 ms      kld mean           size     avg bits  layers  ffn       prefill ms   acc            note\n"
    "  b873ce4c  0.1030 +-0.0010  0.81 +-0.03        1.90 MB  3.44      4/8     512-1024  2.40 +-0.02  0.610 +-0.016  nearest, joint, *\n"
    "  5320968b  0.1720 +-0.0017  0.0310 +-0.0012    4.20 MB  4.50      8/8     768-1024  3.20 +-0.03  -              joint, unverified\n"
    "  9a9c6b46  0.287 +-0.003    0.00110 +-0.00004  9.90 MB  8.50      8/8     1024      4.10 +-0.04  -\n"
    "  parent    0.512 +-0.005    0                  18.6 MB  16.00     8/8     1024      9.00 +-0.09  0.870 +-0.010\n"
    "* kernel-bound: our decode kernel of Q3_K does not reach the memory bandwidth, so the time is the kernel's, not the format's\n"
    "unverified: measured at the search rung only (fewer tokens and rounds)\n"
    "4 measured, 4 of them over the budget\n";

static const char golden_yes[] =
    "device    cpu:test/2c, kernels reference, 2 threads\n"
    "workload  decode tg128@b1 (tpot_ms), prefill pp512@b1 (ttft_ms); median +- 95 % interval\n"
    "parent    dim 256, 8 layers, 16/4 heads of 32, FFN 1024, vocabulary 1536; its 18.6 MB of weights exceed the 2.10 MB of cache that a core owns\n"
    "metric    tpot_ms.p50 of tg128@b1, compared by its upper 95 % bound\n"
    "  ID        tpot p50 ms      kld mean         size     avg bits  layers  ffn       prefill ms   acc            note\n"
    "> 5320968b  0.1720 +-0.0017  0.0310 +-0.0012  4.20 MB  4.50      8/8     768-1024  3.20 +-0.03  -              feasible, best quality, joint, unverified\n"
    "  b873ce4c  0.1030 +-0.0010  0.81 +-0.03      1.90 MB  3.44      4/8     512-1024  2.40 +-0.02  0.610 +-0.016  feasible, joint, *\n"
    "  parent    0.512 +-0.005    0                18.6 MB  16.00     8/8     1024      9.00 +-0.09  0.870 +-0.010\n"
    "* kernel-bound: our decode kernel of Q3_K does not reach the memory bandwidth, so the time is the kernel's, not the format's\n"
    "unverified: measured at the search rung only (fewer tokens and rounds)\n"
    "next: kerf export -C /some/where/demo 5320968b model.gguf\n";

static const char golden_front[] =
    "device    cpu:test/2c, kernels reference, 2 threads\n"
    "workload  decode tg128@b1 (tpot_ms), prefill pp512@b1 (ttft_ms); median +- 95 % interval\n"
    "parent    dim 256, 8 layers, 16/4 heads of 32, FFN 1024, vocabulary 1536; its 18.6 MB of weights exceed the 2.10 MB of cache that a core owns\n"
    "  ID        tpot p50 ms      kld mean           size     avg bits  layers  ffn       prefill ms   acc            note\n"
    "  b873ce4c  0.1030 +-0.0010  0.81 +-0.03        1.90 MB  3.44      4/8     512-1024  2.40 +-0.02  0.610 +-0.016  joint, *\n"
    "  5320968b  0.1720 +-0.0017  0.0310 +-0.0012    4.20 MB  4.50      8/8     768-1024  3.20 +-0.03  -              joint, unverified\n"
    "  9a9c6b46  0.287 +-0.003    0.00110 +-0.00004  9.90 MB  8.50      8/8     1024      4.10 +-0.04  -\n"
    "  parent    0.512 +-0.005    0                  18.6 MB  16.00     8/8     1024      9.00 +-0.09  0.870 +-0.010\n"
    "* kernel-bound: our decode kernel of Q3_K does not reach the memory bandwidth, so the time is the kernel's, not the format's\n"
    "unverified: measured at the search rung only (fewer tokens and rounds)\n"
    "3 of 4 measured candidates are beaten by nobody\n";

/* clang-format on */

static void check_golden(const struct scene *scene)
{
    char *text = front_text(scene, SHOW_TABLE, false);
    is_text(text, golden_front, "the table of the front is the golden one");
    free(text);
    struct query query = {.budget_ns = 200e3, .max_loss = -1, .n = 2};
    text = answer_text(scene, SHOW_TABLE, &query, "200us");
    is_text(text, golden_yes, "so is a yes");
    free(text);
    query.budget_ns = 50e3;
    text = answer_text(scene, SHOW_TABLE, &query, "50us");
    is_text(text, golden_no, "and an honest no");
    free(text);
}

static void check_candidate_table(const struct scene *scene)
{
    struct capture capture;
    struct evaluation e;
    char *details = NULL;
    struct err err = {0};
    const struct front_member *member = &scene->front.member[0];
    archive_get_evaluation(scene->archive, &member->candidate.id, &e, &details, &err);
    FILE *out = capture_begin(&capture);
    show_candidate(out, SHOW_TABLE, &scene->study, member, details);
    char *text = capture_end(&capture);
    is_text(text, golden_candidate, "one candidate, layer by layer");
    free(text);
    free(details);
}

/* --- JSON --- */

static double number_at(const cJSON *node, const char *a, const char *b)
{
    node = cJSON_GetObjectItemCaseSensitive(node, a);
    if (b != NULL)
        node = cJSON_GetObjectItemCaseSensitive(node, b);
    return cJSON_IsNumber(node) ? node->valuedouble : NAN;
}

static const char *text_at(const cJSON *node, const char *name)
{
    node = cJSON_GetObjectItemCaseSensitive(node, name);
    return cJSON_IsString(node) ? node->valuestring : NULL;
}

static bool true_at(const cJSON *node, const char *name)
{
    return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(node, name));
}

static cJSON *parse_whole(const char *text)
{
    const char *end = NULL;
    cJSON *root = cJSON_ParseWithOpts(text, &end, false);
    while (end != NULL && isspace((unsigned char)*end))
        end++;
    ok(root != NULL && end != NULL && *end == '\0', "the output is one JSON value");
    return root;
}

/* JSON keeps 15 digits. */
static bool is_close(double a, double b)
{
    return fabs(a - b) <= 1e-13 * fabs(b);
}

static bool member_agrees(const cJSON *node, const struct front_member *member)
{
    const struct evaluation *e = &member->evaluation;
    char hex[ID128_HEX];
    struct genome genome;
    id128_hex(member->candidate.id, hex);
    return text_at(node, "id") != NULL && strcmp(text_at(node, "id"), hex) == 0 &&
           is_close(number_at(node, "tpot_ms", "p50"), e->decode.median_ns * 1e-6) &&
           is_close(number_at(node, "tpot_ms", "hi"), e->decode.hi_ns * 1e-6) &&
           number_at(node, "tpot_ms", "n") == e->decode.n_accepted &&
           is_close(number_at(node, "ttft_ms", "lo"), e->prefill.lo_ns * 1e-6) &&
           is_close(number_at(node, "kld", "mean"), e->kld) &&
           is_close(number_at(node, "kld", "se"), e->kld_se) &&
           is_close(number_at(node, "ppl", NULL), e->ppl) &&
           number_at(node, "weight_bytes", NULL) == (double)e->weight_bytes &&
           true_at(node, "verified") == (e->rung == RUNG_FINAL) &&
           genome_parse(text_at(node, "genome"), &genome, NULL) == 0 &&
           genome_equal(&genome, &member->genome);
}

static void check_front_json(const struct scene *scene)
{
    char *text = front_text(scene, SHOW_JSON, false);
    cJSON *root = parse_whole(text);
    const cJSON *candidates = cJSON_GetObjectItemCaseSensitive(root, "candidates");
    ok(number_at(root, "schema", NULL) == 1 && strcmp(text_at(root, "device"), "cpu:test/2c") == 0,
       "schema and device are there");
    const cJSON *workloads = cJSON_GetObjectItemCaseSensitive(root, "workloads");
    ok(strcmp(text_at(workloads, "tpot_ms"), "tg128@b1") == 0 &&
           strcmp(text_at(workloads, "ttft_ms"), "pp512@b1") == 0,
       "the workloads are spelled out");
    ok(number_at(root, "geometry", "d_model") == 256 &&
           number_at(root, "private_cache_bytes", NULL) == 2097152,
       "geometry and cache too");
    ok(member_agrees(cJSON_GetObjectItemCaseSensitive(root, "parent"), &scene->front.parent),
       "the parent's figures come back");
    int n_wrong = cJSON_GetArraySize(candidates) != (int)scene->front.n;
    for (size_t i = 0; i < scene->front.n; i++)
        n_wrong += !member_agrees(cJSON_GetArrayItem(candidates, (int)i), &scene->front.member[i]);
    ok(n_wrong == 0 && scene->front.n == 3, "and those of every member");
    const cJSON *joint = cJSON_GetArrayItem(candidates, 0);
    ok(true_at(joint, "joint") && number_at(joint, "layers", NULL) == 4 &&
           number_at(joint, "hidden", NULL) == 256 && number_at(joint, "ffn_min", NULL) == 512 &&
           number_at(joint, "ffn_max", NULL) == 1024,
       "who has fewer layers and fewer bits is joint");
    ok(number_at(joint, "peak_rss_bytes", NULL) == 23400000 &&
           is_close(number_at(joint, "joules_per_token", NULL), 0.00125) &&
           is_close(number_at(joint, "joules_per_prompt", NULL), 0.04),
       "memory and energy come back");
    ok(!cJSON_HasObjectItem(cJSON_GetArrayItem(candidates, 1), "peak_rss_bytes") &&
           !cJSON_HasObjectItem(cJSON_GetArrayItem(candidates, 1), "joules_per_token"),
       "and are absent where nobody knows them");
    const cJSON *bound = cJSON_GetObjectItemCaseSensitive(joint, "kernel_bound");
    ok(cJSON_GetArraySize(bound) == 1 &&
           strcmp(cJSON_GetArrayItem(bound, 0)->valuestring, "Q3_K") == 0,
       "kernel-bound formats are named");
    ok(!true_at(joint, "exceeds_private_cache") &&
           true_at(cJSON_GetArrayItem(candidates, 2), "exceeds_private_cache"),
       "who fits into the cache is told apart from who does not");
    const cJSON *bits = cJSON_GetArrayItem(candidates, 2);
    ok(!true_at(bits, "joint") && true_at(bits, "coarser") && !true_at(bits, "thinner"),
       "fewer bits alone are not joint");
    ok(cJSON_GetObjectItemCaseSensitive(bits, "accuracy") == NULL &&
           number_at(joint, "accuracy", "mean") == 0.61,
       "what was not scored is absent");
    cJSON_Delete(root);
    free(text);
}

static void check_all_json(const struct scene *scene)
{
    char *text = front_text(scene, SHOW_JSON, true);
    cJSON *root = parse_whole(text);
    const cJSON *candidates = cJSON_GetObjectItemCaseSensitive(root, "candidates"), *node;
    int n_front = 0;
    cJSON_ArrayForEach(node, candidates) n_front += true_at(node, "front");
    ok(cJSON_GetArraySize(candidates) == 4 && n_front == 3,
       "the list has all, the front is marked");
    cJSON_Delete(root);
    free(text);
}

static void check_answer_json(const struct scene *scene)
{
    struct query query = {.budget_ns = 200e3, .max_loss = 0.05, .max_bytes = 5000000, .n = 2};
    char *text = answer_text(scene, SHOW_JSON, &query, "200us");
    cJSON *root = parse_whole(text);
    const cJSON *asked = cJSON_GetObjectItemCaseSensitive(root, "query");
    ok(true_at(root, "feasible") && number_at(asked, "budget_ms", NULL) == 0.2 &&
           strcmp(text_at(asked, "metric"), "tpot_ms.p50") == 0 &&
           number_at(asked, "max_loss", NULL) == 0.05,
       "a yes repeats the question");
    const cJSON *hits = cJSON_GetObjectItemCaseSensitive(root, "hits");
    ok(cJSON_GetArraySize(hits) == 1 &&
           member_agrees(cJSON_GetArrayItem(hits, 0), &scene->front.member[1]) &&
           strncmp(text_at(root, "next"), "kerf export -C /some/where/demo ", 32) == 0,
       "it names the hit and what to do next");
    cJSON_Delete(root);
    free(text);
    query.budget_ns = 1e3;
    text = answer_text(scene, SHOW_JSON, &query, "1us");
    root = parse_whole(text);
    ok(cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(root, "feasible")) &&
           cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(root, "hits")) == 0 &&
           cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(root, "nearest")) == 3 &&
           text_at(root, "next") == NULL && number_at(root, "n_over_budget", NULL) == 4,
       "a no has the nearest and no next");
    cJSON_Delete(root);
    free(text);
}

static void check_candidate_json(const struct scene *scene)
{
    struct capture capture;
    FILE *out = capture_begin(&capture);
    show_candidate(out, SHOW_JSON, &scene->study, &scene->front.member[0], "{\"tasks\":[]}");
    char *text = capture_end(&capture);
    cJSON *root = parse_whole(text);
    ok(member_agrees(cJSON_GetObjectItemCaseSensitive(root, "candidate"),
                     &scene->front.member[0]) &&
           cJSON_IsArray(cJSON_GetObjectItemCaseSensitive(
               cJSON_GetObjectItemCaseSensitive(root, "details"), "tasks")),
       "one candidate with its details");
    cJSON_Delete(root);
    free(text);
}

/* --- TSV --- */

static void check_tsv(const struct scene *scene)
{
    char *text = front_text(scene, SHOW_TSV, true), *line, *rest = text;
    int n_lines = 0, n_tabs = -1, n_uneven = 0;
    while ((line = strsep(&rest, "\n")) != NULL && *line != '\0') {
        int n = 0;
        for (const char *c = line; *c != '\0'; c++)
            n += *c == '\t';
        n_uneven += n_tabs >= 0 && n != n_tabs;
        n_tabs = n;
        n_lines++;
    }
    ok(n_lines == 1 + 4 + 1 && n_uneven == 0 && n_tabs == 29,
       "a title line, one line each, as many columns everywhere");
    free(text);
}

/* --- pictures --- */

static void check_plot(const struct scene *scene)
{
    struct capture capture;
    FILE *out = capture_begin(&capture);
    show_plot(out, &scene->front, 72, 20);
    char *text = capture_end(&capture), *line, *rest = text;
    int n_lines = 0, n_joint = 0, n_other = 0, n_parent = 0, first_joint = -1, first_other = -1;
    size_t widest = 0;
    while ((line = strsep(&rest, "\n")) != NULL && *line != '\0') {
        if (n_lines >= 1 && n_lines <= 16)
            for (size_t c = 9; line[0] != '\0' && c < strlen(line); c++) {
                n_joint += line[c] == '#';
                n_other += line[c] == 'o';
                n_parent += line[c] == 'P';
                first_joint = line[c] == '#' && first_joint < 0 ? n_lines : first_joint;
                first_other = line[c] == 'o' && first_other < 0 ? n_lines : first_other;
            }
        widest = strlen(line) > widest ? strlen(line) : widest;
        n_lines++;
    }
    ok(n_lines == 20 && widest <= 72, "the plot keeps within 72 x 20 (%zu x %d)", widest, n_lines);
    ok(n_joint == 2 && n_other == 1 && n_parent == 1, "every member is drawn, and the parent");
    ok(first_joint >= 0 && first_joint < first_other, "more KLD stands higher");
    free(text);
}

/* Tags that are opened are closed, in order. */
static bool is_balanced(const char *text)
{
    char open[32][16];
    size_t depth = 0;
    for (const char *c = strchr(text, '<'); c != NULL; c = strchr(c, '<')) {
        const char *end = strchr(c, '>');
        char name[16] = "";
        bool closing = c[1] == '/';
        if (end == NULL || sscanf(c + 1 + closing, "%15[a-z]", name) != 1)
            return false;
        if (closing && (depth == 0 || strcmp(open[--depth], name) != 0))
            return false;
        if (!closing && end[-1] != '/') {
            if (depth == 32)
                return false;
            strcpy(open[depth++], name);
        }
        c = end;
    }
    return depth == 0;
}

static size_t count_of(const char *text, const char *word)
{
    size_t n = 0;
    for (; (text = strstr(text, word)) != NULL; text += strlen(word))
        n++;
    return n;
}

static void check_svg(struct scene *scene)
{
    struct capture capture;
    strcpy(scene->front.device, "cpu:<odd> & \"quoted\"");
    FILE *out = capture_begin(&capture);
    show_svg(out, &scene->study, &scene->front);
    char *text = capture_end(&capture);
    ok(strncmp(text, "<svg xmlns=\"http://www.w3.org/2000/svg\"", 38) == 0 && is_balanced(text),
       "the SVG is well formed");
    ok(strstr(text, "cpu:&lt;odd&gt; &amp; &quot;quoted&quot;") != NULL,
       "names from outside are escaped");
    ok(count_of(text, "<path class=\"bar ") == 3 && count_of(text, "ms per token, KLD") == 3,
       "each member has its intervals");
    ok(strstr(text, "parent, 0.512 ms, KLD 0") != NULL, "the parent is marked");
    ok(count_of(text, "<path class=\"joint\"") == 2 /* one in the legend */ &&
           count_of(text, "<path class=\"joint open\"") == 1,
       "joint ones have a shape of their own, unverified ones are hollow");
    ok(strstr(text, "prefers-color-scheme:dark") != NULL && strstr(text, "href") == NULL &&
           count_of(text, "http") == 1,
       "it suits dark pages and needs nothing else");
    ok(strstr(text, "weights exceed the 2.10 MB of cache") != NULL &&
           strstr(text, "tg128@b1") != NULL && strstr(text, "dim 256, 8 layers") != NULL,
       "the caption says what was measured on what");
    free(text);
}

/* How many markers lie under text of 23 glyphs whose baseline begins (or ends) at x, y.  A glyph of
 * 13 px is about 6.5 wide. */
static size_t count_covered(const char *svg, double x, double y, bool ends)
{
    double left = ends ? x - 23 * 6.5 : x, right = ends ? x : x + 23 * 6.5, cx = 0, cy = 0;
    size_t n = 0;
    for (const char *at = svg; (at = strchr(at, '<')) != NULL; at++) {
        int taken = 0;
        sscanf(at, "<circle class=\"%*[a-z ]\" cx=\"%lf\" cy=\"%lf\"%n", &cx, &cy, &taken);
        if (taken == 0) {
            /* A diamond is drawn from its upper corner. */
            sscanf(at, "<path class=\"joint%*[^M]M%lf %lfl5.5%n", &cx, &cy, &taken);
            cy += 5.5;
        }
        n += taken > 0 && cx > left - 5 && cx < right + 5 && cy > y - 15 && cy < y + 9;
    }
    return n;
}

/* Members and a beaten one around the foot of the parent's line, on both sides. */
static void check_label(void)
{
    struct scene scene;
    struct capture capture;
    struct err err;
    double x = 0, y = 0;
    char anchor[8] = "";
    begin_scene(&scene, true);
    front_fini(&scene.front);
    archive_begin(scene.archive, &err);
    fixture_enter(scene.archive, 33, 0.00105, 420e3, 4.2e6, 9800000, RUNG_FINAL);
    fixture_enter(scene.archive, 34, 0.00100, 640e3, 6.1e6, 9700000, RUNG_FINAL);
    fixture_enter(scene.archive, 35, 0.00170, 470e3, 4.4e6, 9990000, RUNG_SEARCH);
    archive_commit(scene.archive, &err);
    front_load(&scene.front, scene.archive, &scene.study.geometry, &err);
    FILE *out = capture_begin(&capture);
    show_svg(out, &scene.study, &scene.front);
    char *text = capture_end(&capture);
    char *label = strstr(text, ">parent, 0.512 ms, KLD 0");
    while (label != NULL && label > text && *label != '<')
        label--;
    ok(label != NULL &&
           sscanf(label, "<text class=\"soft\" x=\"%lf\" y=\"%lf\" text-anchor=\"%7[a-z]", &x, &y,
                  anchor) == 3,
       "the parent's label has a place");
    bool ends = strcmp(anchor, "end") == 0;
    ok(count_covered(text, ends ? x : x - 16, 390, true) == 1 &&
           count_covered(text, ends ? x + 16 : x, 390, false) == 1,
       "members stand at the foot of its line, on either side");
    if (!ok(count_covered(text, x, y, ends) == 0, "the label covers no point"))
        printf("# at %g %g, %s\n", x, y, anchor);
    free(text);
    end_scene(&scene);
}

/* --- numbers --- */

static void check_numbers(void)
{
    char text[SHOW_NUMBER];
    double ticks[32];
    is_text(show_interval(28.71, 0.42, text), "28.7 +-0.4", "one digit of the interval");
    is_text(show_interval(0.02134, 0.00041, text), "0.0213 +-0.0004", "however small");
    is_text(show_interval(0.5123, 0.0123, text), "0.512 +-0.012", "two where it begins with 1");
    is_text(show_interval(412.3, 31.2, text), "412 +-31", "none after the point for large ones");
    is_text(show_interval(0.123456, 0, text), "0.1235", "four digits where there is no interval");
    is_text(show_interval(NAN, 1, text), "-", "a dash for what was not measured");
    for (double span = 1.1; span < 1e9; span *= 1.7) {
        size_t n = show_ticks(0.013, 0.013 * span, 9, ticks);
        if (n > 9 || (span > 2 && n < 2)) {
            ok(false, "%zu ticks on an axis of 1 to %g", n, span);
            return;
        }
    }
    ok(true, "an axis has 2 to 9 ticks, however long it is");
    ok(show_format_parse("json") == SHOW_JSON && show_format_parse("table") == SHOW_TABLE &&
           show_format_parse("tsv") == SHOW_TSV && show_format_parse("xml") == N_SHOW_FORMATS,
       "formats by name");
}

static void check_empty(void)
{
    struct scene scene;
    struct capture capture;
    begin_scene(&scene, false);
    char *text = front_text(&scene, SHOW_TABLE, false);
    ok(strstr(text, "no candidate has been measured yet") != NULL, "an empty front says so");
    free(text);
    text = front_text(&scene, SHOW_JSON, false);
    cJSON *root = parse_whole(text);
    ok(cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(root, "parent")) &&
           cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(root, "candidates")) == 0,
       "in JSON too");
    cJSON_Delete(root);
    free(text);
    struct query query = {.budget_ns = 1e6, .max_loss = -1, .n = 1};
    text = answer_text(&scene, SHOW_TABLE, &query, "1ms");
    ok(strstr(text, "none has been measured yet") != NULL, "no answer without a measurement");
    free(text);
    FILE *out = capture_begin(&capture);
    show_plot(out, &scene.front, 72, 20);
    show_svg(out, &scene.study, &scene.front);
    text = capture_end(&capture);
    ok(count_of(text, "o candidate has been measured yet") == 2, "nor a picture");
    free(text);
    end_scene(&scene);
}

int main(void)
{
    struct scene scene;
    begin_scene(&scene, true);
    check_golden(&scene);
    check_candidate_table(&scene);
    check_front_json(&scene);
    check_all_json(&scene);
    check_answer_json(&scene);
    check_candidate_json(&scene);
    check_tsv(&scene);
    check_plot(&scene);
    check_svg(&scene);
    check_numbers();
    end_scene(&scene);
    check_label();
    check_empty();
    return tap_done();
}
