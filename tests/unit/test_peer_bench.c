/* The test program is its own peer: started as `-m FILE ...` it answers as llama-bench would, or
 * misbehaves as the environment asks. */
#include "latency_model/peer_bench.h"
#include "latency_model/peer_rounds.h"
#include "latency_model/quiet.h"
#include "space/base/clock.h"
#include "space/base/err.h"
#include "space/base/rng.h"
#include "tests/tap.h"
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define BEHAVIOUR "KERF_TEST_PEER"
#define DIARY     "KERF_TEST_PEER_DIARY" /* a file that every run adds a line to */

/* --- the peer --- */

static const char *argument(int argc, char **argv, const char *name)
{
    for (int i = 1; i + 1 < argc; i += 2)
        if (strcmp(argv[i], name) == 0)
            return argv[i + 1];
    return "";
}

/* "/tmp/x/3.gguf" -> 3: how slow a file is. */
static long number_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return strtol(slash != NULL ? slash + 1 : path, NULL, 10);
}

static void write_diary(const char *file, bool decode)
{
    FILE *diary = getenv(DIARY) != NULL ? fopen(getenv(DIARY), "a") : NULL;
    if (diary == NULL)
        return;
    fprintf(diary, "%ld %s\n", number_of(file), decode ? "decode" : "prefill");
    fclose(diary);
}

/* Tokens of file 3 take 3 us each, the first repetition more; a prompt takes half of that. */
static int answer(int argc, char **argv, const char *behaviour)
{
    long n_prompt = strtol(argument(argc, argv, "-p"), NULL, 10);
    long n_gen = strtol(argument(argc, argv, "-n"), NULL, 10);
    long n_samples = strtol(argument(argc, argv, "-r"), NULL, 10);
    const char *file = argument(argc, argv, "-m"), *depth = argument(argc, argv, "-d");
    cpu_set_t cpus;
    write_diary(file, n_gen > 0);
    sched_getaffinity(0, sizeof cpus, &cpus);
    printf("[\n  {\n    \"build_commit\": \"c0ffee\",\n    \"build_number\": 4756,\n");
    printf("    \"cpu_info\": \"%d cores\",\n    \"gpu_info\": \"\",\n", CPU_COUNT(&cpus));
    printf("    \"n_threads\": %s,\n    \"n_prompt\": %ld,\n    \"n_gen\": %ld,\n",
           argument(argc, argv, "-t"), n_prompt, n_gen);
    if (argument(argc, argv, "-ctk")[0] != '\0' && argument(argc, argv, "-fa")[0] == '1')
        printf("    \"type_k\": \"%s\",\n    \"type_v\": \"%s\",\n", argument(argc, argv, "-ctk"),
               strcmp(behaviour, "other cache") == 0 ? "f16" : argument(argc, argv, "-ctv"));
    if (depth[0] != '\0')
        printf("    \"n_depth\": %s,\n", depth);
    if (strcmp(behaviour, "no samples") == 0) {
        printf("    \"avg_ns\": 1000\n  }\n]\n");
        return 0;
    }
    if (strcmp(behaviour, "one less") == 0)
        n_samples--;
    printf("    \"samples_ns\": [ ");
    for (long i = 0; i < n_samples; i++) {
        double ns = (n_gen > 0 ? 1000.0 * (double)n_gen : 500.0 * (double)n_prompt) *
                    (double)number_of(file);
        printf("%s%.0f", i > 0 ? ", " : "", i == 0 ? 2 * ns : ns);
    }
    printf(" ]\n  }\n]\n");
    return 0;
}

static void talk_for_ever(FILE *where)
{
    for (;;)
        if (fputs("all work and no play makes a dull program\n", where) < 0)
            _exit(3);
}

/* A process that outlives this one and keeps its pipes open; its id goes to the diary. */
static void leave_orphan(void)
{
    pid_t pid = fork();
    FILE *diary = pid > 0 ? fopen(getenv(DIARY), "w") : NULL;
    if (diary != NULL) {
        fprintf(diary, "%ld\n", (long)pid);
        fclose(diary);
    }
    while (pid == 0)
        pause();
}

