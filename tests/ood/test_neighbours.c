/* A bank in parts finds what the whole bank finds, bit for bit. */
#include <math.h>

#include "base/philox.h"
#include "check.h"
#include "devices/devices.h"
#include "ood/brute_device.h"
#include "ood/neighbours.h"

enum { ROWS = 700, DIM = 20, QUERIES = 90, MOST = 300 };

static float bank[ROWS * DIM], queries[QUERIES * DIM];

/* Random rows of random lengths; the second half repeats every other row of the first, so that equal
 * distances lie in different parts.  Some queries are rows of the bank, one is zero. */
static void draw(void) {
    for (uint32_t i = 0; i < ROWS * DIM; i++) {
        npi_u32x4 r = npi_philox(3, NPI_RANDOM_TEST, 0, i / DIM, i % DIM);
        float x, y;
        npi_normal_pair(r.v[0], r.v[1], &x, &y);
        bank[i] = x * (float)(1 + i / DIM % 5);
    }
    for (int i = ROWS / 2; i < ROWS; i += 2)
        memcpy(bank + i * DIM, bank + (i - ROWS / 2) * DIM, DIM * sizeof *bank);
    for (uint32_t i = 0; i < QUERIES * DIM; i++) {
        npi_u32x4 r = npi_philox(4, NPI_RANDOM_TEST, 0, i / DIM, i % DIM);
        float x, y;
        npi_normal_pair(r.v[0], r.v[1], &x, &y);
        queries[i] = x;
    }
    for (int q = 0; q < 10; q++)
        memcpy(queries + q * DIM, bank + 37 * q * DIM, DIM * sizeof *bank);
    memset(queries + 10 * DIM, 0, DIM * sizeof *bank);
}

typedef struct found {
    double kth[QUERIES];
    int64_t index[QUERIES * MOST];
    float distance[QUERIES * MOST];
} found;

static void search(const npi_neighbour_bank *b, int k, found *to) {
    memset(to, 0x5a, sizeof *to);
    CHECK_OK(npi_neighbour_kth(b, QUERIES, queries, k, to->kth));
    CHECK_OK(npi_neighbour_list(b, QUERIES, queries, k, to->index, to->distance));
}

static void parts_of(npi_device *dev) {
    static const int ks[] = {1, 8, MOST};
    static const int64_t parts[] = {1, 13, 299, 300, ROWS - 1, ROWS, 10 * ROWS};
    static found whole, here;
    npi_neighbour_bank *all, *in_parts;
    CHECK_OK(npi_neighbour_bank_make(dev, ROWS, DIM, bank, &all));
    assert_int_equal(npi_neighbour_bank_part(all), 0);
    for (size_t i = 0; i < sizeof ks / sizeof *ks; i++) {
        search(all, ks[i], &whole);
        for (size_t p = 0; p < sizeof parts / sizeof *parts; p++) {
            CHECK_OK(npi_neighbour_bank_make_parts(dev, ROWS, DIM, bank, parts[p], &in_parts));
            assert_int_equal(npi_neighbour_bank_part(in_parts), parts[p] < ROWS ? parts[p] : ROWS);
            search(in_parts, ks[i], &here);
            assert_memory_equal(&here, &whole, sizeof here);
            npi_neighbour_bank_free(in_parts);
        }
    }
    npi_neighbour_bank_free(all);
}

static void as_the_whole(void **state) {
    (void)state;
    npi_device host = brute_device(true), away = brute_device(false), *dev;
    draw();
    parts_of(&host);
    parts_of(&away);
    CHECK_OK(npi_reference_open(&dev));
    parts_of(dev);
    npi_device_close(dev);
    CHECK_OK(npi_cpu_open(NPI_PRECISION_FP32, 2, &dev));
    parts_of(dev);
    npi_device_close(dev);
}

static void bad_input(void **state) {
    (void)state;
    npi_device away = brute_device(false);
    npi_neighbour_bank *b;
    double kth;
    int64_t index[4];
    float query[DIM];
    draw();
    CHECK_OK(npi_neighbour_bank_make_parts(&away, ROWS, DIM, bank, 100, &b));
    CHECK_FAILS(npi_neighbour_kth(b, 1, queries, ROWS + 1, &kth), NPOS_INVALID_ARGUMENT,
                "k is 701");
    for (int d = 0; d < DIM; d++)
        query[d] = NAN;
    CHECK_FAILS(npi_neighbour_list(b, 1, query, 4, index, NULL), NPOS_NOT_FINITE,
                "embedding 0 has no nearest neighbours");
    npi_neighbour_bank_free(b);
    CHECK_FAILS(npi_neighbour_bank_make_parts(&away, 0, DIM, bank, 10, &b), NPOS_INVALID_ARGUMENT,
                "0 rows of 20 numbers");
    CHECK_OK(npi_neighbour_bank_make_parts(&away, ROWS, DIM, bank, 100, &b));
    for (int64_t n = 1; n < 14; n++) {
        npi_memory_fail_after(n);
        npos_status status = npi_neighbour_list(b, 1, queries, 4, index, NULL);
        npi_memory_fail_after(0);
        assert_true(status == NPOS_OK || status == NPOS_OUT_OF_MEMORY);
        assert_true(n > 3 || status == NPOS_OUT_OF_MEMORY);
    }
    npi_neighbour_bank_free(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_the_whole), cmocka_unit_test(bad_input)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
