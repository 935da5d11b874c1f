/* npos_finetune on a tiny CLIP model: the same run from a store, from torch's files and from images; what the losses are
 * at the start; the tuned model in its makers' layout; what does not fit is named. */
#include "jobs/tiny_clip.h"

#include <unistd.h>

#include "base/philox.h"
#include "io/make_zip.h"
#include "io/pt_write.h"
#include "io/safetensors.h"
#include "io/token_store.h"
#include "jobs/fitted.h"
#include "jobs/model_file.h"
#include "jobs/trainer.h"
#include "tensor/dtype.h"

enum { ROWS = 10, WIDTH = 32, NUMBERS = ROWS * WIDTH };

/* ---- where tokens come from ---- */

static void read_tokens(const char *folder, float *out) {
    npi_token_store *store;
    CHECK_OK(npi_token_store_open(check_path(folder, "store"), &store));
    for (int i = 0; i < IMAGES; i++) {
        uint16_t halves[NUMBERS];
        CHECK_OK(npi_token_store_read(store, i, halves));
        for (int k = 0; k < NUMBERS; k++)
            out[i * NUMBERS + k] = npi_f16_to_f32(halves[k]);
    }
    npi_token_store_close(store);
}

/* torch.save(torch.tensor([0, 1, 2, 0, ...])) */
static void write_targets(const char *path) {
    static const char head[] = "\x80\x02"
                               "ctorch._utils\n_rebuild_tensor_v2\n"
                               "((X\x07\0\0\0storagectorch\nLongStorage\n"
                               "X\x01\0\0\0000X\x03\0\0\0cpuK",
                      end[] = "\x85K\x01\x85\x89"
                              "ccollections\nOrderedDict\n)RtR.";
    char pickle[256], *at = pickle;
    int64_t labels[IMAGES];
    size_t size = 0;
    at = (char *)zip_bytes((uint8_t *)at, head, sizeof head - 1);
    *at++ = IMAGES;
    at = (char *)zip_bytes((uint8_t *)at, "tQK\0K", 5);
    *at++ = IMAGES;
    at = (char *)zip_bytes((uint8_t *)at, end, sizeof end - 1);
    for (int i = 0; i < IMAGES; i++)
        labels[i] = i % CLASSES;
    const zip_item items[] = {{"t/data.pkl", pickle, (size_t)(at - pickle), 0},
                              {"t/data/0", labels, sizeof labels, 0},
                              {"t/version", "3\n", 2, 0}};
    uint8_t *bytes = make_zip(items, 3, 0, &size);
    assert_non_null(bytes);
    CHECK_OK(npi_file_write(path, bytes, size));
    free(bytes);
}

static void write_torch_files(const char *folder) {
    static float tokens[IMAGES * NUMBERS];
    npi_named_tensor all = {"tensor", NPI_F32, 3, {IMAGES, ROWS, WIDTH}, tokens};
    char path[700];
    read_tokens(folder, tokens);
    CHECK_OK(npi_pt_write(check_path(folder, "feature.pt"), &all, 1));
    write_targets(check_path(folder, "target.pt"));
    /* the images of a class keep their order, the classes come one behind the other */
    for (int i = 0; i < IMAGES; i++) {
        npi_named_tensor one = {"tensor", NPI_F32, 2, {ROWS, WIDTH}, tokens + i * NUMBERS};
        snprintf(path, sizeof path, "%s/classes/%d", folder, i % CLASSES);
        CHECK_OK(npi_make_folders(path));
        snprintf(path, sizeof path, "%s/classes/%d/%02d.pt", folder, i % CLASSES, i);
        CHECK_OK(npi_pt_write(path, &one, 1));
    }
}

