/* tests/plain/cmocka.h - the part of cmocka's interface that these tests use, for machines without cmocka.
 *
 * Tests run one after the other in one process; a check that fails ends its test by longjmp.  cmocka_run_group_tests
 * gives the number of tests that failed; where all are skipped it gives 77 ("cannot run here" to CTest). */
#ifndef TESTS_PLAIN_CMOCKA_H
#define TESTS_PLAIN_CMOCKA_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef int (*plain_fixture)(void **state);

struct CMUnitTest {
    const char *name;
    void (*test_func)(void **state);
    plain_fixture setup_func, teardown_func;
};

typedef enum plain_end { PLAIN_FAILED = 1, PLAIN_SKIPPED } plain_end;

static jmp_buf plain_out;

__attribute__((noreturn, format(printf, 3, 4), unused)) static void
plain_fail(const char *file, int line, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%s:%d: ", file, line);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    longjmp(plain_out, PLAIN_FAILED);
}

#define plain_check(holds, ...)                                                                    \
    do {                                                                                           \
        if (!(holds))                                                                              \
            plain_fail(__FILE__, __LINE__, __VA_ARGS__);                                           \
    } while (0)

/* As cmocka compares them: as unsigned numbers of 64 bits. */
#define plain_number(x) ((unsigned long long)(x))

static inline void plain_numbers(const char *file, int line, unsigned long long a,
                                 unsigned long long b, bool same) {
    if ((a == b) != same)
        plain_fail(file, line, "%lld %s %lld", (long long)a, same ? "!=" : "==", (long long)b);
}

static inline void plain_strings(const char *file, int line, const char *a, const char *b,
                                 bool same) {
    if ((strcmp(a, b) == 0) != same)
        plain_fail(file, line, "\"%s\" %s \"%s\"", a, same ? "!=" : "==", b);
}

#define fail_msg(...) plain_fail(__FILE__, __LINE__, __VA_ARGS__)
#define skip() longjmp(plain_out, PLAIN_SKIPPED)
#define print_message(...) printf(__VA_ARGS__)
#define assert_true(x) plain_check(x, "not true: %s", #x)
#define assert_false(x) plain_check(!(x), "true: %s", #x)
#define assert_non_null(x) plain_check((x) != NULL, "NULL: %s", #x)
#define assert_null(x) plain_check((x) == NULL, "not NULL: %s", #x)
#define assert_ptr_equal(a, b) plain_check((a) == (b), "not the same: %s, %s", #a, #b)
#define assert_int_equal(a, b)                                                                     \
    plain_numbers(__FILE__, __LINE__, plain_number(a), plain_number(b), true)
#define assert_int_not_equal(a, b)                                                                 \
    plain_numbers(__FILE__, __LINE__, plain_number(a), plain_number(b), false)
#define assert_in_range(x, lo, hi)                                                                 \
    plain_check(plain_number(x) >= plain_number(lo) && plain_number(x) <= plain_number(hi),        \
                "%s is not in %s to %s", #x, #lo, #hi)
#define assert_string_equal(a, b) plain_strings(__FILE__, __LINE__, a, b, true)
#define assert_string_not_equal(a, b) plain_strings(__FILE__, __LINE__, a, b, false)
#define assert_memory_equal(a, b, n) plain_check(memcmp(a, b, n) == 0, "%s differs from %s", #a, #b)
#define assert_memory_not_equal(a, b, n) plain_check(memcmp(a, b, n) != 0, "%s equals %s", #a, #b)

#define cmocka_unit_test(f)                                                                        \
    { #f, f, NULL, NULL }
#define cmocka_unit_test_setup_teardown(f, setup, teardown)                                        \
    { #f, f, setup, teardown }
#define cmocka_run_group_tests(tests, setup, teardown)                                             \
    plain_run(tests, sizeof(tests) / sizeof *(tests), setup, teardown)

/* 0, or how the test ended. */
static inline int plain_run_one(const struct CMUnitTest *test, void **state) {
    int end = setjmp(plain_out);
    if (end)
        return end;
    if (test->setup_func && test->setup_func(state) != 0)
        return PLAIN_FAILED;
    test->test_func(state);
    return test->teardown_func && test->teardown_func(state) != 0 ? PLAIN_FAILED : 0;
}

static inline int plain_run(const struct CMUnitTest *tests, size_t count, plain_fixture setup,
                            plain_fixture teardown) {
    static const char *const words[] = {"OK", "FAILED", "SKIPPED"};
    void *group = NULL;
    int failed = 0, skipped = 0;
    if (setup && setup(&group) != 0) {
        fprintf(stderr, "the tests' preparation failed\n");
        return 1;
    }
    for (size_t i = 0; i < count; i++) {
        void *state = group;
        int end = plain_run_one(&tests[i], &state);
        printf("[ %7s ] %s\n", words[end], tests[i].name);
        fflush(stdout);
        failed += end == PLAIN_FAILED;
        skipped += end == PLAIN_SKIPPED;
    }
    failed += teardown && teardown(&group) != 0;
    printf("%zu tests, %d failed, %d skipped\n", count, failed, skipped);
    return failed == 0 && skipped == (int)count ? 77 : failed;
}

#endif
