#include <stdbool.h>
#include <string.h>

#include "io/pickle_reader.h"

/* A line without its line break. */
static npos_status line(npi_pickle_reader *r, const char **text, size_t *length) {
    const uint8_t *stop = memchr(r->at, '\n', (size_t)(r->end - r->at));
    if (!stop)
        return NPI_PICKLE_WRONG(r, NPOS_BAD_DATA, "opcode 0x%02x: its line has no end: truncated",
                                *r->opcode);
    *text = (const char *)r->at;
    *length = (size_t)(stop - r->at);
    r->at = stop + 1;
    return NPOS_OK;
}

/* ---- names --------------------------------------------------------------------------------------- */

typedef enum role {
    ORDERED_DICT,
    STORAGE_TYPE,
    REBUILD_TENSOR,
    FIRST_TENSOR, /* the first argument, which must be a tensor */
    FIRST,        /* the first argument */
    CLASS,        /* of TorchScript */
    /* those of NumPy */
    EMPTY_ARRAY,
    BUFFER_ARRAY,
    ARRAY_CLASS,
    ARRAY_DTYPE,
    LATIN1
} role;

static const struct {
    const char *module, *name;
    role role;
    npi_dtype dtype;
} names[] = {
    {"collections", "OrderedDict", ORDERED_DICT, 0},
    {"torch", "FloatStorage", STORAGE_TYPE, NPI_F32},
    {"torch", "DoubleStorage", STORAGE_TYPE, NPI_F64},
    {"torch", "HalfStorage", STORAGE_TYPE, NPI_F16},
    {"torch", "BFloat16Storage", STORAGE_TYPE, NPI_BF16},
    {"torch", "LongStorage", STORAGE_TYPE, NPI_I64},
    {"torch", "IntStorage", STORAGE_TYPE, NPI_I32},
    {"torch", "ByteStorage", STORAGE_TYPE, NPI_U8},
    {"torch", "BoolStorage", STORAGE_TYPE, NPI_U8},
    {"torch._utils", "_rebuild_tensor_v2", REBUILD_TENSOR, 0},
    {"torch._utils", "_rebuild_parameter", FIRST_TENSOR, 0},
    {"torch._utils", "_rebuild_parameter_with_state", FIRST_TENSOR, 0},
    {"torch", "Size", FIRST, 0},
    {"torch", "device", FIRST, 0},
    {"torch.jit._pickle", "restore_type_tag", FIRST, 0},
    {"torch.jit._pickle", "build_intlist", FIRST, 0},
    {"torch.jit._pickle", "build_boollist", FIRST, 0},
    {"torch.jit._pickle", "build_doublelist", FIRST, 0},
    {"torch.jit._pickle", "build_tensorlist", FIRST, 0},
    {"numpy.core.multiarray", "_reconstruct", EMPTY_ARRAY, 0},
    {"numpy._core.multiarray", "_reconstruct", EMPTY_ARRAY, 0},
    {"numpy.core.numeric", "_frombuffer", BUFFER_ARRAY, 0},
    {"numpy._core.numeric", "_frombuffer", BUFFER_ARRAY, 0},
    {"numpy", "ndarray", ARRAY_CLASS, 0},
    {"numpy", "dtype", ARRAY_DTYPE, 0},
    {"_codecs", "encode", LATIN1, 0},
    {"__torch__", "", CLASS, 0}, /* and all below it: see find_name */
};
enum { NAMES = sizeof names / sizeof *names, TORCH_SCRIPT = NAMES - 1 };

static bool same(const char *word, const char *text, size_t length) {
    return strlen(word) == length && memcmp(word, text, length) == 0;
}

/* Whether a name is one of those that this reader was asked to read. */
static bool is_read(const npi_pickle_reader *r, int row) {
    return names[row].role == ORDERED_DICT || (names[row].role >= EMPTY_ARRAY) == r->arrays;
}

static npos_status put_name(npi_pickle_reader *r, const char *module, size_t module_length,
                            const char *name, size_t length) {
    static const char own[] = "__torch__.";
    const size_t own_length = sizeof own - 1;
    int found = -1;
    for (int i = 0; i < TORCH_SCRIPT; i++)
        if (is_read(r, i) && same(names[i].module, module, module_length) &&
            same(names[i].name, name, length))
            found = i;
    if (is_read(r, TORCH_SCRIPT) &&
        (same(names[TORCH_SCRIPT].module, module, module_length) ||
         (module_length > own_length && memcmp(module, own, own_length) == 0)))
        found = TORCH_SCRIPT;
    if (found < 0)
        return npi_hint(
            NPI_PICKLE_WRONG(r, NPOS_UNSUPPORTED,
                             "names %.*s.%.*s, which is not on the list of what is read",
                             (int)(module_length < 200 ? module_length : 200), module,
                             (int)(length < 200 ? length : 200), name),
            r->arrays
                ? "nothing in such a file is executed: dicts, lists, numbers, texts and arrays "
                  "of NumPy are all that is read"
                : "nothing in such a file is executed; save the weights alone: "
                  "torch.save(model.state_dict(), FILE)");
    npi_pickle_value *made;
    NPI_TRY(npi_pickle_make(r, NPI_PICKLE_NAME, &made));
    made->row = found;
    return npi_pickle_put(r, made);
}

