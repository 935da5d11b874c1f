#include "io/pickle.h"

#include <inttypes.h>
#include <string.h>

#include "base/memory.h"
#include "io/pickle_reader.h"

/* ---- values -------------------------------------------------------------------------------------- */

enum { CHUNK_BYTES = 1 << 16 };

typedef struct chunk {
    struct chunk *next;
    _Alignas(16) char bytes[];
} chunk;

struct npi_pickle {
    chunk *chunks;
    size_t left, total, most; /* in the newest chunk; in all; allowed */
    const npi_pickle_value *root;
};

static npi_pickle_value none = {.kind = NPI_PICKLE_NONE};
static npi_pickle_value truths[2] = {
    {.kind = NPI_PICKLE_BOOL, .as.integer = 0},
    {.kind = NPI_PICKLE_BOOL, .as.integer = 1},
};

npos_status npi_pickle_take(npi_pickle_reader *r, size_t bytes, void *out) {
    npi_pickle *pickle = r->out;
    bytes = (bytes + 15) / 16 * 16;
    if (bytes > pickle->left) {
        size_t room = bytes > CHUNK_BYTES ? bytes : CHUNK_BYTES;
        if (room > pickle->most - pickle->total)
            return NPI_PICKLE_WRONG(r, NPOS_BAD_DATA,
                                    "its values need more than %zu bytes of memory", pickle->most);
        chunk *fresh;
        NPI_TRY(npi_alloc(&fresh, sizeof *fresh + room, 1, r->name));
        fresh->next = pickle->chunks;
        pickle->chunks = fresh;
        pickle->total += room;
        pickle->left = room;
        /* Chunks are filled from their end: `left` is all there is to know. */
    }
    pickle->left -= bytes;
    void *block = pickle->chunks->bytes + pickle->left;
    memcpy(out, &block, sizeof block);
    return NPOS_OK;
}

npos_status npi_pickle_make(npi_pickle_reader *r, npi_pickle_kind kind, npi_pickle_value **out) {
    NPI_TRY(npi_pickle_take(r, sizeof **out, out));
    (*out)->kind = kind;
    return NPOS_OK;
}

/* ---- stack --------------------------------------------------------------------------------------- */

npos_status npi_pickle_put(npi_pickle_reader *r, npi_pickle_value *value) {
    if (r->depth == r->stack_room) {
        size_t room = r->stack_room ? 2 * r->stack_room : 256;
        NPI_TRY(npi_grow(&r->stack, r->stack_room, room, sizeof *r->stack, r->name));
        r->stack_room = room;
    }
    r->stack[r->depth++] = value;
    return NPOS_OK;
}

npos_status npi_pickle_pop(npi_pickle_reader *r, npi_pickle_value **out) {
    if (r->depth == 0 || !r->stack[r->depth - 1])
        return NPI_PICKLE_WRONG(r, NPOS_BAD_DATA, "opcode 0x%02x finds no value to work on",
                                *r->opcode);
    *out = r->stack[--r->depth];
    return NPOS_OK;
}

npos_status npi_pickle_pop_kind(npi_pickle_reader *r, npi_pickle_kind kind,
                                npi_pickle_value **out) {
    NPI_TRY(npi_pickle_pop(r, out));
    if ((*out)->kind != kind)
        return NPI_PICKLE_WRONG(r, NPOS_BAD_DATA, "opcode 0x%02x finds %s, expected %s", *r->opcode,
                                npi_pickle_kind_name((*out)->kind), npi_pickle_kind_name(kind));
    return NPOS_OK;
}

/* Takes all values above the uppermost mark, and the mark; they stay readable until the next put. */
static npos_status pop_marked(npi_pickle_reader *r, npi_pickle_value ***items, size_t *count) {
    size_t at = r->depth;
    while (at > 0 && r->stack[at - 1])
        at--;
    if (at == 0)
        return NPI_PICKLE_WRONG(r, NPOS_BAD_DATA, "opcode 0x%02x finds no mark", *r->opcode);
    *items = r->stack + at;
    *count = r->depth - at;
    r->depth = at - 1;
    return NPOS_OK;
}

/* The uppermost value, which stays there. */
static npos_status top(npi_pickle_reader *r, npi_pickle_kind kind, npi_pickle_value **out) {
    NPI_TRY(npi_pickle_pop_kind(r, kind, out));
    r->depth++;
    return NPOS_OK;
}

/* Adds to the items of a LIST (width 1) or DICT (width 2, `count` items are count / 2 pairs).  Room is
 * doubled whenever it is full, which is whenever the number of items is a power of two from 4 on. */
