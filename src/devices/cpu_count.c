#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "devices/devices.h"

/* Processors that a control group's quota pays for, rounded up: "QUOTA PERIOD" in microseconds, or
 * "max PERIOD" for no limit (Linux, Documentation/admin-guide/cgroup-v2.rst, cpu.max). */
static int quota_in(const char *folder) {
    char path[PATH_MAX + 16], text[64] = "";
    long long quota, period;
    snprintf(path, sizeof path, "%s/cpu.max", folder);
    FILE *file = fopen(path, "r");
    if (!file)
        return INT_MAX;
    bool read = fgets(text, sizeof text, file) != NULL;
    fclose(file);
    if (!read || sscanf(text, "%lld %lld", &quota, &period) != 2 || quota <= 0 || period <= 0)
        return INT_MAX;
    long long whole = (quota + period - 1) / period;
    return whole < INT_MAX ? (int)whole : INT_MAX;
}

/* The tightest quota of the process's group and of the groups above it. */
static int quota_of_groups(void) {
    static const char root[] = "/sys/fs/cgroup";
    char line[PATH_MAX], folder[PATH_MAX + sizeof root];
    int least = quota_in(root);
    FILE *file = fopen("/proc/self/cgroup", "r");
    if (!file)
        return least;
    while (fgets(line, sizeof line, file)) {
        if (strncmp(line, "0::/", 4) != 0) /* version 2's entry */
            continue;
        line[strcspn(line, "\n")] = '\0';
        snprintf(folder, sizeof folder, "%s%s", root, line + 3);
        for (char *end; strlen(folder) > strlen(root); *end = '\0') {
            int here = quota_in(folder);
            least = here < least ? here : least;
            end = strrchr(folder, '/');
        }
    }
    fclose(file);
    return least;
}

int npi_cpu_count(void) {
    cpu_set_t set;
    CPU_ZERO(&set);
    long count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 0;
    if (count < 1)
        count = sysconf(_SC_NPROCESSORS_ONLN);
    int quota = quota_of_groups();
    count = count < quota ? count : quota;
    return count < 1 ? 1 : count > 4096 ? 4096 : (int)count;
}
