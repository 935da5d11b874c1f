/* Synthesis of the cpu device against plain loops in float64: ragged sizes, ties, extremes of k, pick
 * and keep, every instruction set here, and the same bits for 1, 2 and 3 threads. */
#include "check.h"

#include <math.h>

#include "devices/cpu_plain.h"
#include "devices/normal_rows.h"

typedef struct oracle { /* float64 all the way */
    npi_synth_desc d;
    const float *rows;
    double *unit;   /* [classes][ring][dim] */
    bool *zero;     /* [classes][ring] */
    double *border; /* [classes][ring]: k-th distance of each row */
} oracle;

static int rising(const void *a, const void *b) {
    const double *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

static double kth_distance(const oracle *o, int class, const double *v, bool v_zero, int self) {
    int ring = o->d.ring, dim = o->d.dim;
    double *d = get((size_t)ring, sizeof *d);
    for (int i = 0; i < ring; i++) {
        size_t row = (size_t)(class * ring + i);
        d[i] = 0.0;
        for (int j = 0; j < dim && i != self; j++) {
            double e = v[j] - o->unit[row * (size_t)dim + (size_t)j];
            d[i] += e * e;
        }
        if (o->d.authors && (o->zero[row] || v_zero))
            d[i] = INFINITY;
    }
    qsort(d, (size_t)ring, sizeof *d, rising);
    double kth = d[o->d.k - 1];
    npi_free(d);
    return kth;
}

static void unit_of(int dim, const double *v, double *to) {
    double sum = 0.0;
    for (int j = 0; j < dim; j++)
        sum += v[j] * v[j];
    for (int j = 0; j < dim; j++)
        to[j] = v[j] / fmax(sqrt(sum), 1e-12);
}

static oracle oracle_make(const npi_synth_desc *d, const float *rows) {
    size_t count = (size_t)(d->classes * d->ring), dim = (size_t)d->dim;
    oracle o = {*d, rows, get(count * dim, 8), get(count, 1), get(count, 8)};
    double *v = get(dim, 8);
    for (size_t r = 0; r < count; r++) {
        o.zero[r] = true;
        for (size_t j = 0; j < dim; j++) {
            v[j] = (double)rows[r * dim + j];
            o.zero[r] = o.zero[r] && v[j] == 0.0;
        }
        unit_of(d->dim, v, o.unit + r * dim);
    }
    for (size_t r = 0; r < count; r++)
        o.border[r] =
            kth_distance(&o, (int)r / d->ring, o.unit + r * dim, o.zero[r], (int)r % d->ring);
    npi_free(v);
    return o;
}

static void oracle_free(oracle *o) {
    npi_free(o->unit);
    npi_free(o->zero);
    npi_free(o->border);
}

/* Distances closer than this may be ranked either way. */
#define CLOSE 4e-6

static bool not_far(double a, double b) {
    return a == b || fabs(a - b) <= CLOSE;
}

/* The picks are of the ranks asked for, and each boundary row's outliers are the farthest
 * candidates in falling order. */
static void check_synthesis(const oracle *o, const float *noise, const int32_t *picks,
                            const int32_t *boundary, const float *outliers) {
    const npi_synth_desc *d = &o->d;
    int dim = d->dim;
    double *flat = get((size_t)(d->pick * d->noise), 8), *order = get((size_t)d->noise, 8),
           *v = get((size_t)dim, 8), *sorted = get((size_t)d->ring, 8);
    for (int c = 0; c < d->classes; c++) {
        memcpy(sorted, o->border + c * d->ring, (size_t)d->ring * sizeof *sorted);
        qsort(sorted, (size_t)d->ring, sizeof *sorted, rising);
        for (int b = 0; b < d->pick; b++) {
            int row = boundary[c * d->pick + b];
            assert_in_range(row, 0, d->ring - 1);
            for (int other = 0; other < b; other++)
                assert_int_not_equal(row, boundary[c * d->pick + other]);
            double border = o->border[c * d->ring + row];
            if (picks)
                assert_true(not_far(border, sorted[d->ring - 1 - picks[c * d->pick + b]]));
            else
                assert_true(border >= sorted[d->ring - d->select] - CLOSE);
            for (int l = 0; l < d->noise; l++) {
                for (int j = 0; j < dim; j++)
                    v[j] = (double)o->rows[(c * d->ring + row) * dim + j] +
                           (double)d->sigma * (double)noise[l * dim + j];
                unit_of(dim, v, v);
                flat[b * d->noise + l] = kth_distance(o, c, v, false, -1);
            }
        }
        for (int b = 0; b < d->pick; b++) {
            int row = boundary[c * d->pick + b];
            for (int l = 0; l < d->noise; l++)
                order[l] = -flat[d->authors ? l * d->pick + b : b * d->noise + l];
            double *value = get((size_t)d->noise, 8);
            memcpy(value, order, (size_t)d->noise * sizeof *value);
            qsort(order, (size_t)d->noise, sizeof *order, rising);
            bool *used = get((size_t)d->noise, 1);
            for (int i = 0; i < d->keep; i++) {
                const float *out =
                    outliers + (size_t)((c * d->pick + b) * d->keep + i) * (size_t)dim;
                int found = -1;
                for (int l = 0; l < d->noise && found < 0; l++) {
                    bool same = !used[l];
                    for (int j = 0; j < dim && same; j++) {
                        float h = o->rows[(c * d->ring + row) * dim + j];
                        same = fabsf(out[j] - (h + d->sigma * noise[l * dim + j])) <= 1e-6f;
                    }
                    if (same)
                        found = l;
                }
                assert_true(found >= 0);
                used[found] = true;
                assert_true(not_far(value[found], order[i]));
            }
            npi_free(used);
            npi_free(value);
        }
    }
    npi_free(flat);
    npi_free(order);
    npi_free(v);
    npi_free(sorted);
}

static const npi_synth_desc synth_shapes[] = {
    {.classes = 1, .ring = 1, .dim = 3, .k = 1, .select = 1, .pick = 1, .noise = 1, .keep = 1},
    {.classes = 3, .ring = 50, .dim = 19, .k = 7, .select = 20, .pick = 3, .noise = 33, .keep = 11},
    {.classes = 2, .ring = 33, .dim = 8, .k = 1, .select = 33, .pick = 2, .noise = 15, .keep = 15},
    {.classes = 2, .ring = 70, .dim = 12, .k = 70, .select = 5, .pick = 1, .noise = 40, .keep = 1},
    {.classes = 2,
     .ring = 200,
     .dim = 40,
     .k = 60,
     .select = 40,
     .pick = 2,
     .noise = 90,
     .keep = 30},
};

static void one_synthesis(npi_isa isa, npi_synth_desc d, bool zeros, bool with_picks) {
    size_t dim = (size_t)d.dim, count = (size_t)(d.classes * d.ring);
    d.sigma = 0.3f;
    d.seed = 5;
    plain_cpu cpu;
    npi_device *dev = plain_cpu_open(&cpu, isa, 2);
    npi_ring ring = {d.classes, d.ring, d.dim, normals(count * dim, 20),
                     get((size_t)d.classes, sizeof(uint64_t))};
    for (size_t r = 0; zeros && r < count; r += 9)
        memset(ring.rows + r * dim, 0, dim * sizeof *ring.rows);
    float *noise = normals((size_t)d.noise * dim, 21);
    int32_t *picks = get((size_t)(d.classes * d.pick), 4),
            *boundary = get((size_t)(d.classes * d.pick), 4);
    for (int c = 0; c < d.classes; c++)
        for (int b = 0; b < d.pick; b++)
            picks[c * d.pick + b] = (c + b * 3) % d.select;
    npi_synth_given given = {noise, with_picks ? picks : NULL};
    npi_step step = {.number = 11};
    float *outliers = get((size_t)(d.classes * d.pick * d.keep) * dim, 4);
    npi_synth *plan;
    assert_int_equal(dev->ood->synth_create(dev, &d, &plan), NPOS_OK);
    /* the second time round a few rows are new, so that the kept products are used */
    for (int round = 0; round < 2; round++) {
        assert_int_equal(dev->ood->synthesise(plan, &ring, &step, &given, outliers, boundary),
                         NPOS_OK);
        oracle o = oracle_make(&d, ring.rows);
        check_synthesis(&o, noise, with_picks ? picks : NULL, boundary, outliers);
        oracle_free(&o);
        for (size_t j = 0; j < dim * (size_t)(1 + d.ring / 20); j++)
            ring.rows[j] = normal(22, j);
        step.number++;
    }
    dev->ood->synth_free(dev, plan);
    void *all[] = {ring.rows, ring.count, noise, picks, boundary, outliers};
    for (int i = 0; i < 6; i++)
        npi_free(all[i]);
    plain_cpu_close(&cpu);
}

static void test_synthesis(void **state) {
    (void)state;
    for (npi_isa isa = NPI_ISA_GENERIC; isa <= NPI_ISA_AVX512BF16; isa++)
        for (size_t i = 0; i < sizeof synth_shapes / sizeof *synth_shapes && isa_present(isa); i++)
            for (int variant = 0; variant < 4; variant++) {
                npi_synth_desc d = synth_shapes[i];
                d.authors = variant >= 2;
                one_synthesis(isa, d, variant % 2 == 1, variant != 2);
            }
}

/* Rows that are equal have equal distances: ties go to the lower row, candidate ties to the lower
 * candidate. */
static void test_synthesis_ties(void **state) {
    (void)state;
    enum { RING = 24, DIM = 6, NOISE = 10 };
    for (npi_isa isa = NPI_ISA_GENERIC; isa <= NPI_ISA_AVX512BF16; isa++) {
        if (!isa_present(isa))
            continue;
        npi_synth_desc d = {1, RING, DIM, 3, RING, 4, NOISE, NOISE, 0.2f, false, 1};
        float *rows = normals(RING * DIM, 30), *noise = normals(NOISE * DIM, 31);
        memcpy(rows + 12 * DIM, rows, 12 * DIM * sizeof *rows); /* row i + 12 is row i */
        memcpy(noise + 5 * DIM, noise, 5 * DIM * sizeof *noise);
        uint64_t count = 0;
        npi_ring ring = {1, RING, DIM, rows, &count};
        int32_t picks[4] = {0, 1, 2, 3}, boundary[4];
        npi_synth_given given = {noise, picks};
        npi_step step = {0};
        float outliers[4 * NOISE * DIM];
        plain_cpu cpu;
        npi_device *dev = plain_cpu_open(&cpu, isa, 2);
        npi_synth *plan;
        assert_int_equal(dev->ood->synth_create(dev, &d, &plan), NPOS_OK);
        assert_int_equal(dev->ood->synthesise(plan, &ring, &step, &given, outliers, boundary),
                         NPOS_OK);
        assert_int_equal(boundary[1], boundary[0] + 12);
        assert_int_equal(boundary[3], boundary[2] + 12);
        for (int b = 0; b < 4; b++)
            for (int i = 0; i < NOISE; i += 2)
                assert_memory_equal(outliers + (b * NOISE + i) * DIM,
                                    outliers + (b * NOISE + i + 1) * DIM, DIM * sizeof(float));
        dev->ood->synth_free(dev, plan);
        npi_free(rows);
        npi_free(noise);
        plain_cpu_close(&cpu);
    }
}

/* Bits do not depend on the number of threads, nor on what the plan saw before; a step allocates
 * nothing. */
static void test_synthesis_bits(void **state) {
    (void)state;
    npi_synth_desc d = {4, 120, 50, 30, 40, 2, 60, 20, 0.1f, false, 3};
    enum { OUT = 4 * 2 * 20 * 50 };
    for (npi_isa isa = NPI_ISA_GENERIC; isa <= NPI_ISA_AVX512BF16; isa++) {
        if (!isa_present(isa))
            continue;
        float first[OUT], outliers[OUT];
        int32_t first_rows[8], boundary[8];
        for (int threads = 1; threads <= 3; threads++) {
            plain_cpu cpu;
            npi_device *dev = plain_cpu_open(&cpu, isa, threads);
            npi_ring ring = {4, 120, 50, normals(4 * 120 * 50, 40), get(4, 8)};
            float *h = normals(30 * 50, 41);
            int32_t labels[30];
            for (int i = 0; i < 30; i++)
                labels[i] = i % 5 - 1;
            npi_synth *plan;
            npi_step step = {.number = 1};
            assert_int_equal(dev->ood->synth_create(dev, &d, &plan), NPOS_OK);
            if (threads != 2) /* an old plan and a new one */
                assert_int_equal(dev->ood->synthesise(plan, &ring, &step, NULL, outliers, boundary),
                                 NPOS_OK);
            assert_int_equal(dev->ood->ring_push(dev, &ring, 30, h, labels), NPOS_OK);
            assert_int_equal(ring.count[0], 6);
            assert_memory_equal(ring.rows, h + 50, 50 * sizeof *h);
            step.number = 2;
            uint64_t calls = npi_memory_calls();
            assert_int_equal(dev->ood->synthesise(plan, &ring, &step, NULL, outliers, boundary),
                             NPOS_OK);
            assert_int_equal(npi_memory_calls(), calls);
            if (threads == 1) {
                memcpy(first, outliers, sizeof first);
                memcpy(first_rows, boundary, sizeof first_rows);
            }
            assert_memory_equal(first, outliers, sizeof first);
            assert_memory_equal(first_rows, boundary, sizeof first_rows);
            dev->ood->synth_free(dev, plan);
            npi_free(ring.rows);
            npi_free(ring.count);
            npi_free(h);
            plain_cpu_close(&cpu);
        }
    }
}

/* The noise and the picks are those that device.h describes. */
static void test_synthesis_draws(void **state) {
    (void)state;
    enum { RING = 30, DIM = 9, NOISE = 7 };
    npi_synth_desc d = {2, RING, DIM, 4, 10, 3, NOISE, NOISE, 0.5f, false, 77};
    float *rows = normals(2 * RING * DIM, 50);
    uint64_t count[2] = {0};
    npi_ring ring = {2, RING, DIM, rows, count};
    npi_step step = {.number = 123};
    for (npi_isa isa = NPI_ISA_GENERIC; isa <= NPI_ISA_AVX512BF16; isa++) {
        if (!isa_present(isa))
            continue;
        plain_cpu cpu;
        npi_device *dev = plain_cpu_open(&cpu, isa, 2);
        float out[2 * 3 * NOISE * DIM], want[2 * 3 * NOISE * DIM], noise[NOISE * DIM];
        int32_t rows_out[6], rows_want[6], picks[6];
        for (int l = 0; l < NOISE; l++)
            for (int j = 0; j < DIM; j++) {
                npi_u32x4 r = npi_philox(77, NPI_RANDOM_NOISE, 123, (uint32_t)l, (uint32_t)j / 4);
                float x[4];
                npi_normal_pair(r.v[0], r.v[1], &x[0], &x[1]);
                npi_normal_pair(r.v[2], r.v[3], &x[2], &x[3]);
                noise[l * DIM + j] = x[j % 4];
            }
        for (int c = 0; c < 2; c++) {
            int32_t order[10];
            for (int i = 0; i < 10; i++)
                order[i] = i;
            for (int j = 0; j < 3; j++) {
                npi_u32x4 r = npi_philox(77, NPI_RANDOM_BOUNDARY, 123, (uint32_t)c, (uint32_t)j);
                int at = j + (int)npi_below(r.v[0], (uint32_t)(10 - j));
                int32_t held = order[j];
                order[j] = order[at];
                order[at] = held;
                picks[c * 3 + j] = order[j];
            }
        }
        npi_synth *plan;
        assert_int_equal(dev->ood->synth_create(dev, &d, &plan), NPOS_OK);
        npi_synth_given given = {noise, picks};
        assert_int_equal(dev->ood->synthesise(plan, &ring, &step, NULL, out, rows_out), NPOS_OK);
        assert_int_equal(dev->ood->synthesise(plan, &ring, &step, &given, want, rows_want),
                         NPOS_OK);
        assert_memory_equal(rows_out, rows_want, sizeof rows_out);
        for (int i = 0; i < 2 * 3 * NOISE * DIM; i++)
            assert_true(fabsf(out[i] - want[i]) <= 2e-6f);
        dev->ood->synth_free(dev, plan);
        plain_cpu_close(&cpu);
    }
    npi_free(rows);
}

static void test_bad_arguments(void **state) {
    (void)state;
    plain_cpu cpu;
    npi_device *dev = plain_cpu_open(&cpu, NPI_ISA_GENERIC, 1);
    npi_synth *plan;
    npi_synth_desc d = {2, 10, 4, 11, 5, 2, 8, 4, 0.1f, false, 1};
    assert_int_equal(dev->ood->synth_create(dev, &d, &plan), NPOS_INVALID_ARGUMENT);
    assert_null(plan);
    d.k = 3;
    npi_memory_fail_after(1);
    assert_int_equal(dev->ood->synth_create(dev, &d, &plan), NPOS_OUT_OF_MEMORY);
    npi_memory_fail_after(0);
    float rows[2 * 10 * 4] = {0}, h[4] = {0};
    uint64_t count[2] = {0};
    npi_ring ring = {2, 10, 4, rows, count};
    int32_t label = 2;
    assert_int_equal(dev->ood->ring_push(dev, &ring, 1, h, &label), NPOS_INVALID_ARGUMENT);
    plain_cpu_close(&cpu);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_synthesis),      cmocka_unit_test(test_synthesis_ties),
        cmocka_unit_test(test_synthesis_bits), cmocka_unit_test(test_synthesis_draws),
        cmocka_unit_test(test_bad_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
