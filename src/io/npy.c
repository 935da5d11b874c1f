#include "io/npy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"

enum { MAX_DIMS = 4 };

static const struct {
    const char *descr;
    npi_dtype dtype;
} types[] = {
    {"|u1", NPI_U8},  {"<f2", NPI_F16}, {"<f4", NPI_F32},
    {"<f8", NPI_F64}, {"<i4", NPI_I32}, {"<i8", NPI_I64},
};

/* Position behind `'key':` in the header's dictionary, or NULL. */
static const char *value_of(const char *header, const char *key) {
    char quoted[32];
    snprintf(quoted, sizeof quoted, "'%s'", key);
    const char *at = strstr(header, quoted);
    if (!at)
        return NULL;
    at += strlen(quoted);
    while (*at == ' ')
        at++;
    if (*at++ != ':')
        return NULL;
    while (*at == ' ')
        at++;
    return at;
}

static npos_status parse_shape(const char *path, const char *text, npi_npy *out) {
    out->ndim = 0;
    out->count = 1;
    if (!text || *text++ != '(')
        return npi_fail(NPOS_BAD_DATA, "%s: the .npy header has no shape", path);
    for (;;) {
        while (*text == ' ' || *text == ',')
            text++;
        if (*text == ')')
            return NPOS_OK;
        char *end;
        long long size = strtoll(text, &end, 10);
        if (end == text || size < 0 || out->ndim == MAX_DIMS)
            return npi_fail(NPOS_BAD_DATA,
                            "%s: the .npy shape is not a tuple of at most %d sizes: %.40s", path,
                            MAX_DIMS, text);
        if (size != 0 && out->count > (INT64_MAX / 16) / size)
            return npi_fail(NPOS_BAD_DATA, "%s: the .npy shape is larger than any memory", path);
        out->shape[out->ndim++] = size;
        out->count *= size;
        text = end;
    }
}

static npos_status parse_header(const char *path, const char *header, npi_npy *out) {
    const char *descr = value_of(header, "descr"), *fortran = value_of(header, "fortran_order");
    if (!descr || !fortran)
        return npi_fail(NPOS_BAD_DATA, "%s: the .npy header lacks descr or fortran_order", path);
    if (strncmp(fortran, "False", 5) != 0)
        return npi_hint(npi_fail(NPOS_UNSUPPORTED, "%s: the array is in Fortran order", path),
                        "save numpy.ascontiguousarray(x)");
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (descr[0] == '\'' && strncmp(descr + 1, types[i].descr, 3) == 0 && descr[4] == '\'') {
            out->dtype = types[i].dtype;
            return parse_shape(path, value_of(header, "shape"), out);
        }
    return npi_fail(NPOS_UNSUPPORTED,
                    "%s: element type %.12s, expected one of u1 f2 f4 f8 i4 i8 (little endian)",
                    path, descr);
}

npos_status npi_npy_view(const char *path, const void *bytes, size_t size, npi_npy *out) {
    const unsigned char *b = bytes;
    char *header;
    *out = (npi_npy){0};
    if (size < 12 || memcmp(b, "\x93NUMPY", 6) != 0 || (b[6] != 1 && b[6] != 2))
        return npi_fail(NPOS_BAD_DATA, "%s: not a .npy file of version 1 or 2", path);
    size_t length = (size_t)b[8] | (size_t)b[9] << 8, start = 10;
    if (b[6] == 2) {
        length |= (size_t)b[10] << 16 | (size_t)b[11] << 24;
        start = 12;
    }
    if (length > size - start)
        return npi_fail(NPOS_BAD_DATA, "%s: truncated within the .npy header", path);
    NPI_TRY(npi_alloc(&header, length + 1, 1, "npy header"));
    memcpy(header, b + start, length);
    npos_status status = parse_header(path, header, out);
    npi_free(header);
    NPI_TRY(status);
    size_t body = size - start - length,
           expected = (size_t)out->count * npi_dtype_bytes(out->dtype);
    if (body != expected)
        return npi_fail(NPOS_BAD_DATA, "%s: the array's shape needs %zu bytes, the file has %zu",
                        path, expected, body);
    memcpy(&out->data, &(const void *){b + start + length}, sizeof out->data);
    return NPOS_OK;
}

