/* The kernels that neighbours are screened with, against plain loops: rows of bytes and their
 * products, what stays of a list, and which columns pass. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/philox.h"
#include "devices/cpu/cpu_math.h"
#include "devices/cpu_plain.h"

static void *get(size_t count, size_t size) {
    void *p;
    assert_int_equal(npi_alloc(&p, count, size, "test"), NPOS_OK);
    return p;
}

/* A row in two bytes a number, and the products of such rows, where the processor has them. */
static void test_bytes(void **state) {
    (void)state;
    static const int dims[] = {1, 15, 16, 17, 64, 130, 512};
    const npi_math_bytes *bytes = &npi_math_of(NPI_ISA_AVX512)->bytes;
    if (!isa_present(NPI_ISA_AVX512) || !bytes->tile)
        skip();
    for (size_t d = 0; d < sizeof dims / sizeof *dims; d++) {
        int dim = dims[d];
        float *x = get((size_t)dim, sizeof *x), other;
        for (int i = 0; i < dim; i++) {
            npi_u32x4 r = npi_philox(7, NPI_RANDOM_TEST, (uint64_t)i, 11, 0);
            npi_normal_pair(r.v[0], r.v[1], &x[i], &other);
        }
        int8_t high[512], low[512];
        for (int scale = -20; scale <= 10; scale += 10) {
            npi_rounded r;
            double rough = 0.0, precise = 0.0;
            int sum = 0, both = 0;
            float largest = 0.0f;
            for (int i = 0; i < dim; i++) {
                x[i] *= powf(10.0f, (float)scale);
                largest = fmaxf(largest, fabsf(x[i]));
            }
            bytes->round((size_t)dim, x, high, low, &r);
            assert_true(fabsf(r.scale * 127.0f - largest) <= 1e-6f * largest);
            for (int i = 0; i < dim; i++) {
                assert_true(high[i] >= -127 && low[i] >= -127);
                double h = (double)x[i] - (double)r.scale * high[i],
                       l = h - (double)r.scale / NPI_LOW * low[i];
                assert_true(fabs(h) <= 0.5001 * (double)r.scale);
                assert_true(fabs(l) <= 0.502 / NPI_LOW * (double)r.scale);
                rough += h * h;
                precise += l * l;
                sum += high[i];
                both += high[i] + low[i];
            }
            assert_int_equal(r.sum, sum);
            assert_int_equal(r.both, both);
            const double square = (double)r.scale * (double)r.scale * dim;
            if (scale > -20) { /* smaller squares vanish in float32 */
                assert_true(fabs(r.rough - rough) <= 1e-4 * rough + 1e-9 * square);
                assert_true(fabs(r.precise - precise) <= 1e-3 * precise + 1e-9 * square);
            }
            for (int i = 0; i < dim; i++)
                x[i] *= powf(10.0f, (float)-scale);
        }
        npi_free(x);
    }
    enum { WIDTH = 192, ROWS = 9 };
    uint8_t *a = get(WIDTH, 1);
    int8_t *b = get(ROWS * WIDTH, 1);
    npi_hit hit[ROWS];
    int32_t dots[ROWS];
    for (int i = 0; i < WIDTH; i++)
        a[i] = (uint8_t)(i * 7 % 256);
    for (int i = 0; i < ROWS * WIDTH; i++)
        b[i] = (int8_t)(i * 11 % 255 - 127);
    for (int count = 1; count <= ROWS; count++) {
        for (int j = 0; j < count; j++)
            hit[j].column = (j * 5 + count) % ROWS;
        bytes->dots(WIDTH, a, b, count, hit, dots);
        for (int j = 0; j < count; j++) {
            int32_t sum = 0;
            for (int i = 0; i < WIDTH; i++)
                sum += a[i] * b[hit[j].column * WIDTH + i];
            assert_int_equal(dots[j], sum);
        }
    }
    enum { MOST = 32 }; /* columns of a panel */
    int8_t *rows = get(MOST * WIDTH, 1), *panel = get(MOST * WIDTH, 1);
    const int nr = bytes->nr;
    assert_true(nr <= MOST);
    for (int i = 0; i < MOST * WIDTH; i++)
        rows[i] = (int8_t)(i * 13 % 255 - 127);
    for (int there = -1; there <= nr; there++)
        for (int depth = 64; depth <= WIDTH; depth += bytes->depth) {
            memset(panel, 99, MOST * WIDTH);
            bytes->pack(there, depth, rows, WIDTH, panel);
            for (int i = 0; i < nr * WIDTH; i++) {
                int p = i / (4 * nr) * 4 + i % 4, j = i / 4 % nr;
                assert_int_equal(panel[i], p >= depth ? 99 : j < there ? rows[j * WIDTH + p] : 0);
            }
        }
    npi_free(rows);
    npi_free(panel);
    npi_free(a);
    npi_free(b);
}

