#include "space/study.h"

#include "space/base/err.h"
#include "space/base/file.h"
#include "space/base/rng.h"
#include "tests/tap.h"
#include "tests/unit/space_fixture.h"

#include <stdlib.h>
#include <unistd.h>

/* A folder of our own, with small files in the place of model and texts. */
static char root[64], dir[128];
static struct hash256 parent;

/* Without the fsync of file_replace, and without truncating, which waits for the disk too on some
 * file systems: thousands of files are written here. */
static bool write_bytes(const char *path, const char *text, size_t n)
{
    FILE *file;

    unlink(path);
    file = fopen(path, "w");
    return file != NULL && fwrite(text, 1, n, file) == n && fclose(file) == 0;
}

static void write_text(const char *path, const char *text)
{
    if (!write_bytes(path, text, strlen(text)))
        printf("# cannot write %s\n", path);
}

static bool same_hash(const struct study *study, struct hash256 hash)
{
    struct hash256 other = study_hash(study);

    return memcmp(&hash, &other, sizeof hash) == 0;
}

static const char *in_root(const char *name, char path[256])
{
    snprintf(path, 256, "%s/%s", root, name);
    return path;
}

static char *read_text(const char *name)
{
    char path[256];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    return file_read(path, 1 << 20, NULL, NULL);
}

/* A whole study.json; tests replace one piece of it. */
static const char config[] =
    "{\n"
    "  // a comment\n"
    "  \"model\": {\"path\": \"../model.gguf\"},\n"
    "  \"target\": {\"profile\": \"gguf-hetero\"},\n"
    "  \"space\": {\"depth\": {\"min\": 4}, \"drop\": [\"attn\", \"ffn\"],\n"
    "    \"ffn\": {\"grid\": 256, \"min\": 0.5},\n"
    "    \"kv_groups\": [4, 2], \"hidden\": [1, 0.75], \"rotation\": \"hadamard\",\n"
    "    \"types\": [\"Q4_K\", \"Q2_K\"], \"kv\": [\"F16\", \"Q8_0\"], \"act\": [\"a8\"],\n"
    "    \"embedding\": [\"Q8_0\"]}, \"compression\": {\"order\": \"quantize-prune\"},"
    " \"limits\": {\"disk\": \"1.5GiB\"},\n"
    "  \"quality\": {\n"
    "    \"calibration\": {\"file\": \"../c.txt\", \"tokens\": \"16Ki\"},\n"
    "    \"heldout\": {\"file\": \"../h.txt\"},\n"
    "    \"separator\": \"<|endoftext|>\", \"sequence\": 256,\n"
    "    \"sensitivity\": {\"tokens\": 1024},\n"
    "    \"search\": {\"tokens\": \"2Ki\"},\n"
    "    \"final\": {\"tokens\": \"8Ki\"},\n"
    "    \"tasks\": [\"../t.jsonl\"], \"task_items\": 50},\n"
    "  \"latency\": {\"workloads\": [\"tg32@b1\", \"pp128@b1\"],\n"
    "    \"threads\": 2, \"rounds\": {\"min\": 5, \"max\": 9}, \"ci\": 0.02},\n"
    "  \"search\": {\"seed\": 7, \"population\": 16, \"evals\": 40,\n"
    "    \"time\": \"10min\"}\n"
    "}\n";

/* Write study.json with `from` (which must occur) replaced by `to`. */
static void write_config(const char *from, const char *to)
{
    char text[4096], path[256];
    const char *at = from == NULL ? NULL : strstr(config, from);

    if (at == NULL)
        snprintf(text, sizeof text, "%s", config);
    else
        snprintf(text, sizeof text, "%.*s%s%s", (int)(at - config), config, to, at + strlen(from));
    if (from != NULL && at == NULL)
        printf("# '%s' is not in the config\n", from);
    snprintf(path, sizeof path, "%s/study.json", dir);
    write_text(path, text);
}

static int resolve(struct study *study, struct err *err)
{
    struct geometry g = fixture_wide();

    return study_resolve(study, &g, &parent, 4, err);
}

/* ---- reading -------------------------------------------------------------------------------- */

