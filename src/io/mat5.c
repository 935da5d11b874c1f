#include "io/mat5.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

#include "base/memory.h"

/* Types of elements, and classes of arrays. */
enum {
    MI_INT8 = 1,
    MI_UINT8 = 2,
    MI_INT16 = 3,
    MI_UINT16 = 4,
    MI_INT32 = 5,
    MI_UINT32 = 6,
    MI_SINGLE = 7,
    MI_DOUBLE = 9,
    MI_INT64 = 12,
    MI_UINT64 = 13,
    MI_MATRIX = 14,
    MI_COMPRESSED = 15,
    CLASS_FIRST_NUMERIC = 6, /* double */
    CLASS_LAST_NUMERIC = 15, /* uint64 */
    FLAG_COMPLEX = 0x800
};
enum { MOST_DIMS = 32, NAME_BYTES = 64, BUFFER_BYTES = 1 << 16, DEFLATE_RATIO = 1032 };

typedef struct reader {
    const char *path;
    FILE *file;
    int64_t left;   /* bytes of the file behind the current position */
    int64_t packed; /* of these, of the compressed element that is being read */
    bool inflating;
    z_stream z;
    int64_t inside; /* bytes of the array that are still to come */
    uint8_t buffer[BUFFER_BYTES];
} reader;

/* The type and length of an element; up to 4 bytes can lie in the tag itself. */
typedef struct tag {
    uint32_t type, bytes;
    uint8_t small[4];
    bool is_small;
} tag;

static uint32_t number(const uint8_t *from) {
    return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 |
           (uint32_t)from[3] << 24;
}

static size_t type_bytes(uint32_t type) {
    static const uint8_t widths[] = {
        [MI_INT8] = 1,   [MI_UINT8] = 1,  [MI_INT16] = 2,  [MI_UINT16] = 2, [MI_INT32] = 4,
        [MI_UINT32] = 4, [MI_SINGLE] = 4, [MI_DOUBLE] = 8, [MI_INT64] = 8,  [MI_UINT64] = 8};
    return type < sizeof widths ? widths[type] : 0;
}

bool npi_mat5_known(const void *start, size_t size) {
    const char *text = start;
    return size >= NPI_MAT_START &&
           (memcmp(text + 126, "IM", 2) == 0 || memcmp(text + 126, "MI", 2) == 0) &&
           (memcmp(text, "MATLAB 5.0 MAT-file", 19) == 0 ||
            memcmp(text, "MATLAB 7.3 MAT-file", 19) == 0);
}

/* ---- bytes --------------------------------------------------------------------------------------- */

static npos_status truncated(const reader *r) {
    return npi_fail(NPOS_BAD_DATA, "%s: truncated within an element", r->path);
}

static npos_status from_file(reader *r, void *to, size_t size) {
    if ((int64_t)size > r->left || fread(to, 1, size, r->file) != size)
        return truncated(r);
    r->left -= (int64_t)size;
    return NPOS_OK;
}

static npos_status skip_file(reader *r, int64_t bytes) {
    if (bytes > r->left)
        return truncated(r);
    if (fseeko(r->file, bytes, SEEK_CUR) != 0)
        return npi_fail_errno("%s", r->path);
    r->left -= bytes;
    return NPOS_OK;
}

static npos_status refill(reader *r) {
    size_t part = r->packed < BUFFER_BYTES ? (size_t)r->packed : BUFFER_BYTES;
    if (part == 0)
        return npi_fail(NPOS_BAD_DATA, "%s: a compressed array ends too early", r->path);
    NPI_TRY(from_file(r, r->buffer, part));
    r->packed -= (int64_t)part;
    r->z.next_in = r->buffer;
    r->z.avail_in = (unsigned)part;
    return NPOS_OK;
}

