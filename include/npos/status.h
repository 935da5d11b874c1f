/* npos/status.h - what every function of npos returns.
 *
 * A function that can fail returns an npos_status and describes the failure in a thread-local
 * message (npos_error_message) that names the thing, the value seen and what was expected.  The
 * library never prints, exits or aborts on bad input. */
#ifndef NPOS_STATUS_H
#define NPOS_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

/* code, name, exit status of the program, what it means */
#define NPOS_STATUS_MAP(X)                                                                         \
    X(OK, "ok", 0, "done")                                                                         \
    X(INVALID_ARGUMENT, "invalid_argument", 2, "an argument or setting is wrong")                  \
    X(NOT_FOUND, "not_found", 1, "a file, set, class or key is not there")                         \
    X(IO, "io", 1, "the operating system could not read or write")                                 \
    X(BAD_DATA, "bad_data", 1, "a file is damaged or is not what it should be")                    \
    X(SHAPE_MISMATCH, "shape_mismatch", 1, "two things that must fit have different shapes")       \
    X(OUT_OF_MEMORY, "out_of_memory", 1, "memory of the host or of the device ran out")            \
    X(UNSUPPORTED, "unsupported", 1, "this build or this machine cannot do it")                    \
    X(NOT_FINITE, "not_finite", 1, "a loss or a score became NaN or infinite")                     \
    X(INTERRUPTED, "interrupted", 1, "a signal asked to stop; the work was saved")                 \
    X(DEVICE, "device", 1, "the accelerator or its driver failed")                                 \
    X(INTERNAL, "internal", 1, "an inner rule of npos was broken; please report it")

typedef enum npos_status {
#define NPOS_STATUS_ENUM(code, name, exit_status, text) NPOS_##code,
    NPOS_STATUS_MAP(NPOS_STATUS_ENUM)
#undef NPOS_STATUS_ENUM
} npos_status;

#if defined(__GNUC__)
#define NPOS_MUST_CHECK __attribute__((warn_unused_result))
#else
#define NPOS_MUST_CHECK
#endif

/* Short name of a status, e.g. "bad_data"; "unknown" for a value outside the enum. */
const char *npos_status_name(npos_status status);

/* What a status means, one line. */
const char *npos_status_text(npos_status status);

/* Exit status that the program uses for it: 0 done, 1 failed, 2 wrong usage. */
int npos_status_exit(npos_status status);

/* Message of the newest failure in this thread, "" when there was none.  Valid until the next
 * failure. */
const char *npos_error_message(void);

/* How to mend the newest failure of this thread, "" when nothing is known. */
const char *npos_error_hint(void);

#ifdef __cplusplus
}
#endif
#endif
