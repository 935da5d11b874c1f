#include "io/zip_map.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "base/file.h"
#include "base/memory.h"

/* Records of the format: signature and length of the fixed part. */
enum {
    LOCAL_SIGNATURE = 0x04034b50,
    LOCAL_BYTES = 30,
    CENTRAL_SIGNATURE = 0x02014b50,
    CENTRAL_BYTES = 46,
    END_SIGNATURE = 0x06054b50,
    END_BYTES = 22,
    LOCATOR_SIGNATURE = 0x07064b50,
    LOCATOR_BYTES = 20,
    END64_SIGNATURE = 0x06064b50,
    END64_BYTES = 56,
    LONGEST_COMMENT = 0xffff,
    ENCRYPTED = 1, /* flag bit */
    ZIP64_EXTRA = 1,
    DEFLATED = 8,
    DEFLATE_RATIO = 1032,
};

struct npi_zip {
    char *path;
    uint8_t *map;
    uint64_t size;
    size_t count;
    npi_zip_entry *entries;
};

/* A number of `width` bytes, little endian. */
static uint64_t number(const uint8_t *from, int width) {
    uint64_t value = 0;
    for (int i = width; i-- > 0;)
        value = value << 8 | from[i];
    return value;
}

static npos_status damaged(const npi_zip *zip, const char *what) {
    return npi_fail(NPOS_BAD_DATA, "%s: zip archive truncated or damaged: %s", zip->path, what);
}

typedef struct directory {
    uint64_t start, bytes, count;
} directory;

/* Finds the end record, which is the file's last but for a comment, and follows it to zip64's. */
static npos_status find_directory(const npi_zip *zip, directory *out) {
    const uint8_t *map = zip->map, *end = NULL;
    if (zip->size >= END_BYTES) {
        uint64_t last = zip->size - END_BYTES, first = 0;
        if (last > LONGEST_COMMENT)
            first = last - LONGEST_COMMENT;
        for (uint64_t at = last + 1; !end && at-- > first;)
            if (number(map + at, 4) == END_SIGNATURE && number(map + at + 20, 2) == last - at)
                end = map + at;
    }
    if (!end)
        return npi_fail(NPOS_BAD_DATA,
                        "%s: no zip archive, or truncated: its directory's end is missing",
                        zip->path);
    *out = (directory){number(end + 16, 4), number(end + 12, 4), number(end + 10, 2)};
    uint64_t limit = (uint64_t)(end - map);
    const uint8_t *locator = end - LOCATOR_BYTES;
    if (limit >= LOCATOR_BYTES && number(locator, 4) == LOCATOR_SIGNATURE) {
        uint64_t at = number(locator + 8, 8);
        limit -= LOCATOR_BYTES;
        if (at > limit || limit - at < END64_BYTES || number(map + at, 4) != END64_SIGNATURE)
            return damaged(zip, "its zip64 record is not where it should be");
        *out = (directory){number(map + at + 48, 8), number(map + at + 40, 8),
                           number(map + at + 32, 8)};
        limit = at;
    }
    if (out->start > limit || out->bytes > limit - out->start ||
        out->count > out->bytes / CENTRAL_BYTES)
        return damaged(zip, "its directory lies outside the file");
    return NPOS_OK;
}

/* Puts zip64's numbers in place of those that are all ones; `extra` holds (id, length, bytes)... */
static bool widen(const uint8_t *extra, size_t length, uint64_t *values[3]) {
    while (length >= 4) {
        uint64_t id = number(extra, 2), bytes = number(extra + 2, 2);
        extra += 4;
        length -= 4;
        if (bytes > length)
            return false;
        if (id == ZIP64_EXTRA) {
            for (int i = 0; i < 3; i++) {
                if (*values[i] != UINT32_MAX)
                    continue;
                if (bytes < 8)
                    return false;
                *values[i] = number(extra, 8);
                extra += 8;
                bytes -= 8;
            }
            return true;
        }
        extra += bytes;
        length -= bytes;
    }
    return *values[0] != UINT32_MAX && *values[1] != UINT32_MAX && *values[2] != UINT32_MAX;
}