static void test_read(void)
{
    struct study s;
    struct err err = {0};
    char path[256];

    write_config(NULL, NULL);
    if (!ok(study_read(&s, dir, &err) == 0, "a whole study.json is read"))
        printf("# %s\n", err.text);
    snprintf(path, sizeof path, "%s/../model.gguf", dir);
    is_text(s.model, path, "a relative path is relative to the file");
    ok(s.limits.profile == PROFILE_GGUF_HETERO && s.limits.min_layers == 4 &&
           s.limits.ffn_grid == 256 && s.limits.min_ffn == 0.5 && s.limits.n_kv_groups == 2 &&
           s.limits.kv_groups[0] == 4 && s.limits.n_hidden == 2 && s.limits.hidden[1] == 0.75 &&
           s.limits.rotation == ROTATION_HADAMARD && s.compress_order == COMPRESS_QUANTIZE_PRUNE &&
           s.limits.n_types == 2 && s.limits.types[0] == FORMAT_Q4_K &&
           s.limits.n_embd_types == 1 && s.limits.embd_types[0] == FORMAT_Q8_0 &&
           s.limits.n_kv == 2 && s.limits.kv[1] == FORMAT_Q8_0 && s.limits.n_act == 1 &&
           s.limits.act[0] == ACT_Q8 && s.limits.drop_attn && s.limits.drop_ffn,
       "the limits of the space are read");
    ok(s.calibration_tokens == 16384 && s.search_tokens == 2048 && s.final_tokens == 8192 &&
           s.sensitivity_tokens == 1024 && s.sequence == 256 && s.task_items == 50 &&
           s.n_tasks == 1,
       "token counts are read as numbers and as texts");
    is_text(s.separator, "<|endoftext|>", "the separator is read");
    ok(s.decode.n_tokens == 32 && s.decode.kind == WORKLOAD_DECODE && s.prefill.n_tokens == 128 &&
           s.prefill.kind == WORKLOAD_PREFILL && s.threads == 2 && s.rounds_min == 5 &&
           s.rounds_max == 9 && s.ci == 0.02,
       "workloads may come in any order");
    ok(s.max_disk == 1610612736 && s.seed == 7 && s.population == 16 && s.evals == 40 &&
           s.time_s == 600.0,
       "the budget is read");

    write_config(", \"drop\": [\"attn\", \"ffn\"]", ", \"drop\": [\"attn\"]");
    ok(study_read(&s, dir, &err) == 0 && s.limits.drop_attn && !s.limits.drop_ffn,
       "attention may go alone");
    write_config("[\"attn\", \"ffn\"]", "[\"layer\"]");
    ok(study_read(&s, dir, &err) == 0 && s.limits.drop_attn && s.limits.drop_ffn,
       "a layer is both of its units");

    snprintf(path, sizeof path, "%s/study.json", dir);
    write_text(path, "{\"model\": {\"path\": \"../model.gguf\"}, \"quality\": {\"calibration\": "
                     "{\"file\": \"../c.txt\"}, \"heldout\": {\"file\": \"../h.txt\"}}}");
    ok(study_read(&s, dir, &err) == 0 && s.limits.profile == PROFILE_GGUF && s.threads == 0 &&
           s.max_disk == 0 && s.population == 64 && s.evals == 2000 && s.time_s == 14400.0 &&
           s.limits.n_types == 0 && s.n_tasks == 0,
       "model and texts are all that must be said");
}

