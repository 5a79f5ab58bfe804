/* Task files, sound and not, and their score against one computed plainly, choice by choice. */
#include "evaluator/formats/gguf.h"
#include "evaluator/parent.h"
#include "evaluator/quality/task.h"
#include "tests/parent_file.h"
#include "tests/tap.h"

enum { N_ITEMS = 30, N_CONTEXT = 160 };

static const struct geometry small = {.n_layers = 2,
                                      .d_model = 32,
                                      .n_heads = 4,
                                      .n_kv_heads = 2,
                                      .head_dim = 8,
                                      .d_ff = 64,
                                      .n_vocab = 300,
                                      .n_ctx = 256,
                                      .tied = true,
                                      .rms_eps = 1e-5F,
                                      .rope_base = 10000.0F};

static char folder[256];
static struct tokenizer *tokenizer;
static struct fixture *fixture;
static struct team *team;

static const char *write_task(const char *text, size_t length, char path[512])
{
    FILE *file = fopen(folder_path(folder, "quiz.jsonl", path), "w");

    fwrite(text, 1, length, file);
    fclose(file);
    return path;
}

/* ---- the plain score ------------------------------------------------------------------------ */

struct question {
    const char *context;
    const char *choices[4];
    uint32_t n_choices, answer;
};

/* Tokens of `text` behind a BOS. */
static uint32_t encode(const char *text, size_t length, int32_t tokens[N_CONTEXT])
{
    int32_t *found;
    int64_t n = tokenizer_encode(tokenizer, text, length, true, &found, NULL);

    tokens[0] = tokenizer_bos(tokenizer);
    memcpy(tokens + 1, found, (size_t)n * sizeof *found);
    free(found);
    return (uint32_t)n + 1;
}

/* log p(choice | context), each choice by itself with a fresh cache, summed in long double. */
static double plain_score(struct forward *f, const char *context, const char *choice)
{
    int32_t tokens[N_CONTEXT], unused[N_CONTEXT];
    char joined[N_CONTEXT];
    size_t length = strlen(context);
    long double score = 0;

    snprintf(joined, sizeof joined, "%s%s", context, choice);
    while (length > 0 && context[length - 1] == ' ')
        length--;
    uint32_t n = encode(joined, strlen(joined), tokens), from = encode(context, length, unused);
    forward_reset(f);
    forward_tokens(f, tokens, n, LOGITS_ALL, NULL);
    for (uint32_t t = from; t < n; t++) {
        const float *x = forward_logits(f) + (size_t)(t - 1) * small.n_vocab;
        long double sum = 0;
        for (uint32_t v = 0; v < small.n_vocab; v++)
            sum += expl((long double)x[v]);
        score += (long double)x[tokens[t]] - logl(sum);
    }
    return (double)score;
}

static uint32_t characters(const char *text)
{
    uint32_t n = 0;

    for (text += strspn(text, " "); *text != '\0'; text++)
        n += (*text & 0xc0) != 0x80;
    return n;
}

static void plain_task(const struct question *questions, double *acc, double *acc_norm)
{
    struct forward_options options = {.n_ctx = N_CONTEXT, .n_batch = N_CONTEXT};
    struct forward *f = forward_create(&fixture->model, kernels_reference(), team, &options, NULL);
    int right = 0, right_norm = 0;

    for (int i = 0; i < N_ITEMS; i++) {
        const struct question *q = &questions[i];
        double score[4];
        uint32_t best = 0, best_norm = 0;
        for (uint32_t c = 0; c < q->n_choices; c++) {
            score[c] = plain_score(f, q->context, q->choices[c]);
            if (score[c] > score[best])
                best = c;
            if (score[c] / characters(q->choices[c]) >
                score[best_norm] / characters(q->choices[best_norm]))
                best_norm = c;
        }
        right += best == q->answer;
        right_norm += best_norm == q->answer;
    }
    *acc = right / (double)N_ITEMS;
    *acc_norm = right_norm / (double)N_ITEMS;
    forward_destroy(f);
}