static void every_way_to_the_tokens_gives_the_same_run(void **state) {
    (void)state;
    char folder[512];
    prepare_clip(folder, sizeof folder);
    CHECK_OK(npos_finetune(&on_store(folder, "store_run")->options));
    static const char *const loading[] = {"loading=auto", "loading=memory", "loading=stream"};
    static const char *const runs[] = {"auto", "memory", "stream"};
    for (int i = 0; i < 3; i++) {
        tuning *j = on_images(folder, runs[i]);
        j->options.set = &loading[i];
        j->options.set_count = 1;
        CHECK_OK(npos_finetune(&j->options));
        for (int e = 0; e < 4; e++)
            assert_true(fabs(logged(folder, runs[i], e, "loss") -
                             logged(folder, "store_run", e, "loss")) < 1e-2);
        assert_same_tuning(folder, "store_run", runs[i]);
        assert_same_run(folder, "auto", runs[i]); /* their banks have names */
    }
    for (int i = 1; i < 3; i++) {
        char out[16];
        snprintf(out, sizeof out, "store%d", i);
        tuning *j = on_store(folder, out);
        j->options.set = &loading[i];
        j->options.set_count = 1;
        CHECK_OK(npos_finetune(&j->options));
        assert_same_tuning(folder, "store_run", out);
    }
    write_torch_files(folder);
    tuning *j = on_store(folder, "torch");
    j->options.features = check_path(folder, "feature.pt");
    CHECK_OK(npos_finetune(&j->options));
    assert_same_tuning(folder, "store_run", "torch");
    assert_same_run(folder, "store_run", "torch");
    j = on_store(folder, "each");
    j->options.features = check_path(folder, "classes");
    CHECK_OK(npos_finetune(&j->options)); /* another order of the images: another run */
    check_remove(folder);
}

/* The store once more, its last image without a label. */
static void write_unlabelled(const char *folder, const char *to) {
    npi_token_store *store;
    npi_token_writer *writer;
    int32_t labels[IMAGES];
    uint16_t halves[NUMBERS];
    CHECK_OK(npi_token_store_open(check_path(folder, "store"), &store));
    npi_token_info info = *npi_token_store_info(store);
    memcpy(labels, info.labels, sizeof labels);
    labels[IMAGES - 1] = -1;
    info.labels = labels;
    CHECK_OK(npi_token_writer_open(to, &info, false, 1, &writer));
    for (int i = 0; i < IMAGES; i++) {
        CHECK_OK(npi_token_store_read(store, i, halves));
        CHECK_OK(npi_token_writer_add(writer, 1, halves));
    }
    CHECK_OK(npi_token_writer_finish(writer));
    npi_token_writer_close(writer);
    npi_token_store_close(store);
}

static void tokens_without_a_label_are_named(void **state) {
    (void)state;
    char folder[512], expected[64];
    prepare_clip(folder, sizeof folder);
    tuning *j = on_store(folder, "run");
    j->options.features = check_path(folder, "unlabelled");
    write_unlabelled(folder, j->options.features);
    snprintf(expected, sizeof expected, "unlabelled: image %d has no label", IMAGES - 1);
    CHECK_FAILS(npos_finetune(&j->options), NPOS_BAD_DATA, expected);
    check_remove(folder);
}

/* ---- figures ---- */

static void open_run(const char *folder, const char *run, const char *scores, npi_fitted *out) {
    npos_compute compute = {.device = check_device(), .precision = check_precision(), .threads = 2};
    CHECK_OK(npi_fitted_open(check_path(folder, run), &compute, scores, true, out));
}

/* What a loss over the cosines of all images must be: LogitNorm's at 8, or the plain ones over tau. */
static double expected_loss(const npi_features *f, bool plain) {
    double sum = 0;
    for (int i = 0; i < IMAGES; i++) {
        const float *cosine = f->logits + i * CLASSES;
        double square = 0, total = 0;
        for (int c = 0; c < CLASSES; c++)
            square += (double)cosine[c] * (double)cosine[c];
        double by = plain ? 0.1 : (sqrt(square) + 1e-7) * 8;
        for (int c = 0; c < CLASSES; c++)
            total += exp((double)cosine[c] / by);
        sum += log(total) - (double)cosine[i % CLASSES] / by;
    }
    return sum / IMAGES;
}

