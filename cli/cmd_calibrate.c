/* cmd_calibrate.c - the statistics that compression rests on, without a search: those of a study, or
 * of any model and text, or from an importance matrix of llama.cpp; and out as such a matrix. */
#include "cli/beginning.h"
#include "cli/commands.h"
#include "cli/reading.h"
#include "cli/stop.h"
#include "cluster/preparation.h"
#include "evaluator/compression/calibration_imatrix.h"
#include "latency_model/stand.h"
#include "space/base/clock.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include "space/base/log.h"
#include "space/base/units.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define MAX_THREADS 1024

static const struct option_row rows[] = {
    {"study", 'C', OPTION_TEXT, "DIR", "study directory", "."},
    {"model", 'm', OPTION_TEXT, "FILE", "without a study: a GGUF of architecture llama", NULL},
    {"text", 0, OPTION_TEXT, "FILE", "what the model is run on", NULL},
    {"imatrix", 0, OPTION_TEXT, "FILE", "in place of a text: an importance matrix of llama.cpp",
     NULL},
    {"tokens", 0, OPTION_TEXT, "COUNT", "at most so many tokens of the text", "128Ki"},
    {"sequence", 0, OPTION_TEXT, "COUNT", "tokens per sequence; else the context, at most 512",
     NULL},
    {"separator", 0, OPTION_TEXT, "TEXT", "what stands between documents of the text", ""},
    {"threads", 't', OPTION_TEXT, "COUNT", "else every core", NULL},
    {"output", 'o', OPTION_TEXT, "FILE", "where the calibration goes (without a study)", NULL},
    {"imatrix-out", 0, OPTION_TEXT, "FILE",
     "the diagonals as an importance matrix of llama.cpp: *.gguf, or *.dat", NULL},
    {"checkpoint", 0, OPTION_TEXT, "TIME", "a kill loses the layer at work and so much before it",
     "10s"},
    {0}};

/* What was asked. */
struct question {
    const char *dir, *model, *text, *imatrix, *separator, *output, *imatrix_out;
    uint64_t n_tokens, sequence, n_threads;
    struct calibration_options options;
};

/* What came of it. */
struct answer {
    const char *path;
    char found[32]; /* "made", "found", ... */
    uint32_t n_sequences, sequence;
    char text[256]; /* name of the text, for an importance matrix */
    double seconds;
};

/* --- what was asked --------------------------------------------------------------------------- */

static int refuse(struct err *err, const char *why)
{
    err_set(err, ERR_USAGE, "kerf calibrate: %s; usage: %s", why, cmd_calibrate.usage);
    return -1;
}

static int check_question(const struct question *q, const struct options *options, struct err *err)
{
    static const char *const alone[] = {"text",    "imatrix", "tokens",  "sequence", "separator",
                                        "threads", "output",  NULL};
    const struct option_row *row = options->rows;

    if (q->model == NULL) {
        for (int i = 0; row[i].name != NULL; i++)
            for (int k = 0; alone[k] != NULL; k++)
                if (options->given[i] && strcmp(row[i].name, alone[k]) == 0) {
                    err_set(err, ERR_USAGE,
                            "kerf calibrate: --%s goes with --model; a study has its own", alone[k]);
                    return -1;
                }
        return 0;
    }
    if (options->given[0])
        return refuse(err, "a study or a model, not both");
    if (q->output == NULL)
        return refuse(err, "--output is missing");
    if ((q->text == NULL) == (q->imatrix == NULL))
        return refuse(err, "--text or --imatrix, one of them");
    return 0;
}

/* Zero seconds are fine here: every layer is made safe. */
static int parse_checkpoint(const char *text, double *seconds, struct err *err)
{
    *seconds = 0;
    if (strcmp(text, "0s") == 0)
        return 0;
    if (units_parse_duration(text, seconds, err) == 0)
        return 0;
    err_prefix(err, "--checkpoint");
    return -1;
}

static int ask(struct question *q, const struct options *options, struct err *err)
{
    *q = (struct question){.dir = option_text(options, "study"),
                           .model = option_text(options, "model"),
                           .text = option_text(options, "text"),
                           .imatrix = option_text(options, "imatrix"),
                           .separator = option_text(options, "separator"),
                           .output = option_text(options, "output"),
                           .imatrix_out = option_text(options, "imatrix-out"),
                           .options.stop = stop_requests()};
    if (check_question(q, options, err) != 0 ||
        option_count(options, "tokens", &q->n_tokens, err) != 0 ||
        option_count(options, "sequence", &q->sequence, err) != 0 ||
        option_count(options, "threads", &q->n_threads, err) != 0 ||
        parse_checkpoint(option_text(options, "checkpoint"), &q->options.checkpoint_s, err) != 0)
        return -1;
    if (q->n_threads > MAX_THREADS || (option_text(options, "sequence") != NULL &&
                                       (q->sequence < 2 || q->sequence > INT32_MAX))) {
        err_set(err, ERR_USAGE, q->n_threads > MAX_THREADS ? "--threads: 1 to 1024"
                                                           : "--sequence: 2 tokens at least");
        return -1;
    }
    return q->imatrix_out != NULL ? imatrix_check_name(q->imatrix_out, err) : 0;
}

