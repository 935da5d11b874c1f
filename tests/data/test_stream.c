/* The streaming loader: order, the same bits for any number of threads, bounded memory, broken
 * images, an early end. */
#include "data/make_sets.h"

#include <unistd.h>

#include "data/resize.h"
#include "data/stream.h"

enum { IMAGES = 40, SIZE = 12, BATCH = 6, VIEWS = 2 };

static char *folder;
static npi_images images;

/* JPEG files of different sizes and shapes, some grey. */
static int setup(void **state) {
    (void)state;
    char name[64];
    folder = check_folder();
    for (int i = 0; i < IMAGES; i++) {
        npi_image pattern = make_pattern(20 + 3 * (i % 7), 16 + 5 * (i % 6), i % 4 ? 3 : 1, 2);
        file_bytes file = make_jpeg(&pattern, 80 + i % 10);
        snprintf(name, sizeof name, "s/%s/%03d.jpg", i % 3 ? "cat" : "ant", i);
        put_bytes(folder, name, file.bytes, file.size);
        npi_free(file.bytes);
        npi_image_clear(&pattern);
    }
    npi_transform transform = {SIZE, 3, NPI_BICUBIC, 0};
    CHECK_OK(npi_images_open(check_path(folder, "s"), &transform, 0, 0, &images));
    return 0;
}

static int teardown(void **state) {
    (void)state;
    npi_images_clear(&images);
    check_remove(folder);
    return 0;
}

static const npi_augment_desc random_crop = {.channels = 3,
                                             .out_h = SIZE,
                                             .out_w = SIZE,
                                             .crop = NPI_CROP_RESIZED,
                                             .scale_lo = 0.2f,
                                             .scale_hi = 1,
                                             .ratio_lo = 0.75f,
                                             .ratio_hi = 4.0f / 3,
                                             .seed = 7};

/* Whole batches of a permutation each epoch, the rest dropped. */
static npos_status by_epoch(void *context, int64_t number, int32_t *index, int *count) {
    int64_t steps = IMAGES / BATCH;
    int32_t order[IMAGES];
    (void)context;
    npi_permutation(7, NPI_RANDOM_PERMUTATION, (uint64_t)(number / steps), order, IMAGES);
    memcpy(index, order + number % steps * BATCH, BATCH * sizeof *index);
    *count = BATCH;
    return NPOS_OK;
}

static npi_stream_desc describe(int threads) {
    return (npi_stream_desc){.images = &images,
                             .transform = {SIZE, 3, NPI_BICUBIC, 0},
                             .crop = &random_crop,
                             .batch = BATCH,
                             .views = VIEWS,
                             .end = 15,
                             .order = by_epoch,
                             .threads = threads,
                             .slots = 3};
}

static const size_t image_bytes = SIZE * SIZE * 3, batch_bytes = BATCH * VIEWS * SIZE * SIZE * 3;

/* All batches of a stream, one behind another; npi_free them. */
static uint8_t *collect(const npi_stream_desc *desc) {
    npi_stream *stream;
    npi_stream_batch batch;
    uint8_t *all;
    CHECK_OK(npi_alloc(&all, (size_t)(desc->end - desc->first), batch_bytes, "batches"));
    CHECK_OK(npi_stream_open(desc, &stream));
    for (int64_t b = desc->first; b < desc->end; b++) {
        CHECK_OK(npi_stream_next(stream, &batch));
        assert_int_equal(batch.number, b);
        assert_int_equal(batch.count, BATCH);
        memcpy(all + (size_t)(b - desc->first) * batch_bytes, batch.pixels, batch_bytes);
        npi_stream_release(stream);
    }
    CHECK_FAILS(npi_stream_next(stream, &batch), NPOS_INVALID_ARGUMENT, "there is no batch");
    npi_stream_close(stream);
    return all;
}

