/* fuzz/fuzz_folder.h - a folder for what a target has to lay on a disk: in memory where the system has
 * such a place, and removed when the program ends. */
#ifndef TESTS_FUZZ_FUZZ_FOLDER_H
#define TESTS_FUZZ_FUZZ_FOLDER_H

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char fuzz_folder_path[64];

static inline int fuzz_remove_one(const char *path, const struct stat *info, int kind,
                                  struct FTW *where) {
    (void)info, (void)kind;
    return where->level > 0 ? remove(path) : 0;
}

/* Removes what is in the folder. */
static inline void fuzz_folder_empty(void) {
    nftw(fuzz_folder_path, fuzz_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static inline void fuzz_folder_remove(void) {
    fuzz_folder_empty();
    rmdir(fuzz_folder_path);
}

/* The folder, made by the first call. */
static inline const char *fuzz_folder(void) {
    if (*fuzz_folder_path)
        return fuzz_folder_path;
    snprintf(fuzz_folder_path, sizeof fuzz_folder_path, "%s/npos-fuzz-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(fuzz_folder_path) || atexit(fuzz_folder_remove) != 0)
        abort();
    return fuzz_folder_path;
}

#endif