/* A slip of the keyboard must not cost a model: only files of their kind are replaced. */
static int check_targets(const struct question *q, struct err *err)
{
    struct imatrix matrix = {0};

    if (q->output != NULL && file_exists(q->output) && !calibration_is_file(q->output)) {
        err_set(err, ERR_CREATE, "%s is there and is no calibration; choose another name",
                q->output);
        return -1;
    }
    if (q->imatrix_out != NULL && file_exists(q->imatrix_out) &&
        imatrix_read(&matrix, q->imatrix_out, NULL) != 0) {
        err_set(err, ERR_CREATE, "%s is there and is no importance matrix; choose another name",
                q->imatrix_out);
        return -1;
    }
    imatrix_fini(&matrix);
    return 0;
}

/* --- what is said ----------------------------------------------------------------------------- */

static const char *origin_name(enum calibration_origin origin)
{
    static const char *const names[] = {"found", "made", "gone on with and made"};
    return names[origin];
}

static void print_file(const char *path, const char *found, double seconds)
{
    struct stat status;
    char size[32], duration[32];

    printf("%s: %s, %s, %s\n", path, found,
           units_format_size(stat(path, &status) == 0 ? (double)status.st_size : 0, size),
           units_format_duration(seconds, duration));
}

static void print_summary(const struct calibration *c, const struct answer *answer)
{
    struct calibration_summary s;

    calibration_summarise(c, &s);
    if (s.is_diagonal)
        printf("  diagonal only: weights are rounded by importance, nothing is solved anew\n"
               "  tokens %llu",
               (unsigned long long)s.n_tokens);
    else
        printf("  tokens %llu in %u sequences of %u at most", (unsigned long long)s.n_tokens,
               answer->n_sequences, answer->sequence);
    printf(", inputs %zu, dead %zu\n", s.n_inputs, s.n_dead);
    if (s.is_short && !s.is_diagonal)
        printf("  fewer tokens than the %zu inputs of the widest layer: damped by %.2g of the mean "
               "moment\n",
               s.widest, s.damping);
}

static void print_memory(void)
{
    struct rusage usage;
    char size[32];

    getrusage(RUSAGE_SELF, &usage);
    printf("peak memory %s\n", units_format_size((double)usage.ru_maxrss * 1024, size));
}

/* --- importance matrices ---------------------------------------------------------------------- */

static int write_imatrix(const struct question *q, const struct calibration *c,
                         const struct parent *parent, const struct answer *answer, struct err *err)
{
    struct imatrix matrix = {0};
    struct stat status;
    char size[32];

    if (q->imatrix_out == NULL)
        return 0;
    if (calibration_to_imatrix(c, parent, answer->sequence, answer->text, &matrix, err) != 0)
        return -1;
    int written = imatrix_write(&matrix, q->imatrix_out, err);
    if (written == 0)
        printf("%s: made, %s, entries %zu\n", q->imatrix_out,
               units_format_size(stat(q->imatrix_out, &status) == 0 ? (double)status.st_size : 0,
                                 size),
               matrix.n_entries);
    imatrix_fini(&matrix);
    return written;
}

/* Read the calibration as any later user would, tell of it, and give its diagonals out. */
static int tell(const struct question *q, const struct parent *parent, const struct hash256 *hash,
                const struct answer *answer, struct err *err)
{
    struct calibration *c = calibration_load(answer->path, parent_geometry(parent), hash, err);

    if (c == NULL)
        return -1;
    print_file(answer->path, answer->found, answer->seconds);
    print_summary(c, answer);
    int status = write_imatrix(q, c, parent, answer, err);
    calibration_destroy(c);
    return status;
}

/* --- a study ---------------------------------------------------------------------------------- */

static int prepare(const struct question *q, struct workbench *bench, struct err *err)
{
    const struct study *study = bench->study;
    struct preparation done;
    struct answer answer = {.sequence = study->sequence};
    char path[STUDY_PATH_MAX];

    if (preparation_make(bench, &q->options, &done, err) != 0)
        return -1;
    answer.path = study_path(study, TABLE_CALIBRATION, path);
    answer.n_sequences = done.n_sequences;
    answer.seconds = done.calibration_s;
    snprintf(answer.found, sizeof answer.found, "%s", origin_name(done.calibration));
    snprintf(answer.text, sizeof answer.text, "%.255s", study->calibration);
    if (tell(q, bench->parent, &study->parent, &answer, err) != 0)
        return -1;
    print_file(preparation_order_path(study, path), done.order_made ? "made" : "found",
               done.order_s);
    print_file(study_path(study, TABLE_STATES, path), done.states_made ? "made" : "found",
               done.states_s);
    print_memory();
    printf("next: kerf search -C %s\n", q->dir);
    return 0;
}