/* Without a step nothing has changed but phi: the run says what the model said, and the logged loss is that of its
 * cosines. */
static void without_a_rate_nothing_moves(void **state) {
    (void)state;
    char folder[512];
    /* float16 tokens beside those of the precision */
    const float near = strcmp(check_precision(), "fp32") == 0 ? 0.02f : 0.1f;
    prepare_clip(folder, sizeof folder);
    for (int plain = 0; plain < 2; plain++) {
        const char *out = plain ? "plain" : "norm";
        tuning *j = on_images(folder, out);
        const char *set[] = {"lr=0", "batch=1000", "epochs=1",
                             plain ? "loss=ce" : "loss=logit_norm"};
        j->options.set = set;
        j->options.set_count = 4;
        CHECK_OK(npos_finetune(&j->options));
        npi_fitted fitted;
        open_run(folder, out, "mcm,head,knn", &fitted);
        npi_images images;
        npi_features all = {0};
        npos_compute quiet = {.device = check_device()};
        CHECK_OK(npi_fitted_features(&fitted, &quiet, "embed", j->data, 0, 0, &images, &all));
        double loss = logged(folder, out, 0, "loss_ce");
        if (!(fabs(loss - expected_loss(&all, plain)) < (double)near / 20))
            fail_msg("%s: loss %g, by hand %g", out, loss, expected_loss(&all, plain));
        assert_true(fabs(loss - logged(folder, out, 0, "loss")) < 1e-6); /* no outliers yet */
        npi_bank bank;
        char path[1100];
        snprintf(path, sizeof path, "%s/bank.safetensors", j->out);
        CHECK_OK(npi_bank_read(path, DIM, &bank));
        assert_int_equal(bank.n, IMAGES);
        for (int i = 0; i < IMAGES; i++) {
            assert_int_equal(bank.labels[i], i % CLASSES);
            for (int d = 0; d < DIM; d++)
                assert_true(fabsf(bank.h[i * DIM + d] - all.h[i * DIM + d]) < near);
        }
        npi_bank_clear(&bank);
        npi_features_clear(&all);
        npi_images_clear(&images);
        npi_fitted_close(&fitted);
    }
    check_remove(folder);
}

static void training_lowers_the_losses(void **state) {
    (void)state;
    char folder[512];
    prepare_clip(folder, sizeof folder);
    tuning *j = on_store(folder, "run");
    const char *set[] = {"loss=ce", "epochs=12", "drop_epoch=60"};
    j->options.set = set;
    j->options.set_count = 3;
    CHECK_OK(npos_finetune(&j->options));
    assert_true(logged(folder, "run", 11, "loss_ce") < 0.7 * logged(folder, "run", 0, "loss_ce"));
    assert_true(logged(folder, "run", 11, "loss_open") < logged(folder, "run", 1, "loss_open"));
    assert_int_equal((int)logged(folder, "run", 11, "step"), 12 * STEPS);
    check_remove(folder);
}

/* From the second step on, the smaller last one of an epoch included, nothing is allocated (once a GPU has recorded both, in
 * the second epoch). */
