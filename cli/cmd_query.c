#include "cli/commands.h"
#include "cli/reading.h"
#include "space/base/err.h"
#include "space/base/units.h"
#include <stdlib.h>
#include <string.h>

static const struct option_row rows[] = {
    READING_ROWS,
    {"latency-budget", 'b', OPTION_TEXT, "TIME", "largest latency, with its unit (30ms, 800us)",
     NULL},
    {"metric", 0, OPTION_TEXT, "NAME", "tpot_ms.p50 (a token) or ttft_ms.p50 (a prompt)",
     "tpot_ms.p50"},
    {"max-loss", 0, OPTION_TEXT, "PERCENT", "largest rise of perplexity (0.5%)", NULL},
    {"max-size", 0, OPTION_TEXT, "BYTES", "largest size of the weights (1.5GiB)", NULL},
    {"allow-flagged", 0, OPTION_FLAG, NULL, "let latencies of a machine that was not quiet answer",
     NULL},
    {"number", 'n', OPTION_TEXT, "COUNT", "how many answers", "1"},
    {0}};

static int parse_metric(const char *name, enum query_metric *metric, struct err *err)
{
    if (strcmp(name, "tpot_ms.p50") == 0 || strcmp(name, "tpot_ms") == 0)
        *metric = METRIC_DECODE;
    else if (strcmp(name, "ttft_ms.p50") == 0 || strcmp(name, "ttft_ms") == 0)
        *metric = METRIC_PREFILL;
    else {
        err_set(err, ERR_USAGE, "--metric %s: unknown; tpot_ms.p50 or ttft_ms.p50", name);
        return -1;
    }
    return 0;
}

/* "0.5%" -> 0.005. */
static int parse_percent(const char *text, double *share, struct err *err)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || strcmp(end, "%") != 0 || !(value >= 0)) {
        err_set(err, ERR_USAGE, "--max-loss %s: expected a percentage with its sign, such as 0.5%%",
                text);
        return -1;
    }
    *share = value / 100;
    return 0;
}

static int parse_query(const struct options *options, struct query *query, struct err *err)
{
    const char *budget = option_text(options, "latency-budget");
    const char *loss = option_text(options, "max-loss");
    const char *size = option_text(options, "max-size");
    uint64_t n;
    *query = (struct query){.max_loss = -1};
    if (budget == NULL && loss == NULL && size == NULL) {
        err_set(err, ERR_USAGE,
                "kerf query: nothing asked; give --latency-budget 30ms, "
                "--max-loss 1%% or --max-size 1GiB");
        return -1;
    }
    double seconds = 0;
    if (budget != NULL && units_parse_duration(budget, &seconds, err) != 0) {
        err_prefix(err, "--latency-budget");
        return -1;
    }
    query->budget_ns = seconds * 1e9;
    if (loss != NULL && parse_percent(loss, &query->max_loss, err) != 0)
        return -1;
    if (size != NULL && units_parse_size(size, &query->max_bytes, err) != 0) {
        err_prefix(err, "--max-size");
        return -1;
    }
    if (parse_metric(option_text(options, "metric"), &query->metric, err) != 0 ||
        option_count(options, "number", &n, err) != 0)
        return -1;
    if (n < 1 || n > QUERY_MAX) {
        err_set(err, ERR_USAGE, "--number: 1 to %d", QUERY_MAX);
        return -1;
    }
    query->allow_flagged = option_flag(options, "allow-flagged");
    query->n = (uint32_t)n;
    return 0;
}

static int run(const struct command *command, int argc, char **argv)
{
    struct err err = {0};
    struct options options;
    struct reading reading;
    struct query query;
    enum show_format format;
    int go = option_parse(command, argc, argv, &options, &err);
    if (go == 0)
        return 0;
    if (go < 0 || reading_format(&options, &format, &err) != 0 ||
        parse_query(&options, &query, &err) != 0 ||
        reading_open(&reading, option_text(&options, "study"), &err) != 0)
        return command_fail(&err);

    struct query_answer answer;
    query_run(&reading.front, &query, &answer);
    const char *budget = option_text(&options, "latency-budget");
    show_answer(stdout, format, &reading.study, &reading.front, &query, budget ? budget : "",
                &answer);
    int status = answer.n_hits > 0 ? 0 : err_exit_status(ERR_NO);
    reading_close(&reading);
    return status;
}

const struct command cmd_query = {
    .name = "query",
    .summary = "which model do I run in 30 ms? the best measured answer, or an honest no",
    .usage = "kerf query [-C DIR] --latency-budget TIME [--metric M] [--max-loss P] [--max-size B]",
    .example = "kerf query -C demo --latency-budget 500us",
    .rows = rows,
    .run = run,
};
