#include "devices/cpu/cpu_profile.h"

#include <string.h>
#include <time.h>

const char *const npi_cpu_part_names[NPI_CPU_PARTS] = {
    "pack", "forward", "by data", "by weights", "norm forward", "norm backward"};

static bool on;
static clockid_t clock_used;
static double sums[NPI_CPU_PARTS], since;

static double now(void) {
    struct timespec time;
    clock_gettime(clock_used, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

void npi_cpu_profile_start(bool processor_time) {
    clock_used = processor_time ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC;
    memset(sums, 0, sizeof sums);
    on = true;
}

void npi_cpu_profile_stop(double seconds[NPI_CPU_PARTS]) {
    memcpy(seconds, sums, sizeof sums);
    on = false;
}

void npi_cpu_profile_begin(void) {
    if (on)
        since = now();
}

void npi_cpu_profile_mark(npi_cpu_part part) {
    if (!on)
        return;
    double time = now();
    sums[part] += time - since;
    since = time;
}