static int behave(int argc, char **argv, const char *behaviour)
{
    if (strcmp(behaviour, "status 1") == 0) {
        puts("[");
        fputs("load: 1 of 2\nmain: error: failed to load model 'x'\n\n", stderr);
        return 1;
    }
    if (strcmp(behaviour, "refuse 2") == 0 && number_of(argument(argc, argv, "-m")) == 2) {
        fputs("missing tensor\n", stderr);
        return 1;
    }
    if (strcmp(behaviour, "nothing") == 0)
        return 0;
    if (strcmp(behaviour, "garbage") == 0)
        return puts("| model | t/s |") < 0;
    if (strcmp(behaviour, "signal") == 0) {
        signal(SIGABRT, SIG_DFL);
        fputs("GGML_ASSERT(false) failed\n", stderr);
        abort();
    }
    if (strcmp(behaviour, "hang") == 0) {
        signal(SIGTERM, SIG_IGN);
        fputs("loading\n", stderr);
        if (fork() >= 0) /* two of them, and both with the pipes open */
            for (;;)
                pause();
    }
    if (strcmp(behaviour, "talk") == 0)
        talk_for_ever(stdout);
    if (strcmp(behaviour, "complain") == 0)
        talk_for_ever(stderr);
    if (strcmp(behaviour, "stdin") == 0 && read(0, &(char){0}, 1) != 0)
        return 9;
    if (strcmp(behaviour, "orphan") == 0)
        leave_orphan();
    return answer(argc, argv, behaviour);
}

/* --- parsing --- */

static const struct workload tg8 = {WORKLOAD_DECODE, 8, 0, 1}, tg8_c4 = {WORKLOAD_DECODE, 8, 4, 1},
                             pp16 = {WORKLOAD_PREFILL, 16, 0, 1};

static struct peer_bench bench_of(const char *program)
{
    struct peer_bench bench = {.n_threads = 2, .n_samples = 3, .kv = FORMAT_F16, .limit_s = 20};
    snprintf(bench.program, sizeof bench.program, "%s", program);
    return bench;
}

static int parse(const struct workload *workload, const char *text, struct peer_sample *sample,
                 struct err *err)
{
    struct peer_bench bench = bench_of("llama-bench");
    return peer_bench_parse(&bench, workload, text, strlen(text), sample, err);
}

#define HEAD  "[ { \"build_commit\": \"c392e509\", \"build_number\": 4756, \"cpu_info\": \"A CPU\", "
#define COUNT "\"gpu_info\": \"\", \"n_threads\": 2, \"n_prompt\": 0, \"n_gen\": 8, "
#define TIMES "\"avg_ns\": 8000, \"samples_ns\": [ 8000, 4000, 16000 ] } ]\n"

static void test_answers(void)
{
    struct peer_sample sample = {0};
    struct err err = {0};
    ok(parse(&tg8, HEAD COUNT TIMES, &sample, &err) == 0, "an answer of an older build%s",
       err.text);
    ok(sample.n == 3 && sample.ns[0] == 1000 && sample.ns[1] == 500 && sample.ns[2] == 2000,
       "decode times are those of a token");
    is_text(sample.build, "c392e509 (4756)", "the build is named");
    is_text(sample.cpu, "A CPU", "and the processor");
    ok(parse(&tg8, HEAD COUNT "\"n_depth\": 0, " TIMES, &sample, &err) == 0,
       "newer ones say the depth too%s", err.text);
    ok(parse(&tg8_c4, HEAD COUNT "\"n_depth\": 4, " TIMES, &sample, &err) == 0,
       "which may be another%s", err.text);
    ok(parse(&pp16,
             HEAD "\"n_threads\": 2, \"n_prompt\": 16, \"n_gen\": 0, "
                  "\"samples_ns\": [9, 8, 7]}]",
             &sample, &err) == 0 &&
           sample.ns[0] == 9 && sample.ns[2] == 7,
       "prefill times are those of the prompt%s", err.text);
    ok(parse(&tg8,
             "[{\"build_commit\": \"unknown\", \"build_number\": 0, \"cpu_info\": "
             "\"a\\u001b[2J\\tb\", "
             "\"n_threads\": 2, \"n_prompt\": 0, \"n_gen\": 8, \"samples_ns\": [1, 2, 3]}]",
             &sample, &err) == 0,
       "a build without a name%s", err.text);
    is_text(sample.build, "unknown", "is unknown");
    is_text(sample.cpu, "a?[2J?b", "what would move the cursor is not passed on");
}

