/* tests/io/make_zip.h - zip archives for tests, as torch lays them out: a folder, stored entries. */
#ifndef TESTS_IO_MAKE_ZIP_H
#define TESTS_IO_MAKE_ZIP_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

typedef struct zip_item {
    const char *name;
    const void *bytes;
    size_t size;
    int method; /* what the directory claims: 0 stored, 8 deflated */
} zip_item;

static inline uint8_t *zip_number(uint8_t *to, uint64_t value, int width) {
    for (int i = 0; i < width; i++, value >>= 8)
        *to++ = (uint8_t)value;
    return to;
}

static inline uint8_t *zip_bytes(uint8_t *to, const void *bytes, size_t size) {
    if (size)
        memcpy(to, bytes, size);
    return to + size;
}

/* An archive of its own block of exact size, to be freed with free; with `zip64` all sizes and places
 * stand in zip64's fields.  NULL when memory ran out. */
static inline uint8_t *make_zip(const zip_item *items, int count, int zip64, size_t *size) {
    size_t room = 256;
    for (int i = 0; i < count; i++)
        room += 160 + 2 * strlen(items[i].name) + items[i].size;
    uint8_t *start = malloc(room), *at = start;
    uint64_t places[16];
    if (!start || count > 16) {
        free(start);
        return NULL;
    }
    for (int i = 0; i < count; i++) {
        places[i] = (uint64_t)(at - start);
        at = zip_number(at, 0x04034b50, 4);
        memset(at, 0, 22); /* readers take these from the directory */
        at = zip_number(at + 22, strlen(items[i].name), 2);
        at = zip_number(at, 0, 2);
        at = zip_bytes(at, items[i].name, strlen(items[i].name));
        at = zip_bytes(at, items[i].bytes, items[i].size);
    }
    uint64_t directory = (uint64_t)(at - start);
    for (int i = 0; i < count; i++) {
        uint32_t crc = (uint32_t)crc32_z(0, items[i].bytes, items[i].size);
        at = zip_number(at, 0x02014b50, 4);
        at = zip_number(at, 0, 6); /* versions, flags */
        at = zip_number(at, (uint64_t)items[i].method, 2);
        at = zip_number(at, 0, 4); /* time */
        at = zip_number(at, crc, 4);
        at = zip_number(at, zip64 ? UINT32_MAX : items[i].size, 4);
        at = zip_number(at, zip64 ? UINT32_MAX : items[i].size, 4);
        at = zip_number(at, strlen(items[i].name), 2);
        at = zip_number(at, zip64 ? 28 : 0, 2);
        at = zip_number(at, 0, 8); /* comment, disk, attributes */
        at = zip_number(at, 0, 2);
        at = zip_number(at, zip64 ? UINT32_MAX : places[i], 4);
        at = zip_bytes(at, items[i].name, strlen(items[i].name));
        if (zip64) {
            at = zip_number(at, 1, 2);
            at = zip_number(at, 24, 2);
            at = zip_number(at, items[i].size, 8);
            at = zip_number(at, items[i].size, 8);
            at = zip_number(at, places[i], 8);
        }
    }
    uint64_t end = (uint64_t)(at - start), bytes = end - directory;
    if (zip64) {
        at = zip_number(at, 0x06064b50, 4);
        at = zip_number(at, 44, 8);
        at = zip_number(at, 0, 12); /* versions, disks */
        at = zip_number(at, (uint64_t)count, 8);
        at = zip_number(at, (uint64_t)count, 8);
        at = zip_number(at, bytes, 8);
        at = zip_number(at, directory, 8);
        at = zip_number(at, 0x07064b50, 4);
        at = zip_number(at, 0, 4);
        at = zip_number(at, end, 8);
        at = zip_number(at, 1, 4);
    }
    at = zip_number(at, 0x06054b50, 4);
    at = zip_number(at, 0, 4);
    at = zip_number(at, zip64 ? 0xffff : (uint64_t)count, 2);
    at = zip_number(at, zip64 ? 0xffff : (uint64_t)count, 2);
    at = zip_number(at, zip64 ? UINT32_MAX : bytes, 4);
    at = zip_number(at, zip64 ? UINT32_MAX : directory, 4);
    at = zip_number(at, 0, 2);
    *size = (size_t)(at - start);
    return start;
}

#endif
