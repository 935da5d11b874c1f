#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"

npos_status npi_file_read(const char *path, char **out, size_t *size) {
    *out = NULL;
    *size = 0;
    npos_status status = NPOS_OK;
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? npi_fail(NPOS_NOT_FOUND, "%s: no such file", path)
                               : npi_fail_errno("%s: cannot open", path);
    if (fstat(fd, &info) != 0) {
        status = npi_fail_errno("%s: cannot stat", path);
        goto done;
    }
    if (S_ISDIR(info.st_mode)) {
        status = npi_fail(NPOS_IO, "%s: is a folder, expected a file", path);
        goto done;
    }
    size_t bytes = (size_t)info.st_size, got = 0;
    NPI_TRY_GOTO(npi_alloc(out, bytes + 1, 1, path), done);
    while (got < bytes) {
        ssize_t n = read(fd, *out + got, bytes - got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            status = npi_fail_errno("%s: cannot read", path);
            goto done;
        }
        if (n == 0)
            break; /* the file shrank meanwhile: what is there is what was read */
        got += (size_t)n;
    }
    *size = got;
done:
    close(fd);
    if (status != NPOS_OK) {
        npi_free(*out);
        *out = NULL;
    }
    return status;
}

/* Error of a file that cannot be written, by errno. */
static npos_status cannot_write(const char *path) {
    int reason = errno;
    npos_status status = npi_fail_errno("%s: cannot write", path);
    if (reason == ENOSPC || reason == EDQUOT)
        return npi_hint(status, "make room on the disk");
    return reason == EFBIG ? npi_hint(status, "raise the limit on the size of files (ulimit -f)")
                           : status;
}

npos_status npi_atomic_open(npi_atomic *file, const char *path) {
    struct stat info;
    *file = (npi_atomic){0};
    bool special = stat(path, &info) == 0 && !S_ISREG(info.st_mode);
    if (special && S_ISDIR(info.st_mode))
        return npi_fail(NPOS_IO, "%s: cannot write: is a folder, expected a file", path);
    char *target = !special && lstat(path, &info) == 0 && S_ISLNK(info.st_mode)
                       ? realpath(path, NULL)
                       : NULL; /* a link stays, what it points to is replaced */
    npos_status status = npi_strdup(&file->path, target ? target : path);
    free(target);
    path = file->path;
    if (status == NPOS_OK && !special)
        status = npi_format(&file->temporary, "%s.tmp-%ld", path, (long)getpid());
    if (status == NPOS_OK) {
        file->stream = fopen(special ? path : file->temporary, "wbe");
        if (!file->stream)
            status = cannot_write(path);
    }
    if (status != NPOS_OK)
        npi_atomic_abort(file);
    return status;
}

/* Makes a rename in the folder of `path` durable; a file system that cannot is not an error. */
static void sync_folder(const char *path) {
    char *folder = NULL;
    if (npi_strdup(&folder, path) != NPOS_OK)
        return;
    char *slash = strrchr(folder, '/');
    if (slash)
        slash[slash == folder] = '\0';
    int fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)!fsync(fd);
        close(fd);
    }
    npi_free(folder);
}

npos_status npi_atomic_commit(npi_atomic *file) {
    npos_status status = NPOS_OK;
    int failed = ferror(file->stream) || fflush(file->stream) != 0 ||
                 (file->temporary && fsync(fileno(file->stream)) != 0);
    int reason = errno;
    if (fclose(file->stream) != 0 && !failed) {
        failed = 1;
        reason = errno;
    }
    file->stream = NULL;
    errno = reason;
    if (failed)
        status = cannot_write(file->path);
    else if (file->temporary && rename(file->temporary, file->path) != 0)
        status = npi_fail_errno("%s: cannot put the finished file in place", file->path);
    else if (file->temporary)
        sync_folder(file->path);
    if (status == NPOS_OK) {
        npi_free(file->temporary);
        file->temporary = NULL;
    }
    npi_atomic_abort(file);
    return status;
}

void npi_atomic_abort(npi_atomic *file) {
    if (file->stream)
        fclose(file->stream);
    if (file->temporary)
        unlink(file->temporary);
    npi_free(file->path);
    npi_free(file->temporary);
    *file = (npi_atomic){0};
}

npos_status npi_file_write(const char *path, const void *bytes, size_t size) {
    npi_atomic file;
    NPI_TRY(npi_atomic_open(&file, path));
    if (size != 0)
        fwrite(bytes, 1, size, file.stream); /* commit finds the stream's error */
    return npi_atomic_commit(&file);
}

npos_status npi_file_append(const char *path, const void *bytes, size_t size) {
    const char *at = bytes;
    npos_status status = NPOS_OK;
    struct stat before;
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0)
        return cannot_write(path);
    if (fstat(fd, &before) != 0)
        status = cannot_write(path);
    while (status == NPOS_OK && size != 0) {
        ssize_t n = write(fd, at, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            status = cannot_write(path);
            (void)!ftruncate(fd, before.st_size);
            break;
        }
        at += n;
        size -= (size_t)n;
    }
    if (close(fd) != 0 && status == NPOS_OK)
        status = cannot_write(path);
    return status;
}

npos_status npi_make_folders(const char *path) {
    char *part = NULL;
    npos_status status = npi_strdup(&part, path);
    if (status != NPOS_OK)
        return status;
    for (char *at = part + 1; status == NPOS_OK; at++) {
        if (*at != '/' && *at != '\0')
            continue;
        char held = *at;
        *at = '\0';
        if (mkdir(part, 0777) != 0 && !(errno == EEXIST && npi_is_folder(part)))
            status = npi_fail_errno("%s: cannot make the folder", part);
        *at = held;
        if (held == '\0')
            break;
    }
    npi_free(part);
    return status;
}

bool npi_is_file(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

bool npi_is_folder(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

npos_status npi_path_join(char **out, const char *a, const char *b) {
    size_t length = strlen(a);
    return npi_format(out, "%s%s%s", a, length && a[length - 1] == '/' ? "" : "/", b);
}

const char *npi_path_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Levenshtein's distance of words of at most 63 letters; longer ones count as far away. */
static size_t edit_distance(const char *a, const char *b) {
    enum { LONGEST = 63 };
    size_t row[LONGEST + 1], n = strlen(a), m = strlen(b);
    if (n > LONGEST || m > LONGEST)
        return LONGEST;
    for (size_t j = 0; j <= m; j++)
        row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t change = diagonal + (a[i - 1] != b[j - 1]);
            size_t shorter = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            diagonal = row[j];
            row[j] = change < shorter ? change : shorter;
        }
    }
    return row[m];
}

const char *npi_nearest_name(const char *word, const char *const *names, size_t count) {
    const char *best = NULL;
    size_t limit = (strlen(word) + 2) / 3, least = limit + 1;
    for (size_t i = 0; i < count; i++) {
        size_t distance = edit_distance(word, names[i]);
        if (distance < least) {
            least = distance;
            best = names[i];
        }
    }
    return best;
}
