#include "base/memory.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    ALIGNMENT = 64,
    HUGE_PAGE = 2 << 20 /* the size on x86-64 and most others; elsewhere this only does nothing */
};

/* Stands in front of each block, one alignment unit long. */
typedef struct header {
    size_t bytes;
} header;

static atomic_size_t bytes_now, bytes_peak;
static atomic_uint_fast64_t calls;
static atomic_int_fast64_t fail_countdown;

static void count_bytes(size_t bytes) {
    size_t now = atomic_fetch_add(&bytes_now, bytes) + bytes;
    size_t peak = atomic_load(&bytes_peak);
    while (now > peak && !atomic_compare_exchange_weak(&bytes_peak, &peak, now)) {
    }
}

/* Asks for huge pages inside a large block: loops that jump about in it (lists of neighbours, rows
 * of a bank) otherwise wait for the table of pages.  It costs no memory, since the whole block is
 * written at once anyway, and is only a wish: what the kernel answers does not matter. */
static void wish_huge_pages(char *block, size_t bytes) {
#if defined(MADV_HUGEPAGE)
    const uintptr_t mask = HUGE_PAGE - 1, start = ((uintptr_t)block + mask) & ~mask,
                    end = ((uintptr_t)block + bytes) & ~mask;
    if (end > start)
        (void)madvise(block + (start - (uintptr_t)block), end - start, MADV_HUGEPAGE);
#else
    (void)block;
    (void)bytes;
#endif
}

static void *take(size_t bytes) {
    if (atomic_load(&fail_countdown) > 0 && atomic_fetch_sub(&fail_countdown, 1) == 1)
        return NULL;
    size_t whole = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT + ALIGNMENT;
    char *block = aligned_alloc(ALIGNMENT, whole);
    if (!block)
        return NULL;
    if (whole >= 2 * (size_t)HUGE_PAGE)
        wish_huge_pages(block, whole);
    memset(block, 0, whole);
    ((header *)(void *)block)->bytes = bytes;
    count_bytes(bytes);
    atomic_fetch_add(&calls, 1);
    return block + ALIGNMENT;
}

static npos_status refuse(size_t count, size_t size, const char *what) {
    return npi_fail(NPOS_OUT_OF_MEMORY, "%s: no memory for %zu elements of %zu bytes", what, count,
                    size);
}

static int too_large(size_t count, size_t size) {
    return size != 0 && count > (SIZE_MAX / 2 - 2 * ALIGNMENT) / size;
}

npos_status npi_alloc(void *out, size_t count, size_t size, const char *what) {
    void *block = too_large(count, size) ? NULL : take(count * size);
    memcpy(out, &block, sizeof block);
    return block ? NPOS_OK : refuse(count, size, what);
}

npos_status npi_grow(void *pointer, size_t old_count, size_t count, size_t size, const char *what) {
    void *old;
    memcpy(&old, pointer, sizeof old);
    void *block = too_large(count, size) ? NULL : take(count * size);
    if (!block)
        return refuse(count, size, what);
    if (old)
        memcpy(block, old, (old_count < count ? old_count : count) * size);
    npi_free(old);
    memcpy(pointer, &block, sizeof block);
    return NPOS_OK;
}

void npi_free(void *pointer) {
    if (!pointer)
        return;
    char *block = (char *)pointer - ALIGNMENT;
    atomic_fetch_sub(&bytes_now, ((header *)(void *)block)->bytes);
    free(block);
}

npos_status npi_strdup(char **out, const char *text) {
    size_t length = strlen(text);
    NPI_TRY(npi_alloc(out, length + 1, 1, "text"));
    memcpy(*out, text, length);
    return NPOS_OK;
}

npos_status npi_format(char **out, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    npos_status status = length < 0 ? npi_fail(NPOS_INTERNAL, "text: bad format '%s'", format)
                                    : npi_alloc(out, (size_t)length + 1, 1, "text");
    if (status == NPOS_OK)
        vsnprintf(*out, (size_t)length + 1, format, again);
    va_end(again);
    return status;
}

size_t npi_memory_now(void) {
    return atomic_load(&bytes_now);
}

size_t npi_memory_peak(void) {
    return atomic_load(&bytes_peak);
}

uint64_t npi_memory_calls(void) {
    return atomic_load(&calls);
}

void npi_memory_fail_after(int64_t n) {
    atomic_store(&fail_countdown, n);
}