static void test_batch(void)
{
    struct workload many = tg8;
    struct err err = {0};
    ok(peer_bench_can(&tg8, &err) == 0 && peer_bench_can(&pp16, &err) == 0,
       "one sequence is what it times");
    many.batch = 4;
    ok(peer_bench_can(&many, &err) == -1 && err.code == ERR_RESOURCE, "several it cannot (%s)",
       err.text);
}

static void refuses(const char *text, const struct workload *workload, enum err_code code,
                    const char *part, const char *title)
{
    struct peer_sample sample = {.n = 77};
    struct err err = {0};
    ok(parse(workload, text, &sample, &err) == -1 && err.code == code &&
           strstr(err.text, part) != NULL && sample.n == 77,
       "%s (%s)", title, err.text);
}

static void test_refusals(void)
{
    const char *good = HEAD COUNT TIMES;
    char cut[512];
    bool all = true;
    for (size_t n = 0; n + 1 < strlen(good); n++) {
        struct peer_sample sample = {0};
        snprintf(cut, sizeof cut, "%.*s", (int)n, good);
        all = all && parse(&tg8, cut, &sample, NULL) == -1;
    }
    ok(all, "an answer cut short anywhere is refused");
    refuses("", &tg8, ERR_DATA, "answers nothing", "no answer");
    refuses("| model |", &tg8, ERR_DATA, "in JSON", "another format");
    refuses(HEAD COUNT TIMES "x", &tg8, ERR_DATA, "in JSON", "something behind the answer");
    refuses("{}", &tg8, ERR_DATA, "list of one test", "an object");
    refuses("[]", &tg8, ERR_DATA, "list of one test", "no test");
    refuses("[1]", &tg8, ERR_DATA, "list of one test", "a test that is a number");
    refuses("[{}, {}]", &tg8, ERR_DATA, "list of one test", "two tests");
    refuses("[{}]", &tg8, ERR_DATA, "\"n_prompt\"", "a test without fields");
    refuses(good, &pp16, ERR_DATA, "n_prompt 16 and answers for 0", "the answer to another test");
    refuses(good, &tg8_c4, ERR_DATA, "\"n_depth\"", "a context that is not spoken of");
    refuses(HEAD COUNT "\"n_depth\": 3, " TIMES, &tg8, ERR_DATA, "n_depth 0 and answers for 3",
            "a context that nobody asked for");
    refuses(HEAD "\"n_threads\": 1, \"n_prompt\": 0, \"n_gen\": 8, " TIMES, &tg8, ERR_DATA,
            "n_threads 2 and answers for 1", "another number of threads");
    refuses(HEAD "\"n_threads\": \"2\", \"n_prompt\": 0, \"n_gen\": 8, " TIMES, &tg8, ERR_DATA,
            "no number", "a number as a text");
    refuses(HEAD COUNT "\"avg_ns\": 3}]", &tg8, ERR_DATA, "samples_ns", "no samples");
    refuses(HEAD COUNT "\"samples_ns\": 3}]", &tg8, ERR_DATA, "samples_ns",
            "samples without a list");
    refuses(HEAD COUNT "\"samples_ns\": [1, 2]}]", &tg8, ERR_DATA,
            "3 repetitions and answers with 2", "a sample less");
    refuses(HEAD COUNT "\"samples_ns\": [1, 2, 3, 4]}]", &tg8, ERR_DATA, "answers with 4",
            "a sample more");
    refuses(HEAD COUNT "\"samples_ns\": [1, 0, 3]}]", &tg8, ERR_DATA, "no time",
            "a time of nothing");
    refuses(HEAD COUNT "\"samples_ns\": [1, -2, 3]}]", &tg8, ERR_DATA, "no time",
            "a time before time");
    refuses(HEAD COUNT "\"samples_ns\": [1, 1e999, 3]}]", &tg8, ERR_DATA, "no time",
            "a time for ever");
    refuses(HEAD COUNT "\"samples_ns\": [1, null, 3]}]", &tg8, ERR_DATA, "no time",
            "a time that is not");
    refuses("[{\"gpu_info\": \"Big GPU\", \"n_threads\": 2, \"n_prompt\": 0, \"n_gen\": 8, " TIMES,
            &tg8, ERR_RESOURCE, "GPU Big GPU", "a build that sees a GPU");
}