static npos_status inflate_bytes(reader *r, void *to, size_t size) {
    uint8_t *at = to;
    while (size > 0) {
        if (r->z.avail_in == 0)
            NPI_TRY(refill(r));
        unsigned room = size < UINT32_MAX ? (unsigned)size : UINT32_MAX;
        r->z.next_out = at;
        r->z.avail_out = room;
        int result = inflate(&r->z, Z_NO_FLUSH);
        size_t got = room - r->z.avail_out;
        at += got;
        size -= got;
        if (result == Z_STREAM_END && size > 0)
            return npi_fail(NPOS_BAD_DATA, "%s: a compressed array ends too early", r->path);
        if (result != Z_OK && result != Z_STREAM_END && !(result == Z_BUF_ERROR && got == 0))
            return npi_fail(NPOS_BAD_DATA, "%s: damaged compressed array: %s", r->path,
                            r->z.msg ? r->z.msg : "unknown reason");
    }
    return NPOS_OK;
}

/* The next bytes of the array. */
static npos_status take(reader *r, void *to, size_t size) {
    if ((int64_t)size > r->inside)
        return npi_fail(NPOS_BAD_DATA, "%s: an array's parts are longer than the array", r->path);
    r->inside -= (int64_t)size;
    return r->inflating ? inflate_bytes(r, to, size) : from_file(r, to, size);
}

/* Behind a compressed array: its checksum, and nothing more. */
static npos_status finish_inflate(reader *r) {
    for (;;) {
        uint8_t more;
        r->z.next_out = &more;
        r->z.avail_out = 1;
        int result = inflate(&r->z, Z_NO_FLUSH);
        if (r->z.avail_out == 0)
            return npi_fail(NPOS_BAD_DATA, "%s: a compressed array is longer than it says",
                            r->path);
        if (result == Z_STREAM_END)
            return NPOS_OK;
        if (result != Z_OK && result != Z_BUF_ERROR)
            return npi_fail(NPOS_BAD_DATA, "%s: damaged compressed array: %s", r->path,
                            r->z.msg ? r->z.msg : "unknown reason");
        if (r->z.avail_in == 0)
            NPI_TRY(refill(r));
    }
}

static void part_tag(const uint8_t raw[8], tag *out) {
    uint32_t first = number(raw);
    *out = (tag){.type = first, .bytes = number(raw + 4)};
    if (first >> 16) {
        *out = (tag){.type = first & 0xffff, .bytes = first >> 16, .is_small = true};
        memcpy(out->small, raw + 4, 4);
    }
}

/* The next part of an array, whose data then follow. */
static npos_status next_part(reader *r, tag *out) {
    uint8_t raw[8];
    NPI_TRY(take(r, raw, sizeof raw));
    part_tag(raw, out);
    if (out->is_small ? out->bytes > 4 : out->bytes > r->inside)
        return npi_fail(NPOS_BAD_DATA, "%s: a part of %u bytes in an array that has %lld left",
                        r->path, out->bytes, (long long)r->inside);
    return NPOS_OK;
}

/* A part's data, and the filling up to a multiple of 8 bytes. */
static npos_status part_data(reader *r, const tag *t, void *to) {
    uint8_t filling[8];
    if (t->is_small) {
        memcpy(to, t->small, t->bytes);
        return NPOS_OK;
    }
    NPI_TRY(take(r, to, t->bytes));
    size_t rest = (8 - t->bytes % 8) % 8;
    return take(r, filling, rest < (size_t)r->inside ? rest : (size_t)r->inside);
}

/* ---- arrays -------------------------------------------------------------------------------------- */

typedef struct header {
    uint32_t class, flags;
    int ndim;
    int32_t shape[MOST_DIMS];
    char name[NAME_BYTES + 1];
} header;

static npos_status read_header(reader *r, header *out) {
    tag t;
    uint8_t raw[4 * MOST_DIMS];
    *out = (header){0};
    NPI_TRY(next_part(r, &t));
    if (t.type != MI_UINT32 || t.bytes != 8)
        return npi_fail(NPOS_BAD_DATA, "%s: an array does not begin with its flags", r->path);
    NPI_TRY(part_data(r, &t, raw));
    out->flags = number(raw);
    out->class = out->flags & 0xff;
    if (out->class < 1 || out->class > CLASS_LAST_NUMERIC) /* objects of newer kinds: other parts */
        return NPOS_OK;
    NPI_TRY(next_part(r, &t));
    if (t.type != MI_INT32 || t.bytes % 4 != 0 || t.bytes < 8 || t.bytes > sizeof raw)
        return npi_fail(NPOS_BAD_DATA, "%s: an array's shape is %u bytes of type %u", r->path,
                        t.bytes, t.type);
    NPI_TRY(part_data(r, &t, raw));
    out->ndim = (int)(t.bytes / 4);
    for (int d = 0; d < out->ndim; d++)
        out->shape[d] = (int32_t)number(raw + 4 * d);
    NPI_TRY(next_part(r, &t));
    if (t.type != MI_INT8 || t.bytes > NAME_BYTES)
        return npi_fail(NPOS_BAD_DATA, "%s: an array's name is %u bytes of type %u", r->path,
                        t.bytes, t.type);
    return part_data(r, &t, out->name);
}

