/* Products by weights in bf16, with vdpbf16ps and with AMX's tiles played by loops: beside sums in float64 of the rounded
 * factors. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/philox.h"
#include "devices/cpu/cpu_pairs.h"
#include "devices/cpu_plain.h"
#include "tensor/dtype.h"

#define EMULATED_AMX_SOURCE "devices/cpu/cpu_pairs_amx.c"
#include "devices/emulated_amx.h"

#if defined(__x86_64__)

enum { GAP = 3 }; /* numbers between rows, which nothing may change */

typedef struct product {
    int n, in, out;
    float *x, *w, *bias, *y; /* rows of x and y lie GAP further apart than they are long */
} product;

static float normal(uint64_t i, uint32_t of) {
    float x, y;
    npi_u32x4 r = npi_philox(1, NPI_RANDOM_TEST, i, of, 0);
    npi_normal_pair(r.v[0], r.v[1], &x, &y);
    return x;
}

static float *normals(size_t count, uint32_t of) {
    float *to;
    assert_int_equal(npi_alloc(&to, count, sizeof *to, "test"), NPOS_OK);
    for (size_t i = 0; i < count; i++)
        to[i] = normal(i, of);
    return to;
}

static product make_product(int n, int in, int out) {
    return (product){n,
                     in,
                     out,
                     normals((size_t)n * (size_t)(in + GAP), 1),
                     normals((size_t)out * (size_t)in, 2),
                     normals((size_t)out, 3),
                     normals((size_t)n * (size_t)(out + GAP), 4)};
}

static void free_product(product *p) {
    float *all[] = {p->x, p->w, p->bias, p->y};
    for (int i = 0; i < 4; i++)
        npi_free(all[i]);
}

static double rounded(float x) {
    return (double)npi_bf16_to_f32(npi_f32_to_bf16(x));
}

/* y, with y's numbers of before, and the sum of the terms' sizes. */
static double expected(const product *p, int i, int j, bool with_bias, bool add, double *size) {
    double sum = add ? (double)p->y[(ptrdiff_t)i * (p->out + GAP) + j] : 0.0;
    sum += with_bias ? (double)p->bias[j] : 0.0;
    *size = fabs(sum);
    for (int k = 0; k < p->in; k++) {
        double term = rounded(p->x[(ptrdiff_t)i * (p->in + GAP) + k]) *
                      rounded(p->w[(ptrdiff_t)j * p->in + k]);
        sum += term;
        *size += fabs(term);
    }
    return sum;
}

/* rows `first` .. of p, by so many threads, to a copy of y. */
static float *multiply(const npi_pairs *pairs, const product *p, int first, int threads,
                       bool with_bias, bool add) {
    plain_cpu cpu;
    npi_device *dev = plain_cpu_open(&cpu, NPI_ISA_AVX512BF16, threads);
    const size_t count = (size_t)p->n * (size_t)(p->out + GAP);
    uint32_t *panels;
    float *y;
    assert_int_equal(
        npi_alloc(&panels, npi_pairs_words(pairs, p->in, p->out), sizeof *panels, "test"), NPOS_OK);
    assert_int_equal(npi_alloc(&y, count, sizeof *y, "test"), NPOS_OK);
    memcpy(y, p->y, count * sizeof *y);
    npi_pairs_pack(dev, pairs, p->in, p->out, p->w, panels);
    assert_int_equal(npi_pairs_multiply(dev, pairs, p->n - first, p->in, p->out,
                                        p->x + (ptrdiff_t)first * (p->in + GAP), p->in + GAP,
                                        panels, with_bias ? p->bias : NULL, add,
                                        y + (ptrdiff_t)first * (p->out + GAP), p->out + GAP),
                     NPOS_OK);
    npi_free(panels);
    plain_cpu_close(&cpu);
    return y;
}

static void check(const npi_pairs *pairs, int n, int in, int out, bool with_bias, bool add) {
    product p = make_product(n, in, out);
    const size_t row = (size_t)(out + GAP) * sizeof *p.y;
    float *y = multiply(pairs, &p, 0, 1, with_bias, add),
          *shared = multiply(pairs, &p, 0, 2, with_bias, add),
          *last = multiply(pairs, &p, n - 1, 1, with_bias, add);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < out + GAP; j++) {
            const ptrdiff_t at = (ptrdiff_t)i * (out + GAP) + j;
            double size, wanted = j < out ? expected(&p, i, j, with_bias, add, &size) : 0.0;
            if (j >= out)
                assert_memory_equal(&y[at], &p.y[at], sizeof *y);
            else if (!(fabs((double)y[at] - wanted) <= 1e-6 * size))
                fail_msg("%d x %d x %d, (%d, %d): %.9g, wanted %.9g", n, in, out, i, j,
                         (double)y[at], wanted);
        }
    assert_memory_equal(y, shared, (size_t)n * row);
    assert_memory_equal((char *)y + (size_t)(n - 1) * row, (char *)last + (size_t)(n - 1) * row,
                        row);
    npi_free(y);
    npi_free(shared);
    npi_free(last);
    free_product(&p);
}

static void check_all(const npi_pairs *pairs) {
    static const int shapes[][3] = {{1, 1, 1},    {5, 33, 7},     {14, 32, 32},
                                    {40, 70, 45}, {1020, 20, 70}, {33, 2100, 300}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int way = 0; way < 4; way++)
            check(pairs, shapes[s][0], shapes[s][1], shapes[s][2], way & 1, way & 2);
}

static void vdpbf16ps_multiplies(void **state) {
    (void)state;
    if (!isa_present(NPI_ISA_AVX512BF16))
        skip();
    check_all(&npi_pairs_avx512bf16);
}

static void amx_multiplies(void **state) {
    (void)state;
#if defined(HAVE_EMULATED_AMX)
    if (!isa_present(NPI_ISA_AVX512BF16))
        skip();
    check_all(&npi_pairs_amx_emulated);
#else
    skip();
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(vdpbf16ps_multiplies),
                                       cmocka_unit_test(amx_multiplies)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else
int main(void) {
    return 0;
}
#endif