/* --- finding --- */

static void put_file(const char *dir, const char *name, const char *text, mode_t mode)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "w");
    if (file == NULL)
        exit(1);
    fputs(text, file);
    fclose(file);
    chmod(path, mode);
}

static void test_find(const char *dir)
{
    char path[PROGRAM_PATH_MAX], wanted[300], search[600], other[300];
    struct err err = {0};
    snprintf(wanted, sizeof wanted, "%s/llama-bench", dir);
    snprintf(other, sizeof other, "%s/plain", dir);
    snprintf(search, sizeof search, "/nowhere::%s/sub:%s", dir, dir);
    unsetenv(PEER_BENCH_VARIABLE);
    setenv("PATH", search, 1);
    ok(peer_bench_find(NULL, path, &err) == -1 && err.code == ERR_RESOURCE &&
           strstr(err.text, "LLAMA_BENCH") != NULL && strstr(err.text, "--bench") != NULL,
       "no llama-bench anywhere (%s)", err.text);
    put_file(dir, "plain", "text", 0644);
    put_file(dir, "llama-bench", "#!/bin/false\n", 0755);
    ok(peer_bench_find(NULL, path, &err) == 0 && strcmp(path, wanted) == 0, "the one on PATH");
    setenv(PEER_BENCH_VARIABLE, "", 1);
    ok(peer_bench_find(NULL, path, &err) == 0 && strcmp(path, wanted) == 0,
       "an empty variable names none");
    setenv(PEER_BENCH_VARIABLE, "/bin/sh", 1);
    ok(peer_bench_find(NULL, path, &err) == 0 && strcmp(path, "/bin/sh") == 0,
       "the variable goes before PATH");
    ok(peer_bench_find(wanted, path, &err) == 0 && strcmp(path, wanted) == 0,
       "what is named goes before the variable");
    ok(peer_bench_find("llama-bench", path, &err) == 0 && strcmp(path, wanted) == 0,
       "a name without a slash is looked for on PATH");
    ok(peer_bench_find(other, path, &err) == -1 && strstr(err.text, "--bench") != NULL,
       "a file that may not be run is refused (%s)", err.text);
    ok(peer_bench_find(dir, path, &err) == -1, "so is a folder");
    setenv(PEER_BENCH_VARIABLE, "/none/llama-bench", 1);
    ok(peer_bench_find(NULL, path, &err) == -1 && strstr(err.text, "LLAMA_BENCH") != NULL,
       "a variable that names nothing is told, PATH is not tried (%s)", err.text);
    unsetenv(PEER_BENCH_VARIABLE);
}

/* --- running --- */

static char self[PROGRAM_PATH_MAX];

static int run(const char *behaviour, double limit_s, const struct workload *workload,
               struct peer_sample *sample, struct err *err)
{
    struct peer_bench bench = bench_of(self);
    bench.limit_s = limit_s;
    setenv(BEHAVIOUR, behaviour, 1);
    return peer_bench_run(&bench, "/models/4.gguf", workload, sample, err);
}

static void fails(const char *behaviour, double limit_s, enum err_code code, const char *part,
                  const char *title)
{
    struct peer_sample sample = {.n = 77};
    struct err err = {0};
    int64_t begun = clock_now_ns();
    int status = run(behaviour, limit_s, &tg8, &sample, &err);
    double seconds = (double)(clock_now_ns() - begun) * 1e-9;
    ok(status == -1 && err.code == code && strstr(err.text, part) != NULL && sample.n == 77,
       "%s (%s: %s)", title, err_name(err.code), err.text);
    ok(seconds < limit_s + 10, "and is over in %.1f s", seconds);
    ok(waitpid(-1, NULL, WNOHANG) < 0, "with nothing left behind");
}