/* The shape and number of elements. */
static npos_status take_shape(const reader *r, const header *h, npi_mat *out) {
    int ndim = h->ndim;
    while (ndim > 2 && h->shape[ndim - 1] == 1)
        ndim--;
    if (ndim > NPI_MAT_DIMS)
        return npi_fail(NPOS_UNSUPPORTED, "%s: array %s has %d dimensions, at most %d are read",
                        r->path, h->name, ndim, NPI_MAT_DIMS);
    out->ndim = ndim;
    out->count = 1;
    for (int d = 0; d < ndim; d++) {
        if (h->shape[d] < 0 || (h->shape[d] > 0 && out->count > (int64_t)UINT32_MAX / h->shape[d]))
            return npi_fail(NPOS_BAD_DATA, "%s: array %s says its side %d is %d: impossible",
                            r->path, h->name, d, h->shape[d]);
        out->shape[d] = h->shape[d];
        out->count *= h->shape[d];
    }
    return NPOS_OK;
}

static npos_status read_array(reader *r, const header *h, int64_t element_bytes, npi_mat *out) {
    tag t;
    if (out->data)
        return npi_fail(NPOS_BAD_DATA, "%s: two arrays are called %s", r->path, h->name);
    if (h->class < CLASS_FIRST_NUMERIC || h->flags & FLAG_COMPLEX)
        return npi_fail(NPOS_UNSUPPORTED, "%s: %s is %s, expected an array of real numbers",
                        r->path, h->name,
                        h->flags & FLAG_COMPLEX ? "complex" : "a cell, structure, text or object");
    NPI_TRY(take_shape(r, h, out));
    NPI_TRY(next_part(r, &t));
    size_t width = type_bytes(t.type);
    if (width == 0)
        return npi_fail(NPOS_BAD_DATA, "%s: the elements of %s are of type %u", r->path, h->name,
                        t.type);
    if ((uint64_t)t.bytes != (uint64_t)out->count * width)
        return npi_fail(NPOS_BAD_DATA,
                        "%s: the shape of %s needs %lld bytes, the file has %u for it", r->path,
                        h->name, (long long)(out->count * (int64_t)width), t.bytes);
    if (t.bytes / (r->inflating ? DEFLATE_RATIO : 1) > element_bytes)
        return npi_fail(NPOS_BAD_DATA, "%s: truncated: %s needs %u bytes, %lld are there", r->path,
                        h->name, t.bytes, (long long)element_bytes);
    out->type = (int)t.type;
    NPI_TRY(npi_alloc(&out->data, t.bytes, 1, r->path));
    NPI_TRY(part_data(r, &t, out->data));
    return r->inflating ? finish_inflate(r) : NPOS_OK;
}

/* The array that begins here, of r->inside bytes, is read when it is one of `names`. */
static npos_status look_at(reader *r, int64_t element_bytes, const char *const *names, int count,
                           npi_mat *out) {
    header h;
    NPI_TRY(read_header(r, &h));
    for (int i = 0; i < count; i++)
        if (strcmp(names[i], h.name) == 0)
            return read_array(r, &h, element_bytes, &out[i]);
    return NPOS_OK;
}

