#include "io/pt_write.h"

#include <stdio.h>
#include <string.h>

#include <zlib.h>

#include "base/file.h"
#include "base/memory.h"

/* Bytes that grow; the first failure sticks. */
typedef struct bytes {
    uint8_t *at;
    size_t count, room;
    npos_status status;
} bytes;

static void put(bytes *b, const void *from, size_t count) {
    if (b->status == NPOS_OK && b->count + count > b->room) {
        size_t room = 2 * (b->count + count) + 4096;
        b->status = npi_grow(&b->at, b->room, room, 1, "archive");
        b->room = b->status == NPOS_OK ? room : b->room;
    }
    if (b->status != NPOS_OK)
        return;
    memcpy(b->at + b->count, from, count);
    b->count += count;
}

static void put_number(bytes *b, uint64_t value, int size) {
    uint8_t little[8];
    for (int i = 0; i < size; i++)
        little[i] = (uint8_t)(value >> (8 * i));
    put(b, little, (size_t)size);
}

static void put_text(bytes *b, const char *text) {
    put(b, text, strlen(text));
}

/* ---- the pickle: opcodes by the letters of pickletools ---- */

static void put_unicode(bytes *b, const char *text) {
    put_text(b, "X"); /* BINUNICODE */
    put_number(b, strlen(text), 4);
    put_text(b, text);
}

/* LONG1: of any size */
static void put_integer(bytes *b, int64_t value) {
    put(b, "\x8a\x08", 2);
    put_number(b, (uint64_t)value, 8);
}

static void put_empty_dict(bytes *b) {
    put_text(b, "ccollections\nOrderedDict\n)R");
}

static void put_tensor(bytes *b, const npi_named_tensor *t, int key) {
    char text[16];
    int64_t elements = 1;
    for (int i = 0; i < t->ndim; i++)
        elements *= t->shape[i];
    snprintf(text, sizeof text, "%d", key);
    put_text(b, "ctorch._utils\n_rebuild_tensor_v2\n((");
    put_unicode(b, "storage");
    put_text(b, "ctorch\nFloatStorage\n");
    put_unicode(b, text);
    put_unicode(b, "cpu");
    put_integer(b, elements);
    put_text(b, "tQ"); /* TUPLE, BINPERSID */
    put_integer(b, 0);
    put_text(b, "(");
    for (int i = 0; i < t->ndim; i++)
        put_integer(b, t->shape[i]);
    put_text(b, "t(");
    for (int i = 0; i < t->ndim; i++) {
        int64_t stride = 1;
        for (int j = i + 1; j < t->ndim; j++)
            stride *= t->shape[j];
        put_integer(b, stride);
    }
    put_text(b, "t\x89"); /* no gradient */
    put_empty_dict(b);
    put_text(b, "tR");
}

static void put_pickle(bytes *b, const npi_named_tensor *tensors, int count) {
    put(b, "\x80\x02", 2);
    put_empty_dict(b);
    put_text(b, "(");
    for (int i = 0; i < count; i++) {
        put_unicode(b, tensors[i].name);
        put_tensor(b, &tensors[i], i);
    }
    put_text(b, "u."); /* SETITEMS, STOP */
}

/* ---- the archive ---- */

typedef struct archive {
    FILE *stream;
    uint64_t at; /* bytes written */
    bytes directory;
    int entries;
} archive;

/* What local headers and the directory share, from "version needed" to the name's length. */
static void put_common(bytes *b, uint32_t crc, uint64_t size, const char *name) {
    put_number(b, 20, 2);         /* version */
    put_number(b, 0, 2);          /* flags */
    put_number(b, 0, 2);          /* stored */
    put_number(b, 0x00210000, 4); /* 1980-01-01 */
    put_number(b, crc, 4);
    put_number(b, size, 4);
    put_number(b, size, 4);
    put_number(b, strlen(name), 2);
}