static void steps_allocate_nothing(void **state) {
    (void)state;
    static const char *const loading[] = {"loading=memory", "loading=stream"};
    char folder[512];
    prepare_clip(folder, sizeof folder);
    const tuning *j = on_store(folder, "run");
    for (int l = 0; l < 2; l++) {
        char clip[1000], features[1100], text[1100];
        snprintf(clip, sizeof clip, "clip=%s", j->clip);
        snprintf(features, sizeof features, "features=%s", j->store);
        snprintf(text, sizeof text, "text=%s", j->text);
        const char *set[] = {clip, features, text, loading[l], "start_epoch=0"};
        npos_train_options options;
        npi_trainer t;
        npos_train_options_init(&options);
        options.compute = j->options.compute;
        options.recipe = j->recipe;
        options.out = check_path(folder, "run");
        options.set = set;
        options.set_count = 5;
        CHECK_OK(npi_trainer_open(&options, NPI_TRAINER_FINETUNE, &t));
        uint64_t calls = 0;
        for (t.epoch = 0; t.epoch < 3; t.epoch++) {
            npi_permutation(0, NPI_RANDOM_PERMUTATION, (uint64_t)t.epoch, t.order, IMAGES);
            for (t.step = 0; t.step < STEPS;) {
                uint64_t before = npi_memory_calls();
                CHECK_OK(npi_trainer_step(&t));
                calls += t.epoch > 1 || (!on_gpu() && (t.epoch > 0 || t.step > 1))
                             ? npi_memory_calls() - before
                             : 0;
            }
            CHECK_OK(npi_trainer_settle(&t));
        }
        assert_true(t.sums.open_steps > 0);
        assert_int_equal(calls, 0);
        npi_trainer_close(&t);
    }
    check_remove(folder);
}

/* ---- what is left ---- */

/* The tuned model as --clip takes it, its T as before (the text tower did not move), its image tower another. */
static void the_model_is_its_makers(const char *folder, const char *name, const char *out) {
    tuning *j = make_tuning(folder, name, out);
    char model[1100], other[64];
    uint64_t before, after;
    npi_device *dev;
    npi_clip then, now;
    j->options.data = j->data;
    write_directions(j->text, j->clip, CLASSES, 0);
    CHECK_OK(npi_clip_hash(j->clip, &before));
    CHECK_OK(npos_finetune(&j->options));
    snprintf(model, sizeof model, "%s/clip", j->out);
    CHECK_OK(npi_clip_hash(j->clip, &after));
    assert_true(before == after);
    CHECK_OK(npi_device_open("reference", NPI_PRECISION_FP32, 1, &dev));
    CHECK_OK(npi_clip_load(dev, j->clip, NPI_CLIP_VISION, NPI_CLIP_ACT_AUTO, &then));
    CHECK_OK(npi_clip_load(dev, model, NPI_CLIP_VISION, NPI_CLIP_ACT_AUTO, &now));
    int moved = 0;
    for (int i = 0; i < now.vision.params.count; i++) {
        bool same =
            memcmp(npi_param_value(&then.vision.params, i), npi_param_value(&now.vision.params, i),
                   now.vision.params.list[i].count * sizeof(float)) == 0;
        bool tuned = i >= now.vision.blocks + NPI_CLIP_BLOCK_PARAMS;
        assert_true(same || tuned);
        moved += !same;
    }
    assert_int_equal(moved, now.vision.params.count - now.vision.blocks - NPI_CLIP_BLOCK_PARAMS);
    npi_clip_free(&then);
    npi_clip_free(&now);
    npi_device_close(dev);
    /* it can be tuned again, with directions of its own */
    snprintf(other, sizeof other, "%s_again", out);
    j = make_tuning(folder, name, other);
    j->options.data = j->data;
    j->options.clip = model;
    CHECK_FAILS(npos_finetune(&j->options), NPOS_INVALID_ARGUMENT, "made with other weights");
    write_directions(j->text, model, CLASSES, 0);
    CHECK_OK(npos_finetune(&j->options));
}

static void tuned_models_keep_their_layout(void **state) {
    (void)state;
    char folder[512];
    prepare_clip(folder, sizeof folder);
    the_model_is_its_makers(folder, "hf", "hf_run");
    the_model_is_its_makers(folder, "open_clip", "open_clip_run");
    assert_true(npi_is_file(check_path(folder, "open_clip_run/clip/open_clip_model.safetensors")));
    the_model_is_its_makers(folder, "openai.pt", "openai_run");
    check_remove(folder);
}

