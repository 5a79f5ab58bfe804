/* world_main.c - kerf_world: writes the texts, tasks, vocabulary and token files of the reference
 * model.
 *
 *     kerf_world vocab OUT                         the vocabulary, a GGUF file without tensors
 *     kerf_world texts DIR                         calibration.txt, heldout.txt, tasks/NAME.jsonl
 *     kerf_world tokens KIND N OUT [--seed S]      N training tokens, u16 little-endian, of KIND:
 *                                                  all, the name of a task, or drills, the first
 *                                                  lessons (world_drill.h)
 *     kerf_world items OUT                         the task items as tokens, for the trainer
 *     kerf_world show N                            N training documents, for reading
 *
 * The token stream is a row of chunks, each <s> and one to four documents held apart by a line
 * feed.  The items file is little-endian: "KITM", u32 number of records, then for each choice of
 * each item
 *     u16 task, item, choice, 1 if it is the answer, context tokens, choice tokens, choice bytes
 *     u16 tokens[context + choice]           (the context begins with <s>) */
#include "evaluator/reference/tokenizer_train.h"
#include "evaluator/reference/world.h"
#include "evaluator/reference/world_drill.h"
#include "space/base/err.h"
#include "space/base/file.h"
#include "space/base/rng.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N_PIECES        1536
#define N_ITEMS         600
#define TEXT_BYTES      (256u << 10)
#define CHUNK_OF_DRILLS 1024

/* Streams of documents (1 is the vocabulary's); training takes any seed from SEED_TRAINING on. */
enum { SEED_CALIBRATION = 2, SEED_HELD_OUT = 3, SEED_TRAINING = 1000 };

/* ---- vocabulary ---- */

static int command_vocab(const struct world *world, const char *path, struct err *err)
{
    struct vocabulary *v = world_vocabulary(world, err);
    int status = v != NULL ? vocabulary_save(v, path, err) : -1;
    vocabulary_destroy(v);
    return status;
}

/* ---- texts and tasks ---- */

/* Each document stands on a line of its own that begins with a space, so that its first word is
 * the same piece as anywhere else. */
static int text_write(const struct world *world, uint64_t seed, const char *folder,
                      const char *name, struct err *err)
{
    char path[4096], text[WORLD_TEXT_ROOM];
    struct file_draft draft;
    size_t n_bytes = 0;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (file_draft_open(&draft, path, err) != 0)
        return -1;
    for (uint64_t i = 0; n_bytes < TEXT_BYTES; i++) {
        world_document(world, seed, i, false, text);
        int n = fprintf(draft.stream, "%s%s", i > 0 ? " " : "", text);
        n_bytes += n > 0 ? (size_t)n : TEXT_BYTES;
    }
    return file_draft_commit(&draft, err);
}

static int task_write(const struct world *world, enum world_task task, const char *folder,
                      struct err *err)
{
    static struct world_item items[N_ITEMS];
    char path[4096];
    struct file_draft draft;
    snprintf(path, sizeof path, "%s/tasks/%s.jsonl", folder, world_task_name(task));
    if (file_draft_open(&draft, path, err) != 0)
        return -1;
    world_items(world, task, N_ITEMS, items);
    /* The world's text has neither quotes nor backslashes nor control signs: nothing to escape. */
    for (size_t i = 0; i < N_ITEMS; i++) {
        fprintf(draft.stream, "{\"context\": \"%s\", \"choices\": [", items[i].context);
        for (int c = 0; c < items[i].n_choices; c++)
            fprintf(draft.stream, "%s\"%s\"", c > 0 ? ", " : "", items[i].choices[c]);
        fprintf(draft.stream, "], \"answer\": %d}\n", items[i].answer);
    }
    return file_draft_commit(&draft, err);
}