static void every_view_is_its_draws_crop(void **state) {
    (void)state;
    npi_stream_desc desc = describe(2);
    uint8_t *all = collect(&desc);
    for (int64_t b = 0; b < desc.end; b++) {
        int32_t index[BATCH];
        int count;
        CHECK_OK(by_epoch(NULL, b, index, &count));
        for (uint32_t s = 0; s < BATCH * VIEWS; s++) {
            npi_image stored, view;
            CHECK_OK(npi_images_decode(&images, index[s % BATCH], &stored));
            npi_augment_desc d = random_crop;
            d.src_h = stored.height;
            d.src_w = stored.width;
            npi_augment_params p = npi_augment_draw(&d, (uint64_t)b, s);
            npi_window window = {p.top, p.left, p.height, p.width};
            CHECK_OK(npi_transform_crop(&desc.transform, &stored, window, &view));
            assert_memory_equal(view.pixels, all + (size_t)b * batch_bytes + s * image_bytes,
                                image_bytes);
            npi_image_clear(&stored);
            npi_image_clear(&view);
        }
    }
    npi_free(all);
}

static void threads_slots_and_start_do_not_matter(void **state) {
    (void)state;
    npi_stream_desc desc = describe(1);
    desc.slots = 1;
    uint8_t *one = collect(&desc);
    for (int threads = 2; threads <= 8; threads += 3)
        for (int slots = 1; slots <= 4; slots++) {
            desc = describe(threads);
            desc.slots = slots;
            desc.first = threads; /* as after a resume */
            uint8_t *many = collect(&desc);
            assert_memory_equal(many, one + (size_t)threads * batch_bytes,
                                (size_t)(desc.end - desc.first) * batch_bytes);
            npi_free(many);
        }
    npi_free(one);
}

static void without_crop_it_is_what_loading_gives(void **state) {
    (void)state;
    npi_images loaded;
    npi_transform transform = {SIZE, 3, NPI_BICUBIC, 0};
    npi_stream *stream;
    npi_stream_batch batch;
    CHECK_OK(npi_images_load(check_path(folder, "s"), &transform, 25, 3, 2, NULL, NULL, &loaded));
    npi_images_clear(&images);
    CHECK_OK(npi_images_open(check_path(folder, "s"), &transform, 25, 3, &images));
    assert_null(images.pixels);
    assert_int_equal(images.count, 25);
    assert_int_equal(images.available, IMAGES);
    npi_stream_desc desc = describe(3);
    desc.crop = NULL;
    desc.order = NULL;
    desc.end = 5; /* 6, 6, 6, 6, 1 */
    CHECK_OK(npi_stream_open(&desc, &stream));
    for (int64_t b = 0; b < desc.end; b++) {
        CHECK_OK(npi_stream_next(stream, &batch));
        assert_int_equal(batch.count, b < 4 ? 6 : 1);
        for (int i = 0; i < batch.count; i++) {
            int64_t number = b * BATCH + i;
            assert_int_equal(batch.index[i], number);
            assert_string_equal(images.names[number], loaded.names[number]);
            assert_int_equal(images.labels[number], loaded.labels[number]);
            for (int v = 0; v < VIEWS; v++)
                assert_memory_equal(batch.pixels + (size_t)(v * batch.count + i) * image_bytes,
                                    loaded.pixels + (size_t)number * image_bytes, image_bytes);
        }
        npi_stream_release(stream);
    }
    npi_stream_close(stream);
    npi_images_clear(&loaded);
}

/* The caller holds batches for long: the decoders stop, memory stays what the slots take. */
static void memory_is_bounded_by_the_slots(void **state) {
    (void)state;
    npi_stream_desc desc = describe(4);
    npi_stream *stream;
    npi_stream_batch batch;
    size_t before = npi_memory_now();
    CHECK_OK(npi_stream_open(&desc, &stream));
    for (int i = 0; i < desc.slots; i++)
        CHECK_OK(npi_stream_next(stream, &batch));
    CHECK_FAILS(npi_stream_next(stream, &batch), NPOS_INVALID_ARGUMENT, "all 3 slots are held");
    usleep(20000);
    uint64_t calls = npi_memory_calls();
    size_t ring = (size_t)desc.slots * npi_stream_slot_bytes(&desc);
    assert_int_equal(npi_stream_slot_bytes(&desc), batch_bytes);
    assert_true(npi_memory_now() - before < ring + 64 * 1024);
    usleep(20000);
    assert_true(npi_memory_calls() == calls); /* nothing is decoded now */
    for (int i = 0; i < desc.slots; i++)
        npi_stream_release(stream);
    CHECK_OK(npi_stream_next(stream, &batch));
    assert_int_equal(batch.number, desc.slots);
    npi_stream_close(stream);
    assert_true(npi_memory_now() == before);
}