static void test_bad_config(void)
{
    /* What replaces what; the place, and a piece of the sentence. */
    static const struct {
        const char *from, *to, *place, *sentence;
    } cases[] = {
        {"\"min\": 0.5", "\"minn\": 0.5", ":6:26: /space/ffn", "'min'"},
        {"\"seed\"", "\"sead\"", ":20:14: /search", "seed"},
        {"\"target\"", "\"taget\"", ":4:3: ", "target"},
        {"\"profile\": \"gguf-hetero\"", "\"profile\": \"GGUF\"", ":4:14: /target/profile",
         "expected \"gguf\""},
        {"\"min\": 0.5", "\"min\": 0", "/space/ffn/min", "share"},
        {"\"min\": 0.5", "\"min\": 1.5", "/space/ffn/min", "found 1.5"},
        {"\"min\": 0.5", "\"min\": \"half\"", "/space/ffn/min", "found \"half\""},
        {"{\"min\": 4}", "{\"min\": 0}", "/space/depth/min", "from 1"},
        {"{\"min\": 4}", "{\"min\": 2.5}", "/space/depth/min", "found 2.5"},
        {"{\"min\": 4}", "4", "/space/depth", "object"},
        {"\"Q2_K\"]", "\"Q2K\"]", ":8:23: /space/types/1", "Q2_K"},
        {"[\"Q8_0\"]", "[]", "/space/embedding", "list of formats"},
        {"[\"attn\", \"ffn\"]", "[\"atn\"]", "/space/drop", "\"attn\""},
        {"[4, 2]", "[4, 0]", "/space/kv_groups", "counts"},
        {"[4, 2]", "[1,2,3,4,5,6,7,8,9]", "/space/kv_groups", "at most 8"},
        {"[1, 0.75]", "[1, 1.5]", ":7:26: /space/hidden", "shares"},
        {"[1, 0.75]", "[]", "/space/hidden", "at most 8"},
        {"[\"F16\", \"Q8_0\"]", "[\"F8\"]", ":8:39: /space/kv/0", "\"F16\""},
        {"[\"F16\", \"Q8_0\"]", "[]", "/space/kv", "KV cache"},
        {"[\"a8\"]", "[\"a4\"]", "/space/act", "\"a16\""},
        {"[\"a8\"]", "\"a8\"", "/space/act", "a list"},
        {"\"hadamard\"", "\"pca\"", "/space/rotation", "\"hadamard\""},
        {"\"1.5GiB\"", "\"1.5\"", "/limits/disk", "unit"},
        {"\"1.5GiB\"", "1.5", "/limits/disk", "200GiB"},
        {"\"disk\"", "\"disc\"", "/limits", "disk"},
        {"quantize-prune", "quantise", "/compression/order", "\"prune-quantize\""},
        {"\"order\"", "\"ordr\"", "/compression", "order"},
        {"\"time\": \"10min\"", "\"time\": 10", "/search/time", "unit"},
        {"\"time\": \"10min\"", "\"time\": \"10\"", "/search/time", "unit"},
        {"\"time\": \"10min\"", "\"time\": \"10mins\"", "/search/time", "min"},
        {"\"tokens\": \"2Ki\"", "\"tokens\": \"2Kx\"", "/quality/search/tokens", "16Ki"},
        {"\"tokens\": \"2Ki\"", "\"tokens\": -5", "/quality/search/tokens", "16Ki"},
        {"\"tokens\": \"8Ki\"", "\"tokens\": 1024", ":16:15: /quality/final/tokens", "2048"},
        {"\"max\": 9", "\"max\": 4", "/latency/rounds/max", "5 rounds"},
        {"\"threads\": 2", "\"threads\": 0", "/latency/threads", "cores"},
        {"\"ci\": 0.02", "\"ci\": 2", "/latency/ci", "0.5"},
        {"\"tg32@b1\"", "\"tg32\"", "/latency/workloads/0", "tg128@b1"},
        {"\"tg32@b1\"", "\"pp32@b1\"", "/latency/workloads", "one prefill and one decode"},
        {"\"tg32@b1\", ", "", "/latency/workloads", "one prefill and one decode"},
        {"\"population\": 16", "\"population\": 7", ":20:25: /search/population", "8 to 65536"},
        {"\"seed\": 7", "\"seed\": 1e300", "/search/seed", "whole number"},
        {"\"model\": {\"path\": \"../model.gguf\"},", "", "/model/path", "missing"},
        {"\"path\": \"../model.gguf\"", "\"path\": 5", "/model/path", "GGUF"},
        {"\"min\": 5", "\"min\": 5, \"min\": 6", ":19:40:", "twice"},
        {"\"seed\": 7,", "\"seed\": 7", ":20:", ""},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct study s = {.seed = 99};
        struct err err = {0};

        write_config(cases[i].from, cases[i].to);
        if (!ok(study_read(&s, dir, &err) == -1 && err.code == ERR_CONFIG && s.seed == 99 &&
                    strstr(err.text, "study.json:") != NULL &&
                    strstr(err.text, cases[i].place) != NULL &&
                    strstr(err.text, cases[i].sentence) != NULL && !strchr(err.text, '\n'),
                "%s is refused at its place", cases[i].to[0] ? cases[i].to : cases[i].from))
            printf("# %d %s\n", err.code, err.text);
        ok(study_read(&s, dir, NULL) == -1, "also without a place for the reason");
    }
}

