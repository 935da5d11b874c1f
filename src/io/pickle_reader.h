/* io/pickle_reader.h - what the parts of the unpickler share: its stack machine (pickle.c), the names and
 * objects that it knows (pickle_objects.c) and arrays (pickle_arrays.c).  Nobody else includes this. */
#ifndef NPI_IO_PICKLE_READER_H
#define NPI_IO_PICKLE_READER_H

#include "base/fail.h"
#include "io/pickle.h"

typedef struct npi_pickle_reader {
    npi_pickle *out;
    const char *name;
    bool arrays; /* NumPy's names and opcodes, not torch's */
    const uint8_t *start, *at, *end;
    const uint8_t *opcode;    /* the one that is being executed, for messages */
    npi_pickle_value **stack; /* a NULL is a mark */
    size_t depth, stack_room;
    npi_pickle_value **memo;
    size_t memos, memo_room; /* memos: 1 + the largest index in use */
} npi_pickle_reader;

/* Executes one opcode; the argument's meaning is the function's own. */
typedef npos_status npi_pickle_step(npi_pickle_reader *r, int argument);

/* Says what is wrong at the opcode that is being executed; the value is `status`, in a form in which the
 * compiler sees it and knows what is not set after a failure. */
#define NPI_PICKLE_WRONG(r, status, ...)                                                           \
    ((void)npi_fail(status, __VA_ARGS__),                                                          \
     (void)npi_fail_in(status, "%s: byte %zu", (r)->name, (size_t)((r)->opcode - (r)->start)),     \
     (status))

/* *out = `bytes` zeroed bytes that live as long as the values. */
NPOS_MUST_CHECK npos_status npi_pickle_take(npi_pickle_reader *r, size_t bytes, void *out);

/* *out = a new value. */
NPOS_MUST_CHECK npos_status npi_pickle_make(npi_pickle_reader *r, npi_pickle_kind kind,
                                            npi_pickle_value **out);

/* Puts a value onto the stack; NULL: a mark. */
NPOS_MUST_CHECK npos_status npi_pickle_put(npi_pickle_reader *r, npi_pickle_value *value);

/* Takes the uppermost value, which must be there (and of that kind). */
NPOS_MUST_CHECK npos_status npi_pickle_pop(npi_pickle_reader *r, npi_pickle_value **out);
NPOS_MUST_CHECK npos_status npi_pickle_pop_kind(npi_pickle_reader *r, npi_pickle_kind kind,
                                                npi_pickle_value **out);

/* Puts a new, empty value of the kind `kind` onto the stack. */
npi_pickle_step npi_pickle_empty;

/* The opcodes of pickle_objects.c: GLOBAL, STACK_GLOBAL, BINPERSID, REDUCE, NEWOBJ, BUILD. */
npi_pickle_step npi_pickle_global, npi_pickle_stack_global, npi_pickle_persistent,
    npi_pickle_reduce, npi_pickle_newobj, npi_pickle_build;

/* What the names of NumPy make of their arguments (a tuple), put onto the stack; and the state that
 * BUILD gives to an ARRAY or a DTYPE (pickle_arrays.c). */
typedef npos_status npi_pickle_call(npi_pickle_reader *r, const npi_pickle_value *arguments);
npi_pickle_call npi_pickle_empty_array, npi_pickle_buffer_array, npi_pickle_array_dtype,
    npi_pickle_latin1;
NPOS_MUST_CHECK npos_status npi_pickle_array_state(npi_pickle_reader *r, npi_pickle_value *object,
                                                   const npi_pickle_value *state);

#endif
