/* Augmentation beside torchvision's float tensor path (tests/golden/augment.py). */
#include "devices/golden.h"

static void compare(npi_device *dev, const char *name) {
    npi_npy images = golden_read("augment", name, "images");
    npi_npy params = golden_read("augment", name, "params");
    npi_npy views = golden_read("augment", name, "views");
    int samples = (int)views.shape[0], channels = (int)views.shape[1], out = (int)views.shape[2];
    int size = (int)images.shape[1];
    assert_int_equal(params.shape[1], 17);
    size_t image_bytes = (size_t)(size * size * channels),
           view_count = (size_t)(channels * out * out);
    void *stored = golden_alloc(dev, images.data, (size_t)images.count);
    float *seen = golden_alloc(dev, NULL, view_count * sizeof *seen);
    npi_act to = {1, channels, out, out,
                  golden_alloc(dev, NULL, dev->acts->bytes(dev, 1, channels, out, out))};
    npi_step now = {0};
    void *step = golden_alloc(dev, &now, sizeof now);
    assert_int_equal(images.count, images.shape[0] * (int64_t)image_bytes);
    for (int s = 0; s < samples; s++) {
        const double *p = (const double *)params.data + 17 * s;
        npi_augment_params given = {(int)p[2], (int)p[3], (int)p[4], (int)p[5], (int)p[6],
                                    (int)p[7], (int)p[8], {0},       {0}};
        for (int i = 0; i < 4; i++) {
            given.order[i] = (int)p[9 + i];
            given.factor[i] = (float)p[13 + i];
        }
        npi_augment_desc desc = {.batch = 1,
                                 .views = 1,
                                 .src_h = size,
                                 .src_w = size,
                                 .channels = channels,
                                 .out_h = out,
                                 .out_w = out,
                                 .crop = p[1] == 1.0 ? NPI_CROP_RESIZED : NPI_CROP_PADDED,
                                 .pad = p[1] == 1.0 ? 0 : 4,
                                 .std = {1.0f, 1.0f, 1.0f}};
        int32_t which = (int32_t)p[0];
        void *index = golden_alloc(dev, &which, sizeof which);
        void *device_params = golden_alloc(dev, &given, sizeof given);
        CHECK_OK(dev->augment->augment(dev, &desc, stored, index, step, device_params, to));
        CHECK_OK(dev->acts->export_nchw(dev, to, seen));
        npi_npy one = {NPI_F32,
                       1,
                       {(int64_t)view_count},
                       (int64_t)view_count,
                       (float *)views.data + (size_t)s * view_count};
        char what[64];
        snprintf(what, sizeof what, "%s, %s, sample %d", dev->name, name, s);
        golden_compare(what, one, seen, 0.25 / 255.0);
        dev->memory->free(dev, index);
        dev->memory->free(dev, device_params);
    }
    dev->memory->free(dev, stored);
    dev->memory->free(dev, seen);
    dev->memory->free(dev, to.data);
    dev->memory->free(dev, step);
    npi_npy_clear(&images);
    npi_npy_clear(&params);
    npi_npy_clear(&views);
}

static void on_both(const char *name) {
    for (int which = 0; which < 2; which++) {
        npi_device *dev = golden_open(which);
        compare(dev, name);
        npi_device_close(dev);
    }
}

static void test_grey(void **state) {
    (void)state;
    on_both("grey28");
}

static void test_colour(void **state) {
    (void)state;
    on_both("rgb32");
}

static void test_shrinking(void **state) {
    (void)state;
    on_both("shrink");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grey),
        cmocka_unit_test(test_colour),
        cmocka_unit_test(test_shrinking),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
