#include "devices/cuda/cuda_tune.cuh"

#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* *path = where choices for this GPU and cuDNN are kept, its folders made. */
static bool path_of(npi_device *dev, char *path, size_t bytes) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME"),
               *wish = getenv("NPOS_CUDA_TUNE");
    char folder[PATH_MAX], gpu[256];
    cudaDeviceProp properties;
    if ((wish && strcmp(wish, "0") == 0) ||
        cudaGetDeviceProperties(&properties, npi_cuda_of(dev)->ordinal) != cudaSuccess)
        return false;
    if (cache && cache[0])
        snprintf(folder, sizeof folder, "%s", cache);
    else if (home && home[0])
        snprintf(folder, sizeof folder, "%s/.cache", home);
    else
        return false;
    mkdir(folder, 0755); /* what fails here is seen when the file is opened */
    strncat(folder, "/npos", sizeof folder - strlen(folder) - 1);
    mkdir(folder, 0755);
    snprintf(gpu, sizeof gpu, "%s", properties.name);
    for (char *c = gpu; *c; c++)
        *c = *c == ' ' || *c == '/' ? '-' : *c;
    return snprintf(path, bytes, "%s/cudnn-%zu-%s.txt", folder, cudnnGetVersion(), gpu) <
           (int)bytes;
}

static int open_file(npi_device *dev) {
    char path[PATH_MAX];
    return path_of(dev, path, sizeof path)
               ? open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644)
               : -1;
}

bool npi_tune_possible(npi_device *dev) {
    int file = open_file(dev);
    if (file >= 0)
        close(file);
    return file >= 0;
}

bool npi_tune_find(npi_device *dev, const char *key, npi_choice *out) {
    int file = open_file(dev);
    FILE *lines = file >= 0 ? fdopen(file, "r") : NULL;
    char line[256], found[NPI_TUNE_KEY_BYTES];
    bool there = false;
    if (file >= 0 && !lines)
        close(file);
    while (lines && !there && fgets(line, sizeof line, lines))
        there = sscanf(line, "%127s %d %d", found, &out->place, &out->engine) == 3 &&
                strcmp(found, key) == 0;
    if (lines)
        fclose(lines);
    return there;
}

void npi_tune_keep(npi_device *dev, const char *key, npi_choice *choice) {
    char line[256];
    int length = snprintf(line, sizeof line, "%s %d %d\n", key, choice->place, choice->engine);
    int file = open_file(dev);
    if (file < 0)
        return;
    bool written = write(file, line, (size_t)length) == length; /* one write: lines stay whole */
    close(file);
    npi_choice first;
    if (written && npi_tune_find(dev, key, &first))
        *choice = first;
}
