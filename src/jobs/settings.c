#include "jobs/settings.h"

#include <string.h>

npi_method npi_settings_method(const npi_recipe *r) {
    static const char *const names[] = {[NPI_METHOD_NPOS] = "npos",
                                        [NPI_METHOD_CIDER] = "cider",
                                        [NPI_METHOD_VOS] = "vos",
                                        [NPI_METHOD_CE] = "ce",
                                        [NPI_METHOD_CLIP] = "clip"};
    for (int i = 0; i < 5; i++)
        if (strcmp(r->method, names[i]) == 0)
            return (npi_method)i;
    return NPI_METHOD_NPOS; /* the recipe's reader lets no other name pass */
}

bool npi_settings_authors(const npi_recipe *r) {
    return strcmp(r->compat, "authors") == 0;
}

npi_model_desc npi_settings_model(const npi_recipe *r, int classes) {
    npi_method method = npi_settings_method(r);
    bool outliers = method == NPI_METHOD_NPOS || method == NPI_METHOD_VOS;
    return (npi_model_desc){
        .arch = {r->encoder, r->stem, r->width, r->channels, r->image_size},
        .feature_dim = r->feature_dim,
        .projection_dim = method == NPI_METHOD_CE ? 0 : r->projection_dim,
        .head_dim = outliers ? r->head_dim : 0,
        .classes = method == NPI_METHOD_CE ? classes : 0,
    };
}

npi_transform npi_settings_transform(const npi_recipe *r) {
    bool bicubic = strcmp(r->interpolation, "bicubic") == 0;
    return (npi_transform){r->image_size, r->channels, bicubic ? NPI_BICUBIC : NPI_BILINEAR,
                           r->reducing_gap};
}

npi_transform npi_settings_crop_transform(const npi_recipe *r) {
    bool bicubic = strcmp(r->crop_filter, "bicubic") == 0;
    return (npi_transform){r->image_size, r->channels, bicubic ? NPI_BICUBIC : NPI_BILINEAR, 0};
}

bool npi_settings_streams(const npi_recipe *r, int64_t images) {
    const double most_in_memory = 8e9;
    double bytes = (double)images * r->image_size * r->image_size * r->channels;
    if (strcmp(r->loading, "auto") != 0)
        return strcmp(r->loading, "stream") == 0;
    return bytes > most_in_memory || strcmp(r->crop_filter, "bicubic") == 0;
}

npi_augment_desc npi_settings_augment(const npi_recipe *r) {
    npi_augment_desc d = {.batch = r->batch,
                          .views = r->views,
                          .src_h = r->image_size,
                          .src_w = r->image_size,
                          .channels = r->channels,
                          .out_h = r->image_size,
                          .out_w = r->image_size,
                          .crop = NPI_CROP_NONE,
                          .scale_lo = (float)r->crop_lo,
                          .scale_hi = (float)r->crop_hi,
                          .ratio_lo = 3.0f / 4.0f,
                          .ratio_hi = 4.0f / 3.0f,
                          .pad = r->pad,
                          .seed = (uint64_t)r->seed};
    bool cifar = strcmp(r->augment, "cifar") == 0;
    if (cifar || strcmp(r->augment, "imagenet") == 0)
        d.crop = NPI_CROP_RESIZED;
    if (strcmp(r->augment, "pad-crop") == 0)
        d.crop = NPI_CROP_PADDED;
    if (strcmp(r->augment, "none") != 0)
        d.flip_p = (float)r->flip_p;
    if (cifar) {
        d.jitter_p = (float)r->jitter_p;
        d.brightness = (float)r->brightness;
        d.contrast = (float)r->contrast;
        d.saturation = (float)r->saturation;
        d.hue = (float)r->hue;
        d.grey_p = (float)r->grey_p;
    }
    /* npi_recipe_check has parsed both */
    (void)!npi_recipe_numbers("mean", r->mean, r->channels, d.mean);
    (void)!npi_recipe_numbers("std", r->std, r->channels, d.std);
    return d;
}

npi_objective_desc npi_settings_objective(const npi_recipe *r, int classes, int dim) {
    npi_method method = npi_settings_method(r);
    bool plain = strcmp(r->loss, "ce") == 0;
    return (npi_objective_desc){
        .method = method,
        .samples = r->batch * r->views,
        .classes = classes,
        .w_disp = (float)r->w_disp,
        .w_comp = (float)r->w_comp,
        .alpha = method == NPI_METHOD_CIDER ? 0.0f : (float)r->alpha,
        .tau = (float)r->tau,
        .proto_m = (float)r->proto_m,
        .cosine_loss = plain ? NPI_COSINE_PLAIN : NPI_COSINE_LOGIT_NORM,
        .temperature = (float)(plain ? r->tau : r->temperature),
        .synth = {classes, r->ring, dim, r->k, r->select, r->pick, r->noise, r->keep,
                  (float)r->sigma, npi_settings_authors(r), (uint64_t)r->seed},
        .gauss = {classes, r->ring, dim, r->draws, r->keep, (uint64_t)r->seed},
        .sgd = {(float)r->momentum, (float)r->weight_decay, r->nesterov, (float)r->clip_norm},
    };
}

npi_schedule npi_settings_schedule(const npi_recipe *r, int steps) {
    enum { LARGE_BATCH = 256, LARGE_BATCH_WARMUP = 10 }; /* SupCon's rule, kept by CIDER and NPOS */
    int warmup = r->warmup_epochs;
    bool cosine = strcmp(r->schedule, "cosine") == 0;
    if (cosine && warmup == 0 && r->batch > LARGE_BATCH)
        warmup = r->epochs < LARGE_BATCH_WARMUP ? r->epochs : LARGE_BATCH_WARMUP;
    return (npi_schedule){r->lr,
                          r->lr * r->lr_decay * r->lr_decay * r->lr_decay,
                          r->epochs,
                          steps,
                          warmup,
                          r->warmup_from,
                          cosine ? 0 : r->drop_epoch,
                          r->lr_decay};
}