/* Contexts and choices of different kinds; some choices are a single token, some share a beginning,
 * some contexts end in a space that belongs to the choice, some characters have several bytes. */
static void draw_questions(struct question *questions, char (*text)[4][40])
{
    static const char *const contexts[] = {"Tom sees the", "", "Who is it? ",
                                           "\xc3\x9c"
                                           "ber dem Fluss liegt",
                                           "Ann.  "};
    struct rng rng = rng_make(77, 0);

    for (int i = 0; i < N_ITEMS; i++) {
        struct question *q = &questions[i];
        *q = (struct question){.context = contexts[i % 5], .n_choices = 2 + i % 3};
        q->answer = (uint32_t)rng_below(&rng, q->n_choices);
        for (uint32_t c = 0; c < q->n_choices; c++) {
            char *out = text[i][c];
            const char *front = i % 5 == 2 || i % 5 == 4 ? "" : " ";
            uint32_t n = 1 + (uint32_t)rng_below(&rng, 6);
            out += sprintf(out, "%s%s", front, i % 2 ? "same " : "");
            for (uint32_t k = 0; k < n; k++)
                out += rng_below(&rng, 5) == 0
                           ? sprintf(out, "\xc3\xa4")
                           : sprintf(out, "%c", (int)('a' + rng_below(&rng, 26)));
            q->choices[c] = text[i][c];
        }
    }
}

static void test_score(void)
{
    static char text[N_ITEMS][4][40];
    struct question questions[N_ITEMS];
    char file[16384], *out = file, path[512];
    double acc, acc_norm, guess = 0;
    struct err err = {0};

    draw_questions(questions, text);
    for (int i = 0; i < N_ITEMS; i++) {
        const struct question *q = &questions[i];
        out += sprintf(out, "{\"context\": \"%s\", \"choices\": [", q->context);
        for (uint32_t c = 0; c < q->n_choices; c++)
            out += sprintf(out, "%s\"%s\"", c > 0 ? ", " : "", q->choices[c]);
        out += sprintf(out, "], \"answer\": %u, \"id\": %d}\n%s", q->answer, i, i == 3 ? "\n" : "");
        guess += 1.0 / q->n_choices / N_ITEMS;
    }
    struct task *task = task_read(write_task(file, (size_t)(out - file), path), tokenizer, 0, &err);
    if (!ok(task != NULL, "a task file is read %s", err.text))
        return;
    is_text(task_name(task), "quiz", "its name is that of the file");
    ok(task_n_items(task) == N_ITEMS, "blank lines are no items");
    near(task_guess_rate(task), guess, 1e-12, "the rate of guessing is the mean of 1 / choices");

    plain_task(questions, &acc, &acc_norm);
    for (uint32_t batch = 1; batch <= N_CONTEXT; batch *= 5) {
        struct forward_options options = {.n_ctx = N_CONTEXT, .n_batch = batch};
        struct task_score score;
        struct forward *f =
            forward_create(&fixture->model, kernels_reference(), team, &options, NULL);
        int status = task_score(f, task, &score, &err);
        ok(status == 0 && score.n_items == N_ITEMS && fabs(score.acc - acc) < 1e-12 &&
               fabs(score.acc_norm - acc_norm) < 1e-12,
           "batches of %u: accuracy %.3f, per character %.3f, as choice by choice", batch,
           score.acc, score.acc_norm);
        near(score.acc_se, sqrt(acc * (1 - acc) / (N_ITEMS - 1)), 1e-12, "with its error");
        near(score.acc_norm_se, sqrt(acc_norm * (1 - acc_norm) / (N_ITEMS - 1)), 1e-12, "both");
        forward_destroy(f);
    }
    ok(acc > 0 && acc < 1 && acc != acc_norm, "the two accuracies tell apart");

    struct forward_options options = {.n_ctx = 12, .n_batch = 12};
    struct task_score score = {.n_items = 5};
    struct forward *f = forward_create(&fixture->model, kernels_reference(), team, &options, NULL);
    ok(task_score(f, task, &score, &err) == -1 && err.code == ERR_DATA && score.n_items == 5 &&
           strstr(err.text, "task quiz, item 1: ") == err.text,
       "an item beyond the context is refused by number: %s", err.text);
    forward_destroy(f);
    task_destroy(task);

    task = task_read(path, tokenizer, 7, &err);
    ok(task != NULL && task_n_items(task) == 7, "no more items than wanted are read");
    task_destroy(task);
    task_destroy(NULL);
}

