/* Neighbours with the AMX kernels, their tile instructions played by loops: the same bits as the
 * generic kernels'. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/philox.h"
#include "devices/cpu/cpu_ood.h"
#include "devices/cpu_plain.h"

#define EMULATED_AMX_SOURCE "devices/cpu/cpu_math_amx.c"
#include "devices/emulated_amx.h"

static void test_neighbours(void **state) {
    (void)state;
#if defined(HAVE_EMULATED_AMX)
    static const int shape[][4] = {
        {1, 40, 1, 3}, {33, 700, 64, 40}, {70, 1100, 45, 5}, {40, 900, 130, 7}};
    if (!isa_present(NPI_ISA_AVX512BF16))
        skip();
    for (size_t s = 0; s < sizeof shape / sizeof *shape; s++) {
        int n = shape[s][0], m = shape[s][1], dim = shape[s][2], k = shape[s][3];
        size_t found = (size_t)(n * k);
        float *q, *b, *near, *expected;
        int64_t *index, *rows;
        assert_int_equal(npi_alloc(&q, (size_t)(n * dim), 4, "test"), NPOS_OK);
        assert_int_equal(npi_alloc(&b, (size_t)(m * dim), 4, "test"), NPOS_OK);
        assert_int_equal(npi_alloc(&near, found, 4, "test"), NPOS_OK);
        assert_int_equal(npi_alloc(&expected, found, 4, "test"), NPOS_OK);
        assert_int_equal(npi_alloc(&index, found, 8, "test"), NPOS_OK);
        assert_int_equal(npi_alloc(&rows, found, 8, "test"), NPOS_OK);
        for (int i = 0; i < (n + m) * dim; i++) {
            float x, y;
            npi_u32x4 r = npi_philox(1, NPI_RANDOM_TEST, (uint64_t)i, 1, 0);
            npi_normal_pair(r.v[0], r.v[1], &x, &y);
            *(i < n * dim ? &q[i] : &b[i - n * dim]) = x;
        }
        plain_cpu cpu;
        npi_device *dev = plain_cpu_open(&cpu, NPI_ISA_AVX512BF16, 2);
        assert_int_equal(
            npi_cpu_find(dev, &npi_math_amx_emulated, n, q, m, b, dim, k, index, near, true),
            NPOS_OK);
        assert_int_equal(
            npi_cpu_find(dev, &npi_math_generic, n, q, m, b, dim, k, rows, expected, true),
            NPOS_OK);
        assert_memory_equal(index, rows, found * sizeof *rows);
        assert_memory_equal(near, expected, found * sizeof *near);
        /* the bits above come from re-scoring; this is the tiles' own work */
        int mr = npi_math_amx_emulated.bytes.mr, nr = npi_math_amx_emulated.bytes.nr;
        enum { DEPTH = 128 };
        uint8_t left[32 * DEPTH];
        int8_t right[32 * DEPTH];
        int32_t c[32 * 32];
        for (int i = 0; i < 32 * DEPTH; i++) {
            left[i] = (uint8_t)(i * 7 % 256);
            right[i] = (int8_t)(i * 11 % 255 - 127);
        }
        for (int there = 1; there <= mr; there++) {
            memset(c, 0, sizeof c);
            npi_math_amx_emulated.bytes.enter();
            npi_math_amx_emulated.bytes.tile(there, DEPTH, left, right, c, 32);
            npi_math_amx_emulated.bytes.leave();
            for (int i = 0; i < there; i++)
                for (int j = 0; j < nr; j++) {
                    int32_t sum = 0;
                    for (int p = 0; p < DEPTH; p++)
                        sum += left[i * DEPTH + p] * right[(p / 4 * nr + j) * 4 + p % 4];
                    assert_int_equal(c[i * 32 + j], sum);
                }
        }
        void *all[] = {q, b, near, expected, index, rows};
        for (int i = 0; i < 6; i++)
            npi_free(all[i]);
        plain_cpu_close(&cpu);
    }
#else
    skip();
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_neighbours)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
