/* NumPy's arrays in a pickle.  An array is either
 *
 *     _reconstruct(ndarray, (0,), b"b"), then BUILD (version, shape, dtype, is_fortran, bytes)
 *     _frombuffer(bytes, dtype, shape, "C" or "F")                                        (protocol 5)
 *
 * and a dtype is dtype("u1", align, copy), then BUILD (3, byte order, ...).
 *
 * Source: NumPy 1.7 to 2.4, numpy/core/src/multiarray/methods.c (array_reduce) and descriptor.c
 * (arraydescr_reduce). */
#include <string.h>

#include "io/pickle_reader.h"

static const struct {
    const char *name;
    npi_dtype dtype;
} types[] = {{"u1", NPI_U8},  {"b1", NPI_U8},  {"i4", NPI_I32},
             {"i8", NPI_I64}, {"f4", NPI_F32}, {"f8", NPI_F64}};

static bool is_string(const npi_pickle_value *value) {
    return value->kind == NPI_PICKLE_TEXT || value->kind == NPI_PICKLE_BYTES;
}

static bool says(const npi_pickle_value *value, const char *text) {
    return is_string(value) && value->count == strlen(text) &&
           memcmp(value->as.text, text, value->count) == 0;
}

static npos_status make_array(npi_pickle_reader *r, npi_pickle_value **out) {
    NPI_TRY(npi_pickle_make(r, NPI_PICKLE_ARRAY, out));
    return npi_pickle_take(r, sizeof *(*out)->as.array, &(*out)->as.array);
}

npos_status npi_pickle_empty_array(npi_pickle_reader *r, const npi_pickle_value *arguments) {
    npi_pickle_value *made;
    (void)arguments; /* what the array is, its state tells */
    NPI_TRY(make_array(r, &made));
    made->as.array->ndim = 1;
    return npi_pickle_put(r, made);
}

npos_status npi_pickle_array_dtype(npi_pickle_reader *r, const npi_pickle_value *arguments) {
    npi_pickle_value *made;
    if (arguments->count == 0 || !is_string(arguments->as.items[0]))
        return NPI_PICKLE_WRONG(r, NPOS_BAD_DATA, "numpy.dtype is called without a type's name");
    const npi_pickle_value *name = arguments->as.items[0];
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (says(name, types[i].name)) {
            NPI_TRY(npi_pickle_make(r, NPI_PICKLE_DTYPE, &made));
            made->as.integer = types[i].dtype;
            return npi_pickle_put(r, made);
        }
    return NPI_PICKLE_WRONG(r, NPOS_UNSUPPORTED,
                            "elements of type %.*s, expected one of u1 b1 i4 i8 f4 f8",
                            (int)(name->count < 40 ? name->count : 40), name->as.text);
}

/* Fills an array: its bytes must be those of its shape. */
static npos_status fill(npi_pickle_reader *r, npi_pickle_array *array,
                        const npi_pickle_value *bytes, const npi_pickle_value *dtype,
                        const npi_pickle_value *shape, bool fortran) {
    if (bytes->kind != NPI_PICKLE_BYTES || dtype->kind != NPI_PICKLE_DTYPE ||
        shape->kind != NPI_PICKLE_TUPLE)
        return NPI_PICKLE_WRONG(
            r, NPOS_BAD_DATA, "an array is made of %s, %s and %s, expected bytes, type and shape",
            npi_pickle_kind_name(bytes->kind), npi_pickle_kind_name(dtype->kind),
            npi_pickle_kind_name(shape->kind));
    if (shape->count > NPI_TENSOR_MAX_DIMS)
        return NPI_PICKLE_WRONG(r, NPOS_UNSUPPORTED,
                                "an array of %zu dimensions, at most %d are read", shape->count,
                                NPI_TENSOR_MAX_DIMS);
    *array = (npi_pickle_array){.dtype = (npi_dtype)dtype->as.integer,
                                .fortran = fortran,
                                .ndim = (int)shape->count,
                                .count = 1,
                                .bytes = (const uint8_t *)bytes->as.text};
    size_t most = bytes->count / npi_dtype_bytes(array->dtype);
    bool fits = true;
    for (int d = 0; d < array->ndim; d++) {
        const npi_pickle_value *side = shape->as.items[d];
        if (side->kind != NPI_PICKLE_INT || side->as.integer < 0)
            return NPI_PICKLE_WRONG(
                r, NPOS_BAD_DATA, "side %d of an array's shape is %s", d,
                side->kind == NPI_PICKLE_INT ? "negative" : npi_pickle_kind_name(side->kind));
        array->shape[d] = side->as.integer;
        fits = fits && (side->as.integer == 0 || array->count <= (int64_t)most / side->as.integer);
        array->count = fits ? array->count * side->as.integer : 0;
    }
    if (!fits || (size_t)array->count * npi_dtype_bytes(array->dtype) != bytes->count)
        return NPI_PICKLE_WRONG(r, NPOS_BAD_DATA,
                                "an array's shape does not fit its %zu bytes of %s", bytes->count,
                                npi_dtype_name(array->dtype));
    return NPOS_OK;
}

