#include "data/unpack.h"

#ifdef NPI_HAVE_ARCHIVE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "data/archive_read.h"

enum { OPEN_FOLDERS = 32, BLOCK = 1 << 17, MAX_MEMBERS = 1 << 23 };

typedef struct unpacking {
    const char *path, *top;
    char *hidden; /* where it goes until all is there */
    struct archive *archive;
    int64_t packed, unpacked, members;
    uint8_t *block;
    npi_progress_fn *progress;
    void *context;
    double told;
} unpacking;

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *where) {
    (void)info, (void)kind, (void)where;
    return remove(path);
}

static npos_status tell(unpacking *u) {
    if (!u->progress || npi_seconds() - u->told < 0.1)
        return NPOS_OK;
    u->told = npi_seconds();
    return u->progress(u->context, archive_filter_bytes(u->archive, -1), u->packed);
}

static npos_status check_size(const unpacking *u, int64_t more) {
    if (u->members > MAX_MEMBERS)
        return npi_fail(NPOS_BAD_DATA, "%s: more than %d members", u->path, MAX_MEMBERS);
    if (u->unpacked + more <= NPI_ARCHIVE_FREE_BYTES ||
        (u->unpacked + more) / NPI_ARCHIVE_RATIO <= u->packed)
        return NPOS_OK;
    return npi_fail(NPOS_BAD_DATA, "%s: %lld bytes unpack to more than %d times as many", u->path,
                    (long long)u->packed, NPI_ARCHIVE_RATIO);
}

static npos_status copy_data(unpacking *u, const char *name, const char *to, FILE *file) {
    for (;;) {
        la_ssize_t n = archive_read_data(u->archive, u->block, BLOCK);
        if (n < 0)
            return npi_archive_damaged(u->path, u->archive, name);
        if (n == 0)
            return NPOS_OK;
        NPI_TRY(check_size(u, n));
        u->unpacked += n;
        if (fwrite(u->block, 1, (size_t)n, file) != (size_t)n)
            return npi_fail_errno("%s: cannot write", to);
        NPI_TRY(tell(u));
    }
}

static npos_status write_file(unpacking *u, const char *name) {
    char *to = NULL, *folder = NULL;
    FILE *file = NULL;
    npos_status status;
    NPI_TRY_GOTO(npi_path_join(&to, u->hidden, name), done);
    NPI_TRY_GOTO(npi_format(&folder, "%.*s", (int)(npi_path_name(to) - to - 1), to), done);
    if (!npi_is_folder(folder))
        NPI_TRY_GOTO(npi_make_folders(folder), done);
    int fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd < 0 && errno == EEXIST)
        NPI_TRY_GOTO(npi_fail(NPOS_BAD_DATA, "%s: member %s comes twice", u->path, name), done);
    file = fd < 0 ? NULL : fdopen(fd, "wb");
    if (!file) {
        status = npi_fail_errno("%s: cannot write", to);
        if (fd >= 0)
            close(fd);
        goto done;
    }
    status = copy_data(u, name, to, file);
done:
    if (file && fclose(file) != 0 && status == NPOS_OK)
        status = npi_fail_errno("%s: cannot write", to);
    npi_free(folder);
    npi_free(to);
    return status;
}

static npos_status take_member(unpacking *u, struct archive_entry *entry) {
    char *name = NULL;
    size_t length = strlen(u->top);
    npos_status status;
    u->members++;
    NPI_TRY_GOTO(check_size(u, 0), done);
    NPI_TRY_GOTO(npi_archive_member_path(u->path, entry, &name), done);
    bool wanted = strncmp(name, u->top, length) == 0 && name[length] == '/';
    if (!wanted || archive_entry_filetype(entry) == AE_IFDIR)
        goto done; /* folders come with their files */
    if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry))
        status = npi_fail(NPOS_BAD_DATA, "%s: member %s is neither file nor folder", u->path, name);
    else
        status = write_file(u, name);
done:
    npi_free(name);
    return status;
}

static npos_status read_members(unpacking *u) {
    struct archive_entry *entry;
    if (archive_read_open_filename(u->archive, u->path, NPI_ARCHIVE_BLOCK) != ARCHIVE_OK)
        return npi_archive_damaged(u->path, u->archive, NULL);
    for (;;) {
        int result = archive_read_next_header(u->archive, &entry);
        if (result == ARCHIVE_EOF)
            return NPOS_OK;
        if (result != ARCHIVE_OK && result != ARCHIVE_WARN)
            return npi_archive_damaged(u->path, u->archive, NULL);
        NPI_TRY(take_member(u, entry));
        NPI_TRY(tell(u));
    }
}

