/* Whole sets in memory: order, hash, threads, subsets, progress; real sets where they are. */
#include "data/make_sets.h"

#include <unistd.h>

static char *folder;

static int setup(void **state) {
    (void)state;
    char name[64];
    folder = check_folder();
    for (int i = 0; i < 90; i++) {
        snprintf(name, sizeof name, "s/%s/%03d.png", i % 3 ? "cat" : "ant", i);
        put_png(folder, name, 6 + i % 5, i % 2 ? 3 : 1, i);
    }
    return 0;
}

static int teardown(void **state) {
    (void)state;
    check_remove(folder);
    return 0;
}

static npi_images load(const char *spec, int64_t limit, uint64_t seed, int threads) {
    npi_transform transform = {7, 3, NPI_BILINEAR, 0};
    npi_images images;
    CHECK_OK(npi_images_load(spec, &transform, limit, seed, threads, NULL, NULL, &images));
    return images;
}

static void threads_do_not_change_the_result(void **state) {
    (void)state;
    const char *spec = check_path(folder, "s");
    npi_images one = load(spec, 0, 0, 1);
    assert_int_equal(one.count, 90);
    assert_int_equal(one.classes, 2);
    assert_string_equal(one.class_names[1], "cat");
    assert_string_equal(one.names[0], "ant/000.png");
    assert_string_equal(one.names[30], "cat/001.png");
    assert_int_equal(one.labels[29], 0);
    assert_int_equal(one.labels[30], 1);
    assert_string_equal(one.spec, spec);
    for (int threads = 0; threads <= 5; threads++) {
        npi_images many = load(spec, 0, 0, threads);
        assert_true(many.hash == one.hash);
        assert_memory_equal(many.pixels, one.pixels, 90 * 7 * 7 * 3);
        npi_images_clear(&many);
    }
    npi_images_clear(&one);
}

static npos_status stop_at_once(void *context, int64_t done, int64_t total) {
    (void)context, (void)done, (void)total;
    return npi_fail(NPOS_INTERRUPTED, "enough");
}

/* Whatever the number of threads, and wherever the set comes from. */
static void broken_images_are_sifted_out(void **state) {
    (void)state;
    npi_transform transform = {7, 3, NPI_BILINEAR, 0};
    npi_images clean = load(check_path(folder, "s"), 0, 0, 2), images;
    put_text(folder, "s/ant/000x.jpg", "no JPEG");
    put_text(folder, "s/cat/050x.png", "");
    put_text(folder, "s/cat/zzz.png", "\x89PNG\r\n\x1a\n cut");
    char command[1200];
    snprintf(command, sizeof command, "tar -cf '%s/s.tar' -C '%s/s' .", folder, folder);
    assert_int_equal(system(command), 0);
    size_t before = npi_memory_now();
    for (int threads = 1; threads <= 4; threads++) {
        CHECK_OK(npi_images_open(check_path(folder, threads % 2 ? "s" : "s.tar"), &transform, 0, 0,
                                 &images));
        assert_int_equal(images.count, 93);
        CHECK_OK(npi_images_sift(&images, threads, NULL, NULL));
        assert_int_equal(images.count, 90);
        assert_int_equal(images.broken_count, 3);
        assert_string_equal(images.broken[0].name, "ant/000x.jpg");
        assert_string_equal(images.broken[1].name, "cat/050x.png");
        assert_non_null(strstr(images.broken[1].why, "the file is empty"));
        assert_non_null(strstr(images.broken[2].why, "cat/zzz.png: damaged PNG"));
        CHECK_OK(npi_images_fill(&images, &transform, threads, NULL, NULL));
        assert_true(images.hash == clean.hash);
        assert_string_equal(images.names[1], clean.names[1]);
        npi_images_clear(&images);
    }
    CHECK_OK(npi_images_open(check_path(folder, "s"), &transform, 20, 3, &images));
    CHECK_OK(npi_images_sift(&images, 2, NULL, NULL));
    assert_int_equal(images.count + images.broken_count, 20);
    assert_int_equal(images.available, 93);
    npi_images_clear(&images);
    CHECK_OK(npi_images_open(check_path(folder, "s"), &transform, 0, 0, &images));
    CHECK_FAILS(npi_images_sift(&images, 1, stop_at_once, NULL), NPOS_INTERRUPTED, "");
    npi_images_clear(&images);
    npos_status status = NPOS_OUT_OF_MEMORY;
    for (int n = 1; status != NPOS_OK; n++) {
        CHECK_OK(npi_images_open(check_path(folder, "s#class=ant"), &transform, 3, 0, &images));
        npi_memory_fail_after(n);
        status = npi_images_sift(&images, 1, NULL, NULL);
        npi_memory_fail_after(0);
        assert_true(status == NPOS_OK || status == NPOS_OUT_OF_MEMORY);
        npi_images_clear(&images);
        assert_true(npi_memory_now() == before);
    }
    put_text(folder, "t/a.png", "");
    put_text(folder, "t/b.png", "no");
    CHECK_OK(npi_images_open(check_path(folder, "t"), &transform, 0, 0, &images));
    CHECK_FAILS(npi_images_sift(&images, 1, NULL, NULL), NPOS_BAD_DATA,
                "none of its 2 images can be read; the first: ");
    npi_images_clear(&images);
    assert_true(npi_memory_now() == before);
    npi_images_clear(&clean);
}