/* Neither gone nor a zombie. */
static bool is_running(long pid)
{
    char path[64], state = 'X';
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    FILE *file = fopen(path, "r");
    bool read = file != NULL && fscanf(file, "%*d (%*[^)]) %c", &state) == 1;
    if (file != NULL)
        fclose(file);
    return read && state != 'Z' && state != 'X';
}

static void test_orphan(const char *dir)
{
    struct peer_sample sample = {0};
    struct err err = {0};
    char diary[300];
    long pid = 0;
    snprintf(diary, sizeof diary, "%s/orphan", dir);
    setenv(DIARY, diary, 1);
    ok(run("orphan", 20, &tg8, &sample, &err) == 0,
       "what it leaves running with its pipes open holds nobody up%s", err.text);
    unsetenv(DIARY);
    FILE *file = fopen(diary, "r");
    bool known = file != NULL && fscanf(file, "%ld", &pid) == 1 && pid > 1;
    if (file != NULL)
        fclose(file);
    /* Whoever inherits the dead one may take a moment to bury it. */
    for (int i = 0; known && i < 100 && is_running(pid); i++)
        clock_nap_ns(20000000);
    ok(known && !is_running(pid), "and is ended");
}

static void test_runs(const char *dir)
{
    struct peer_sample sample = {0};
    struct err err = {0};
    ok(run("good", 20, &tg8, &sample, &err) == 0, "a run%s", err.text);
    ok(sample.n == 3 && sample.ns[0] == 8000 && sample.ns[1] == 4000 && sample.ns[2] == 4000,
       "gives the time of a token, each repetition");
    ok(run("good", 20, &pp16, &sample, &err) == 0 && sample.ns[1] == 16 * 500 * 4,
       "or of a prompt%s", err.text);
    ok(run("good", 20, &tg8_c4, &sample, &err) == 0, "a context is asked for and answered%s",
       err.text);
    ok(run("stdin", 20, &tg8, &sample, &err) == 0, "stdin is empty%s", err.text);
    test_orphan(dir);

    fails("status 1", 20, ERR_DATA, "left with status 1: main: error: failed to load model 'x'",
          "one that leaves with 1");
    fails("signal", 20, ERR_DATA, "signal 6 (Aborted): GGML_ASSERT(false) failed",
          "one that aborts");
    fails("nothing", 20, ERR_DATA, "answers nothing", "one that says nothing");
    fails("garbage", 20, ERR_DATA, "in JSON", "one that says something else");
    fails("no samples", 20, ERR_DATA, "samples_ns", "one that keeps the samples to itself");
    fails("one less", 20, ERR_DATA, "answers with 2 samples", "one that repeats less than asked");
    fails("hang", 0.5, ERR_RESOURCE, "not done after 0.5 s, killed: loading", "one that hangs");
    fails("talk", 20, ERR_DATA, "more than 1048576 bytes", "one that never stops talking");
    fails("complain", 0.5, ERR_RESOURCE, "killed: all work", "or complaining");
}

static void test_cache(void)
{
    static const enum format formats[] = {FORMAT_Q8_0, FORMAT_Q4_0};
    struct peer_bench bench = bench_of(self);
    struct peer_sample sample = {0};
    struct err err = {0};
    for (int i = 0; i < 2; i++) {
        bench.kv = formats[i];
        setenv(BEHAVIOUR, "good", 1);
        ok(peer_bench_run(&bench, "/models/4.gguf", &tg8_c4, &sample, &err) == 0,
           "a KV cache in %s is asked for and answered%s", format_name(bench.kv), err.text);
        setenv(BEHAVIOUR, "other cache", 1);
        ok(peer_bench_run(&bench, "/models/4.gguf", &tg8, &sample, &err) == -1 &&
               err.code == ERR_DATA && strstr(err.text, "type_v q") != NULL,
           "another is refused (%s)", err.text);
    }
    ok(peer_bench_parse(&bench, &tg8, HEAD COUNT TIMES, strlen(HEAD COUNT TIMES), &sample, &err) ==
               -1 &&
           strstr(err.text, "type_k q4_0") != NULL,
       "so is silence about it");
    bench.kv = FORMAT_F16;
    const char *loud = HEAD COUNT "\"type_k\": \"f16\", \"type_v\": \"q8_0\", " TIMES;
    ok(peer_bench_parse(&bench, &tg8, loud, strlen(loud), &sample, &err) == -1,
       "and one that was not asked for");
}