npos_status npi_npy_read(const char *path, npi_npy *out) {
    char *bytes;
    size_t size;
    npi_npy view;
    *out = (npi_npy){0};
    NPI_TRY(npi_file_read(path, &bytes, &size));
    npos_status status = npi_npy_view(path, bytes, size, &view);
    if (status != NPOS_OK) {
        npi_free(bytes);
        return status;
    }
    /* to the beginning of its block, which is aligned and the caller's to free: no second copy */
    memmove(bytes, view.data, (size_t)view.count * npi_dtype_bytes(view.dtype));
    view.data = bytes;
    *out = view;
    return NPOS_OK;
}

void npi_npy_clear(npi_npy *array) {
    npi_free(array->data);
    *array = (npi_npy){0};
}

/* Reads a float array and checks its type and number of dimensions. */
static npos_status read_floats(const char *path, int ndim, int64_t shape[4], npi_npy *array) {
    NPI_TRY(npi_npy_read(path, array));
    npos_status status = NPOS_OK;
    if (array->dtype != NPI_F32 && array->dtype != NPI_F64)
        status = npi_fail(NPOS_BAD_DATA, "%s: elements are %s, expected float32 or float64", path,
                          npi_dtype_name(array->dtype));
    else if (array->ndim != ndim)
        status = npi_fail(NPOS_SHAPE_MISMATCH, "%s: array of %d dimensions, expected %d", path,
                          array->ndim, ndim);
    if (status != NPOS_OK)
        npi_npy_clear(array);
    else
        memcpy(shape, array->shape, (size_t)ndim * sizeof *shape);
    return status;
}

npos_status npi_npy_read_f64(const char *path, int ndim, int64_t shape[4], double **out) {
    npi_npy array;
    *out = NULL;
    NPI_TRY(read_floats(path, ndim, shape, &array));
    if (array.dtype == NPI_F64) {
        *out = array.data;
        return NPOS_OK;
    }
    npos_status status = npi_alloc(out, (size_t)array.count, sizeof **out, path);
    for (int64_t i = 0; status == NPOS_OK && i < array.count; i++)
        (*out)[i] = (double)((const float *)array.data)[i];
    npi_npy_clear(&array);
    return status;
}

npos_status npi_npy_read_f32(const char *path, int ndim, int64_t shape[4], float **out) {
    npi_npy array;
    *out = NULL;
    NPI_TRY(read_floats(path, ndim, shape, &array));
    if (array.dtype == NPI_F32) {
        *out = array.data;
        return NPOS_OK;
    }
    npos_status status = npi_alloc(out, (size_t)array.count, sizeof **out, path);
    for (int64_t i = 0; status == NPOS_OK && i < array.count; i++)
        (*out)[i] = (float)((const double *)array.data)[i];
    npi_npy_clear(&array);
    return status;
}

npos_status npi_npy_write(const char *path, npi_dtype dtype, int ndim, const int64_t *shape,
                          const void *data) {
    const char *descr = NULL;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].dtype == dtype)
            descr = types[i].descr;
    if (!descr || ndim < 0 || ndim > MAX_DIMS)
        return npi_fail(NPOS_INTERNAL, "%s: .npy cannot hold %d dimensions of %s", path, ndim,
                        npi_dtype_name(dtype));
    char sizes[MAX_DIMS * 24 + 1] = "", header[256];
    size_t count = 1;
    for (int i = 0; i < ndim; i++) {
        size_t used = strlen(sizes);
        snprintf(sizes + used, sizeof sizes - used, i == 0 ? "%lld," : " %lld,",
                 (long long)shape[i]);
        count *= (size_t)shape[i];
    }
    if (ndim > 1)
        sizes[strlen(sizes) - 1] = '\0'; /* (3, 4) but (3,) */
    int length = snprintf(header, sizeof header,
                          "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }", descr, sizes);
    int padded = (10 + length + 1 + 63) / 64 * 64 - 10; /* data start at a multiple of 64 */
    npi_atomic file;
    NPI_TRY(npi_atomic_open(&file, path));
    fwrite("\x93NUMPY\x01\x00", 1, 8, file.stream);
    fputc(padded & 0xff, file.stream);
    fputc(padded >> 8, file.stream);
    fprintf(file.stream, "%-*s\n", padded - 1, header);
    if (count != 0)
        fwrite(data, npi_dtype_bytes(dtype), count, file.stream);
    return npi_atomic_commit(&file);
}