static int command_texts(const struct world *world, const char *folder, struct err *err)
{
    char tasks[4096];
    snprintf(tasks, sizeof tasks, "%s/tasks", folder);
    if (file_make_dirs(tasks, err) != 0 ||
        text_write(world, SEED_CALIBRATION, folder, "calibration.txt", err) != 0 ||
        text_write(world, SEED_HELD_OUT, folder, "heldout.txt", err) != 0)
        return -1;
    for (int task = 0; task < WORLD_N_TASKS; task++)
        if (task_write(world, (enum world_task)task, folder, err) != 0)
            return -1;
    return 0;
}

/* ---- token files ---- */

static int tokens_write(const struct world *world, struct vocabulary *v, enum world_task only,
                        uint64_t n_tokens, uint64_t seed, FILE *stream)
{
    static uint16_t tokens[4 * 4 * WORLD_TEXT_ROOM + 8];
    static char chunk[4 * WORLD_TEXT_ROOM];
    struct rng rng = rng_make(seed, UINT64_MAX);
    uint64_t document = 0, n_done = 0;
    while (n_done < n_tokens) {
        size_t at = 0, n_documents = 1 + (size_t)rng_below(&rng, 4);
        for (size_t i = 0; i < n_documents; i++) {
            if (i > 0)
                chunk[at++] = ' ';
            at += world_document_of(world, only, seed, document++, false, chunk + at);
        }
        tokens[0] = PIECE_BOS;
        uint64_t n = 1 + vocabulary_encode(v, chunk, tokens + 1);
        if (n > n_tokens - n_done)
            n = n_tokens - n_done;
        if (fwrite(tokens, sizeof tokens[0], n, stream) != n)
            return -1;
        n_done += n;
    }
    return 0;
}

/* Chunks of <s> and drills, as long as a chunk of text is at most. */
static int drills_write(struct vocabulary *v, uint64_t n_tokens, uint64_t seed, FILE *stream)
{
    uint16_t chunk[CHUNK_OF_DRILLS];
    for (uint64_t i = 0, n; n_tokens > 0; i++, n_tokens -= n) {
        struct rng rng = rng_make(seed, i);
        n = n_tokens < CHUNK_OF_DRILLS ? n_tokens : CHUNK_OF_DRILLS;
        chunk[0] = PIECE_BOS;
        drill_write(&rng, vocabulary_size(v), chunk + 1, n - 1);
        if (fwrite(chunk, sizeof chunk[0], n, stream) != n)
            return -1;
    }
    return 0;
}

/* A task by its name, WORLD_N_TASKS for "all", -1 for anything else. */
static int kind_of(const char *name)
{
    int task = 0;
    if (strcmp(name, "all") == 0)
        return WORLD_N_TASKS;
    while (task < WORLD_N_TASKS && strcmp(name, world_task_name((enum world_task)task)) != 0)
        task++;
    return task < WORLD_N_TASKS ? task : -1;
}

static int command_tokens(const struct world *world, const char *kind, uint64_t n_tokens,
                          const char *path, uint64_t seed, struct err *err)
{
    bool drills = strcmp(kind, "drills") == 0;
    int only = kind_of(kind), status = -1;
    struct file_draft draft;
    if (!drills && only < 0) {
        err_set(err, ERR_USAGE, "tokens of '%s': kinds are all, drills and the names of the tasks",
                kind);
        return -1;
    }
    struct vocabulary *v = world_vocabulary(world, err);
    if (v == NULL)
        return -1;
    if (file_draft_open(&draft, path, err) != 0)
        goto done;
    seed += SEED_TRAINING;
    status = drills ? drills_write(v, n_tokens, seed, draft.stream)
                    : tokens_write(world, v, (enum world_task)only, n_tokens, seed, draft.stream);
    if (status != 0) {
        err_set_errno(err, errno, "%s", path);
        file_draft_discard(&draft);
        goto done;
    }
    status = file_draft_commit(&draft, err);
done:
    vocabulary_destroy(v);
    return status;
}