static void test_confined(void)
{
    cpu_set_t mine;
    struct peer_bench bench = bench_of(self);
    struct peer_sample sample = {0};
    struct err err = {0};
    int cpu[1] = {0};
    sched_getaffinity(0, sizeof mine, &mine);
    while (cpu[0] < CPU_SETSIZE - 1 && !CPU_ISSET(cpu[0], &mine))
        cpu[0]++;
    bench.n_threads = 1;
    bench.cpu = cpu;
    setenv(BEHAVIOUR, "good", 1);
    ok(peer_bench_run(&bench, "/models/1.gguf", &tg8, &sample, &err) == 0, "on one core%s",
       err.text);
    is_text(sample.cpu, "1 cores", "it sees no other");
    cpu_set_t now;
    sched_getaffinity(0, sizeof now, &now);
    ok(CPU_EQUAL(&mine, &now), "while kerf itself may go where it could before");
}

static volatile sig_atomic_t stop;

static void on_alarm(int signal)
{
    (void)signal;
    stop = 1;
}

static void test_stop(void)
{
    struct peer_bench bench = bench_of(self);
    struct peer_sample sample;
    struct err err = {0};
    struct sigaction action = {.sa_handler = on_alarm};
    struct itimerval soon = {.it_value = {.tv_usec = 200000}};
    bench.stop = &stop;
    setenv(BEHAVIOUR, "hang", 1);
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &soon, NULL);
    int64_t begun = clock_now_ns();
    ok(peer_bench_run(&bench, "/models/1.gguf", &tg8, &sample, &err) == -1 &&
           err.code == ERR_STOPPED,
       "a stop ends the run (%s)", err.text);
    ok(clock_now_ns() - begun < 5000000000ll, "at once");
    ok(waitpid(-1, NULL, WNOHANG) < 0, "with nothing left behind");
}

static void test_broken_programs(const char *dir)
{
    struct peer_bench bench = {.n_threads = 1, .n_samples = 1, .limit_s = 20};
    struct peer_sample sample;
    struct err err = {0};
    put_file(dir, "broken", "\177ELF and no more", 0755);
    snprintf(bench.program, sizeof bench.program, "%s/broken", dir);
    ok(peer_bench_run(&bench, "x", &tg8, &sample, &err) == -1 && err.code == ERR_RESOURCE &&
           strstr(err.text, "cannot be started") != NULL,
       "a file that is no program (%s)", err.text);
    snprintf(bench.program, sizeof bench.program, "%s/gone", dir);
    ok(peer_bench_run(&bench, "x", &tg8, &sample, &err) == -1 && err.code == ERR_RESOURCE,
       "a program that is gone meanwhile (%s)", err.text);
    ok(waitpid(-1, NULL, WNOHANG) < 0, "and no process is left of either");
}

/* --- rounds --- */

enum { N_FILES = 4, N_ROUNDS = 7 };

static int run_rounds(struct peer_file *files, uint64_t seed, struct peer_sample *origin,
                      struct err *err)
{
    static const char *const path[N_FILES] = {"/m/3.gguf", "/m/1.gguf", "/m/2.gguf", "/m/9.gguf"};
    struct peer_bench bench = bench_of(self);
    struct peer_plan plan = {.decode = tg8, .prefill = pp16, .n_rounds = N_ROUNDS};
    struct rng rng = rng_make(seed, 0);
    struct quiet *quiet = quiet_open(err);
    for (int i = 0; i < N_FILES; i++)
        files[i] = (struct peer_file){.path = path[i], .kv = FORMAT_F16};
    err_set(&files[3].fault, ERR_CONFIG, "not exported");
    int status = quiet != NULL
                     ? peer_rounds_run(&bench, &plan, files, N_FILES, &rng, quiet, origin, err)
                     : -1;
    quiet_close(quiet);
    return status;
}

