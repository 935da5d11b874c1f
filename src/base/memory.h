/* base/memory.h - host memory: aligned, zeroed, overflow-checked, counted.
 *
 * Every block is 64-byte aligned and starts zeroed.  Failure is NPOS_OUT_OF_MEMORY with the size
 * and the purpose in the message.  Tests make the Nth allocation fail (npi_memory_fail_after). */
#ifndef NPI_BASE_MEMORY_H
#define NPI_BASE_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "base/fail.h"

/* *out = `count` zeroed elements of `size` bytes, to be freed with npi_free.  `what` names the
 * purpose in errors ("training embeddings").  count == 0 gives a valid pointer.  On failure *out is
 * NULL. */
NPOS_MUST_CHECK npos_status npi_alloc(void *out, size_t count, size_t size, const char *what);

/* Grows a block of npi_alloc to `count` elements, contents kept, the new part zeroed.  On failure
 * the old block is untouched.  *pointer may be NULL with old_count 0. */
NPOS_MUST_CHECK npos_status npi_grow(void *pointer, size_t old_count, size_t count, size_t size,
                                     const char *what);

/* Frees; NULL is accepted. */
void npi_free(void *pointer);

/* *out = copy of a string, to be freed with npi_free. */
NPOS_MUST_CHECK npos_status npi_strdup(char **out, const char *text);

/* *out = printf into a new string, to be freed with npi_free. */
NPOS_MUST_CHECK npos_status npi_format(char **out, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Bytes in use now and at the most, over all threads. */
size_t npi_memory_now(void);
size_t npi_memory_peak(void);

/* Number of successful npi_alloc and npi_grow calls so far: a test checks that a steady-state step
 * makes none. */
uint64_t npi_memory_calls(void);

/* For tests: the n-th allocation from now fails (n >= 1), once; 0 switches it off. */
void npi_memory_fail_after(int64_t n);

#endif
