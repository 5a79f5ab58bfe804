/* test_file.c - reading, mapping, and what a failed replacement leaves behind. */
#include "space/base/err.h"
#include "space/base/file.h"
#include "space/base/hash.h"
#include "tests/tap.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

static char folder[200];

/* "folder/name" in one of a few rotating buffers. */
static const char *in(const char *name)
{
    static char paths[8][400];
    static int turn;
    char *path = paths[turn++ % 8];

    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static int n_entries(const char *path)
{
    DIR *dir = opendir(path);
    int n = -2; /* . and .. */

    if (dir == NULL)
        return -1;
    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n;
}

static bool holds(const char *path, const char *want)
{
    size_t n = 0;
    char *text = file_read(path, 1 << 20, &n, NULL);
    bool same = text != NULL && n == strlen(want) && memcmp(text, want, n) == 0;

    free(text);
    return same;
}

static void test_replace(void)
{
    struct err err = {0};
    const char *path = in("a.txt");

    ok(file_replace(path, "one", 3, &err) == 0 && holds(path, "one"), "a new file is made");
    chmod(path, 0600);
    ok(file_replace(path, "second", 6, &err) == 0 && holds(path, "second"), "an old one replaced");
    ok(n_entries(folder) == 1, "no draft is left beside it");
    ok(file_replace(in("empty"), NULL, 0, &err) == 0 && holds(in("empty"), ""),
       "an empty file is made");
    unlink(in("empty"));

    ok(file_replace(in("no/such/x"), "x", 1, &err) == -1 && err.code == ERR_CREATE,
       "a missing folder is ERR_CREATE");
    ok(strstr(err.text, "no/such/x") != NULL, "and the sentence names the path");
    ok(file_replace("/dev/null", "x", 1, &err) == -1 && err.code == ERR_CREATE,
       "a device is not replaced");
    ok(file_replace(folder, "x", 1, &err) == -1 && err.code == ERR_CREATE, "nor is a folder");

    char too_long[5000];
    memset(too_long, 'x', sizeof too_long - 1);
    too_long[sizeof too_long - 1] = '\0';
    ok(file_replace(too_long, "x", 1, &err) == -1 && err.code == ERR_CREATE,
       "a path longer than any is refused");
}

/* The process may write at most 4096 bytes into a file: the disk is full after that. */
static void test_full_disk(void)
{
    struct rlimit old, small;
    struct err err = {0};
    struct file_draft draft;
    const char *path = in("a.txt");
    static char big[100000];

    memset(big, 'b', sizeof big);
    file_replace(path, "precious", 8, NULL);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    small = old;
    small.rlim_cur = 4096;
    fflush(stdout);
    setrlimit(RLIMIT_FSIZE, &small);
    int whole = file_replace(path, big, sizeof big, &err);
    struct err draft_err = {0};
    int opened = file_draft_open(&draft, path, NULL);
    /* Small writes, whose failure nobody looks at before the commit. */
    for (int i = 0; opened == 0 && i < 1000; i++)
        fprintf(draft.stream, "line %d of many, many lines\n", i);
    int committed = opened == 0 ? file_draft_commit(&draft, &draft_err) : 0;
    setrlimit(RLIMIT_FSIZE, &old);

    ok(whole == -1 && err.code == ERR_IO, "a full disk is ERR_IO");
    ok(holds(path, "precious"), "the old content is still there");
    ok(opened == 0 && committed == -1 && draft_err.code == ERR_IO,
       "a draft that did not fit is not committed");
    ok(draft_err.text[0] != '\0' && strstr(draft_err.text, "a.txt") != NULL,
       "and the sentence names the file");
    ok(holds(path, "precious"), "the old content is still there after the draft");
    ok(n_entries(folder) == 1, "and nothing lies beside it");
}

static void test_read_only_folder(void)
{
    struct err err = {0};

    mkdir(in("locked"), 0777);
    file_replace(in("locked/a"), "old", 3, NULL);
    chmod(in("locked"), 0555);
    /* Root may write anywhere, so root tries it as another user. */
    bool is_root = geteuid() == 0;
    chmod(folder, 0755);
    if (is_root && seteuid(65534) != 0) {
        printf("# not checked: a read-only folder (cannot become another user)\n");
    } else {
        int result = file_replace(in("locked/a"), "new", 3, &err);
        if (is_root && seteuid(0) != 0)
            abort();
        ok(result == -1 && err.code == ERR_PERMISSION, "a read-only folder is ERR_PERMISSION");
        ok(holds(in("locked/a"), "old"), "and its file keeps its content");
    }
    chmod(in("locked"), 0777);
    unlink(in("locked/a"));
    rmdir(in("locked"));
}

static void test_drafts(void)
{
    struct file_draft one, two;
    struct err err = {0};
    const char *path = in("a.txt");

    file_replace(path, "old", 3, NULL);
    ok(file_draft_open(&one, path, &err) == 0 && file_draft_open(&two, path, &err) == 0,
       "two drafts of one file can be open");
    fputs("first", one.stream);
    fputs("second", two.stream);
    ok(holds(path, "old"), "nothing is seen before the commit");
    ok(file_draft_commit(&one, &err) == 0 && holds(path, "first"), "a commit shows the draft");
    file_draft_discard(&two);
    ok(holds(path, "first") && n_entries(folder) == 1, "a discarded draft leaves nothing");

    file_draft_open(&one, path, &err);
    fputs("x", one.stream);
    unlink(one.temp);
    ok(file_draft_commit(&one, &err) == -1 && holds(path, "first"),
       "a draft that somebody took away fails, the old file stays");
}

static void test_read_and_map(void)
{
    struct err err = {0};
    struct file_map map = {0};
    size_t n = 0;
    char *big = malloc(200000);

    for (size_t i = 0; i < 200000; i++)
        big[i] = (char)(i * 7 % 251);
    file_replace(in("big"), big, 200000, NULL);
    char *text = file_read(in("big"), 200000, &n, &err);
    ok(text != NULL && n == 200000 && memcmp(text, big, n) == 0 && text[n] == '\0',
       "a file of exactly the allowed size is read whole, with a NUL behind it");
    free(text);
    ok(file_read(in("big"), 199999, &n, &err) == NULL && err.code == ERR_DATA,
       "a larger one is refused");
    ok(file_read(in("none"), 10, NULL, &err) == NULL && err.code == ERR_MISSING,
       "a missing one is ERR_MISSING");
    ok(strstr(err.text, "none") != NULL, "and named");
    ok(file_read(folder, 10, NULL, &err) == NULL && err.code == ERR_IO, "a folder cannot be read");

    ok(file_map_open(&map, in("big"), &err) == 0 && map.size == 200000 &&
           memcmp(map.data, big, 200000) == 0,
       "a file is mapped");
    file_map_close(&map);
    ok(map.data == NULL, "and unmapped");
    file_map_close(&map);
    ok(file_map_open(&map, in("none"), &err) == -1 && err.code == ERR_MISSING,
       "a missing file is not mapped");
    ok(file_map_open(&map, folder, &err) == -1 && err.code == ERR_DATA, "nor is a folder");
    ok(mkfifo(in("pipe"), 0600) == 0 && file_map_open(&map, in("pipe"), &err) == -1 &&
           err.code == ERR_DATA,
       "nor a pipe, and nobody waits for its writer");
    file_replace(in("nothing"), "", 0, NULL);
    ok(file_map_open(&map, in("nothing"), &err) == 0 && map.data == NULL && map.size == 0,
       "an empty file maps to nothing");
    file_map_close(&map);

    struct hash256 hash, want = sha256_of(big, 200000);
    ok(file_hash(in("big"), &hash, &err) == 0 && memcmp(&hash, &want, sizeof hash) == 0,
       "the hash of a file is the hash of its bytes");
    ok(file_hash(in("none"), &hash, &err) == -1 && err.code == ERR_MISSING, "no file, no hash");
    ok(file_exists(in("big")) && file_exists(folder) && !file_exists(in("none")),
       "what exists does");
    unlink(in("pipe"));
    unlink(in("nothing"));
    unlink(in("big"));
    free(big);
}

static void test_dirs(void)
{
    struct err err = {0};

    ok(file_make_dirs(in("d/e//f/"), &err) == 0 && file_exists(in("d/e/f")), "parents are made");
    ok(file_make_dirs(in("d/e/f"), &err) == 0, "an existing folder is fine");
    ok(file_make_dirs("/", &err) == 0, "even the root");
    file_replace(in("d/file"), "x", 1, NULL);
    ok(file_make_dirs(in("d/file/sub"), &err) == -1 && err.code == ERR_CREATE,
       "a file in the way is ERR_CREATE");
    ok(file_make_dirs("", &err) == -1 && err.code == ERR_CREATE, "an empty path is refused");
    unlink(in("d/file"));
    rmdir(in("d/e/f"));
    rmdir(in("d/e"));
    rmdir(in("d"));
}

static void test_network(void)
{
    char kind[32] = "?";
    struct err err = {0};
    struct statfs fs;

    /* /proc is never a network file system, wherever the test folder lies. */
    if (statfs("/proc/self", &fs) == 0 && fs.f_type == 0x9fa0) {
        ok(file_is_on_network("/proc/self", kind, &err) == 0, "/proc is not on the network");
        ok(file_is_on_network("/proc/self/no/such/thing", kind, &err) == 0,
           "what does not exist is judged by its nearest parent");
    }
    int here = file_is_on_network(folder, kind, &err);
    ok(here == 0 || here == 1, "a folder can be judged");
    ok((here == 1) == (kind[0] != '\0'), "a kind is named exactly when there is one");
    ok(file_is_on_network(in("x/y/z"), kind, &err) == here, "a path to be made is judged alike");
    if (chdir(folder) != 0)
        abort();
    ok(file_is_on_network("x/y", kind, &err) == here, "so is a relative one");
    ok(file_is_on_network("x", kind, &err) == here, "and a plain name");
}

int main(void)
{
    const char *base = getenv("TMPDIR");

    snprintf(folder, sizeof folder, "%s/kerf-test-file-XXXXXX", base != NULL ? base : "/tmp");
    if (mkdtemp(folder) == NULL)
        return 1;
    test_replace();
    test_full_disk();
    test_read_only_folder();
    test_drafts();
    test_read_and_map();
    test_dirs();
    test_network();
    unlink(in("a.txt"));
    ok(rmdir(folder) == 0, "the tests leave their folder empty");
    return tap_done();
}
