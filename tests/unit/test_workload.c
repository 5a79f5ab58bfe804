#include "space/workload.h"

#include "space/base/err.h"
#include "tests/tap.h"

static bool round_trips(const char *text)
{
    struct workload w;
    struct err err = {0};
    char again[32];

    return workload_parse(text, &w, &err) == 0 && strcmp(workload_format(&w, again), text) == 0;
}

static bool refused(const char *text)
{
    struct workload w = {.n_tokens = 77};
    struct err err = {0};

    return workload_parse(text, &w, &err) == -1 && err.code == ERR_CONFIG && w.n_tokens == 77;
}

int main(void)
{
    static const char *const good[] = {"pp512@b1",  "tg128@b1",     "tg32@c64@b1",  "pp1@c1@b1",
                                       "tg128@b2",  "pp512@b8",     "tg32@c256@b8", "tg1@b16777216",
                                       "tg1@b1024", "pp16777216@b4"};
    static const char *const bad[] = {"",
                                      "pp",
                                      "pp512",
                                      "512@b1",
                                      "pp0@b1",
                                      "pp-1@b1",
                                      "pp512@b",
                                      "pp512@b1x",
                                      "pp 512@b1",
                                      "tg128@b0",
                                      "tg128@b01",
                                      "tg128@b-1",
                                      "tg1@b16777217",
                                      "pp16777216@b5",
                                      "tg1@c16777215@b5",
                                      "xx1@b1",
                                      "pp01@b1",
                                      "tg1@c@b1",
                                      "tg1@b1@c1",
                                      "pp512@b1\n",
                                      "pp99999999999999999999@b1",
                                      "PP512@b1"};
    struct workload w, v;

    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        ok(round_trips(good[i]), "\"%s\" is read and written again", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ok(refused(bad[i]), "bad workload %zu is refused and changes nothing", i);

    ok(workload_parse("tg32@c64@b1", &w, NULL) == 0 && w.kind == WORKLOAD_DECODE &&
           w.n_tokens == 32 && w.context == 64 && w.batch == 1,
       "the parts of tg32@c64@b1 are where they belong");
    is_text(workload_metric(&w), "tpot_ms", "decode is told per token");
    ok(workload_parse("tg32@b1", &v, NULL) == 0 && !workload_equal(&w, &v),
       "another context is another workload");
    ok(workload_parse("pp32@b1", &w, NULL) == 0 && !workload_equal(&w, &v),
       "prefill is not decode");
    is_text(workload_metric(&w), "ttft_ms", "prefill is told for the whole prompt");

    ok(workload_parse("tg32@c64@b8", &w, NULL) == 0 &&
           workload_parse("tg32@c64@b1", &v, NULL) == 0 && !workload_equal(&w, &v),
       "another batch is another workload");
    ok(w.batch == 8 && workload_positions(&w) == 96 && workload_columns(&w) == 8,
       "a step of a batch is one token of each sequence");
    near(workload_tokens_per_s(&w, 2e6), 4000, 1e-9, "of 8 in 2 ms 4,000 a second are made");
    ok(workload_parse("pp100@c28@b4", &w, NULL) == 0 && workload_positions(&w) == 128 &&
           workload_columns(&w) == 400,
       "prompts of a batch come at once");
    near(workload_tokens_per_s(&w, 1e8), 4000, 1e-9, "400 tokens read in 0.1 s are 4,000 a second");
    return tap_done();
}
