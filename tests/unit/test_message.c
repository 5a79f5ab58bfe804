#include "cluster/link.h"
#include "cluster/message.h"
#include "space/base/err.h"
#include "space/base/rng.h"
#include "tests/tap.h"
#include <stdlib.h>

static struct message sent, got;

static void test_round_trips(void)
{
    char text[MESSAGE_MAX];
    memset(&sent, 0, sizeof sent);
    sent.kind = MESSAGE_TASK;
    sent.work = (struct work){.kind = WORK_EVALUATE,
                              .lease = 1234567890123,
                              .attempt = 2,
                              .rung = RUNG_FINAL,
                              .sequence = 77,
                              .n_levels = 480,
                              .deadline_s = 60.5};
    for (uint32_t i = 0; i < 480; i++)
        sent.work.levels[i] = (uint8_t)(i % 16);
    int n = message_encode(&sent, text, sizeof text, NULL);
    ok(n > 0 && n < MESSAGE_MAX, "the task of an 80-layer model fits a message (%d bytes)", n);
    ok(message_decode(text, (size_t)n, &got, NULL) == 0 &&
           memcmp(&got.work, &sent.work, sizeof got.work) == 0,
       "a task comes back as it was sent");

    memset(&sent, 0, sizeof sent);
    sent.kind = MESSAGE_VERDICT;
    sent.verdict = VERDICT_UNABLE;
    sent.lease = 9;
    strcpy(sent.reason, "disk full: \"/x\"\n\ttab");
    strcpy(sent.spool, "1-9.json");
    n = message_encode(&sent, text, sizeof text, NULL);
    ok(message_decode(text, (size_t)n, &got, NULL) == 0 && got.verdict == VERDICT_UNABLE &&
           got.lease == 9 && strcmp(got.reason, sent.reason) == 0 &&
           strcmp(got.spool, sent.spool) == 0,
       "a verdict keeps its reason and its spool file");

    sent.work = (struct work){.kind = WORK_SENSITIVITY, .unit = 5, .lease = 3, .deadline_s = 1};
    struct work back;
    ok(work_encode(&sent.work, text, sizeof text, NULL) > 0 &&
           work_decode(text, &back, NULL) == 0 && memcmp(&back, &sent.work, sizeof back) == 0,
       "work travels on a command line too");
}

static void test_refusals(void)
{
    static const char *const bad[] = {
        "",
        "{",
        "[]",
        "{}",
        "null",
        "{\"kind\":\"hello\"}",
        "{\"kind\":1}",
        "{\"kind\":\"beat\"}",
        "{\"kind\":\"beat\",\"lease\":-1}",
        "{\"kind\":\"beat\",\"lease\":1.5}",
        "{\"kind\":\"beat\",\"lease\":1e300}",
        "{\"kind\":\"verdict\",\"lease\":1,\"verdict\":\"lost\"}",
        "{\"kind\":\"verdict\",\"lease\":1,\"verdict\":\"done\",\"spool\":\"../../etc/passwd\"}",
        "{\"kind\":\"verdict\",\"lease\":1,\"verdict\":\"done\",\"spool\":\".hidden\"}",
        "{\"kind\":\"task\",\"work\":\"evaluate\",\"lease\":1,\"attempt\":0,\"unit\":0,\"rung\":7,"
        "\"sequence\":0,\"deadline\":1,\"levels\":\"\"}",
        "{\"kind\":\"task\",\"work\":\"evaluate\",\"lease\":1,\"attempt\":0,\"unit\":0,\"rung\":0,"
        "\"sequence\":0,\"deadline\":1,\"levels\":\"0g\"}",
        "{\"kind\":\"task\",\"work\":\"evaluate\",\"lease\":1,\"attempt\":0,\"unit\":0,\"rung\":0,"
        "\"sequence\":0,\"deadline\":0,\"levels\":\"\"}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct err err = {0};
        ok(message_decode(bad[i], strlen(bad[i]), &got, &err) == -1 && err.code == ERR_DATA,
           "refused: %.60s", bad[i]);
    }
    struct err err = {0};
    memset(&sent, 0, sizeof sent);
    sent.kind = MESSAGE_VERDICT;
    memset(sent.result, '"', sizeof sent.result - 1);
    char text[MESSAGE_MAX];
    ok(message_encode(&sent, text, sizeof text, &err) == -1 && err.code == ERR_INTERNAL,
       "what does not fit is an error, not a cut message");
}

/* Random damage to a good message: decoded soundly or refused, never worse (sanitizers watch). */
static void test_damage(void)
{
    char good[MESSAGE_MAX], text[MESSAGE_MAX];
    memset(&sent, 0, sizeof sent);
    sent.kind = MESSAGE_TASK;
    sent.work = (struct work){.kind = WORK_EVALUATE, .n_levels = 48, .deadline_s = 60};
    int n = message_encode(&sent, good, sizeof good, NULL);
    struct rng rng = rng_make(1, 1);
    int n_refused = 0;
    for (int i = 0; i < 5000; i++) {
        memcpy(text, good, (size_t)n);
        for (int k = 0; k < 3; k++)
            text[rng_below(&rng, (uint64_t)n)] = (char)rng_below(&rng, 256);
        size_t length = rng_below(&rng, (uint64_t)n + 1);
        n_refused += message_decode(text, length, &got, NULL) != 0;
    }
    ok(n_refused > 4000, "damaged messages are refused (%d of 5000)", n_refused);
}

static void test_local_link(void)
{
    struct link *master, *worker;
    ok(link_local_open(&master, &worker, NULL) == 0, "a local link opens");
    memset(&sent, 0, sizeof sent);
    sent.kind = MESSAGE_READY;
    strcpy(sent.host, "here");
    ok(worker->receive(worker, &got, NULL) == 0, "nothing is there at first");
    for (uint32_t i = 0; i < 3; i++) {
        sent.n_cores = i;
        worker->send(worker, 0, &sent, NULL);
    }
    bool in_order = true;
    for (uint32_t i = 0; i < 3; i++)
        in_order &= master->receive(master, &got, NULL) == 1 && got.n_cores == i && got.from == 1;
    ok(in_order && master->receive(master, &got, NULL) == 0, "messages arrive once and in order");
    sent.kind = MESSAGE_STOP;
    master->send(master, 1, &sent, NULL);
    master->retire(master, 1);
    ok(worker->receive(worker, &got, NULL) == 0, "what was under way to a retired worker is gone");
    worker->close(worker, true);
    master->close(master, true);
}

int main(void)
{
    test_round_trips();
    test_refusals();
    test_damage();
    test_local_link();
    return tap_done();
}