/* The diary by lines: in every round each file twice in a row, and rounds in different orders. */
static void check_diary(const char *path)
{
    FILE *diary = fopen(path, "r");
    long file, last = 0, order[N_ROUNDS][3];
    char kind[16];
    int n = 0;
    bool whole = diary != NULL, shuffled = false;
    while (diary != NULL && n < 6 * N_ROUNDS && fscanf(diary, "%ld %15s", &file, kind) == 2) {
        whole = whole && (n % 2 == 0 ? strcmp(kind, "decode") == 0
                                     : strcmp(kind, "prefill") == 0 && file == last);
        order[n / 6][n % 6 / 2] = last = file;
        n++;
    }
    whole = whole && n == 6 * N_ROUNDS && fscanf(diary, "%ld", &file) != 1;
    for (int r = 0; whole && r < N_ROUNDS; r++) {
        whole = order[r][0] + order[r][1] + order[r][2] == 6 &&
                order[r][0] * order[r][1] * order[r][2] == 6;
        shuffled = shuffled || memcmp(order[r], order[0], sizeof order[0]) != 0;
    }
    if (diary != NULL)
        fclose(diary);
    ok(whole, "every round runs each file once, decode and prefill");
    ok(shuffled, "in different orders");
}

static void test_rounds(const char *dir)
{
    static struct peer_file files[N_FILES];
    struct peer_sample origin = {0};
    struct err err = {0};
    char diary[300];
    snprintf(diary, sizeof diary, "%s/diary", dir);
    setenv(DIARY, diary, 1);
    setenv(BEHAVIOUR, "good", 1);
    ok(run_rounds(files, 1, &origin, &err) == 0, "rounds over three files%s", err.text);
    near(files[0].decode.median_ns, 3000, 0, "the median leaves the slow first repetition aside");
    near(files[1].decode.median_ns, 1000, 0, "for each file");
    near(files[2].prefill.median_ns, 16 * 500 * 2, 0, "and for the prompt");
    near(files[2].prefill.hi_ns, 16 * 500 * 2, 0, "with an interval");
    is_text(origin.build, "c0ffee (4756)", "the build is told");
    is_text(files[3].fault.text, "not exported", "a file that was left out stays out");
    check_diary(diary);
    unsetenv(DIARY);

    setenv(BEHAVIOUR, "refuse 2", 1);
    ok(run_rounds(files, 1, NULL, &err) == 0 && files[0].fault.code == ERR_NONE &&
           files[1].fault.code == ERR_NONE && files[0].prefill.median_ns == 16 * 500 * 3,
       "a file that the program refuses does not keep it from the others%s", err.text);
    ok(files[2].fault.code == ERR_DATA && strstr(files[2].fault.text, "missing tensor") != NULL,
       "and what it said is kept (%s)", files[2].fault.text);
    setenv(BEHAVIOUR, "status 1", 1);
    ok(run_rounds(files, 1, NULL, &err) == -1 && err.code == ERR_RESOURCE &&
           strstr(err.text, "failed to load model") != NULL,
       "one that refuses them all is told (%s)", err.text);
}

int main(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[1], "-m") == 0)
        return behave(argc, argv, getenv(BEHAVIOUR) != NULL ? getenv(BEHAVIOUR) : "good");
    char dir[] = "/tmp/kerf-peer.XXXXXX", command[64];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length <= 0 || mkdtemp(dir) == NULL)
        return 1;
    char *path = strdup(getenv("PATH") != NULL ? getenv("PATH") : "/usr/bin:/bin");
    setenv("KERF_QUIET_DIR", dir, 1);
    setenv("ASAN_OPTIONS", "handle_abort=0", 0);
    test_answers();
    test_batch();
    test_refusals();
    test_find(dir);
    test_runs(dir);
    test_cache();
    test_confined();
    test_broken_programs(dir);
    test_rounds(dir);
    test_stop();
    setenv("PATH", path, 1);
    free(path);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command) == 0 ? tap_done() : 1;
}