static uint32_t item_write(struct vocabulary *v, const struct world_item *item, unsigned task,
                           unsigned index, FILE *stream)
{
    static uint16_t record[7 + 4 * 8192];
    uint16_t *tokens = record + 7;
    tokens[0] = PIECE_BOS;
    size_t n_context = 1 + vocabulary_encode(v, item->context, tokens + 1);
    for (int c = 0; c < item->n_choices; c++) {
        /* Encoding puts a space before a text: the choice's own is taken off first. */
        size_t n_choice = vocabulary_encode(v, item->choices[c] + 1, tokens + n_context);
        const uint16_t head[7] = {(uint16_t)task,
                                  (uint16_t)index,
                                  (uint16_t)c,
                                  c == item->answer,
                                  (uint16_t)n_context,
                                  (uint16_t)n_choice,
                                  (uint16_t)strlen(item->choices[c])};
        memcpy(record, head, sizeof head);
        fwrite(record, sizeof record[0], 7 + n_context + n_choice, stream);
    }
    return (uint32_t)item->n_choices;
}

static int command_items(const struct world *world, const char *path, struct err *err)
{
    static struct world_item items[N_ITEMS];
    struct vocabulary *v = world_vocabulary(world, err);
    struct file_draft draft;
    if (v == NULL)
        return -1;
    if (file_draft_open(&draft, path, err) != 0) {
        vocabulary_destroy(v);
        return -1;
    }
    uint32_t n_records = 0;
    for (int task = 0; task < WORLD_N_TASKS; task++)
        n_records += N_ITEMS * (uint32_t)world_task_n_choices((enum world_task)task);
    fwrite("KITM", 1, 4, draft.stream);
    fwrite(&n_records, sizeof n_records, 1, draft.stream);
    for (int task = 0; task < WORLD_N_TASKS; task++) {
        world_items(world, (enum world_task)task, N_ITEMS, items);
        for (unsigned i = 0; i < N_ITEMS; i++)
            item_write(v, &items[i], (unsigned)task, i, draft.stream);
    }
    vocabulary_destroy(v);
    return file_draft_commit(&draft, err);
}

static int command_show(const struct world *world, uint64_t n)
{
    char text[WORLD_TEXT_ROOM];
    for (uint64_t i = 0; i < n; i++) {
        world_document(world, SEED_TRAINING, i, false, text);
        fputs(text, stdout);
    }
    return 0;
}

static int usage(void)
{
    fputs("usage: kerf_world vocab OUT | texts DIR | tokens KIND N OUT [--seed S] | items OUT | "
          "show N\n",
          stderr);
    return err_exit_status(ERR_USAGE);
}

static bool number_parse(const char *text, uint64_t *number)
{
    char *end;
    errno = 0;
    *number = strtoull(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && text[0] != '-';
}

int main(int argc, char **argv)
{
    struct err err = {0};
    uint64_t n = 0, seed = 0;
    int status = -1;
    const char *command = argc > 1 ? argv[1] : "";
    bool seeded = argc == 7 && strcmp(argv[5], "--seed") == 0 && number_parse(argv[6], &seed);
    struct world *world = world_create(&err);
    if (world == NULL) {
        fprintf(stderr, "kerf_world: %s\n", err.text);
        return err_exit_status(err.code);
    }
    if (strcmp(command, "vocab") == 0 && argc == 3)
        status = command_vocab(world, argv[2], &err);
    else if (strcmp(command, "texts") == 0 && argc == 3)
        status = command_texts(world, argv[2], &err);
    else if (strcmp(command, "items") == 0 && argc == 3)
        status = command_items(world, argv[2], &err);
    else if (strcmp(command, "show") == 0 && argc == 3 && number_parse(argv[2], &n))
        status = command_show(world, n);
    else if (strcmp(command, "tokens") == 0 && (argc == 5 || seeded) && number_parse(argv[3], &n))
        status = command_tokens(world, argv[2], n, argv[4], seed, &err);
    else
        status = usage();
    if (status < 0) {
        fprintf(stderr, "kerf_world: %s\n", err.text);
        status = err_exit_status(err.code);
    }
    world_destroy(world);
    return status;
}