static void the_hash_sees_pixels_labels_and_order(void **state) {
    (void)state;
    npi_images before = load(check_path(folder, "s"), 0, 0, 2);
    put_png(folder, "s/cat/001.png", 7, 3, 99);
    npi_images after = load(check_path(folder, "s"), 0, 0, 2);
    assert_true(before.hash != after.hash);
    npi_images_clear(&after);
    put_png(folder, "s/cat/001.png", 7, 3, 1);
    after = load(check_path(folder, "s"), 0, 0, 2);
    assert_true(before.hash == after.hash);
    npi_images_clear(&after);
    char command[1200]; /* the same pixels under other labels */
    snprintf(command, sizeof command, "mkdir '%s/s/aaa' && mv '%s/s/ant/000.png' '%s/s/aaa/'",
             folder, folder, folder);
    assert_int_equal(system(command), 0);
    after = load(check_path(folder, "s"), 0, 0, 2);
    assert_memory_equal(before.pixels, after.pixels, 90 * 7 * 7 * 3);
    assert_true(before.hash != after.hash);
    npi_images_clear(&after);
    npi_images_clear(&before);
}

static void a_subset_depends_on_the_seed_alone(void **state) {
    (void)state;
    const char *spec = check_path(folder, "s");
    npi_images whole = load(spec, 0, 0, 2), first = load(spec, 20, 1, 2),
               again = load(spec, 20, 1, 1), other = load(spec, 20, 2, 2),
               all = load(spec, 90, 1, 2), more = load(spec, 1000, 1, 2);
    assert_int_equal(first.count, 20);
    assert_int_equal(first.available, 90);
    assert_int_equal(whole.available, 90);
    assert_true(first.hash == again.hash);
    assert_true(first.hash != other.hash);
    assert_true(all.hash == whole.hash);
    assert_true(more.hash == whole.hash);
    for (int i = 0, at = 0; i < 20; i++, at++) { /* in the order of the whole, each once */
        while (at < 90 && strcmp(whole.names[at], first.names[i]) != 0)
            at++;
        assert_true(at < 90);
        assert_int_equal(whole.labels[at], first.labels[i]);
        assert_memory_equal(whole.pixels + at * 147, first.pixels + i * 147, 147);
    }
    npi_images_clear(&whole);
    npi_images_clear(&first);
    npi_images_clear(&again);
    npi_images_clear(&other);
    npi_images_clear(&all);
    npi_images_clear(&more);
}

typedef struct told {
    int64_t done, total;
    npos_status answer;
} told;

static npos_status tell(void *context, int64_t done, int64_t total) {
    told *t = context;
    assert_true(done >= t->done && done <= total);
    t->done = done;
    t->total = total;
    return t->answer;
}