static npos_status extend(npi_pickle_reader *r, npi_pickle_value *to, size_t width,
                          npi_pickle_value **items, size_t count) {
    size_t have = to->count * width, need = have + count, room = 4;
    while (room < have)
        room *= 2;
    if (have == 0 || need > room) {
        while (room < need)
            room *= 2;
        npi_pickle_value **moved;
        NPI_TRY(npi_pickle_take(r, room * sizeof *moved, &moved));
        if (have)
            memcpy(moved, to->as.items, have * sizeof *moved);
        to->as.items = moved;
    }
    if (count)
        memcpy(to->as.items + have, items, count * sizeof *items);
    to->count += count / width;
    return NPOS_OK;
}

/* ---- bytes --------------------------------------------------------------------------------------- */

static npos_status bytes(npi_pickle_reader *r, size_t count, const uint8_t **out) {
    if (count > (size_t)(r->end - r->at))
        return NPI_PICKLE_WRONG(r, NPOS_BAD_DATA,
                                "opcode 0x%02x needs %zu bytes, %zu are left: truncated",
                                *r->opcode, count, (size_t)(r->end - r->at));
    *out = r->at;
    r->at += count;
    return NPOS_OK;
}

/* An unsigned number of `width` bytes, little endian. */
static npos_status number(npi_pickle_reader *r, int width, uint64_t *out) {
    const uint8_t *from;
    NPI_TRY(bytes(r, (size_t)width, &from));
    *out = 0;
    for (int i = width; i-- > 0;)
        *out = *out << 8 | from[i];
    return NPOS_OK;
}

/* ---- opcodes: numbers and texts ------------------------------------------------------------------- */

static npos_status put_int(npi_pickle_reader *r, int64_t value) {
    npi_pickle_value *made;
    NPI_TRY(npi_pickle_make(r, NPI_PICKLE_INT, &made));
    made->as.integer = value;
    return npi_pickle_put(r, made);
}

static npos_status do_proto(npi_pickle_reader *r, int unused) {
    (void)unused;
    uint64_t protocol;
    NPI_TRY(number(r, 1, &protocol));
    if (protocol < 2 || protocol > 5)
        return NPI_PICKLE_WRONG(r, NPOS_UNSUPPORTED, "pickle protocol %d, 2 to 5 are read",
                                (int)protocol);
    return NPOS_OK;
}

static npos_status do_frame(npi_pickle_reader *r, int unused) {
    (void)unused;
    uint64_t length;
    NPI_TRY(number(r, 8, &length));
    if (length > (uint64_t)(r->end - r->at))
        return NPI_PICKLE_WRONG(r, NPOS_BAD_DATA,
                                "a frame of %" PRIu64 " bytes, %zu are left: truncated", length,
                                (size_t)(r->end - r->at));
    return NPOS_OK;
}

static npos_status do_none(npi_pickle_reader *r, int unused) {
    (void)unused;
    return npi_pickle_put(r, &none);
}

static npos_status do_truth(npi_pickle_reader *r, int value) {
    return npi_pickle_put(r, &truths[value]);
}

static npos_status do_unsigned(npi_pickle_reader *r, int width) {
    uint64_t value;
    NPI_TRY(number(r, width, &value));
    return put_int(r, (int64_t)value);
}

static npos_status do_int(npi_pickle_reader *r, int width) {
    uint64_t value;
    NPI_TRY(number(r, width, &value));
    return put_int(r, (int32_t)(uint32_t)value);
}

/* An integer of as many bytes as the byte in front of it tells, two's complement. */
static npos_status do_long(npi_pickle_reader *r, int unused) {
    (void)unused;
    uint64_t width, value;
    NPI_TRY(number(r, 1, &width));
    if (width > 8)
        return NPI_PICKLE_WRONG(r, NPOS_UNSUPPORTED, "an integer of %d bytes, at most 8 are read",
                                (int)width);
    NPI_TRY(number(r, (int)width, &value));
    if (width > 0 && width < 8 && value >> (8 * width - 1))
        value |= UINT64_MAX << (8 * width);
    return put_int(r, (int64_t)value);
}

static npos_status do_float(npi_pickle_reader *r, int unused) {
    (void)unused;
    const uint8_t *from;
    NPI_TRY(bytes(r, 8, &from));
    uint64_t bits = 0;
    for (int i = 0; i < 8; i++)
        bits = bits << 8 | from[i];
    npi_pickle_value *made;
    NPI_TRY(npi_pickle_make(r, NPI_PICKLE_FLOAT, &made));
    memcpy(&made->as.number, &bits, sizeof bits);
    return npi_pickle_put(r, made);
}