static void test_missing(void)
{
    struct study s;
    struct err err = {0};
    char path[256];

    write_config("../h.txt", "../nowhere.txt");
    ok(study_read(&s, dir, &err) == -1 && err.code == ERR_MISSING &&
           strstr(err.text, "study.json:12:17: /quality/heldout/file") != NULL,
       "a text that is not there is missing, at its place");
    write_config("../t.jsonl", "../nowhere.jsonl");
    ok(study_read(&s, dir, &err) == -1 && err.code == ERR_MISSING &&
           strstr(err.text, "/quality/tasks/0") != NULL,
       "so is a task");
    ok(study_read(&s, root, &err) == -1 && err.code == ERR_MISSING &&
           strstr(err.text, "kerf init") != NULL,
       "a folder without study.json is no study");
    ok(study_read(&s, in_root("nowhere", path), &err) == -1 && err.code == ERR_MISSING,
       "nor is a folder that is not there");
    ok(study_read_resolved(&s, dir, &err) == -1 && err.code == ERR_MISSING &&
           strstr(err.text, "kerf search") != NULL,
       "a study that has not begun has nothing frozen");
}

/* ---- resolving ------------------------------------------------------------------------------ */

static void test_resolve(void)
{
    static const struct {
        const char *from, *to, *place, *sentence;
    } cases[] = {
        {"{\"min\": 4}", "{\"min\": 9}", ":5:23: /space/depth/min", "the parent has 8"},
        {"[4, 2]", "[4, 8]", ":7:22: /space/kv_groups/1", "the parent has 4"},
        {"[4, 2]", "[2]", ":7:5: /space/kv_groups", "add 4"},
        {"[1, 0.75]", "[0.75]", ":7:26: /space/hidden", "add 1"},
        {"[1, 0.75]", "[1, 0.97]", "/space/hidden/1", "smaller"},
        {"[\"F16\", \"Q8_0\"]", "[\"F16\", \"Q6_K\"]", "/space/kv/1", "Q8_0 or Q4_0"},
        {"[\"a8\"]", "[\"a16\"]", "/space/act/0", "native"},
        {"\"grid\": 256", "\"grid\": 2000", "/space/ffn/grid", "1024"},
        {"pp128@b1", "pp1024@b1", "/latency/workloads", "512"},
        {"tg32@b1", "tg32@c500@b1", "/latency/workloads", "532"},
        {"\"sequence\": 256", "\"sequence\": 8192", "/quality/sequence", "512"},
        {"\"threads\": 2", "\"threads\": 8", "/latency/threads", "4 cores"},
    };
    struct study s;
    struct err err = {0};
    struct geometry odd = fixture_stories();

    write_config(NULL, NULL);
    ok(study_read(&s, dir, &err) == 0 && resolve(&s, &err) == 0 && s.geometry.d_model == 256 &&
           s.threads == 2 && s.sequence == 256,
       "what was said stays");
    write_config("\"threads\": 2", "\"threads\": \"cores\"");
    ok(study_read(&s, dir, &err) == 0 && resolve(&s, &err) == 0 && s.threads == 4,
       "\"cores\" are those of the machine");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_config(cases[i].from, cases[i].to);
        err = (struct err){0};
        if (!ok(study_read(&s, dir, &err) == 0 && resolve(&s, &err) == -1 &&
                    err.code == ERR_CONFIG && strstr(err.text, "study.json:") != NULL &&
                    strstr(err.text, cases[i].place) != NULL &&
                    strstr(err.text, cases[i].sentence) != NULL && s.threads != 4,
                "%s is impossible for this parent or machine", cases[i].to))
            printf("# %d %s\n", err.code, err.text);
    }

    write_config(
        "\"types\": [\"Q4_K\", \"Q2_K\"], \"kv\": [\"F16\", \"Q8_0\"], \"act\": [\"a8\"],\n"
        "    \"embedding\": [\"Q8_0\"]",
        "\"types\": [\"Q4_K\"]");
    odd.d_model = 60;
    ok(study_read(&s, dir, &err) == 0 && study_resolve(&s, &odd, &parent, 4, &err) == -1 &&
           err.code == ERR_CONFIG && strstr(err.text, "/space/depth/min") == NULL &&
           strstr(err.text, "/space/types") != NULL && strstr(err.text, "F16") != NULL,
       "formats that no row fits are impossible, with the remedy");
    char matrix[256];
    write_text(in_root("c.dat", matrix), "not read here");
    write_config("../c.txt", "../c.dat");
    ok(study_read(&s, dir, &err) == 0 && study_has_matrix(&s) && resolve(&s, &err) == -1 &&
           err.code == ERR_CONFIG && strstr(err.text, "/space/hidden") != NULL &&
           strstr(err.text, "calibrate on a text") != NULL,
       "an importance matrix says too little for another hidden width");
    write_config("\"depth\": {\"min\": 4}, ", "");
    ok(study_read(&s, dir, &err) == 0 && s.limits.min_layers == 0 && resolve(&s, &err) == 0 &&
           s.limits.min_layers == 4,
       "the depth that was left out is half the parent's");
}