static void the_callers_buffers_are_filled(void **state) {
    (void)state;
    npi_stream_desc desc = describe(2);
    uint8_t *mine, *buffers[3], *expected = collect(&desc);
    npi_stream *stream;
    npi_stream_batch batch;
    CHECK_OK(npi_alloc(&mine, 3, batch_bytes, "buffers"));
    for (int i = 0; i < 3; i++)
        buffers[i] = mine + (size_t)i * batch_bytes;
    desc.buffers = buffers;
    CHECK_OK(npi_stream_open(&desc, &stream));
    for (int i = 0; i < 5; i++) {
        CHECK_OK(npi_stream_next(stream, &batch));
        assert_ptr_equal(batch.pixels, buffers[i % 3]);
        assert_memory_equal(batch.pixels, expected + (size_t)i * batch_bytes, batch_bytes);
        npi_stream_release(stream);
    }
    npi_stream_close(stream);
    npi_free(mine);
    npi_free(expected);
}

static void a_broken_image_is_named_at_its_batch(void **state) {
    (void)state;
    int32_t index[BATCH];
    int count;
    npi_stream_batch batch;
    npi_stream *stream;
    char name[160];
    CHECK_OK(by_epoch(NULL, 4, index, &count));
    /* two of the same batch: the first is named, however late it fails */
    for (int i = 2; i <= 4; i += 2) {
        snprintf(name, sizeof name, "s/%s", images.names[index[i]]);
        put_text(folder, name, "\xff\xd8\xff and no JPEG");
    }
    for (int threads = 1; threads <= 4; threads++) {
        npi_stream_desc desc = describe(threads);
        desc.end = 6; /* the first epoch */
        size_t before = npi_memory_now();
        CHECK_OK(npi_stream_open(&desc, &stream));
        for (int i = 0; i < 4; i++) {
            CHECK_OK(npi_stream_next(stream, &batch));
            npi_stream_release(stream);
        }
        for (int again = 0; again < 2; again++)
            CHECK_FAILS(npi_stream_next(stream, &batch), NPOS_BAD_DATA, images.names[index[2]]);
        npi_stream_close(stream);
        assert_true(npi_memory_now() == before);
    }
}

static npos_status fails_at_3(void *context, int64_t number, int32_t *index, int *count) {
    if (number == 3)
        return npi_fail(NPOS_INTERRUPTED, "no order from here on");
    return by_epoch(context, number, index, count);
}

static npos_status out_of_range(void *context, int64_t number, int32_t *index, int *count) {
    (void)context;
    *count = number == 1 ? BATCH + 1 : 1;
    index[0] = number == 0 ? 5 : IMAGES;
    return NPOS_OK;
}

static void a_wrong_order_is_an_error_of_its_batch(void **state) {
    (void)state;
    npi_stream_desc desc = describe(3);
    npi_stream *stream;
    npi_stream_batch batch;
    desc.order = fails_at_3;
    CHECK_OK(npi_stream_open(&desc, &stream));
    for (int i = 0; i < 3; i++) {
        CHECK_OK(npi_stream_next(stream, &batch));
        npi_stream_release(stream);
    }
    CHECK_FAILS(npi_stream_next(stream, &batch), NPOS_INTERRUPTED, "no order from here on");
    npi_stream_close(stream);
    desc.order = out_of_range;
    CHECK_OK(npi_stream_open(&desc, &stream));
    CHECK_OK(npi_stream_next(stream, &batch));
    assert_int_equal(batch.count, 1);
    npi_stream_release(stream);
    CHECK_FAILS(npi_stream_next(stream, &batch), NPOS_INVALID_ARGUMENT, "a batch of 7 images");
    npi_stream_close(stream);
    desc.first = 2;
    CHECK_OK(npi_stream_open(&desc, &stream));
    CHECK_FAILS(npi_stream_next(stream, &batch), NPOS_INVALID_ARGUMENT, "image 40 of");
    npi_stream_close(stream);
}