/* One entry, its bytes at a multiple of 64. */
static npos_status add(archive *a, const char *name, const void *from, size_t size) {
    static const uint8_t zeros[64];
    bytes header = {0};
    uint32_t crc = (uint32_t)crc32_z(0, from, size);
    uint64_t begin = a->at, data = begin + 30 + strlen(name) + 4, pad = (64 - data % 64) % 64;
    if (data + pad + size > UINT32_MAX)
        return npi_fail(NPOS_UNSUPPORTED, "a .pt file of 4 GB or more cannot be written");
    put_number(&header, 0x04034b50, 4);
    put_common(&header, crc, size, name);
    put_number(&header, 4 + pad, 2); /* an extra field that fills up, as PyTorch's "FB" */
    put_text(&header, name);
    put_text(&header, "FB");
    put_number(&header, pad, 2);
    put(&header, zeros, pad);
    put_number(&a->directory, 0x02014b50, 4);
    put_number(&a->directory, 20, 2);
    put_common(&a->directory, crc, size, name);
    put(&a->directory, zeros, 12); /* extra, comment, disk, attributes */
    put_number(&a->directory, begin, 4);
    put_text(&a->directory, name);
    if (header.status == NPOS_OK) { /* errors of the stream are found by commit */
        fwrite(header.at, 1, header.count, a->stream);
        fwrite(from, 1, size, a->stream);
        a->at += header.count + size;
        a->entries++;
    }
    npi_free(header.at);
    return header.status;
}

static npos_status finish(archive *a) {
    bytes *d = &a->directory;
    size_t size = d->count;
    put_number(d, 0x06054b50, 4);
    put_number(d, 0, 4); /* disks */
    put_number(d, (uint64_t)a->entries, 2);
    put_number(d, (uint64_t)a->entries, 2);
    put_number(d, size, 4);
    put_number(d, a->at, 4);
    put_number(d, 0, 2);
    if (d->status == NPOS_OK)
        fwrite(d->at, 1, d->count, a->stream);
    return d->status;
}

static npos_status write_all(archive *a, const npi_named_tensor *tensors, int count) {
    bytes pickle = {0};
    put_pickle(&pickle, tensors, count);
    npos_status status = pickle.status;
    if (status == NPOS_OK)
        status = add(a, "state/data.pkl", pickle.at, pickle.count);
    npi_free(pickle.at);
    if (status == NPOS_OK)
        status = add(a, "state/byteorder", "little", 6);
    for (int i = 0; i < count && status == NPOS_OK; i++) {
        char name[32];
        size_t size = sizeof(float);
        for (int d = 0; d < tensors[i].ndim; d++)
            size *= (size_t)tensors[i].shape[d];
        snprintf(name, sizeof name, "state/data/%d", i);
        status = add(a, name, tensors[i].data, size);
    }
    if (status == NPOS_OK)
        status = add(a, "state/version", "3\n", 2);
    return status == NPOS_OK ? finish(a) : status;
}

npos_status npi_pt_write(const char *path, const npi_named_tensor *tensors, int count) {
    npi_atomic file = {0};
    archive a = {0};
    npos_status status = NPOS_OK;
    for (int i = 0; i < count; i++)
        if (tensors[i].dtype != NPI_F32)
            return npi_fail(NPOS_UNSUPPORTED, "%s: tensor '%s' is %s, only float32 is written",
                            path, tensors[i].name, npi_dtype_name(tensors[i].dtype));
    if (count > 60000) /* entries are counted in 16 bits */
        return npi_fail(NPOS_UNSUPPORTED, "%s: %d tensors, at most 60000", path, count);
    NPI_TRY_GOTO(npi_atomic_open(&file, path), done);
    a.stream = file.stream;
    NPI_TRY_GOTO(write_all(&a, tensors, count), done);
    status = npi_atomic_commit(&file);
done:
    npi_free(a.directory.at);
    npi_atomic_abort(&file);
    return status;
}