static void a_score_does_not_depend_on_its_batch(void **state) {
    (void)state;
    char folder[512];
    prepare_clip(folder, sizeof folder);
    CHECK_OK(npos_finetune(&on_store(folder, "run")->options));
    npi_fitted fitted;
    open_run(folder, "run", "mcm,maxlogit,energy,knn,head", &fitted);
    npi_images images;
    npi_features all = {0};
    npos_compute quiet = {.device = check_device()};
    double scores[5][IMAGES];
    CHECK_OK(npi_fitted_features(&fitted, &quiet, "embed", check_path(folder, "set.npy"), 0, 0,
                                 &images, &all));
    npi_transform transform = fitted.run->transform;
    npi_images loaded;
    CHECK_OK(
        npi_images_load(check_path(folder, "set.npy"), &transform, 0, 0, 1, NULL, NULL, &loaded));
    npi_outputs outputs = npi_outputs_of(&all);
    for (int s = 0; s < 5; s++)
        CHECK_OK(npi_detector_score(&fitted.detectors[s], &outputs, scores[s]));
    for (int i = 0; i < IMAGES; i += 5) {
        npi_features one = {0};
        size_t image = (size_t)transform.size * (size_t)transform.size * 3;
        CHECK_OK(npi_run_features(fitted.run, loaded.pixels + (size_t)i * image, 1, &quiet, "embed",
                                  &one));
        outputs = npi_outputs_of(&one);
        for (int s = 0; s < 5; s++) {
            double alone;
            CHECK_OK(npi_detector_score(&fitted.detectors[s], &outputs, &alone));
            if (alone != scores[s][i])
                fail_msg("detector %d, image %d: %.17g alone, %.17g among %d", s, i, alone,
                         scores[s][i], IMAGES);
        }
        npi_features_clear(&one);
    }
    npi_features_clear(&all);
    npi_images_clear(&images);
    npi_images_clear(&loaded);
    npi_fitted_close(&fitted);
    check_remove(folder);
}

/* T is made of the class folders' names where none is given, by the model's own tokenizer. */
static void directions_are_made_of_the_names(void **state) {
    (void)state;
    char folder[512], command[2000];
    npi_text_file text;
    prepare_clip(folder, sizeof folder);
    tuning *j = make_tuning(folder, "words", "run");
    j->options.text = NULL;
    j->options.data = j->data;
    const char *set[] = {"first_block=0", "epochs=2"};
    j->options.set = set;
    j->options.set_count = 2;
    CHECK_FAILS(npos_finetune(&j->options), NPOS_UNSUPPORTED, "class '0' is a number");
    assert_non_null(strstr(npos_error_hint(), "--text"));
    snprintf(command, sizeof command,
             "cd '%s' && mkdir -p s/n01440764 s/snow_leopard && for i in 1 2 3 4 5 6; do "
             "cp '%.500s/tests/golden/images/grey.png' s/n01440764/$i.png; "
             "cp '%.500s/tests/golden/images/grey_alpha.png' s/snow_leopard/$i.png; done",
             folder, check_source(), check_source());
    assert_int_equal(system(command), 0);
    j->options.data = check_path(folder, "s");
    CHECK_OK(npos_finetune(&j->options));
    CHECK_OK(npi_text_file_read(check_path(folder, "run/text.safetensors"), &text));
    assert_int_equal(text.classes, 2);
    assert_string_equal(text.names[0], "tench");
    assert_string_equal(text.folders[0], "n01440764");
    assert_string_equal(text.names[1], "snow leopard");
    npi_text_file_clear(&text);
    npi_fitted fitted;
    open_run(folder, "run", "mcm", &fitted);
    assert_string_equal(fitted.run->class_names[1], "snow_leopard");
    npi_fitted_close(&fitted);
    check_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_way_to_the_tokens_gives_the_same_run),
        cmocka_unit_test(tokens_without_a_label_are_named),
        cmocka_unit_test(without_a_rate_nothing_moves),
        cmocka_unit_test(training_lowers_the_losses),
        cmocka_unit_test(steps_allocate_nothing),
        cmocka_unit_test(tuned_models_keep_their_layout),
        cmocka_unit_test(a_score_does_not_depend_on_its_batch),
        cmocka_unit_test(directions_are_made_of_the_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