/* Item i is its number, four times; number 13 cannot be read. */
static npos_status read_item(void *source, int64_t i, void *to) {
    const int32_t *broken = source;
    if (i == *broken)
        return npi_fail(NPOS_BAD_DATA, "item %d is broken", (int)i);
    for (int k = 0; k < 4; k++)
        ((int32_t *)to)[k] = (int32_t)i;
    return NPOS_OK;
}

static void other_items_are_streamed_as_they_are(void **state) {
    (void)state;
    int32_t broken = -1;
    npi_stream_items items = {IMAGES, 4 * sizeof(int32_t), read_item, &broken};
    npi_stream_desc desc = {.items = &items,
                            .batch = BATCH,
                            .views = 1,
                            .end = IMAGES / BATCH,
                            .threads = 3,
                            .slots = 3};
    npi_stream *stream;
    npi_stream_batch batch;
    desc.order = by_epoch;
    assert_int_equal(npi_stream_slot_bytes(&desc), BATCH * 4 * sizeof(int32_t));
    CHECK_OK(npi_stream_open(&desc, &stream));
    for (int64_t b = 0; b < desc.end; b++) {
        int32_t index[BATCH];
        int count;
        CHECK_OK(npi_stream_next(stream, &batch));
        CHECK_OK(by_epoch(NULL, b, index, &count));
        assert_int_equal(batch.count, count);
        const int32_t *seen = (const void *)batch.pixels;
        for (int i = 0; i < 4 * count; i++)
            assert_int_equal(seen[i], index[i / 4]);
        npi_stream_release(stream);
    }
    npi_stream_close(stream);
    /* in their order, up to the broken one */
    desc.order = NULL;
    desc.end = (IMAGES + BATCH - 1) / BATCH;
    broken = 13;
    CHECK_OK(npi_stream_open(&desc, &stream));
    for (int b = 0; b < 13 / BATCH; b++) {
        CHECK_OK(npi_stream_next(stream, &batch));
        npi_stream_release(stream);
    }
    CHECK_FAILS(npi_stream_next(stream, &batch), NPOS_BAD_DATA, "item 13 is broken");
    npi_stream_close(stream);
    desc.end++;
    CHECK_FAILS(npi_stream_open(&desc, &stream), NPOS_INVALID_ARGUMENT, "from 40 images");
    desc.end--;
    desc.views = 2;
    CHECK_FAILS(npi_stream_open(&desc, &stream), NPOS_INVALID_ARGUMENT, "2 views");
}

static void it_ends_at_any_time(void **state) {
    (void)state;
    npi_stream *stream;
    npi_stream_batch batch;
    size_t before = npi_memory_now();
    for (int taken = 0; taken < 12; taken++)
        for (int threads = 1; threads <= 5; threads += 2) {
            npi_stream_desc desc = describe(threads);
            CHECK_OK(npi_stream_open(&desc, &stream));
            for (int i = 0; i < taken; i++) {
                CHECK_OK(npi_stream_next(stream, &batch));
                if (i > 0)
                    npi_stream_release(stream); /* one is held all the time */
            }
            npi_stream_close(stream);
            assert_true(npi_memory_now() == before);
        }
    npi_stream_close(NULL);
}

