/* tests/check.h - what the unit tests share on top of cmocka. */
#ifndef TESTS_CHECK_H
#define TESTS_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "npos/status.h"

/* The call must succeed; otherwise the test fails with the library's message. */
#define CHECK_OK(call)                                                                             \
    do {                                                                                           \
        npos_status check_status_ = (call);                                                        \
        if (check_status_ != NPOS_OK)                                                              \
            fail_msg("%s: %s: %s", #call, npos_status_name(check_status_), npos_error_message());  \
    } while (0)

/* The call must fail with this status, and the message must hold `text`. */
#define CHECK_FAILS(call, status, text)                                                            \
    do {                                                                                           \
        npos_status check_status_ = (call);                                                        \
        if (check_status_ != (status))                                                             \
            fail_msg("%s: gave %s (%s), expected %s", #call, npos_status_name(check_status_),      \
                     npos_error_message(), npos_status_name(status));                              \
        if (!strstr(npos_error_message(), text))                                                   \
            fail_msg("%s: the message '%s' lacks '%s'", #call, npos_error_message(), text);        \
    } while (0)

/* A fresh folder for one test; removed by check_remove. */
static inline char *check_folder(void) {
    const char *root = getenv("TMPDIR");
    static char path[512];
    snprintf(path, sizeof path, "%s/npos-test-XXXXXX", root && *root ? root : "/tmp");
    assert_non_null(mkdtemp(path));
    return path;
}

static inline void check_remove(const char *path) {
    char command[600];
    snprintf(command, sizeof command, "rm -rf '%s'", path);
    assert_int_equal(system(command), 0);
}

/* Where the repository lies: the environment's word counts when a test runs elsewhere than it was built. */
#ifdef NPOS_SOURCE_DIR
static inline const char *check_source(void) {
    const char *told = getenv("NPOS_SOURCE_DIR");
    return told ? told : NPOS_SOURCE_DIR;
}
#endif

/* The device under test, where a test can do with any, and its precision (tests/gpu.sh sets them). */
static inline const char *check_device(void) {
    const char *named = getenv("NPOS_TEST_DEVICE");
    return named ? named : "cpu";
}

static inline const char *check_precision(void) {
    const char *named = getenv("NPOS_TEST_PRECISION");
    return named ? named : "fp32";
}

/* "FOLDER/NAME"; four such strings may be in use at a time. */
static inline const char *check_path(const char *folder, const char *name) {
    static char paths[4][1024];
    static int turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

#endif
