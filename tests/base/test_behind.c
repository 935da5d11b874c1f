/* Work behind the caller: in order, one at a time, its error in the caller's words. */
#include "base/behind.h"

#include "check.h"

typedef struct count {
    int seen;     /* pieces so far */
    int fails_at; /* -1: none */
} count;

static npos_status work(void *context) {
    count *c = context;
    if (c->seen == c->fails_at)
        return npi_hint(npi_fail(NPOS_IO, "piece %d: no room", c->seen), "make room for %d",
                        c->seen);
    c->seen++;
    return NPOS_OK;
}

static void every_piece_in_order(void **state) {
    (void)state;
    npi_behind behind = {0};
    count c = {.fails_at = -1};
    CHECK_OK(npi_behind_wait(&behind)); /* at rest */
    for (int i = 0; i < 100; i++) {
        CHECK_OK(npi_behind_run(&behind, work, &c));
        assert_true(behind.running || c.seen == i + 1);
    }
    CHECK_OK(npi_behind_wait(&behind));
    CHECK_OK(npi_behind_wait(&behind));
    assert_int_equal(c.seen, 100);
}

static void a_failure_is_told_and_ends_it(void **state) {
    (void)state;
    npi_behind behind = {0};
    count c = {.fails_at = 2};
    for (int i = 0; i < 3; i++)
        CHECK_OK(npi_behind_run(&behind, work, &c));
    CHECK_FAILS(npi_behind_run(&behind, work, &c), NPOS_IO, "piece 2: no room");
    assert_string_equal(npos_error_hint(), "make room for 2");
    c.fails_at = -1;
    CHECK_FAILS(npi_behind_run(&behind, work, &c), NPOS_IO, "piece 2: no room");
    CHECK_FAILS(npi_behind_wait(&behind), NPOS_IO, "piece 2: no room");
    assert_int_equal(c.seen, 2);
    (void)npi_fail(NPOS_BAD_DATA, "something else");
    npi_behind_join(&behind);
    assert_string_equal(npos_error_message(), "something else");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_piece_in_order),
                                       cmocka_unit_test(a_failure_is_told_and_ends_it)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
