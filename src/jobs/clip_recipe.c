#include "jobs/clip_recipe.h"

#include <stdio.h>

#include "base/memory.h"
#include "jobs/clip_names.h"
#include "jobs/clip_pixels.h"

static npos_status set(npi_recipe *recipe, const char *key, const char *value) {
    char *text;
    NPI_TRY(npi_format(&text, "%s=%s", key, value));
    npos_status status = npi_recipe_set(recipe, text);
    npi_free(text);
    return status;
}

/* In the fewest digits that tell float32 numbers apart. */
static npos_status set_three(npi_recipe *recipe, const char *key, const float x[3]) {
    char text[64];
    snprintf(text, sizeof text, "%.9g %.9g %.9g", (double)x[0], (double)x[1], (double)x[2]);
    return set(recipe, key, text);
}

npos_status npi_clip_recipe(const char *path, npi_clip_config *config, npi_recipe *recipe) {
    float mean[3], std[3];
    npi_clip_weights weights = {0};
    npos_status status = npi_clip_weights_open(path, &weights);
    if (status == NPOS_OK)
        status = npi_clip_config_read(path, &weights, NPI_CLIP_BOTH, NPI_CLIP_ACT_AUTO, config);
    npi_weights_close(weights.weights);
    NPI_TRY(status);
    NPI_TRY(npi_clip_pixels_read(path, mean, std));
    NPI_TRY(set(recipe, "method", "clip"));
    NPI_TRY(set(recipe, "encoder", "clip"));
    NPI_TRY(set(recipe, "interpolation", "bicubic"));
    recipe->image_size = config->side;
    recipe->channels = config->channels;
    NPI_TRY(set_three(recipe, "mean", mean));
    return set_three(recipe, "std", std);
}
