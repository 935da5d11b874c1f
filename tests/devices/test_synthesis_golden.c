/* Synthesis beside PyTorch in float64 (tests/golden/synthesis.py). */
#include "devices/golden.h"

enum { SEED = 12345, STEP = 7 };

static void compare_npos(npi_device *dev, const char *name, bool drawn) {
    npi_npy of = golden_read("synthesis", name, "desc"),
            ring = golden_read("synthesis", name, "ring");
    npi_npy noise = golden_read("synthesis", name, "noise");
    npi_npy picks = golden_read("synthesis", name, "picks");
    npi_npy boundary = golden_read("synthesis", name, "boundary");
    npi_npy outliers = golden_read("synthesis", name, "outliers");
    const double *d = of.data;
    npi_synth_desc desc = {.classes = (int)ring.shape[0],
                           .ring = (int)ring.shape[1],
                           .dim = (int)ring.shape[2],
                           .k = (int)d[0],
                           .select = (int)d[1],
                           .pick = (int)d[2],
                           .noise = (int)d[3],
                           .keep = (int)d[4],
                           .sigma = (float)d[5],
                           .authors = d[6] == 1.0,
                           .seed = SEED};
    uint64_t counts[8];
    npi_step now = {.number = STEP};
    for (int i = 0; i < desc.classes; i++)
        counts[i] = (uint64_t)desc.ring;
    npi_ring rings = {desc.classes, desc.ring, desc.dim,
                      golden_alloc(dev, ring.data, (size_t)ring.count * 4),
                      golden_alloc(dev, counts, sizeof counts)};
    void *step = golden_alloc(dev, &now, sizeof now);
    npi_synth_given given = {golden_alloc(dev, noise.data, (size_t)noise.count * 4),
                             golden_alloc(dev, picks.data, (size_t)picks.count * 4)};
    float *seen = golden_alloc(dev, NULL, (size_t)outliers.count * 4);
    int32_t *rows = golden_alloc(dev, NULL, (size_t)boundary.count * 4);
    npi_synth *plan;
    CHECK_OK(dev->ood->synth_create(dev, &desc, &plan));
    CHECK_OK(dev->ood->synthesise(plan, &rings, step, drawn ? NULL : &given, seen, rows));
    for (int64_t i = 0; i < boundary.count; i++)
        if (rows[i] != ((int32_t *)boundary.data)[i])
            fail_msg("%s, %s: boundary row %lld is %d, the golden file has %d", dev->name, name,
                     (long long)i, rows[i], ((int32_t *)boundary.data)[i]);
    char what[64];
    snprintf(what, sizeof what, "%s, %s", dev->name, name);
    golden_compare(what, outliers, seen, 2e-6);
    dev->ood->synth_free(dev, plan);
    void *memory[] = {rings.rows,
                      rings.count,
                      step,
                      (void *)(uintptr_t)given.noise,
                      (void *)(uintptr_t)given.picks,
                      seen,
                      rows};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        dev->memory->free(dev, memory[i]);
    npi_npy *arrays[] = {&of, &ring, &noise, &picks, &boundary, &outliers};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        npi_npy_clear(arrays[i]);
}

static void test_npos(void **state) {
    (void)state;
    static const char *const names[] = {"plain", "one", "single", "ties", "zeros", "authors"};
    for (int which = 0; which < 2; which++) {
        npi_device *dev = golden_open(which);
        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
            compare_npos(dev, names[i], false);
        compare_npos(dev, "drawn", true);
        npi_device_close(dev);
    }
}

static void test_vos(void **state) {
    (void)state;
    for (int which = 0; which < 2; which++) {
        npi_device *dev = golden_open(which);
        npi_npy of = golden_read("synthesis", "vos", "desc");
        npi_npy ring = golden_read("synthesis", "vos", "ring");
        npi_npy outliers = golden_read("synthesis", "vos", "outliers");
        const double *d = of.data;
        npi_gauss_desc desc = {(int)ring.shape[0], (int)ring.shape[1], (int)ring.shape[2],
                               (int)d[0],          (int)d[1],          SEED};
        uint64_t counts[8] = {0};
        npi_step now = {.number = STEP};
        npi_ring rings = {desc.classes, desc.ring, desc.dim,
                          golden_alloc(dev, ring.data, (size_t)ring.count * 4),
                          golden_alloc(dev, counts, sizeof counts)};
        void *step = golden_alloc(dev, &now, sizeof now);
        float *seen = golden_alloc(dev, NULL, (size_t)outliers.count * 4);
        npi_synth *plan;
        CHECK_OK(dev->ood->gauss_create(dev, &desc, &plan));
        CHECK_OK(dev->ood->gauss_synthesise(plan, &rings, step, seen));
        golden_compare(dev->name, outliers, seen, 1e-5);
        dev->ood->synth_free(dev, plan);
        dev->memory->free(dev, rings.rows);
        dev->memory->free(dev, rings.count);
        dev->memory->free(dev, step);
        dev->memory->free(dev, seen);
        npi_device_close(dev);
        npi_npy_clear(&of);
        npi_npy_clear(&ring);
        npi_npy_clear(&outliers);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_npos), cmocka_unit_test(test_vos)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
