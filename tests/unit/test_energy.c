/* Energy counters, read from a folder that looks like the system's. */
#include "latency_model/energy.h"
#include "space/base/file.h"
#include "tests/tap.h"
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[] = "/tmp/test_energy.XXXXXX";

static void put(const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", root, name);
    if (text == NULL)
        unlink(path);
    else
        file_replace(path, text, strlen(text), NULL);
}

static void make(int package, bool there)
{
    char path[128];
    snprintf(path, sizeof path, "%s/intel-rapl:%d", root, package);
    if (there)
        mkdir(path, 0700);
    else
        rmdir(path);
}

int main(void)
{
    struct energy energy;
    if (mkdtemp(root) == NULL)
        return 1;

    ok(!energy_begin(&energy, root), "a system without counters has no energy");
    ok(isnan(energy_joules(&energy)), "not even none");

    make(0, true);
    put("intel-rapl:0/energy_uj", "1000000\n");
    put("intel-rapl:0/max_energy_range_uj", "5000000\n");
    ok(energy_begin(&energy, root) && energy.n_packages == 1, "one package");
    put("intel-rapl:0/energy_uj", "3500000\n");
    near(energy_joules(&energy), 2.5, 1e-12, "2.5 J were taken");

    make(1, true);
    put("intel-rapl:1/energy_uj", "4900000\n");
    put("intel-rapl:1/max_energy_range_uj", "5000000\n");
    ok(energy_begin(&energy, root) && energy.n_packages == 2, "two packages");
    put("intel-rapl:0/energy_uj", "3600000\n");
    put("intel-rapl:1/energy_uj", "100000\n");
    near(energy_joules(&energy), 0.1 + 0.2, 1e-12, "one of them ran over its range");

    put("intel-rapl:1/energy_uj", "no number\n");
    ok(isnan(energy_joules(&energy)), "a counter that went away takes the figure with it");
    put("intel-rapl:0/energy_uj", "-\n");
    ok(!energy_begin(&energy, root), "a file without a number is no counter");

    for (int package = 0; package < 2; package++) {
        char name[64];
        snprintf(name, sizeof name, "intel-rapl:%d/energy_uj", package);
        put(name, NULL);
        snprintf(name, sizeof name, "intel-rapl:%d/max_energy_range_uj", package);
        put(name, NULL);
        make(package, false);
    }
    rmdir(root);
    return tap_done();
}