static npos_status string_of(npi_pickle_reader *r, npi_pickle_kind kind, int width) {
    uint64_t length;
    const uint8_t *from;
    npi_pickle_value *made;
    NPI_TRY(number(r, width, &length));
    NPI_TRY(bytes(r, length, &from));
    NPI_TRY(npi_pickle_make(r, kind, &made));
    made->as.text = (const char *)from;
    made->count = length;
    return npi_pickle_put(r, made);
}

static npos_status do_text(npi_pickle_reader *r, int width) {
    return string_of(r, NPI_PICKLE_TEXT, width);
}

static npos_status do_bytes(npi_pickle_reader *r, int width) {
    return string_of(r, NPI_PICKLE_BYTES, width);
}

/* ---- opcodes: containers and memo ----------------------------------------------------------------- */

static npos_status do_mark(npi_pickle_reader *r, int unused) {
    (void)unused;
    return npi_pickle_put(r, NULL);
}

npos_status npi_pickle_empty(npi_pickle_reader *r, int kind) {
    npi_pickle_value *made;
    NPI_TRY(npi_pickle_make(r, (npi_pickle_kind)kind, &made));
    return npi_pickle_put(r, made);
}

/* `count` values become a tuple; -1: those above the mark. */
static npos_status do_tuple(npi_pickle_reader *r, int count) {
    npi_pickle_value **items, *made;
    size_t have = (size_t)count;
    if (count < 0) {
        NPI_TRY(pop_marked(r, &items, &have));
    } else {
        npi_pickle_value *last;
        for (int i = 0; i < count; i++)
            NPI_TRY(npi_pickle_pop(r, &last));
        items = r->stack + r->depth;
    }
    NPI_TRY(npi_pickle_make(r, NPI_PICKLE_TUPLE, &made));
    if (have) {
        NPI_TRY(npi_pickle_take(r, have * sizeof *items, &made->as.items));
        memcpy(made->as.items, items, have * sizeof *items);
    }
    made->count = have;
    return npi_pickle_put(r, made);
}

static npos_status do_append(npi_pickle_reader *r, int unused) {
    (void)unused;
    npi_pickle_value *item, *list;
    NPI_TRY(npi_pickle_pop(r, &item));
    NPI_TRY(top(r, NPI_PICKLE_LIST, &list));
    return extend(r, list, 1, &item, 1);
}

static npos_status do_appends(npi_pickle_reader *r, int unused) {
    (void)unused;
    npi_pickle_value **items, *list;
    size_t count;
    NPI_TRY(pop_marked(r, &items, &count));
    NPI_TRY(top(r, NPI_PICKLE_LIST, &list));
    return extend(r, list, 1, items, count);
}

static npos_status do_setitem(npi_pickle_reader *r, int unused) {
    (void)unused;
    npi_pickle_value *pair[2], *dict;
    NPI_TRY(npi_pickle_pop(r, &pair[1]));
    NPI_TRY(npi_pickle_pop(r, &pair[0]));
    NPI_TRY(top(r, NPI_PICKLE_DICT, &dict));
    return extend(r, dict, 2, pair, 2);
}

static npos_status do_setitems(npi_pickle_reader *r, int unused) {
    (void)unused;
    npi_pickle_value **items, *dict;
    size_t count;
    NPI_TRY(pop_marked(r, &items, &count));
    if (count % 2 != 0)
        return NPI_PICKLE_WRONG(r, NPOS_BAD_DATA, "a dict gets %zu keys and values, an odd number",
                                count);
    NPI_TRY(top(r, NPI_PICKLE_DICT, &dict));
    return extend(r, dict, 2, items, count);
}

/* Remembers the uppermost value.  Indices are counted up by who writes pickles, each by an opcode of its
 * own: none can be larger than the pickle. */
static npos_status remember(npi_pickle_reader *r, uint64_t index) {
    npi_pickle_value *value;
    NPI_TRY(npi_pickle_pop(r, &value));
    r->depth++;
    if (index >= (uint64_t)(r->end - r->start))
        return NPI_PICKLE_WRONG(r, NPOS_BAD_DATA, "memo index %" PRIu64 " in a pickle of %zu bytes",
                                index, (size_t)(r->end - r->start));
    if (index >= r->memo_room) {
        size_t room = r->memo_room ? r->memo_room : 256;
        while (room <= index)
            room *= 2;
        NPI_TRY(npi_grow(&r->memo, r->memo_room, room, sizeof *r->memo, r->name));
        r->memo_room = room;
    }
    r->memo[index] = value;
    if (index >= r->memos)
        r->memos = index + 1;
    return NPOS_OK;
}

