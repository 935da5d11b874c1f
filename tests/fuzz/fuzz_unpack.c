/* An archive that is unpacked: whatever it says, FOLDER/set comes or nothing does, and in it are files and
 * folders alone. */
#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

#include "data/unpack.h"
#include "fuzz/fuzz.h"
#include "fuzz/fuzz_folder.h"

static int check_one(const char *path, const struct stat *info, int kind, struct FTW *where) {
    (void)path, (void)kind, (void)where;
    if (!S_ISREG(info->st_mode) && !S_ISDIR(info->st_mode))
        __builtin_trap();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    npos_status status = npi_unpack(fuzz_path(data, size), fuzz_folder(), "set", NULL, NULL);
    DIR *folder = opendir(fuzz_folder());
    int found = 0;
    if (!folder)
        abort();
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        found++;
        if (strcmp(entry->d_name, "set") != 0)
            __builtin_trap();
    }
    closedir(folder);
    if (found != (status == NPOS_OK))
        __builtin_trap();
    nftw(fuzz_folder(), check_one, 16, FTW_PHYS);
    fuzz_folder_empty();
    return 0;
}
