/* Synthesis from normal distributions of the cpu device against plain loops in float64: every
 * instruction set here, for 1, 2 and 3 threads. */
#include "check.h"

#include <math.h>

#include "devices/cpu_plain.h"
#include "devices/normal_rows.h"

/* VOS: outliers are mean + L eps of the draws with the longest eps. */
static void test_gauss(void **state) {
    (void)state;
    enum { CLASSES = 2, RING = 40, DIM = 6, DRAWS = 50, KEEP = 3 };
    npi_gauss_desc d = {CLASSES, RING, DIM, DRAWS, KEEP, 9};
    float *rows = normals(CLASSES * RING * DIM, 60);
    uint64_t count[CLASSES] = {0};
    npi_ring ring = {CLASSES, RING, DIM, rows, count};
    npi_step step = {.number = 4};
    double mean[CLASSES][DIM] = {{0}}, s[DIM][DIM] = {{0}}, l[DIM][DIM] = {{0}};
    for (int c = 0; c < CLASSES; c++) {
        for (int i = 0; i < RING * DIM; i++)
            mean[c][i % DIM] += (double)rows[c * RING * DIM + i] / RING;
        for (int i = 0; i < RING; i++)
            for (int a = 0; a < DIM; a++)
                for (int b = 0; b < DIM; b++)
                    s[a][b] += ((double)rows[(c * RING + i) * DIM + a] - mean[c][a]) *
                               ((double)rows[(c * RING + i) * DIM + b] - mean[c][b]) /
                               (CLASSES * RING);
    }
    for (int a = 0; a < DIM; a++)
        for (int b = 0; b <= a; b++) {
            double sum = s[a][b] + (a == b ? 1e-4 : 0.0);
            for (int k = 0; k < b; k++)
                sum -= l[a][k] * l[b][k];
            l[a][b] = a == b ? sqrt(sum) : sum / l[b][b];
        }
    for (npi_isa isa = NPI_ISA_GENERIC; isa <= NPI_ISA_AVX512BF16; isa++)
        for (int threads = 1; threads <= 3 && isa_present(isa); threads++) {
            plain_cpu cpu;
            npi_device *dev = plain_cpu_open(&cpu, isa, threads);
            npi_synth *plan;
            float out[CLASSES * KEEP * DIM];
            assert_int_equal(dev->ood->gauss_create(dev, &d, &plan), NPOS_OK);
            assert_int_equal(dev->ood->gauss_synthesise(plan, &ring, &step, out), NPOS_OK);
            for (int c = 0; c < CLASSES; c++) {
                pair longest[DRAWS];
                float eps[DRAWS][8];
                for (int n = 0; n < DRAWS; n++) {
                    double sum = 0.0;
                    for (uint32_t j = 0; j < 8; j += 4) {
                        npi_u32x4 r =
                            npi_philox(9, NPI_RANDOM_GAUSS, 4, (uint32_t)(c * DRAWS + n), j / 4);
                        npi_normal_pair(r.v[0], r.v[1], &eps[n][j], &eps[n][j + 1]);
                        npi_normal_pair(r.v[2], r.v[3], &eps[n][j + 2], &eps[n][j + 3]);
                    }
                    for (int j = 0; j < DIM; j++)
                        sum += (double)eps[n][j] * (double)eps[n][j];
                    longest[n] = (pair){(float)-sum, n};
                }
                qsort(longest, DRAWS, sizeof *longest, nearer);
                for (int i = 0; i < KEEP; i++)
                    for (int j = 0; j < DIM; j++) {
                        double want = mean[c][j];
                        for (int k = 0; k <= j; k++)
                            want += l[j][k] * (double)eps[longest[i].i][k];
                        assert_true(fabs((double)out[(c * KEEP + i) * DIM + j] - want) <= 2e-5);
                    }
            }
            dev->ood->synth_free(dev, plan);
            plain_cpu_close(&cpu);
        }
    npi_free(rows);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gauss),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