npos_status npi_pickle_global(npi_pickle_reader *r, int unused) {
    (void)unused;
    const char *module = "", *name = "";
    size_t module_length = 0, length = 0;
    NPI_TRY(line(r, &module, &module_length));
    NPI_TRY(line(r, &name, &length));
    return put_name(r, module, module_length, name, length);
}

npos_status npi_pickle_stack_global(npi_pickle_reader *r, int unused) {
    (void)unused;
    npi_pickle_value *name, *module;
    NPI_TRY(npi_pickle_pop_kind(r, NPI_PICKLE_TEXT, &name));
    NPI_TRY(npi_pickle_pop_kind(r, NPI_PICKLE_TEXT, &module));
    return put_name(r, module->as.text, module->count, name->as.text, name->count);
}

/* ---- opcodes: objects ---------------------------------------------------------------------------- */

/* The persistent id ("storage", type, key, device, number of elements), as torch writes it. */
npos_status npi_pickle_persistent(npi_pickle_reader *r, int unused) {
    (void)unused;
    npi_pickle_value *id, *made;
    NPI_TRY(npi_pickle_pop_kind(r, NPI_PICKLE_TUPLE, &id));
    npi_pickle_value **item = id->as.items;
    if (id->count < 5 || item[0]->kind != NPI_PICKLE_TEXT ||
        !same("storage", item[0]->as.text, item[0]->count) || item[1]->kind != NPI_PICKLE_NAME ||
        names[item[1]->row].role != STORAGE_TYPE || item[2]->kind != NPI_PICKLE_TEXT ||
        item[4]->kind != NPI_PICKLE_INT || item[4]->as.integer < 0)
        return NPI_PICKLE_WRONG(
            r, NPOS_BAD_DATA, "a persistent id is not (\"storage\", type, key, device, elements)");
    NPI_TRY(npi_pickle_make(r, NPI_PICKLE_STORAGE, &made));
    NPI_TRY(npi_pickle_take(r, sizeof *made->as.storage, &made->as.storage));
    *made->as.storage = (npi_pickle_storage){.dtype = names[item[1]->row].dtype,
                                             .key = item[2]->as.text,
                                             .key_bytes = item[2]->count,
                                             .elements = item[4]->as.integer};
    return npi_pickle_put(r, made);
}

static npos_status read_numbers(npi_pickle_reader *r, const npi_pickle_value *from, int64_t *out) {
    for (size_t i = 0; i < from->count; i++) {
        const npi_pickle_value *item = from->as.items[i];
        if (item->kind != NPI_PICKLE_INT || item->as.integer < 0)
            return NPI_PICKLE_WRONG(
                r, NPOS_BAD_DATA, "number %zu of a tensor's shape or strides is %s", i,
                item->kind == NPI_PICKLE_INT ? "negative" : npi_pickle_kind_name(item->kind));
        out[i] = item->as.integer;
    }
    return NPOS_OK;
}

/* (storage, offset, shape, strides, requires_grad, hooks[, metadata]) */
static npos_status rebuild_tensor(npi_pickle_reader *r, const npi_pickle_value *arguments) {
    npi_pickle_value **item = arguments->as.items, *made;
    if (arguments->count < 4 || item[0]->kind != NPI_PICKLE_STORAGE ||
        item[1]->kind != NPI_PICKLE_INT || item[1]->as.integer < 0 ||
        item[2]->kind != NPI_PICKLE_TUPLE || item[3]->kind != NPI_PICKLE_TUPLE ||
        item[2]->count != item[3]->count)
        return NPI_PICKLE_WRONG(r, NPOS_BAD_DATA,
                                "a tensor is not (storage, offset, shape, strides, ...)");
    if (item[2]->count > NPI_TENSOR_MAX_DIMS)
        return NPI_PICKLE_WRONG(r, NPOS_UNSUPPORTED,
                                "a tensor of %zu dimensions, at most %d are read", item[2]->count,
                                NPI_TENSOR_MAX_DIMS);
    NPI_TRY(npi_pickle_make(r, NPI_PICKLE_TENSOR, &made));
    npi_pickle_tensor *tensor;
    NPI_TRY(npi_pickle_take(r, sizeof *tensor, &tensor));
    made->as.tensor = tensor;
    tensor->storage = item[0]->as.storage;
    tensor->offset = item[1]->as.integer;
    tensor->ndim = (int)item[2]->count;
    NPI_TRY(read_numbers(r, item[2], tensor->shape));
    NPI_TRY(read_numbers(r, item[3], tensor->strides));
    return npi_pickle_put(r, made);
}