/* Reads the directory's record at `at` (`left` bytes are left there); *used = its length. */
static npos_status read_entry(const npi_zip *zip, const uint8_t *at, uint64_t left,
                              npi_zip_entry *out, uint64_t *used) {
    if (left < CENTRAL_BYTES || number(at, 4) != CENTRAL_SIGNATURE)
        return damaged(zip, "a record of its directory is not one");
    uint64_t flags = number(at + 8, 2), method = number(at + 10, 2);
    uint64_t packed = number(at + 20, 4), size = number(at + 24, 4), local = number(at + 42, 4);
    uint64_t name = number(at + 28, 2), extra = number(at + 30, 2), comment = number(at + 32, 2);
    *used = CENTRAL_BYTES + name + extra + comment;
    if (*used > left)
        return damaged(zip, "a record of its directory is too long");
    if (!widen(at + CENTRAL_BYTES + name, extra, (uint64_t *[3]){&size, &packed, &local}))
        return damaged(zip, "an entry lacks its zip64 sizes");
    *out = (npi_zip_entry){.name = (const char *)at + CENTRAL_BYTES,
                           .name_bytes = name,
                           .size = size,
                           .crc = (uint32_t)number(at + 16, 4)};
    if (local > zip->size || zip->size - local < LOCAL_BYTES ||
        number(zip->map + local, 4) != LOCAL_SIGNATURE)
        return damaged(zip, "an entry is not where its directory says");
    uint64_t start =
        local + LOCAL_BYTES + number(zip->map + local + 26, 2) + number(zip->map + local + 28, 2);
    if (start > zip->size || packed > zip->size - start)
        return damaged(zip, "an entry lies outside the file");
    if (method == 0 && !(flags & ENCRYPTED)) {
        if (packed != size)
            return damaged(zip, "a stored entry has two lengths");
        out->data = zip->map + start;
    } else if (method == DEFLATED && !(flags & ENCRYPTED)) {
        out->packed = zip->map + start;
        out->packed_bytes = packed;
    }
    return NPOS_OK;
}