npos_status npi_pickle_buffer_array(npi_pickle_reader *r, const npi_pickle_value *arguments) {
    npi_pickle_value **item = arguments->as.items, *made;
    if (arguments->count < 4 || !is_string(item[3]))
        return NPI_PICKLE_WRONG(r, NPOS_BAD_DATA,
                                "_frombuffer is not called with (bytes, dtype, shape, order)");
    NPI_TRY(make_array(r, &made));
    NPI_TRY(fill(r, made->as.array, item[0], item[1], item[2], says(item[3], "F")));
    return npi_pickle_put(r, made);
}

npos_status npi_pickle_array_state(npi_pickle_reader *r, npi_pickle_value *object,
                                   const npi_pickle_value *state) {
    if (state->kind != NPI_PICKLE_TUPLE)
        return NPI_PICKLE_WRONG(r, NPOS_BAD_DATA, "the state of %s is %s, expected a tuple",
                                npi_pickle_kind_name(object->kind),
                                npi_pickle_kind_name(state->kind));
    npi_pickle_value **item = state->as.items;
    if (object->kind == NPI_PICKLE_DTYPE) {
        if (state->count < 2 || !is_string(item[1]))
            return NPI_PICKLE_WRONG(r, NPOS_BAD_DATA, "the state of a dtype has no byte order");
        if (says(item[1], ">") && npi_dtype_bytes((npi_dtype)object->as.integer) > 1)
            return NPI_PICKLE_WRONG(r, NPOS_UNSUPPORTED, "a big-endian array");
        return NPOS_OK;
    }
    if (state->count < 5 || item[3]->kind != NPI_PICKLE_BOOL)
        return NPI_PICKLE_WRONG(r, NPOS_BAD_DATA,
                                "the state of an array is not (version, shape, dtype, "
                                "is_fortran, bytes)");
    return fill(r, object->as.array, item[4], item[2], item[1], item[3]->as.integer != 0);
}

/* Bytes as the text of the characters 0 to 255, in UTF-8. */
npos_status npi_pickle_latin1(npi_pickle_reader *r, const npi_pickle_value *arguments) {
    npi_pickle_value **item = arguments->as.items, *made;
    if (arguments->count != 2 || item[0]->kind != NPI_PICKLE_TEXT ||
        !(says(item[1], "latin1") || says(item[1], "latin-1")))
        return NPI_PICKLE_WRONG(r, NPOS_UNSUPPORTED,
                                "_codecs.encode called with other than (text, \"latin1\")");
    const uint8_t *from = (const uint8_t *)item[0]->as.text;
    size_t length = item[0]->count, made_bytes = 0;
    uint8_t *to;
    NPI_TRY(npi_pickle_make(r, NPI_PICKLE_BYTES, &made));
    NPI_TRY(npi_pickle_take(r, length + 1, &to));
    for (size_t i = 0; i < length; i++) {
        unsigned byte = from[i];
        if (byte >= 0x80) {
            if ((byte != 0xc2 && byte != 0xc3) || i + 1 == length || from[i + 1] >> 6 != 2)
                return NPI_PICKLE_WRONG(r, NPOS_BAD_DATA,
                                        "a text that stands for bytes has other characters");
            byte = (byte & 3) << 6 | (from[++i] & 0x3fu);
        }
        to[made_bytes++] = (uint8_t)byte;
    }
    made->as.text = (const char *)to;
    made->count = made_bytes;
    return npi_pickle_put(r, made);
}