static npos_status do_put(npi_pickle_reader *r, int width) {
    uint64_t index;
    NPI_TRY(number(r, width, &index));
    return remember(r, index);
}

static npos_status do_memoize(npi_pickle_reader *r, int unused) {
    (void)unused;
    return remember(r, r->memos);
}

static npos_status do_get(npi_pickle_reader *r, int width) {
    uint64_t index;
    NPI_TRY(number(r, width, &index));
    if (index >= r->memos || !r->memo[index])
        return NPI_PICKLE_WRONG(r, NPOS_BAD_DATA, "memo index %" PRIu64 " was never written",
                                index);
    return npi_pickle_put(r, r->memo[index]);
}

/* ---- reading ------------------------------------------------------------------------------------- */

/* Without a function: an opcode that neither torch nor NumPy writes, here for its name. */
static const struct {
    const char *name;
    npi_pickle_step *run;
    int argument;
} opcodes[256] = {
    [0x80] = {"PROTO", do_proto, 0},
    [0x95] = {"FRAME", do_frame, 0},
    ['N'] = {"NONE", do_none, 0},
    [0x88] = {"NEWTRUE", do_truth, 1},
    [0x89] = {"NEWFALSE", do_truth, 0},
    ['K'] = {"BININT1", do_unsigned, 1},
    ['M'] = {"BININT2", do_unsigned, 2},
    ['J'] = {"BININT", do_int, 4},
    [0x8a] = {"LONG1", do_long, 0},
    ['G'] = {"BINFLOAT", do_float, 0},
    ['X'] = {"BINUNICODE", do_text, 4},
    [0x8c] = {"SHORT_BINUNICODE", do_text, 1},
    [0x8d] = {"BINUNICODE8", do_text, 8},
    ['B'] = {"BINBYTES", do_bytes, 4},
    ['C'] = {"SHORT_BINBYTES", do_bytes, 1},
    [0x8e] = {"BINBYTES8", do_bytes, 8},
    ['('] = {"MARK", do_mark, 0},
    [')'] = {"EMPTY_TUPLE", npi_pickle_empty, NPI_PICKLE_TUPLE},
    [']'] = {"EMPTY_LIST", npi_pickle_empty, NPI_PICKLE_LIST},
    ['}'] = {"EMPTY_DICT", npi_pickle_empty, NPI_PICKLE_DICT},
    ['t'] = {"TUPLE", do_tuple, -1},
    [0x85] = {"TUPLE1", do_tuple, 1},
    [0x86] = {"TUPLE2", do_tuple, 2},
    [0x87] = {"TUPLE3", do_tuple, 3},
    ['a'] = {"APPEND", do_append, 0},
    ['e'] = {"APPENDS", do_appends, 0},
    ['s'] = {"SETITEM", do_setitem, 0},
    ['u'] = {"SETITEMS", do_setitems, 0},
    ['q'] = {"BINPUT", do_put, 1},
    ['r'] = {"LONG_BINPUT", do_put, 4},
    [0x94] = {"MEMOIZE", do_memoize, 0},
    ['h'] = {"BINGET", do_get, 1},
    ['j'] = {"LONG_BINGET", do_get, 4},
    ['c'] = {"GLOBAL", npi_pickle_global, 0},
    [0x93] = {"STACK_GLOBAL", npi_pickle_stack_global, 0},
    ['Q'] = {"BINPERSID", npi_pickle_persistent, 0},
    ['R'] = {"REDUCE", npi_pickle_reduce, 0},
    [0x81] = {"NEWOBJ", npi_pickle_newobj, 0},
    ['b'] = {"BUILD", npi_pickle_build, 0},
    ['0'] = {"POP", NULL, 0},
    ['1'] = {"POP_MARK", NULL, 0},
    ['2'] = {"DUP", NULL, 0},
    ['F'] = {"FLOAT", NULL, 0},
    ['I'] = {"INT", NULL, 0},
    ['L'] = {"LONG", NULL, 0},
    ['P'] = {"PERSID", NULL, 0},
    ['S'] = {"STRING", NULL, 0},
    ['T'] = {"BINSTRING", do_bytes, 4},
    ['U'] = {"SHORT_BINSTRING", do_bytes, 1},
    ['V'] = {"UNICODE", NULL, 0},
    ['d'] = {"DICT", NULL, 0},
    ['g'] = {"GET", NULL, 0},
    ['i'] = {"INST", NULL, 0},
    ['l'] = {"LIST", NULL, 0},
    ['o'] = {"OBJ", NULL, 0},
    ['p'] = {"PUT", NULL, 0},
    [0x82] = {"EXT1", NULL, 0},
    [0x83] = {"EXT2", NULL, 0},
    [0x84] = {"EXT4", NULL, 0},
    [0x8b] = {"LONG4", NULL, 0},
    [0x8f] = {"EMPTY_SET", NULL, 0},
    [0x90] = {"ADDITEMS", NULL, 0},
    [0x91] = {"FROZENSET", NULL, 0},
    [0x92] = {"NEWOBJ_EX", NULL, 0},
    [0x96] = {"BYTEARRAY8", do_bytes, 8},
    [0x97] = {"NEXT_BUFFER", NULL, 0},
    [0x98] = {"READONLY_BUFFER", NULL, 0},
};

