/* Names of classes as they may be read. */
#include "text/synonyms.h"

#include <stdbool.h>

#include "base/memory.h"
#include "check.h"

static npi_synonyms synonyms;

static bool reads(const npi_readings *r, int from, int to, const char *text) {
    for (int i = from; i < to; i++)
        if (strcmp(r->text[i], text) == 0)
            return true;
    return false;
}

/* Two names have the same first reading. */
static void alike(const char *a, const char *b, bool same) {
    npi_readings x, y;
    CHECK_OK(npi_readings_of(&synonyms, a, &x));
    CHECK_OK(npi_readings_of(&synonyms, b, &y));
    if ((strcmp(x.text[0], y.text[0]) == 0) != same)
        fail_msg("'%s' is read as '%s', '%s' as '%s'", a, x.text[0], b, y.text[0]);
    npi_readings_clear(&x);
    npi_readings_clear(&y);
}

static void singular_and_plural(void **state) {
    (void)state;
    const char *pairs[][2] = {{"Frogs", "frog"},
                              {"tree_frogs", "Tree Frog"},
                              {"boxes", "box"},
                              {"cities", "city"},
                              {"horses", "horse"},
                              {"cookies", "cookie"},
                              {"churches", "church"},
                              {"bushes", "bush"},
                              {"buses", "bus"},
                              {"glasses", "glass"},
                              {"running-shoes", "running shoe"},
                              {"airplanes", "airplane"}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        alike(pairs[i][0], pairs[i][1], true);
    alike("tube", "tub", false);
    alike("grass", "gras", false);
    alike("iris", "iri", false);
    alike("kite", "kit", false);
}

static void ways_to_read(void **state) {
    (void)state;
    npi_readings r;
    for (int i = 0; i < 2; i++) { /* by WordNet's id */
        CHECK_OK(npi_readings_of(&synonyms, i ? "n01484850_images" : "n01484850", &r));
        assert_int_equal(r.own, 1);
        assert_string_equal(r.text[0], " great white shark ");
        assert_true(reads(&r, 1, r.count, " white shark "));
        npi_readings_clear(&r);
    }
    CHECK_OK(npi_readings_of(&synonyms, "White_Sharks", &r));
    assert_int_equal(r.own, 1);
    assert_string_equal(r.text[0], " white shark ");
    assert_true(reads(&r, 1, r.count, " great white shark "));
    npi_readings_clear(&r);
    CHECK_OK(npi_readings_of(&synonyms, "tench, Tinca tinca", &r));
    assert_int_equal(r.own, 2);
    assert_string_equal(r.text[1], " tinca tinca ");
    npi_readings_clear(&r);
    CHECK_OK(npi_readings_of(&synonyms, "kite (bird of prey)", &r));
    assert_true(reads(&r, 0, r.own, " kite "));
    assert_true(reads(&r, 0, r.own, " kite bird of prey "));
    npi_readings_clear(&r);
    CHECK_OK(npi_readings_of(&synonyms, "lorries", &r));
    assert_true(reads(&r, r.own, r.count, " truck "));
    npi_readings_clear(&r);
    CHECK_OK(npi_readings_of(&synonyms, "crane",
                             &r)); /* the bird's and the machine's: no other names, but the two */
    assert_int_equal(r.own, 1);
    npi_readings_clear(&r);
    const char *nothing[] = {"", "17", "--", ",", "n999", "n99999999"};
    for (size_t i = 0; i < 4; i++) {
        CHECK_OK(npi_readings_of(&synonyms, nothing[i], &r));
        assert_int_equal(r.count, 0);
        npi_readings_clear(&r);
    }
    CHECK_OK(npi_readings_of(&synonyms, nothing[5], &r)); /* beyond ImageNet-1k: only itself */
    assert_int_equal(r.count, 1);
    npi_readings_clear(&r);
}

static void no_allocation_is_trusted(void **state) {
    (void)state;
    size_t before = npi_memory_now();
    npos_status status = NPOS_OUT_OF_MEMORY;
    for (int64_t n = 1; status != NPOS_OK; n = n < 40 ? n + 1 : n + 97) {
        npi_synonyms some;
        npi_readings r = {0};
        npi_memory_fail_after(n);
        status = npi_synonyms_open(&some);
        if (status == NPOS_OK)
            status = npi_readings_of(&some, "white shark, lorry", &r);
        npi_memory_fail_after(0);
        npi_readings_clear(&r);
        npi_synonyms_close(&some);
        assert_true(status == NPOS_OK || status == NPOS_OUT_OF_MEMORY);
        assert_int_equal(npi_memory_now(), before);
    }
}

int main(void) {
    CHECK_OK(npi_synonyms_open(&synonyms));
    const struct CMUnitTest tests[] = {cmocka_unit_test(singular_and_plural),
                                       cmocka_unit_test(ways_to_read),
                                       cmocka_unit_test(no_allocation_is_trusted)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    npi_synonyms_close(&synonyms);
    return failed;
}