/* A compressed element of `bytes` bytes, with an array inside. */
static npos_status look_into(reader *r, int64_t bytes, const char *const *names, int count,
                             npi_mat *out) {
    uint8_t raw[8];
    tag t;
    r->packed = bytes;
    r->z = (z_stream){0};
    if (inflateInit(&r->z) != Z_OK)
        return npi_fail(NPOS_OUT_OF_MEMORY, "%s: no memory to unpack an array", r->path);
    r->inflating = true;
    npos_status status = inflate_bytes(r, raw, sizeof raw);
    if (status == NPOS_OK) {
        part_tag(raw, &t);
        r->inside = t.bytes;
        if (t.type == MI_MATRIX)
            status = look_at(r, bytes, names, count, out);
    }
    inflateEnd(&r->z);
    r->inflating = false;
    return status;
}

static npos_status read_all(reader *r, const char *const *names, int count, npi_mat *out) {
    uint8_t start[NPI_MAT_START], raw[8];
    tag t;
    if (r->left < NPI_MAT_START)
        return npi_fail(NPOS_BAD_DATA, "%s: %lld bytes, no MATLAB file", r->path,
                        (long long)r->left);
    NPI_TRY(from_file(r, start, sizeof start));
    if (!npi_mat5_known(start, sizeof start))
        return npi_fail(NPOS_BAD_DATA, "%s: no MATLAB file of version 5", r->path);
    if (memcmp(start, "MATLAB 7.3", 10) == 0 || start[125] != 1)
        return npi_hint(
            npi_fail(NPOS_UNSUPPORTED, "%s: a MATLAB file of version 7.3 (HDF5)", r->path),
            "save it again: save('x.mat', 'X', 'y', '-v7')");
    if (start[126] != 'I')
        return npi_fail(NPOS_UNSUPPORTED, "%s: a big-endian MATLAB file", r->path);
    while (r->left > 0) {
        NPI_TRY(from_file(r, raw, sizeof raw));
        part_tag(raw, &t);
        if (t.is_small)
            continue;
        if (t.bytes > r->left)
            return npi_fail(NPOS_BAD_DATA, "%s: truncated: an element of %u bytes, %lld are left",
                            r->path, t.bytes, (long long)r->left);
        int64_t behind = r->left - t.bytes;
        r->inside = t.bytes;
        if (t.type == MI_COMPRESSED)
            NPI_TRY(look_into(r, t.bytes, names, count, out));
        else if (t.type == MI_MATRIX)
            NPI_TRY(look_at(r, t.bytes, names, count, out));
        NPI_TRY(skip_file(r, r->left - behind));
    }
    return NPOS_OK;
}

npos_status npi_mat5_read(const char *path, const char *const *names, int count, npi_mat *out) {
    reader *r = NULL;
    struct stat info;
    npos_status status;
    memset(out, 0, (size_t)count * sizeof *out);
    NPI_TRY(npi_alloc(&r, 1, sizeof *r, "MATLAB file"));
    r->path = path;
    r->file = fopen(path, "rbe");
    if (!r->file || fstat(fileno(r->file), &info) != 0) {
        status = npi_fail_errno("%s: cannot open", path);
        goto done;
    }
    r->left = info.st_size;
    status = read_all(r, names, count, out);
done:
    if (r->file)
        fclose(r->file);
    npi_free(r);
    for (int i = 0; status != NPOS_OK && i < count; i++) {
        npi_free(out[i].data);
        out[i] = (npi_mat){0};
    }
    return status;
}

bool npi_mat_is_bytes(const npi_mat *array) {
    return array->type == MI_UINT8;
}

#define VALUE_OF(type)                                                                             \
    do {                                                                                           \
        type value_;                                                                               \
        memcpy(&value_, array->data + (size_t)i * sizeof value_, sizeof value_);                   \
        return (double)value_;                                                                     \
    } while (0)

double npi_mat_value(const npi_mat *array, int64_t i) {
    switch (array->type) {
    case MI_INT8:
        VALUE_OF(int8_t);
    case MI_UINT8:
        VALUE_OF(uint8_t);
    case MI_INT16:
        VALUE_OF(int16_t);
    case MI_UINT16:
        VALUE_OF(uint16_t);
    case MI_INT32:
        VALUE_OF(int32_t);
    case MI_UINT32:
        VALUE_OF(uint32_t);
    case MI_SINGLE:
        VALUE_OF(float);
    case MI_DOUBLE:
        VALUE_OF(double);
    case MI_INT64:
        VALUE_OF(int64_t);
    default:
        VALUE_OF(uint64_t);
    }
}