/* Makes what was unpacked durable, then visible. */
static npos_status put_in_place(const unpacking *u, const char *target) {
    char *made;
    NPI_TRY(npi_path_join(&made, u->hidden, u->top));
    npos_status status = NPOS_OK;
    int fd = open(u->hidden, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (!npi_is_folder(made))
        status = npi_fail(NPOS_BAD_DATA, "%s: no files in a folder '%s'", u->path, u->top);
    else if (fd < 0 || syncfs(fd) != 0 || rename(made, target) != 0)
        status = npi_fail_errno("%s: cannot put the unpacked folder in place", target);
    if (fd >= 0)
        close(fd);
    npi_free(made);
    return status;
}

static void remove_folder(const char *path) {
    nftw(path, remove_one, OPEN_FOLDERS, FTW_DEPTH | FTW_PHYS);
}

/* Whoever unpacks holds a lock on its hidden folder, which ends with the process: a folder that can be locked is what one
 * that was killed has left. */
static void remove_left(const char *folder, const char *start) {
    DIR *all = opendir(folder);
    size_t length = strlen(start);
    for (struct dirent *one; all && (one = readdir(all)) != NULL;) {
        char *path = NULL;
        if (strncmp(one->d_name, start, length) != 0 || strlen(one->d_name) != length + 6 ||
            npi_path_join(&path, folder, one->d_name) != NPOS_OK)
            continue;
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
            remove_folder(path);
        if (fd >= 0)
            close(fd);
        npi_free(path);
    }
    if (all)
        closedir(all);
}

/* Locks a folder that was just made; false: another process took it for one that was left, and removed it. */
static bool lock_folder(const char *path, int *fd) {
    struct stat own, there;
    *fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*fd < 0)
        return errno != ENOENT;
    if (flock(*fd, LOCK_EX) != 0) /* as on file systems without locks: nobody can take it then */
        return true;
    if (fstat(*fd, &own) == 0 && stat(path, &there) == 0 && own.st_ino == there.st_ino)
        return true;
    close(*fd);
    *fd = -1;
    return false;
}

/* A folder that nobody else has, FOLDER/.TOP.npos-XXXXXX, and the lock on it (-1: none). */
static npos_status make_hidden(const char *folder, const char *top, char **out, int *lock) {
    char *path, *start;
    NPI_TRY(npi_format(&start, ".%s.npos-", top));
    remove_left(folder, start);
    npos_status status = npi_format(&path, "%s/%sXXXXXX", folder, start);
    size_t length = status == NPOS_OK ? strlen(path) : 0;
    npi_free(start);
    NPI_TRY(status);
    while (mkdtemp(path)) {
        if (lock_folder(path, lock)) {
            *out = path;
            return NPOS_OK;
        }
        memcpy(path + length - 6, "XXXXXX", 6);
    }
    status = npi_fail_errno("%s: cannot make a folder in it", folder);
    npi_free(path);
    return status;
}

npos_status npi_unpack(const char *archive, const char *folder, const char *top,
                       npi_progress_fn *progress, void *context) {
    unpacking u = {.path = archive, .top = top, .progress = progress, .context = context};
    struct stat info;
    char *target = NULL;
    int lock = -1;
    npos_status status;
    npi_archive_locale locale = npi_archive_locale_enter();
    NPI_TRY_GOTO(npi_path_join(&target, folder, top), done);
    if (lstat(target, &info) == 0)
        NPI_TRY_GOTO(npi_fail(NPOS_IO, "%s: is there already", target), done);
    if (stat(archive, &info) != 0)
        NPI_TRY_GOTO(npi_fail_errno("%s", archive), done);
    u.packed = info.st_size;
    NPI_TRY_GOTO(npi_alloc(&u.block, BLOCK, 1, "unpacking"), done);
    u.archive = npi_archive_reader();
    if (!u.archive)
        NPI_TRY_GOTO(npi_fail(NPOS_OUT_OF_MEMORY, "%s: no memory to unpack it", archive), done);
    NPI_TRY_GOTO(npi_make_folders(folder), done);
    NPI_TRY_GOTO(make_hidden(folder, top, &u.hidden, &lock), done);
    NPI_TRY_GOTO(read_members(&u), done);
    status = put_in_place(&u, target);
done:
    npi_archive_locale_leave(locale);
    archive_read_free(u.archive);
    if (u.hidden)
        remove_folder(u.hidden);
    if (lock >= 0)
        close(lock);
    npi_free(u.hidden);
    npi_free(u.block);
    npi_free(target);
    return status;
}

#else

npos_status npi_unpack(const char *archive, const char *folder, const char *top,
                       npi_progress_fn *progress, void *context) {
    (void)folder, (void)top, (void)progress, (void)context;
    return npi_hint(
        npi_fail(NPOS_UNSUPPORTED, "%s: this build has no libarchive to unpack it", archive),
        "unpack it by hand");
}
#endif
