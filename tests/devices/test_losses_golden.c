/* The losses and their gradients beside PyTorch in float64 (tests/golden/losses.py). */
#include "devices/golden.h"

static void compare_contrast(npi_device *dev, const char *name) {
    npi_npy z = golden_read("losses", name, "z"), mu = golden_read("losses", name, "mu");
    npi_npy labels = golden_read("losses", name, "labels"),
            of = golden_read("losses", name, "desc");
    npi_npy new = golden_read("losses", name, "new"), dz = golden_read("losses", name, "dz");
    npi_npy losses = golden_read("losses", name, "losses");
    const double *d = of.data;
    npi_contrast_desc desc = {.n = (int)z.shape[0],
                              .classes = (int)mu.shape[0],
                              .dim = (int)z.shape[1],
                              .momentum = (float)d[0],
                              .tau = (float)d[1],
                              .disp_weight = (float)d[2],
                              .comp_weight = (float)d[3]};
    float *rows = golden_alloc(dev, z.data, (size_t)z.count * 4);
    float *prototypes = golden_alloc(dev, mu.data, (size_t)mu.count * 4);
    int32_t *y = golden_alloc(dev, labels.data, (size_t)labels.count * 4);
    float *gradient = golden_alloc(dev, NULL, (size_t)z.count * 4);
    float *out = golden_alloc(dev, NULL, NPI_LOSS_COUNT * sizeof *out);
    void *workspace = golden_alloc(dev, NULL, dev->losses->contrast_workspace(dev, &desc));
    CHECK_OK(dev->losses->contrast(dev, &desc, rows, y, prototypes, out, gradient, workspace));
    float both[2] = {out[NPI_LOSS_DISP], out[NPI_LOSS_COMP]};
    golden_compare("losses", losses, both, 2e-5);
    golden_compare("prototypes", new, prototypes, 1e-6);
    golden_compare("dz", dz, gradient, 2e-6);
    void *memory[] = {rows, prototypes, y, gradient, out, workspace};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        dev->memory->free(dev, memory[i]);
    npi_npy *arrays[] = {&z, &mu, &labels, &of, &new, &dz, &losses};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        npi_npy_clear(arrays[i]);
}

static void test_contrast(void **state) {
    (void)state;
    static const char *const names[] = {"a", "b", "c"};
    for (int which = 0; which < 2; which++) {
        npi_device *dev = golden_open(which);
        for (int i = 0; i < 3; i++)
            compare_contrast(dev, names[i]);
        npi_device_close(dev);
    }
}

/* ce has labels; bce has 20 rows against 1 and 30 against 0. */
static void compare_logits(npi_device *dev, const char *name, bool ce) {
    npi_npy x = golden_read("losses", name, "logits"), loss = golden_read("losses", name, "losses");
    npi_npy dx = golden_read("losses", name, "dlogits"), labels = {0};
    float *logits = golden_alloc(dev, x.data, (size_t)x.count * 4);
    float *gradient = golden_alloc(dev, NULL, (size_t)x.count * 4);
    float *out = golden_alloc(dev, NULL, NPI_LOSS_COUNT * sizeof *out);
    int32_t *y = NULL;
    if (ce) {
        labels = golden_read("losses", name, "labels");
        y = golden_alloc(dev, labels.data, (size_t)labels.count * 4);
        CHECK_OK(dev->losses->cross_entropy(dev, (int)x.shape[0], (int)x.shape[1], logits, y, 1.0f,
                                            out, gradient));
    } else {
        CHECK_OK(dev->losses->outlier_bce(dev, 20, 30, logits, 1.0f, out, gradient));
    }
    golden_compare(name, loss, &out[ce ? NPI_LOSS_CE : NPI_LOSS_OPEN], 1e-6);
    golden_compare("dlogits", dx, gradient, 1e-7);
    dev->memory->free(dev, logits);
    dev->memory->free(dev, gradient);
    dev->memory->free(dev, out);
    dev->memory->free(dev, y);
    npi_npy_clear(&x);
    npi_npy_clear(&loss);
    npi_npy_clear(&dx);
    npi_npy_clear(&labels);
}

static void test_logits(void **state) {
    (void)state;
    for (int which = 0; which < 2; which++) {
        npi_device *dev = golden_open(which);
        compare_logits(dev, "ce", true);
        compare_logits(dev, "bce", false);
        npi_device_close(dev);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_contrast),
                                       cmocka_unit_test(test_logits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