/* Strings of Python 2, and bytearrays: torch writes neither. */
static bool is_of_arrays(unsigned code) {
    return code == 'T' || code == 'U' || code == 0x96;
}

static npos_status execute(npi_pickle_reader *r) {
    if (r->at == r->end || *r->at != 0x80)
        return npi_fail(NPOS_BAD_DATA, "%s: not a pickle of protocol 2 to 5", r->name);
    while (r->at < r->end) {
        r->opcode = r->at++;
        unsigned code = *r->opcode;
        if (code == '.') {
            npi_pickle_value *root;
            NPI_TRY(npi_pickle_pop(r, &root));
            if (r->depth != 0)
                return NPI_PICKLE_WRONG(r, NPOS_BAD_DATA,
                                        "the pickle ends with %zu values left over", r->depth);
            r->out->root = root;
            return NPOS_OK;
        }
        if (!opcodes[code].name)
            return NPI_PICKLE_WRONG(r, NPOS_BAD_DATA, "0x%02x is not an opcode of pickles", code);
        if (!opcodes[code].run || (is_of_arrays(code) && !r->arrays))
            return NPI_PICKLE_WRONG(r, NPOS_UNSUPPORTED,
                                    "opcode 0x%02x (%s), which %s does not write", code,
                                    opcodes[code].name, r->arrays ? "NumPy" : "torch");
        NPI_TRY(opcodes[code].run(r, opcodes[code].argument));
    }
    return npi_fail(NPOS_BAD_DATA, "%s: the pickle has no end: truncated", r->name);
}

static npos_status read_values(const char *name, const uint8_t *start, size_t size, size_t memory,
                               bool arrays, npi_pickle **out) {
    npi_pickle *pickle;
    NPI_TRY(npi_alloc(&pickle, 1, sizeof *pickle, name));
    pickle->most = memory;
    npi_pickle_reader r = {.out = pickle,
                           .name = name,
                           .arrays = arrays,
                           .start = start,
                           .at = start,
                           .end = start + size};
    npos_status status = execute(&r);
    npi_free(r.stack);
    npi_free(r.memo);
    if (status == NPOS_OK)
        *out = pickle;
    else
        npi_pickle_close(pickle);
    return status;
}

static npos_status too_large(const char *name, size_t size, int most) {
    return npi_fail(NPOS_UNSUPPORTED, "%s: a pickle of %zu bytes, at most %d are read", name, size,
                    most);
}

npos_status npi_pickle_read(const char *name, const void *bytes_, size_t size, npi_pickle **out) {
    *out = NULL;
    if (size > NPI_PICKLE_MOST_BYTES)
        return too_large(name, size, NPI_PICKLE_MOST_BYTES);
    return read_values(name, bytes_, size, 16 * size + (1 << 20), false, out);
}

npos_status npi_pickle_read_arrays(const char *name, const void *bytes_, size_t size,
                                   npi_pickle **out) {
    const size_t most = (size_t)512 << 20;
    *out = NULL;
    if (size > NPI_PICKLE_MOST_ARRAY_BYTES)
        return too_large(name, size, NPI_PICKLE_MOST_ARRAY_BYTES);
    return read_values(name, bytes_, size, 16 * size < most ? 16 * size + (1 << 20) : most, true,
                       out);
}

void npi_pickle_close(npi_pickle *pickle) {
    if (!pickle)
        return;
    for (chunk *at = pickle->chunks, *next; at; at = next) {
        next = at->next;
        npi_free(at);
    }
    npi_free(pickle);
}

const npi_pickle_value *npi_pickle_root(const npi_pickle *pickle) {
    return pickle->root;
}

const char *npi_pickle_kind_name(npi_pickle_kind kind) {
    static const char *const kinds[] = {
#define NPI_PICKLE_NAME_OF(code, name) name,
        NPI_PICKLE_MAP(NPI_PICKLE_NAME_OF)
#undef NPI_PICKLE_NAME_OF
    };
    return kinds[kind];
}