/* ---- freezing ------------------------------------------------------------------------------- */

/* Change one piece, freeze again: the code, and in `text` the reason. */
static enum err_code refreeze(const char *from, const char *to, char text[400])
{
    struct study s;
    struct err err = {0};

    write_config(from, to);
    if (study_read(&s, dir, &err) == 0 && resolve(&s, &err) == 0)
        study_freeze(&s, &err);
    snprintf(text, 400, "%s", err.text);
    return err.code;
}

static void test_freeze(void)
{
    static const struct {
        const char *from, *to, *place, *was, *is;
    } cases[] = {
        {"\"min\": 0.5", "\"min\": 0.25", ":6:26: /space/ffn/min", "was 0.5", "is now 0.25"},
        {"\"Q2_K\"]", "\"Q3_K\"]", "/space/types", "Q2_K", "Q3_K"},
        {"gguf-hetero", "native", "/target/profile", "gguf-hetero", "native"},
        {"\"population\": 16", "\"population\": 32", "/search/population", "was 16", "now 32"},
        {"\"seed\": 7", "\"seed\": 8", "/search/seed", "was 7", "now 8"},
        {"[\"F16\", \"Q8_0\"]", "[\"F16\"]", "/space/kv", "[\"Q8_0\",\"F16\"]", "[\"F16\"]"},
        {"quantize-prune", "prune-quantize", "/compression/order", "quantize-prune",
         "prune-quantize"},
        {"tg32@b1", "tg64@b1", "/latency/workloads", "tg32@b1", "tg64@b1"},
        {"[\"attn\", \"ffn\"]", "[\"ffn\"]", "/space/drop", "attn", "is now [\"ffn\"]"},
        {"\"tokens\": \"8Ki\"", "\"tokens\": \"16Ki\"", "/quality/final/tokens", "8192", "16384"},
        {"<|endoftext|>", "\\n", "/quality/separator", "endoftext", "\\n"},
        {"\"../t.jsonl\"", "\"../t.jsonl\", \"../c.txt\"", ":17:5: /quality/tasks:", "was 1 files",
         "now 2"},
    };
    struct study s, back;
    struct err err = {0};
    char path[256], moved[256], text[400];
    struct hash256 hash;
    char *first, *second;

    write_config(NULL, NULL);
    ok(study_read(&s, dir, &err) == 0 && resolve(&s, &err) == 0 && study_freeze(&s, &err) == 0,
       "a study is frozen when it begins");
    hash = study_hash(&s);
    first = read_text("study.resolved.json");
    ok(study_read_resolved(&back, dir, &err) == 0 && back.limits.n_types == 2 &&
           back.limits.types[0] == FORMAT_Q2_K && back.limits.types[1] == FORMAT_Q4_K &&
           back.limits.n_kv == 2 && back.limits.kv[0] == FORMAT_Q8_0 && back.limits.n_act == 1 &&
           back.compress_order == COMPRESS_QUANTIZE_PRUNE && back.limits.hidden[0] == 0.75 &&
           back.limits.rotation == ROTATION_HADAMARD && back.limits.kv_groups[0] == 2 &&
           back.limits.ffn_grid == 256 && back.threads == 2 && back.geometry.d_ff == 1024 &&
           back.geometry.rms_eps == s.geometry.rms_eps && back.geometry.tied &&
           memcmp(&back.parent, &parent, sizeof parent) == 0 && back.time_s == 600.0 &&
           strcmp(back.heldout, s.heldout) == 0 && workload_equal(&back.decode, &s.decode),
       "what was frozen is read back");
    back.time_s = 1;
    back.evals = 1;
    ok(same_hash(&back, hash), "it has the same hash, whatever its budget");
    ok(study_freeze(&s, &err) == 0, "freezing it again is fine");
    second = read_text("study.resolved.json");
    is_text(second, first, "and changes no byte");
    free(second);

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (!ok(refreeze(cases[i].from, cases[i].to, text) == ERR_CONFIG &&
                    strstr(text, cases[i].place) != NULL && strstr(text, cases[i].was) != NULL &&
                    strstr(text, cases[i].is) != NULL,
                "%s after the start is refused by name", cases[i].to))
            printf("# %s\n", text);
    second = read_text("study.resolved.json");
    is_text(second, first, "a refusal changes no byte");
    free(second);
    free(first);

    write_text(in_root("h.txt", path), "another held-out text");
    ok(refreeze(NULL, NULL, text) == ERR_CONFIG &&
           strstr(text, ":12:17: /quality/heldout/file") != NULL &&
           strstr(text, "content has changed") != NULL,
       "a text that changed under its name is refused");
    write_text(in_root("h.txt", path), "held out");
    write_text(in_root("t.jsonl", path), "{\"other\": 1}\n");
    ok(refreeze(NULL, NULL, text) == ERR_CONFIG && strstr(text, "/quality/tasks/0") != NULL,
       "a task that changed is refused by its number");
    write_text(in_root("t.jsonl", path), "{}\n");
    write_text(in_root("h2.txt", path), "held out");
    ok(refreeze("[\"Q4_K\", \"Q2_K\"]", "[\"Q2_K\", \"Q4_K\", \"Q2_K\"]", text) == ERR_NONE &&
           refreeze("[4, 2]", "[2, 4, 4]", text) == ERR_NONE,
       "the order of a list means nothing");
    ok(refreeze("../h.txt", "../h2.txt", text) == ERR_NONE, "the same text elsewhere is fine");
    ok(refreeze("\"evals\": 40", "\"evals\": 80", text) == ERR_NONE &&
           refreeze("\"time\": \"10min\"", "\"time\": \"1h\"", text) == ERR_NONE &&
           study_read_resolved(&back, dir, &err) == 0 && back.time_s == 3600.0 && back.evals == 40,
       "evals and time may change, and the frozen file follows");
    ok(refreeze("1.5GiB", "none", text) == ERR_NONE && study_read_resolved(&back, dir, &err) == 0 &&
           back.max_disk == 0 && refreeze("1.5GiB", "7B", text) == ERR_NONE &&
           study_read_resolved(&back, dir, &err) == 0 && back.max_disk == 7,
       "so may the bound on the disk");
    ok(same_hash(&back, hash), "the study is still the same");
    parent.bytes[0] ^= 1;
    ok(refreeze(NULL, NULL, text) == ERR_CONFIG && strstr(text, ":3:13: /model/path") != NULL,
       "another parent is refused");
    parent.bytes[0] ^= 1;

    in_root("moved", moved);
    ok(rename(dir, moved) == 0 && study_read_resolved(&back, moved, &err) == 0 &&
           strcmp(back.dir, moved) == 0,
       "a study that moved is still readable");
    rename(moved, dir);
}

