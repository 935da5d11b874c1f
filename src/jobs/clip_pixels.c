#include "jobs/clip_pixels.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"

/* of the images that OpenAI trained on (openai/CLIP, clip.py) */
static const float openai_mean[3] = {0.48145466f, 0.4578275f, 0.40821073f};
static const float openai_std[3] = {0.26862954f, 0.26130258f, 0.27577711f};

static npos_status read_three(const char *path, const json_t *object, const char *key, bool above_0,
                              float out[3]) {
    const json_t *list = json_object_get(object, key);
    if (!list || json_is_null(list))
        return NPOS_OK;
    for (size_t i = 0; i < 3; i++) {
        const json_t *number = json_array_get(list, i);
        double value = json_number_value(number);
        if (json_array_size(list) != 3 || !json_is_number(number) ||
            !(above_0 ? value > 1e-6 && value < 1e6 : fabs(value) < 1e6))
            return npi_fail(NPOS_BAD_DATA, "%s: '%s' is not three numbers that can be", path, key);
        out[i] = (float)value;
    }
    return NPOS_OK;
}

static npos_status expect_text(const char *path, const json_t *object, const char *key,
                               const char *expected) {
    const json_t *value = json_object_get(object, key);
    const char *text = json_string_value(value);
    if (!value || json_is_null(value) || (text && strcmp(text, expected) == 0))
        return NPOS_OK;
    return npi_fail(NPOS_UNSUPPORTED, "%s: '%s' is '%s', expected '%s'", path, key,
                    text ? text : "no text", expected);
}

/* Pillow's number of its bicubic filter. */
static npos_status expect_bicubic(const char *path, const json_t *root) {
    enum { BICUBIC = 3 };
    const json_t *value = json_object_get(root, "resample");
    if (!json_is_integer(value) || json_integer_value(value) == BICUBIC)
        return NPOS_OK;
    return npi_fail(NPOS_UNSUPPORTED, "%s: 'resample' is %d, expected %d (bicubic)", path,
                    (int)json_integer_value(value), BICUBIC);
}

static npos_status hugging_face(const char *path, const json_t *root, float mean[3], float std[3]) {
    NPI_TRY(expect_bicubic(path, root));
    NPI_TRY(read_three(path, root, "image_mean", false, mean));
    return read_three(path, root, "image_std", true, std);
}

static npos_status open_clip(const char *path, const json_t *root, float mean[3], float std[3]) {
    const json_t *settings = json_object_get(root, "preprocess_cfg");
    NPI_TRY(expect_text(path, settings, "interpolation", "bicubic"));
    NPI_TRY(expect_text(path, settings, "resize_mode", "shortest"));
    NPI_TRY(read_three(path, settings, "mean", false, mean));
    return read_three(path, settings, "std", true, std);
}

typedef npos_status read_fn(const char *path, const json_t *root, float mean[3], float std[3]);

static npos_status read_beside(const char *path, const char *name, read_fn *read, float mean[3],
                               float std[3]) {
    char *config, *text = NULL;
    size_t size;
    json_error_t error;
    json_t *root = NULL;
    npos_status status = NPOS_OK;
    if (npi_is_folder(path))
        NPI_TRY(npi_path_join(&config, path, name));
    else
        NPI_TRY(npi_format(&config, "%.*s%s", (int)(npi_path_name(path) - path), path, name));
    if (!npi_is_file(config))
        goto done;
    NPI_TRY_GOTO(npi_file_read(config, &text, &size), done);
    root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
    status = json_is_object(root) ? read(config, root, mean, std)
                                  : npi_fail(NPOS_BAD_DATA, "%s: no JSON object: %s", config,
                                             root ? "it is of another kind" : error.text);
done:
    json_decref(root);
    npi_free(text);
    npi_free(config);
    return status;
}

npos_status npi_clip_pixels_read(const char *path, float mean[3], float std[3]) {
    memcpy(mean, openai_mean, sizeof openai_mean);
    memcpy(std, openai_std, sizeof openai_std);
    NPI_TRY(read_beside(path, "open_clip_config.json", open_clip, mean, std));
    return read_beside(path, "preprocessor_config.json", hugging_face, mean, std);
}