static int compare_names(const char *a, size_t a_bytes, const char *b, size_t b_bytes) {
    int order = memcmp(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);
    return order ? order : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

static int compare_entries(const void *a, const void *b) {
    const npi_zip_entry *x = a, *y = b;
    return compare_names(x->name, x->name_bytes, y->name, y->name_bytes);
}

static npos_status read_directory(npi_zip *zip) {
    directory found = {0};
    NPI_TRY(find_directory(zip, &found));
    NPI_TRY(npi_alloc(&zip->entries, found.count, sizeof *zip->entries, "zip directory"));
    const uint8_t *at = zip->map + found.start;
    uint64_t left = found.bytes, used = 0;
    for (; zip->count < found.count; zip->count++) {
        NPI_TRY(read_entry(zip, at, left, &zip->entries[zip->count], &used));
        at += used;
        left -= used;
    }
    if (left != 0)
        return damaged(zip, "its directory holds more than it says");
    qsort(zip->entries, zip->count, sizeof *zip->entries, compare_entries);
    for (size_t i = 1; i < zip->count; i++)
        if (compare_entries(&zip->entries[i - 1], &zip->entries[i]) == 0)
            return npi_fail(NPOS_BAD_DATA, "%s: two entries of the zip archive are called '%.*s'",
                            zip->path, (int)zip->entries[i].name_bytes, zip->entries[i].name);
    return NPOS_OK;
}

npos_status npi_zip_open(const char *path, npi_zip **out) {
    *out = NULL;
    npi_zip *zip = NULL;
    struct stat info;
    npos_status status;
    if (!npi_is_file(path))
        return npi_fail(NPOS_NOT_FOUND, "%s: no such file", path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return npi_fail_errno("%s: cannot open", path);
    NPI_TRY_GOTO(npi_alloc(&zip, 1, sizeof *zip, path), done);
    NPI_TRY_GOTO(npi_strdup(&zip->path, path), done);
    if (fstat(fd, &info) != 0) {
        status = npi_fail_errno("%s: cannot stat", path);
        goto done;
    }
    zip->size = (uint64_t)info.st_size;
    if (zip->size != 0) {
        void *map = mmap(NULL, zip->size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map == MAP_FAILED) {
            status = npi_fail_errno("%s: cannot map", path);
            goto done;
        }
        zip->map = map;
    }
    status = read_directory(zip);
done:
    close(fd);
    if (status == NPOS_OK)
        *out = zip;
    else
        npi_zip_close(zip);
    return status;
}

void npi_zip_close(npi_zip *zip) {
    if (!zip)
        return;
    if (zip->map)
        munmap(zip->map, zip->size);
    npi_free(zip->entries);
    npi_free(zip->path);
    npi_free(zip);
}

size_t npi_zip_count(const npi_zip *zip) {
    return zip->count;
}

const npi_zip_entry *npi_zip_at(const npi_zip *zip, size_t i) {
    return &zip->entries[i];
}

const npi_zip_entry *npi_zip_find(const npi_zip *zip, const char *name, size_t name_bytes) {
    size_t low = 0, high = zip->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const npi_zip_entry *entry = &zip->entries[middle];
        int order = compare_names(name, name_bytes, entry->name, entry->name_bytes);
        if (order == 0)
            return entry;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

static npos_status check_bytes(const npi_zip *zip, const npi_zip_entry *entry,
                               const uint8_t *bytes) {
    uint32_t seen = (uint32_t)crc32_z(0, bytes, entry->size);
    if (seen == entry->crc)
        return NPOS_OK;
    return npi_fail(NPOS_BAD_DATA,
                    "%s: entry '%.*s' is damaged: the CRC-32 of its bytes is %08" PRIx32
                    ", %08" PRIx32 " was written",
                    zip->path, (int)entry->name_bytes, entry->name, seen, entry->crc);
}

npos_status npi_zip_check(const npi_zip *zip, const npi_zip_entry *entry) {
    return check_bytes(zip, entry, entry->data);
}

/* Inflates the whole entry, which must fill `to` exactly. */
static bool inflate_entry(const npi_zip_entry *entry, uint8_t *to) {
    z_stream z = {0};
    const uint64_t part = UINT32_MAX;
    uint64_t in = entry->packed_bytes, out = entry->size;
    int result = inflateInit2(&z, -MAX_WBITS);
    z.next_in = (uint8_t *)entry->packed; /* zlib's field is not const; it does not write there */
    z.next_out = to;
    while (result == Z_OK) {
        if (z.avail_in == 0) {
            z.avail_in = (unsigned)(in < part ? in : part);
            in -= z.avail_in;
        }
        if (z.avail_out == 0) {
            z.avail_out = (unsigned)(out < part ? out : part);
            out -= z.avail_out;
        }
        result = inflate(&z, Z_NO_FLUSH);
    }
    bool whole = result == Z_STREAM_END && out == 0 && z.avail_out == 0;
    inflateEnd(&z);
    return whole;
}

npos_status npi_zip_unpack(const npi_zip *zip, const npi_zip_entry *entry, uint8_t **out) {
    *out = NULL;
    if (!entry->packed)
        return npi_fail(NPOS_UNSUPPORTED, "%s: entry '%.*s' is encrypted or packed in a rare way",
                        zip->path, (int)entry->name_bytes, entry->name);
    if (entry->size / DEFLATE_RATIO > entry->packed_bytes)
        return npi_fail(NPOS_BAD_DATA,
                        "%s: entry '%.*s' says it unpacks %" PRIu64 " bytes to %" PRIu64, zip->path,
                        (int)entry->name_bytes, entry->name, entry->packed_bytes, entry->size);
    NPI_TRY(npi_alloc(out, entry->size, 1, zip->path));
    npos_status status =
        inflate_entry(entry, *out)
            ? check_bytes(zip, entry, *out)
            : npi_fail(NPOS_BAD_DATA,
                       "%s: entry '%.*s' is damaged: it does not unpack to %" PRIu64 " bytes",
                       zip->path, (int)entry->name_bytes, entry->name, entry->size);
    if (status != NPOS_OK) {
        npi_free(*out);
        *out = NULL;
    }
    return status;
}