static int calibrate_study(const struct question *q, struct err *err)
{
    struct workbench bench;
    struct study study;

    if (beginning_look(&study, q->dir, err) != 0)
        return -1;
    struct evaluation_place place = {.n_threads = study.threads};
    if (workbench_open(&bench, &study, &place, err) != 0)
        return -1;
    int status = prepare(q, &bench, err);
    workbench_close(&bench);
    return status;
}

/* --- any model -------------------------------------------------------------------------------- */

static int calibrate_text(const struct question *q, struct parent *parent,
                          const struct hash256 *hash, struct answer *answer, struct err *err)
{
    uint32_t n_ctx = parent_geometry(parent)->n_ctx;
    uint32_t usual = n_ctx < 512 ? n_ctx : 512;
    struct token_set set = {0};
    struct stand stand = {0};
    enum calibration_origin origin;
    int status = -1;

    answer->sequence = q->sequence > 0 ? (uint32_t)q->sequence : usual;
    struct tokenizer *tokenizer = tokenizer_create(parent_gguf(parent), err);
    if (tokenizer != NULL && stand_open(&stand, (uint32_t)q->n_threads, err) == 0 &&
        token_set_read(&set, tokenizer, q->text, q->separator, answer->sequence, q->n_tokens, 2,
                       err) == 0 &&
        quiet_work_begin(stand.quiet, err) == 0) {
        status = calibration_ensure(q->output, parent, hash, stand.kernels, stand.team, &set,
                                    &q->options, &origin, err);
        quiet_work_end(stand.quiet);
    }
    if (status == 0) {
        answer->n_sequences = set.n_sequences;
        snprintf(answer->text, sizeof answer->text, "%s", q->text);
        snprintf(answer->found, sizeof answer->found, "%s", origin_name(origin));
    }
    token_set_fini(&set);
    stand_close(&stand);
    tokenizer_destroy(tokenizer);
    return status;
}

static int calibrate_imatrix(const struct question *q, const struct parent *parent,
                             const struct hash256 *hash, struct answer *answer, struct err *err)
{
    struct imatrix matrix = {0};
    enum calibration_origin origin;

    if (calibration_ensure_imatrix(q->output, q->imatrix, parent, hash, &origin, err) != 0 ||
        imatrix_read(&matrix, q->imatrix, err) != 0)
        return -1;
    answer->sequence = matrix.chunk;
    snprintf(answer->text, sizeof answer->text, "%s", matrix.dataset);
    snprintf(answer->found, sizeof answer->found, "%s", origin_name(origin));
    imatrix_fini(&matrix);
    return 0;
}

static int calibrate_model(const struct question *q, struct err *err)
{
    struct answer answer = {.path = q->output};
    int64_t start_ns = clock_now_ns();
    struct parent *parent = parent_open(q->model, err);

    if (parent == NULL)
        return -1;
    struct hash256 hash = parent_hash(parent);
    int status = q->text != NULL ? calibrate_text(q, parent, &hash, &answer, err)
                                 : calibrate_imatrix(q, parent, &hash, &answer, err);
    answer.seconds = (double)(clock_now_ns() - start_ns) * 1e-9;
    if (status == 0)
        status = tell(q, parent, &hash, &answer, err);
    if (status == 0)
        print_memory();
    parent_close(parent);
    return status;
}

static int run(const struct command *command, int argc, char **argv)
{
    struct err err = {0};
    struct options options;
    struct question question;
    int go = option_parse(command, argc, argv, &options, &err);

    if (go == 0)
        return 0;
    if (go < 0 || ask(&question, &options, &err) != 0 || check_targets(&question, &err) != 0)
        return command_fail(&err);
    stop_catch();
    if ((question.model != NULL ? calibrate_model(&question, &err)
                                : calibrate_study(&question, &err)) != 0)
        return command_fail(&err);
    return 0;
}

const struct command cmd_calibrate = {
    .name = "calibrate",
    .summary = "the statistics that compression rests on, without a search",
    .usage = "kerf calibrate -C DIR | --model M (--text F | --imatrix F) -o FILE "
             "[--imatrix-out F]",
    .example = "kerf calibrate --model m.gguf --text c.txt -o calibration.bin --imatrix-out m.dat",
    .rows = rows,
    .run = run,
};
