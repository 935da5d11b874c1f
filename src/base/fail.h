/* base/fail.h - how a function of npos fails: a status, a message and, where one is known, a hint.
 *
 *     if (k > n)
 *         return npi_fail(NPOS_INVALID_ARGUMENT, "knn: k is %d, but the bank holds %d embeddings",
 * k, n); NPI_TRY(npi_file_read(path, &bytes));
 *
 * The message is thread-local and replaces the one before it.  Functions that own resources keep a
 * `status` variable and one `done:` label (NPI_TRY_GOTO). */
#ifndef NPI_BASE_FAIL_H
#define NPI_BASE_FAIL_H

#include "npos/status.h"

/* Records the message (printf format) for this thread, clears the hint, returns `status`. */
npos_status npi_fail(npos_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* As npi_fail, with strerror(errno) appended: for system calls; status is NPOS_IO. */
npos_status npi_fail_errno(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Adds to the newest failure how to mend it; returns `status` so that it can end a return
 * statement. */
npos_status npi_hint(npos_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Puts "context: " in front of the newest message, e.g. the name of the file that was being read.
 */
npos_status npi_fail_in(npos_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#define NPI_TRY(call)                                                                              \
    do {                                                                                           \
        npos_status npi_try_status_ = (call);                                                      \
        if (npi_try_status_ != NPOS_OK)                                                            \
            return npi_try_status_;                                                                \
    } while (0)

/* With a local `npos_status status`; jumps to `label` on failure. */
#define NPI_TRY_GOTO(call, label)                                                                  \
    do {                                                                                           \
        status = (call);                                                                           \
        if (status != NPOS_OK)                                                                     \
            goto label;                                                                            \
    } while (0)

#endif