/* What stays of a list: the same by each instruction set. */
static void test_keep(void **state) {
    (void)state;
    enum { MOST = 70, SLACK = 16 };
    const npi_math *math[] = {&npi_math_generic, npi_math_of(NPI_ISA_AVX2),
                              npi_math_of(NPI_ISA_AVX512)};
    for (int m = 0; m < 3; m++)
        for (int n = 0; n <= MOST; n++) {
            float lower[MOST + SLACK], upper[MOST + SLACK];
            int32_t index[MOST + SLACK], at = 0;
            if (m > 0 && !isa_present(m == 1 ? NPI_ISA_AVX2 : NPI_ISA_AVX512))
                continue;
            for (int i = 0; i < n; i++) {
                lower[i] = i % 7 == 6 ? -INFINITY : (float)(i * 31 % 17);
                upper[i] = (float)i + 0.5f;
                index[i] = 1000 - i;
            }
            int kept = math[m]->keep(n, 8.0f, lower, upper, index);
            for (int i = 0; i < n; i++)
                if (i % 7 != 6 && i * 31 % 17 >= 8) {
                    assert_true(at < kept && lower[at] == (float)(i * 31 % 17));
                    assert_true(upper[at] == (float)i + 0.5f && index[at] == 1000 - i);
                    at++;
                }
            assert_int_equal(at, kept);
        }
}

/* Which columns pass: the same by each instruction set, but for what rounds the other way. */
static void test_screen(void **state) {
    (void)state;
    enum { ROWS = 5, SIZE = NPI_PANEL_ROWS * NPI_PANEL_COLUMNS };
    npi_screen_rows *rows = get(1, sizeof *rows);
    npi_screen_columns *columns = get(1, sizeof *columns);
    npi_hits *hits = get(ROWS, sizeof *hits);
    int32_t *whole = get(SIZE, 4);
    float *product = get(SIZE, 4), base[NPI_PANEL_ROWS] = {0.3f, INFINITY, -INFINITY, NAN, -0.5f};
    for (int i = 0; i < SIZE; i++) {
        whole[i] = i * 7919 % 20011 - 10000;
        product[i] = (float)whole[i];
    }
    columns->norm = 1.1f;
    columns->slack = 0.01f;
    for (int j = 0; j < NPI_PANEL_COLUMNS; j++) {
        columns->scale[j] = 1e-4f;
        columns->offset[j] = 0.01f * (float)(j % 5);
        columns->square[j] = 0.02f * (float)(j % 3);
        columns->error[j] = 0.01f;
    }
    for (int i = 0; i < ROWS; i++) {
        rows->factor[i] = 2.0f - 0.1f * (float)i;
        rows->norm[i] = 1.5f;
        rows->error[i] = 0.02f;
    }
    static const int count[] = {1, 31, 32, 33, NPI_PANEL_COLUMNS};
    const npi_math *math[] = {&npi_math_generic, npi_math_of(NPI_ISA_AVX2),
                              npi_math_of(NPI_ISA_AVX512)};
    for (int m = 0; m < 3; m++)
        for (int c = 0; c < 10; c++) {
            const bool integers = c >= 5;
            int there = count[c % 5];
            if ((m > 0 && !isa_present(m == 1 ? NPI_ISA_AVX2 : NPI_ISA_AVX512)) ||
                (integers && m != 2))
                continue;
            for (int i = 0; i < ROWS; i++)
                hits[i].count = 2; /* what is there stays */
            math[m]->screen(ROWS, there, integers ? (void *)whole : product, integers, base, rows,
                            columns, 128, hits);
            for (int i = 0; i < ROWS; i++) {
                int at = 2;
                for (int j = 0; j < there; j++) {
                    double s = (double)rows->factor[i] *
                                   ((double)columns->scale[j] * whole[i * NPI_PANEL_COLUMNS + j] -
                                    (double)columns->offset[j]) -
                               (double)columns->square[j] + 1.5 * 0.01;
                    double limit = (double)base[i] - 0.02 * 1.1 - 0.01;
                    bool found = at < hits[i].count && hits[i].hit[at].column == 128 + j;
                    if (!(fabs(s - limit) <= 1e-6))
                        assert_true(found == !(s < limit));
                    if (found && integers)
                        assert_int_equal(hits[i].hit[at].product, whole[i * NPI_PANEL_COLUMNS + j]);
                    at += found;
                }
                assert_int_equal(at, hits[i].count);
            }
        }
    void *all[] = {rows, columns, hits, whole, product};
    for (int i = 0; i < 5; i++)
        npi_free(all[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_keep),
        cmocka_unit_test(test_screen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
