/* Runs a fuzz target over the files of the folders and files that are named: a test that needs no
 * fuzzer.  Each input is also run cut short at several places and with single bytes changed. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz/fuzz.h"

static int inputs;

static void run(const uint8_t *bytes, size_t size) {
    /* A block of its exact size, so that a sanitizer sees a read behind its end. */
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy)
        exit(1);
    memcpy(copy, bytes, size);
    (void)LLVMFuzzerTestOneInput(copy, size);
    free(copy);
    inputs++;
}

static void replay(const char *path) {
    static uint8_t bytes[1 << 20];
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        exit(1);
    }
    size_t size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    run(bytes, size);
    for (size_t part = 0; part < 16; part++)
        run(bytes, size * part / 16);
    for (size_t at = 0; at < size && at < 256; at++) {
        uint8_t was = bytes[at];
        bytes[at] = (uint8_t)(was ^ (1u << (at % 8)));
        run(bytes, size);
        bytes[at] = 0xff;
        run(bytes, size);
        bytes[at] = was;
    }
}

int main(int argc, char **argv) {
    char path[4096];
    for (int i = 1; i < argc; i++) {
        DIR *folder = opendir(argv[i]);
        if (!folder) {
            replay(argv[i]);
            continue;
        }
        for (struct dirent *entry; (entry = readdir(folder));) {
            if (entry->d_name[0] == '.')
                continue;
            snprintf(path, sizeof path, "%s/%s", argv[i], entry->d_name);
            replay(path);
        }
        closedir(folder);
    }
    printf("%d inputs\n", inputs);
    return inputs == 0;
}
