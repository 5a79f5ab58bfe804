/* train_options.c - one row an option: spelling, kind, place in the struct, meaning. */
#include "evaluator/reference/train_options.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "space/base/err.h"

enum kind { TEXT, FILES, COUNT, REAL, FLOAT, FLAG };

struct option_row {
    const char *name;
    enum kind kind;
    size_t offset;
    const char *meaning;
};

#define AT(field) offsetof(struct train_options, field)

static const struct option_row table[] = {
    {"tokens", FILES, AT(tokens), "16-bit tokens to train on; may be given several times"},
    {"held-out", TEXT, AT(held_out), "16-bit tokens to judge by"},
    {"vocab", TEXT, AT(vocab), "GGUF whose tokenizer keys go into the model"},
    {"out", TEXT, AT(out), "GGUF to write at every checkpoint and at the end"},
    {"checkpoint", TEXT, AT(checkpoint), "file that keeps the state of the training"},
    {"resume", FLAG, AT(resume), "continue from the checkpoint if it is there"},
    {"steps", COUNT, AT(steps), "length of the schedule in steps"},
    {"minutes", REAL, AT(minutes), "length of the schedule in minutes; over --steps if not 0"},
    {"batch", COUNT, AT(batch), "sequences a step"},
    {"threads", COUNT, AT(threads), "threads"},
    {"seed", COUNT, AT(seed), "names the random numbers"},
    {"lr", REAL, AT(lr), "highest learning rate"},
    {"final-lr", REAL, AT(final_lr), "share of it that is left at the end of the cosine"},
    {"warmup", REAL, AT(warmup), "steps until the highest rate"},
    {"average", REAL, AT(average), "decay of the moving average of the weights, which is kept"},
    {"decay", REAL, AT(decay), "weight decay of matrices"},
    {"clip", REAL, AT(clip), "largest norm of the gradient"},
    {"save-every", COUNT, AT(save_every), "seconds between checkpoints"},
    {"report-every", COUNT, AT(report_every), "seconds between lines of the log"},
    {"held-out-every", COUNT, AT(held_out_every), "steps between judgements"},
    {"held-out-count", COUNT, AT(held_out_count), "sequences of a judgement"},
    {"backend", TEXT, AT(backend), "auto, amx, dot or f32"},
    {"vocab-size", COUNT, AT(g.vocab), "pieces, when no --vocab says it"},
    {"dim", COUNT, AT(g.dim), "width of the residual stream"},
    {"layers", COUNT, AT(g.n_layers), "layers"},
    {"heads", COUNT, AT(g.n_heads), "query heads"},
    {"kv-heads", COUNT, AT(g.n_kv_heads), "key and value heads"},
    {"head-size", COUNT, AT(g.head_size), "size of a head"},
    {"ffn", COUNT, AT(g.ffn), "width of the feed-forward part"},
    {"context", COUNT, AT(g.context), "tokens of a sequence"},
    {"norm-eps", FLOAT, AT(g.norm_eps), "epsilon of the norms"},
    {"rope-base", FLOAT, AT(g.rope_base), "base of the rotary positions"},
    {"help", FLAG, AT(help), "this text"},
};

enum { N_OPTIONS = sizeof table / sizeof table[0] };

static void defaults(struct train_options *o)
{
    *o = (struct train_options){
        .backend = "auto",
        .steps = 2000,
        .batch = 16,
        .threads = 2,
        .seed = 1,
        .lr = 2e-3,
        .final_lr = 0.02,
        .warmup = 100,
        .average = 0.995,
        .decay = 0.1,
        .clip = 1.0,
        .save_every = 180,
        .report_every = 10,
        .held_out_every = 200,
        .held_out_count = 32,
        .g = train_geometry_default(),
    };
}

static int parse_count(const struct option_row *row, const char *text, size_t *value,
                       struct err *err)
{
    char *end;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || n > SIZE_MAX / 2) {
        err_set(err, ERR_USAGE, "--%s: '%s' is no count", row->name, text);
        return -1;
    }
    *value = (size_t)n;
    return 0;
}

static int parse_real(const struct option_row *row, const char *text, double *value,
                      struct err *err)
{
    char *end;
    double x = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(x) || x < 0) {
        err_set(err, ERR_USAGE, "--%s: '%s' is no number of 0 or more", row->name, text);
        return -1;
    }
    *value = x;
    return 0;
}