static void test_damaged(void)
{
    char path[256];
    char *whole = read_text("study.resolved.json");
    size_t len = strlen(whole), told = 0, cuts = 0;
    struct rng rng = rng_make(5, 0);
    struct study s = {.seed = 99};
    struct err err = {0};

    snprintf(path, sizeof path, "%s/study.resolved.json", dir);
    for (size_t n = 0; n + 2 < len; n += 7, cuts++) {
        write_bytes(path, whole, n);
        err = (struct err){0};
        told += study_read_resolved(&s, dir, &err) == -1 && err.code == ERR_DATA && s.seed == 99;
    }
    ok(told == cuts, "a frozen file that was cut is bad data (%zu of %zu)", told, cuts);
    for (char *at = whole; (at = strstr(at, "study-resolved-1")) != NULL; at++)
        memcpy(at, "study-resolved-9", 16);
    write_text(path, whole);
    ok(study_read_resolved(&s, dir, &err) == -1 && err.code == ERR_DATA &&
           strstr(err.text, "study-resolved-1") != NULL,
       "a frozen file of another version is bad data");
    free(whole);
    unlink(path);

    /* Noise in study.json: refused or read, never a crash. */
    snprintf(path, sizeof path, "%s/study.json", dir);
    for (int i = 0; i < 1500; i++) {
        char text[sizeof config];

        memcpy(text, config, sizeof config);
        for (uint64_t n = 1 + rng_below(&rng, 3); n > 0; n--)
            text[rng_below(&rng, sizeof config - 1)] =
                "\"{}[],:/*0919eE-x\\\x80\n "[rng_below(&rng, 22)];
        if (!write_bytes(path, text, sizeof config - 1))
            break;
        err = (struct err){0};
        if (study_read(&s, dir, &err) == 0)
            resolve(&s, &err);
        told += err.code != ERR_NONE;
    }
    ok(told > cuts, "noise in study.json is refused (%zu times) or read, never a crash",
       told - cuts);
}