/* ---- bad files ------------------------------------------------------------------------------ */

#define GOOD "{\"context\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": 1}\n"

static void test_refusals(void)
{
    static const struct {
        const char *line, *says;
    } cases[] = {
        {"{\"context\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": 1", "not JSON from"},
        {"nonsense", "not JSON from character 1 on"},
        {"[1, 2]", "not a JSON object"},
        {"{\"choices\": [\"b\", \"c\"], \"answer\": 1}", "\"context\" is not a text"},
        {"{\"context\": 7, \"choices\": [\"b\", \"c\"], \"answer\": 1}", "\"context\" is not"},
        {"{\"context\": \"a\", \"answer\": 1}", "\"choices\" is not an array"},
        {"{\"context\": \"a\", \"choices\": [\"b\"], \"answer\": 0}", "1 choices, allowed are 2"},
        {"{\"context\": \"a\", \"choices\": [\"b\", 3], \"answer\": 0}", "choice 1 is not a text"},
        {"{\"context\": \"a\", \"choices\": [\"b\", \"\"], \"answer\": 0}", "choice 1 is not a"},
        {"{\"context\": \"a\", \"choices\": [\"b\", \"c\"]}", "\"answer\" is not a number"},
        {"{\"context\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": 2}", "from 0 to 1"},
        {"{\"context\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": -1}", "from 0 to 1"},
        {"{\"context\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": 0.5}", "from 0 to 1"},
        {"{\"context\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": \"0\"}", "from 0 to 1"},
        {"{\"context\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": 1} x", "something follows"},
    };
    char text[1000], path[512], want[600];
    struct err err = {0};

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int n = snprintf(text, sizeof text, GOOD "\n%s\n" GOOD, cases[i].line);
        struct task *task = task_read(write_task(text, (size_t)n, path), tokenizer, 0, &err);
        snprintf(want, sizeof want, "%s:3: ", path);
        if (!ok(task == NULL && err.code == ERR_DATA && strstr(err.text, want) == err.text &&
                    strstr(err.text, cases[i].says) != NULL,
                "refused with file and line: %s", cases[i].says))
            printf("# %s\n", task != NULL ? "read" : err.text);
        task_destroy(task);
    }
    static const char zero[] = GOOD "\n{\"context\": \"a\0\"}\n";
    ok(task_read(write_task(zero, sizeof zero - 1, path), tokenizer, 0, &err) == NULL &&
           strstr(err.text, ":3: a byte of zero") != NULL,
       "a byte of zero is refused");
    ok(task_read(write_task("\n \n", 3, path), tokenizer, 0, &err) == NULL &&
           strstr(err.text, "no items") != NULL,
       "a file without items is refused");
    ok(task_read(folder_path(folder, "none.jsonl", path), tokenizer, 0, &err) == NULL &&
           err.code == ERR_MISSING,
       "a file that is not there is missing");
}

int main(void)
{
    char path[512];

    folder_make(folder);
    fixture = fixture_dense(&small, FORMAT_F32, 31);
    parent_file_write(folder_path(folder, "model.gguf", path), &fixture->model);
    struct parent *parent = parent_open(path, NULL);
    tokenizer = tokenizer_create(parent_gguf(parent), NULL);
    team = team_create(1, NULL, NULL, NULL);
    test_score();
    test_refusals();
    team_destroy(team);
    tokenizer_destroy(tokenizer);
    parent_close(parent);
    fixture_destroy(fixture);
    folder_remove(folder);
    return tap_done();
}