static int file_append(struct train_options *o, const char *path, struct err *err)
{
    if (o->n_tokens == TRAIN_MAX_FILES) {
        err_set(err, ERR_USAGE, "more than %d token files", TRAIN_MAX_FILES);
        return -1;
    }
    o->tokens[o->n_tokens++] = path;
    return 0;
}

static int set(struct train_options *o, const struct option_row *row, const char *text,
               struct err *err)
{
    void *field = (char *)o + row->offset;
    double x;
    switch (row->kind) {
    case TEXT:
        *(const char **)field = text;
        return 0;
    case FILES:
        return file_append(o, text, err);
    case COUNT:
        return parse_count(row, text, field, err);
    case REAL:
        return parse_real(row, text, field, err);
    case FLOAT:
        if (parse_real(row, text, &x, err) != 0)
            return -1;
        *(float *)field = (float)x;
        return 0;
    case FLAG:
        *(bool *)field = true;
        return 0;
    }
    return -1;
}

/* "--name value", "--name=value" or "--flag". */
static const struct option_row *find(const char *arg, const char **value)
{
    if (strncmp(arg, "--", 2) != 0)
        return NULL;
    const char *equals = strchr(arg, '=');
    size_t length = equals != NULL ? (size_t)(equals - arg) - 2 : strlen(arg) - 2;
    *value = equals != NULL ? equals + 1 : NULL;
    for (size_t i = 0; i < N_OPTIONS; i++) {
        if (strlen(table[i].name) == length && strncmp(table[i].name, arg + 2, length) == 0)
            return &table[i];
    }
    return NULL;
}

static int check(const struct train_options *o, struct err *err)
{
    if (o->help)
        return 0;
    if (o->n_tokens == 0) {
        err_set(err, ERR_USAGE, "no --tokens to train on");
        return -1;
    }
    if (o->batch < 1 || o->batch > 4096 || o->threads < 1 || o->threads > 256) {
        err_set(err, ERR_USAGE, "--batch is 1 to 4096 and --threads is 1 to 256");
        return -1;
    }
    if (o->minutes == 0 && o->steps == 0) {
        err_set(err, ERR_USAGE, "neither --steps nor --minutes says how long");
        return -1;
    }
    if (o->average >= 1 || o->clip == 0 || o->save_every == 0 || o->held_out_every == 0 ||
        o->held_out_count == 0) {
        err_set(err, ERR_USAGE,
                "--average must be below 1; --clip, --save-every, "
                "--held-out-every and --held-out-count above 0");
        return -1;
    }
    if (o->resume && o->checkpoint == NULL) {
        err_set(err, ERR_USAGE, "--resume needs --checkpoint");
        return -1;
    }
    return 0;
}

int train_options_parse(struct train_options *o, int argc, const char *const *argv, struct err *err)
{
    defaults(o);
    for (int i = 1; i < argc; i++) {
        const char *value;
        const struct option_row *row = find(argv[i], &value);
        if (row == NULL) {
            err_set(err, ERR_USAGE, "'%s' is no option; --help lists them", argv[i]);
            return -1;
        }
        if (value == NULL && row->kind != FLAG && (value = argv[++i]) == NULL) {
            err_set(err, ERR_USAGE, "--%s needs a value", row->name);
            return -1;
        }
        if (set(o, row, value, err) != 0)
            return -1;
    }
    return check(o, err);
}

static void default_print(const struct train_options *o, const struct option_row *row)
{
    const void *field = (const char *)o + row->offset;
    if (row->kind == TEXT && *(const char *const *)field != NULL)
        printf(" [%s]", *(const char *const *)field);
    if (row->kind == COUNT)
        printf(" [%zu]", *(const size_t *)field);
    if (row->kind == REAL)
        printf(" [%g]", *(const double *)field);
    if (row->kind == FLOAT)
        printf(" [%g]", (double)*(const float *)field);
}

void train_options_help(void)
{
    struct train_options o;
    defaults(&o);
    printf("usage: kerf_train --tokens FILE [option...]\n\n"
           "Train a small Llama-architecture model.  SIGINT and SIGTERM save and stop (exit 75);\n"
           "the same command with --resume goes on, also with a longer --steps or --minutes.\n\n");
    for (size_t i = 0; i < N_OPTIONS; i++) {
        printf("  --%-15s %s", table[i].name, table[i].meaning);
        default_print(&o, &table[i]);
        printf("\n");
    }
}