/* ---- kerf init ------------------------------------------------------------------------------ */

static void test_init(void)
{
    char model[256], c[256], h[256], t[256], fresh[256], nested[256], path[STUDY_PATH_MAX];
    const char *tasks[] = {in_root("t.jsonl", t)};
    struct study_template wanted = {.model = in_root("model.gguf", model),
                                    .calibration = in_root("c.txt", c),
                                    .heldout = in_root("h.txt", h),
                                    .separator = "<|end \"of\" text|>",
                                    .tasks = tasks,
                                    .n_tasks = 1,
                                    .profile = PROFILE_GGUF_HETERO,
                                    .quick = true};
    struct study s;
    struct err err = {0};
    char *text;

    in_root("fresh", fresh);
    in_root("deep/er", nested);
    wanted.model = "/nowhere/model.gguf";
    ok(study_init(fresh, &wanted, &err) == -1 && err.code == ERR_MISSING && !file_exists(fresh),
       "without a model nothing is made");
    wanted.model = model;
    if (!ok(study_init(fresh, &wanted, &err) == 0 && study_read(&s, fresh, &err) == 0,
            "the study that was made is read"))
        printf("# %s\n", err.text);
    ok(s.calibration_tokens == 16384 && s.sensitivity_tokens == 1024 && s.search_tokens == 2048 &&
           s.final_tokens == 8192 && s.prefill.n_tokens == 128 && s.decode.n_tokens == 32 &&
           s.evals == 96 && s.time_s == 180.0 && s.population == 32 &&
           s.limits.profile == PROFILE_GGUF_HETERO,
       "a quick study has small budgets");
    is_text(s.separator, wanted.separator, "quotes in a separator are kept");
    ok(resolve(&s, &err) == 0 && s.sequence == 512, "it can be run as it is");
    snprintf(path, sizeof path, "%s/study.json", fresh);
    text = file_read(path, 1 << 20, NULL, NULL);
    ok(text != NULL && strstr(text, "\"../model.gguf\"") != NULL && strstr(text, root) == NULL,
       "its paths are relative, so that all may move together");
    ok(study_init(fresh, &wanted, &err) == -1 && err.code == ERR_CREATE &&
           strstr(err.text, "already") != NULL,
       "a folder that holds a study is refused");
    free(text);

    wanted.quick = false;
    wanted.profile = PROFILE_GGUF;
    wanted.n_tasks = 0;
    wanted.separator = NULL;
    ok(study_init(nested, &wanted, &err) == 0 && study_read(&s, nested, &err) == 0 &&
           s.calibration_tokens == 128 * 1024 && s.search_tokens == 16 * 1024 &&
           s.final_tokens == 64 * 1024 && s.sensitivity_tokens == 4096 && s.evals == 2000 &&
           s.time_s == 4 * 3600.0 && s.prefill.n_tokens == 512 && s.decode.n_tokens == 128 &&
           s.n_tasks == 0 && s.separator[0] == '\0' && s.population == 64,
       "a real study has large ones, folders are made on the way");
    is_text(study_path(&s, "tables/optable.json", path),
            strcat(strcpy(fresh, nested), "/tables/optable.json"), "paths inside it are told");
}

int main(void)
{
    char path[256], command[128];

    strcpy(root, "/tmp/kerf-test-study-XXXXXX");
    if (mkdtemp(root) == NULL)
        return 1;
    snprintf(dir, sizeof dir, "%s/study", root);
    file_make_dirs(dir, NULL);
    parent = sha256_of("parent", 6);
    write_text(in_root("model.gguf", path), "no model is opened here");
    write_text(in_root("c.txt", path), "calibration");
    write_text(in_root("h.txt", path), "held out");
    write_text(in_root("t.jsonl", path), "{}\n");

    test_read();
    test_bad_config();
    test_missing();
    test_resolve();
    test_freeze();
    test_damaged();
    test_init();

    snprintf(command, sizeof command, "rm -rf '%s'", root);
    if (system(command) != 0)
        printf("# %s is left behind\n", root);
    return tap_done();
}