static void progress_ends_at_the_total_and_can_stop(void **state) {
    (void)state;
    npi_transform transform = {7, 1, NPI_BICUBIC, 0};
    npi_images images;
    told t = {0};
    CHECK_OK(npi_images_load(check_path(folder, "s"), &transform, 0, 0, 2, tell, &t, &images));
    assert_int_equal(t.done, 90);
    assert_int_equal(t.total, 90);
    npi_images_clear(&images);
    t = (told){.answer = NPOS_INTERRUPTED};
    assert_int_equal(
        npi_images_load(check_path(folder, "s"), &transform, 0, 0, 2, tell, &t, &images),
        NPOS_INTERRUPTED);
    assert_null(images.pixels);
}

static void a_wrong_transform_is_refused(void **state) {
    (void)state;
    npi_images images;
    npi_transform transform = {0, 3, NPI_BILINEAR, 0};
    CHECK_FAILS(npi_images_load(check_path(folder, "s"), &transform, 0, 0, 1, NULL, NULL, &images),
                NPOS_INVALID_ARGUMENT, "size 0");
}

static void a_set_beyond_all_memory_is_refused(void **state) {
    (void)state;
    if ((double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) > 1e12)
        skip();
    npi_images images;
    npi_transform transform = {65000, 3, NPI_BILINEAR, 0}; /* 90 images of 12.7 GB */
    CHECK_FAILS(npi_images_load(check_path(folder, "s"), &transform, 0, 0, 1, NULL, NULL, &images),
                NPOS_OUT_OF_MEMORY, "90 images need 1140.8 GB");
}

/* Published sets in the folder that NPOS_TEST_DATA names: tar archives of JPEG files. */
static const struct {
    const char *file, *split;
    int64_t count;
    int classes;
} real_sets[] = {
    {"cifar10.tar.xz", "#train", 50000, 10},
    {"cifar10.tar.xz", "#test", 10000, 10},
    {"dtd-10.tar.xz", "", 1200, 10},
    {"tin-val.tar.xz", "", 10000, 200},
    {"t10k-images-idx3-ubyte.gz", "", 10000, 10},
};

static void real_sets_load_whole(void **state) {
    (void)state;
    const char *where = getenv("NPOS_TEST_DATA");
    int seen = 0;
    for (size_t i = 0; where && i < sizeof real_sets / sizeof *real_sets; i++) {
        if (!npi_is_file(check_path(where, real_sets[i].file)))
            continue;
        char spec[1200];
        snprintf(spec, sizeof spec, "%s/%s%s", where, real_sets[i].file, real_sets[i].split);
        npi_images images = load(spec, 0, 0, 0);
        assert_int_equal(images.count, real_sets[i].count);
        assert_int_equal(images.classes, real_sets[i].classes);
        npi_images_clear(&images);
        seen++;
    }
    if (seen == 0)
        skip();
}

static void fashion_mnist_of_the_distribution(void **state) {
    (void)state;
    const char *path = "/usr/share/datasets/fashion-mnist";
    if (!npi_is_folder(path))
        skip();
    npi_images train = load("/usr/share/datasets/fashion-mnist#train", 600, 3, 0),
               test = load("/usr/share/datasets/fashion-mnist#test#class!=0,9", 0, 0, 0);
    assert_int_equal(train.count, 600);
    assert_int_equal(train.classes, 10);
    assert_int_equal(test.count, 8000);
    assert_int_equal(test.classes, 8);
    assert_string_equal(test.class_names[7], "Bag");
    npi_images_clear(&train);
    npi_images_clear(&test);
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(threads_do_not_change_the_result),
        CASE(broken_images_are_sifted_out),
        CASE(the_hash_sees_pixels_labels_and_order),
        CASE(a_subset_depends_on_the_seed_alone),
        CASE(progress_ends_at_the_total_and_can_stop),
        CASE(a_wrong_transform_is_refused),
        CASE(a_set_beyond_all_memory_is_refused),
        cmocka_unit_test(real_sets_load_whole),
        cmocka_unit_test(fashion_mnist_of_the_distribution),
    };
#undef CASE
    return cmocka_run_group_tests(tests, NULL, NULL);
}