static void wrong_descriptions_are_refused(void **state) {
    (void)state;
    npi_stream *stream;
    npi_stream_desc desc = describe(1);
    npi_augment_desc padded = random_crop;
    padded.crop = NPI_CROP_PADDED;
    desc.crop = &padded;
    CHECK_FAILS(npi_stream_open(&desc, &stream), NPOS_INVALID_ARGUMENT, "random parts");
    desc = describe(1);
    desc.slots = 0;
    CHECK_FAILS(npi_stream_open(&desc, &stream), NPOS_INVALID_ARGUMENT, "0 slots");
    desc = describe(1);
    desc.order = NULL; /* 15 batches of 6 from 40 images */
    CHECK_FAILS(npi_stream_open(&desc, &stream), NPOS_INVALID_ARGUMENT, "from 40 images");
    npi_images loaded = {.count = 3};
    desc.images = &loaded;
    CHECK_FAILS(npi_stream_open(&desc, &stream), NPOS_INVALID_ARGUMENT, "an opened set");
}

static void out_of_memory_is_an_error(void **state) {
    (void)state;
    size_t before = npi_memory_now();
    npos_status status = NPOS_OUT_OF_MEMORY;
    for (int n = 1; status != NPOS_OK; n++) {
        npi_stream *stream;
        npi_stream_batch batch;
        npi_stream_desc desc = describe(2);
        desc.end = 2;
        assert_true(n < 1000);
        npi_memory_fail_after(n);
        status = npi_stream_open(&desc, &stream);
        for (int i = 0; i < 2 && status == NPOS_OK; i++) {
            status = npi_stream_next(stream, &batch);
            if (status == NPOS_OK)
                npi_stream_release(stream);
        }
        npi_stream_close(stream);
        npi_memory_fail_after(0);
        if (status != NPOS_OK)
            assert_int_equal(status, NPOS_OUT_OF_MEMORY);
        assert_true(npi_memory_now() == before);
    }
}

static void the_stamp_sees_names_labels_and_sizes(void **state) {
    (void)state;
    npi_transform transform = {SIZE, 3, NPI_BICUBIC, 0};
    npi_images again;
    CHECK_OK(npi_images_stamp(&images));
    assert_true(images.hash != 0);
    CHECK_OK(npi_images_open(check_path(folder, "s"), &transform, 0, 0, &again));
    CHECK_OK(npi_images_stamp(&again));
    assert_true(again.hash == images.hash);
    npi_images_clear(&again);
    put_text(folder, "s/cat/001.jpg", "another size");
    CHECK_OK(npi_images_open(check_path(folder, "s"), &transform, 0, 0, &again));
    CHECK_OK(npi_images_stamp(&again));
    assert_true(again.hash != images.hash);
    npi_images_clear(&again);
}

/* Where the stored bytes are at hand, they are looked at. */
static void the_stamp_sees_an_archives_bytes(void **state) {
    (void)state;
    npi_transform transform = {SIZE, 3, NPI_BICUBIC, 0};
    uint64_t hash[2];
    for (int i = 0; i < 2; i++) {
        npi_images packed;
        uint8_t noise[16] = "\xff\xd8\xff";
        noise[9] = (uint8_t)i;
        struct archive *a = pack_open(check_path(folder, "p.tar"), "tar");
        pack_bytes(a, "a/1.jpg", noise, sizeof noise);
        pack_close(a);
        CHECK_OK(npi_images_open(check_path(folder, "p.tar"), &transform, 0, 0, &packed));
        CHECK_OK(npi_images_stamp(&packed));
        hash[i] = packed.hash;
        npi_images_clear(&packed);
    }
    assert_true(hash[0] != hash[1]);
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(every_view_is_its_draws_crop),
        CASE(threads_slots_and_start_do_not_matter),
        CASE(without_crop_it_is_what_loading_gives),
        CASE(memory_is_bounded_by_the_slots),
        CASE(the_callers_buffers_are_filled),
        CASE(a_broken_image_is_named_at_its_batch),
        CASE(a_wrong_order_is_an_error_of_its_batch),
        CASE(other_items_are_streamed_as_they_are),
        CASE(it_ends_at_any_time),
        CASE(wrong_descriptions_are_refused),
        CASE(out_of_memory_is_an_error),
        CASE(the_stamp_sees_names_labels_and_sizes),
        CASE(the_stamp_sees_an_archives_bytes),
    };
#undef CASE
    return cmocka_run_group_tests(tests, NULL, NULL);
}