npos_status npi_pickle_reduce(npi_pickle_reader *r, int unused) {
    (void)unused;
    npi_pickle_value *arguments, *name;
    NPI_TRY(npi_pickle_pop_kind(r, NPI_PICKLE_TUPLE, &arguments));
    NPI_TRY(npi_pickle_pop_kind(r, NPI_PICKLE_NAME, &name));
    size_t count = arguments->count;
    const char *called = names[name->row].name;
    switch (names[name->row].role) {
    case ORDERED_DICT:
        if (count != 0)
            return NPI_PICKLE_WRONG(r, NPOS_UNSUPPORTED,
                                    "OrderedDict called with %zu arguments, expected 0", count);
        return npi_pickle_empty(r, NPI_PICKLE_DICT);
    case REBUILD_TENSOR:
        return rebuild_tensor(r, arguments);
    case FIRST_TENSOR:
        if (count == 0 || arguments->as.items[0]->kind != NPI_PICKLE_TENSOR)
            return NPI_PICKLE_WRONG(r, NPOS_BAD_DATA, "%s called without a tensor", called);
        return npi_pickle_put(r, arguments->as.items[0]);
    case FIRST:
        if (count == 0)
            return NPI_PICKLE_WRONG(r, NPOS_BAD_DATA, "%s called without arguments", called);
        return npi_pickle_put(r, arguments->as.items[0]);
    case EMPTY_ARRAY:
        return npi_pickle_empty_array(r, arguments);
    case BUFFER_ARRAY:
        return npi_pickle_buffer_array(r, arguments);
    case ARRAY_DTYPE:
        return npi_pickle_array_dtype(r, arguments);
    case LATIN1:
        return npi_pickle_latin1(r, arguments);
    case STORAGE_TYPE:
    case ARRAY_CLASS:
    case CLASS:
        break;
    }
    return NPI_PICKLE_WRONG(r, NPOS_UNSUPPORTED, "a call of %s",
                            names[name->row].role == CLASS ? "a class of TorchScript" : called);
}

npos_status npi_pickle_newobj(npi_pickle_reader *r, int unused) {
    (void)unused;
    npi_pickle_value *arguments, *name;
    NPI_TRY(npi_pickle_pop_kind(r, NPI_PICKLE_TUPLE, &arguments));
    NPI_TRY(npi_pickle_pop_kind(r, NPI_PICKLE_NAME, &name));
    if (names[name->row].role != CLASS || arguments->count != 0)
        return NPI_PICKLE_WRONG(r, NPOS_UNSUPPORTED, "an object of %s made from %zu arguments",
                                names[name->row].role == CLASS ? "TorchScript"
                                                               : names[name->row].name,
                                arguments->count);
    return npi_pickle_empty(r, NPI_PICKLE_OBJECT);
}

/* Attributes: an object's are kept; an OrderedDict's (torch hangs _metadata there) are not looked at. */
npos_status npi_pickle_build(npi_pickle_reader *r, int unused) {
    (void)unused;
    npi_pickle_value *state, *object;
    NPI_TRY(npi_pickle_pop(r, &state));
    NPI_TRY(npi_pickle_pop(r, &object));
    if (object->kind == NPI_PICKLE_ARRAY || object->kind == NPI_PICKLE_DTYPE) {
        NPI_TRY(npi_pickle_array_state(r, object, state));
        return npi_pickle_put(r, object);
    }
    if (state->kind != NPI_PICKLE_DICT)
        return NPI_PICKLE_WRONG(r, NPOS_BAD_DATA, "opcode 0x%02x finds %s, expected %s", *r->opcode,
                                npi_pickle_kind_name(state->kind),
                                npi_pickle_kind_name(NPI_PICKLE_DICT));
    if (object->kind == NPI_PICKLE_OBJECT && object->count == 0) {
        object->as.items = state->as.items;
        object->count = state->count;
    } else if (object->kind != NPI_PICKLE_DICT) {
        return NPI_PICKLE_WRONG(r, NPOS_UNSUPPORTED, "attributes are given to %s",
                                npi_pickle_kind_name(object->kind));
    }
    return npi_pickle_put(r, object);
}
