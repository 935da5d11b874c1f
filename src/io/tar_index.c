#include "io/tar_index.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"

/* Places in a header's block. */
enum {
    BLOCK = 512,
    NAME_AT = 0,
    NAME_BYTES = 100,
    SIZE_AT = 124,
    SIZE_BYTES = 12,
    CHECKSUM_AT = 148,
    CHECKSUM_BYTES = 8,
    TYPE_AT = 156,
    MAGIC_AT = 257,
    PREFIX_AT = 345,
    PREFIX_BYTES = 155
};
enum { MOST_EXTRA_BYTES = 1 << 20 }; /* of a long name or a pax header */

typedef struct reader {
    const char *path;
    FILE *file;
    int64_t at, size;
    char *long_name;    /* for the next file, or NULL */
    int64_t long_bytes; /* its size where that stands in a pax header, else -1 */
} reader;

static npos_status damaged(const reader *r, const char *what) {
    return npi_fail(NPOS_BAD_DATA, "%s: byte %lld of the tar archive: %s", r->path,
                    (long long)r->at, what);
}

/* An octal number, or (GNU) a binary one whose first bit is set; -1: neither. */
static int64_t number(const uint8_t *from, size_t width) {
    int64_t value = 0;
    if (from[0] & 0x80) {
        for (size_t i = 0; i < width; i++) {
            if (value > INT64_MAX >> 9)
                return -1;
            value = value << 8 | (i == 0 ? from[0] & 0x7f : from[i]);
        }
        return value;
    }
    size_t i = 0;
    while (i < width && from[i] == ' ')
        i++;
    for (; i < width && from[i] >= '0' && from[i] <= '7'; i++)
        value = value << 3 | (from[i] - '0'); /* 12 digits: 36 bits */
    return i == width || from[i] == ' ' || from[i] == '\0' ? value : -1;
}

static bool checksum_fits(const uint8_t *block) {
    int64_t told = number(block + CHECKSUM_AT, CHECKSUM_BYTES), sum = 0;
    for (int i = 0; i < BLOCK; i++)
        sum += i >= CHECKSUM_AT && i < CHECKSUM_AT + CHECKSUM_BYTES ? ' ' : block[i];
    return told == sum;
}

static bool is_zero(const uint8_t *block) {
    for (int i = 0; i < BLOCK; i++)
        if (block[i] != 0)
            return false;
    return true;
}

bool npi_tar_known(const char *path) {
    uint8_t block[BLOCK];
    FILE *file = npi_is_file(path) ? fopen(path, "rbe") : NULL;
    if (!file)
        return false;
    bool known = fread(block, 1, BLOCK, file) == BLOCK && !is_zero(block) && checksum_fits(block);
    fclose(file);
    return known;
}

/* The contents of a long name or pax header that begins here, with a zero behind them. */
static npos_status read_extra(reader *r, int64_t bytes, char **out) {
    if (bytes > MOST_EXTRA_BYTES)
        return damaged(r, "a file's name or attributes take more than 1 MB");
    NPI_TRY(npi_alloc(out, (size_t)bytes + 1, 1, "tar header"));
    return fread(*out, 1, (size_t)bytes, r->file) == (size_t)bytes ? NPOS_OK
                                                                   : damaged(r, "truncated");
}

/* Records "LENGTH KEY=VALUE\n"; path and size are taken. */
static npos_status take_pax(reader *r, char *text, int64_t bytes) {
    for (int64_t at = 0; at < bytes;) {
        int64_t length = 0, key = at;
        while (key < bytes && text[key] >= '0' && text[key] <= '9' && length < MOST_EXTRA_BYTES)
            length = 10 * length + (text[key++] - '0');
        if (text[key] != ' ' || length < key - at + 3 || length > bytes - at ||
            text[at + length - 1] != '\n')
            return damaged(r, "a pax header is not LENGTH KEY=VALUE");
        text[at + length - 1] = '\0';
        key++;
        if (strncmp(text + key, "path=", 5) == 0) {
            npi_free(r->long_name);
            r->long_name = NULL;
            NPI_TRY(npi_strdup(&r->long_name, text + key + 5));
        } else if (strncmp(text + key, "size=", 5) == 0) {
            r->long_bytes = 0;
            for (const char *digit = text + key + 5; *digit; digit++) {
                if (*digit < '0' || *digit > '9' || r->long_bytes > INT64_MAX / 20)
                    return damaged(r, "a pax header's size is no number");
                r->long_bytes = 10 * r->long_bytes + (*digit - '0');
            }
        }
        at += length;
    }
    return NPOS_OK;
}

