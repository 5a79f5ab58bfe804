/* The peak of what is resident: it grows with what is touched, and begins anew without what was. */
#include "latency_model/resident.h"
#include "space/base/file.h"
#include "tests/tap.h"
#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define MB        1048576.0
#define N_BYTES   (32u << 20)
#define PAGE_STEP 4096

/* Every page is looked at; the sum of what stands there. */
static unsigned touch(const unsigned char *bytes)
{
    unsigned sum = 0;
    for (size_t i = 0; i < N_BYTES; i += PAGE_STEP)
        sum += bytes[i];
    return sum;
}

static void test_memory(void)
{
    double before = resident_peak();
    unsigned char *memory =
        mmap(NULL, N_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(memory, 1, N_BYTES);
    double with = resident_peak();
    ok(with > before + 30 * MB, "what is written counts (%.1f MB more)", (with - before) / MB);
    munmap(memory, N_BYTES);
    /* The kernel counts in batches. */
    ok(resident_peak() > with - MB, "a peak stays when it is over");
    resident_begin();
    ok(resident_peak() < before + 8 * MB, "until it is forgotten");
}

static void test_file(void)
{
    char path[] = "/tmp/test_resident.XXXXXX";
    unsigned char *bytes = malloc(N_BYTES);
    struct file_map map = {0};
    int fd = mkstemp(path);
    memset(bytes, 3, N_BYTES);
    ok(write(fd, bytes, N_BYTES) == N_BYTES && file_map_open(&map, path, NULL) == 0, "a file");
    free(bytes);
    resident_begin();
    double before = resident_peak();
    unsigned sum = touch(map.data);
    double with = resident_peak();
    ok(with > before + 24 * MB, "its pages count when they are read (%.1f MB more)",
       (with - before) / MB);
    resident_begin();
    ok(resident_peak() < with - 24 * MB, "and not when somebody else is measured");
    ok(touch(map.data) == sum && sum == 3 * (N_BYTES / PAGE_STEP), "who reads on reads the same");
    file_map_close(&map);
    close(fd);
    unlink(path);
}

int main(void)
{
    if (!resident_begin() || isnan(resident_peak())) {
        printf("# this system does not tell what is resident\n");
        ok(true, "no figure");
        return tap_done();
    }
    test_memory();
    test_file();
    return tap_done();
}