/* The file's name from a header, or what stood before it. */
static npos_status take_name(reader *r, const uint8_t *block, char **out) {
    const char *prefix =
        memcmp(block + MAGIC_AT, "ustar", 6) == 0 ? (const char *)block + PREFIX_AT : "";
    char *name = r->long_name;
    r->long_name = NULL;
    if (!name)
        NPI_TRY(npi_format(&name, "%.*s%s%.*s", PREFIX_BYTES, prefix, *prefix ? "/" : "",
                           NAME_BYTES, (const char *)block + NAME_AT));
    *out = name;
    size_t skip = 0;
    while (name[skip] == '.' && name[skip + 1] == '/')
        skip += 2 + strspn(name + skip + 2, "/");
    memmove(name, name + skip, strlen(name + skip) + 1);
    if (name[0] == '/')
        return npi_fail(NPOS_BAD_DATA, "%s: member %s has an absolute path", r->path, name);
    for (const char *part = name; part; part = strchr(part, '/')) {
        part += *part == '/';
        if (strncmp(part, "..", 2) == 0 && (part[2] == '/' || part[2] == '\0'))
            return npi_fail(NPOS_BAD_DATA, "%s: member %s leads out of the archive", r->path, name);
    }
    return NPOS_OK;
}

static npos_status add_file(reader *r, const uint8_t *block, int64_t bytes, int64_t *room,
                            npi_tar *out) {
    if (out->count == *room) {
        int64_t larger = 2 * *room + 256;
        NPI_TRY(
            npi_grow(&out->files, (size_t)*room, (size_t)larger, sizeof *out->files, "tar index"));
        *room = larger;
    }
    npi_tar_file *file = &out->files[out->count++];
    *file = (npi_tar_file){.at = r->at, .bytes = bytes};
    return take_name(r, block, &file->name);
}

/* The member whose header was read; r->at is behind that. */
static npos_status read_member(reader *r, const uint8_t *block, int64_t *room, npi_tar *out) {
    int64_t bytes = number(block + SIZE_AT, SIZE_BYTES);
    char type = (char)block[TYPE_AT], *extra = NULL;
    bool is_extra = type == 'L' || type == 'K' || type == 'x' || type == 'g';
    if (!is_extra && r->long_bytes >= 0)
        bytes = r->long_bytes;
    if (bytes < 0 || bytes > r->size - r->at)
        return damaged(r, bytes < 0 ? "a member's size is no number" : "truncated");
    npos_status status = NPOS_OK;
    if (type == 'L' || type == 'x') {
        status = read_extra(r, bytes, &extra);
        if (status == NPOS_OK && type == 'x')
            status = take_pax(r, extra, bytes);
        if (status == NPOS_OK && type == 'L') {
            npi_free(r->long_name);
            r->long_name = extra;
            extra = NULL;
        }
        npi_free(extra);
    } else if (type == '0' || type == '\0' || type == '7') {
        status = add_file(r, block, bytes, room, out);
    }
    if (!is_extra) {
        npi_free(r->long_name);
        r->long_name = NULL;
        r->long_bytes = -1;
    }
    int64_t padded = (bytes + BLOCK - 1) / BLOCK * BLOCK;
    r->at += padded < r->size - r->at ? padded : r->size - r->at;
    return status;
}

npos_status npi_tar_read(const char *path, int64_t most, npi_tar *out) {
    reader r = {.path = path, .long_bytes = -1};
    struct stat info;
    int64_t room = 0;
    npos_status status = NPOS_OK;
    *out = (npi_tar){0};
    r.file = fopen(path, "rbe");
    if (!r.file || fstat(fileno(r.file), &info) != 0) {
        status = npi_fail_errno("%s: cannot open", path);
        goto done;
    }
    r.size = info.st_size;
    while (r.at < r.size && (most == 0 || out->count < most)) {
        uint8_t block[BLOCK];
        if (fseeko(r.file, r.at, SEEK_SET) != 0 || fread(block, 1, BLOCK, r.file) != BLOCK) {
            status = damaged(&r, "truncated");
            goto done;
        }
        if (is_zero(block))
            break;
        if (!checksum_fits(block)) {
            status = damaged(&r, "no header of a member, or its checksum is wrong");
            goto done;
        }
        r.at += BLOCK;
        NPI_TRY_GOTO(read_member(&r, block, &room, out), done);
    }
done:
    npi_free(r.long_name);
    if (r.file)
        fclose(r.file);
    if (status != NPOS_OK)
        npi_tar_clear(out);
    return status;
}

void npi_tar_clear(npi_tar *tar) {
    for (int64_t i = 0; i < tar->count; i++)
        npi_free(tar->files[i].name);
    npi_free(tar->files);
    *tar = (npi_tar){0};
}

npos_status npi_tar_bytes(const char *path, const npi_tar_file *file, uint8_t **out) {
    *out = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return npi_fail_errno("%s: cannot open", path);
    npos_status status = npi_alloc(out, (size_t)file->bytes + 1, 1, path);
    for (int64_t done = 0; status == NPOS_OK && done < file->bytes;) {
        ssize_t n = pread(fd, *out + done, (size_t)(file->bytes - done), file->at + done);
        if (n < 0)
            status = npi_fail_errno("%s: member %s", path, file->name);
        else if (n == 0)
            status = npi_fail(NPOS_BAD_DATA, "%s: member %s: the archive has become shorter", path,
                              file->name);
        done += n;
    }
    close(fd);
    if (status != NPOS_OK) {
        npi_free(*out);
        *out = NULL;
    }
    return status;
}
