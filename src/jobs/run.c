#include "jobs/run.h"

#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "jobs/compute.h"
#include "jobs/model_file.h"
#include "jobs/run_clip.h"
#include "jobs/settings.h"
#include "nn/perturb.h"

/* The network of an opened run with what its heads need on the device. */
typedef struct network {
    npi_model model;
    npi_plan *plan;
    int pass; /* images of one pass */
    npi_augment_desc normalise;
    float *h, *hidden, *raw, *z, *phi_hidden, *phi, *logits; /* of a pass */
    uint8_t *images;
    npi_perturb *perturb; /* NULL: not asked for */
} network;

void npi_features_clear(npi_features *features) {
    npi_free(features->h);
    npi_free(features->z);
    npi_free(features->phi);
    npi_free(features->logits);
    npi_free(features->perturbed);
    *features = (npi_features){0};
}

void npi_bank_clear(npi_bank *bank) {
    if (!bank->file) {
        npi_free(bank->h);
        npi_free(bank->labels);
        for (int64_t i = 0; bank->names && i < bank->n; i++)
            npi_free(bank->names[i]);
    }
    npi_free(bank->names);
    npi_safetensors_close(bank->file);
    *bank = (npi_bank){0};
}

static npos_status alloc_rows(const network *net, int width, float **out) {
    npi_device *dev = net->model.dev;
    return dev->memory->alloc(dev, (size_t)net->pass * (size_t)width * sizeof(float), "features",
                              out);
}

static npos_status make_network(npi_run *run, network *net) {
    npi_device *dev = run->dev;
    npi_model_desc desc = npi_settings_model(&run->recipe, run->classes);
    NPI_TRY(npi_model_create(dev, &desc, false, &net->model));
    net->pass = npi_compute_pass(dev, run->transform.size);
    NPI_TRY(npi_plan_create(&net->model, net->pass, false, &net->plan));
    net->normalise = npi_settings_augment(&run->recipe);
    const npi_model *m = &net->model;
    size_t image =
        (size_t)run->transform.size * (size_t)run->transform.size * (size_t)run->transform.channels;
    NPI_TRY(dev->memory->alloc(dev, (size_t)net->pass * image, "images", &net->images));
    NPI_TRY(alloc_rows(net, m->dim, &net->h));
    if (!m->has_classifier) {
        NPI_TRY(alloc_rows(net, m->dim, &net->hidden));
        NPI_TRY(alloc_rows(net, m->proj, &net->raw));
        NPI_TRY(alloc_rows(net, m->proj, &net->z));
    }
    if (m->has_phi) {
        NPI_TRY(alloc_rows(net, m->phi[0].out, &net->phi_hidden));
        NPI_TRY(alloc_rows(net, 1, &net->phi));
    }
    return m->has_classifier ? alloc_rows(net, m->classifier.out, &net->logits) : NPOS_OK;
}

static void free_network(npi_device *dev, network *net) {
    if (!net)
        return;
    void *const all[] = {net->h,          net->hidden, net->raw,    net->z,
                         net->phi_hidden, net->phi,    net->logits, net->images};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        dev->memory->free(dev, all[i]);
    npi_perturb_free(net->perturb);
    npi_plan_free(net->plan);
    npi_model_free(&net->model);
    npi_free(net);
}

/* *out = a copy of a file's tensor, which must have this shape. */
static npos_status copy_tensor(const npi_safetensors *file, const char *name, int ndim,
                               const int64_t *shape, float **out) {
    const npi_named_tensor *tensor;
    size_t count = 1;
    NPI_TRY(npi_safetensors_get(file, name, NPI_F32, ndim, shape, &tensor));
    for (int i = 0; i < ndim; i++)
        count *= (size_t)shape[i];
    NPI_TRY(npi_alloc(out, count, sizeof **out, name));
    memcpy(*out, tensor->data, count * sizeof **out);
    return NPOS_OK;
}

static npos_status read_weights(npi_run *run, network *net, const npi_safetensors *file,
                                const char *path) {
    NPI_TRY(npi_params_match(&net->model.params, file, path, ""));
    NPI_TRY(npi_params_read(&net->model.params, NPI_ARENA_VALUES, file, ""));
    NPI_TRY(npi_plan_pack(net->plan));
    run->dim = net->model.dim;
    run->proj = net->model.proj;
    run->has_head = net->model.has_phi;
    run->has_classifier = net->model.has_classifier;
    if (run->has_classifier) {
        int64_t shape[2] = {run->classes, run->dim};
        NPI_TRY(copy_tensor(file, "fc.weight", 2, shape, &run->weight));
        return copy_tensor(file, "fc.bias", 1, shape, &run->bias);
    }
    return copy_tensor(file, "prototypes", 2, (int64_t[]){run->classes, run->proj},
                       &run->prototypes);
}

/* What npos fit left in the model of a run without a network. */
static npos_status read_external(npi_run *run, const npi_safetensors *file) {
    const npi_named_tensor *tensor;
    const char *logits = npi_safetensors_metadata(file, "logits");
    NPI_TRY(npi_safetensors_get(file, "prototypes", NPI_F32, 2, (int64_t[]){run->classes, -1},
                                &tensor));
    int64_t shape[2] = {run->classes, tensor->shape[1]};
    run->external = true;
    run->dim = run->proj = (int)shape[1];
    run->has_classifier = logits && strcmp(logits, "yes") == 0;
    NPI_TRY(copy_tensor(file, "prototypes", 2, shape, &run->prototypes));
    if (npi_safetensors_find(file, "fc.weight"))
        NPI_TRY(copy_tensor(file, "fc.weight", 2, shape, &run->weight));
    return npi_safetensors_find(file, "fc.bias")
               ? copy_tensor(file, "fc.bias", 1, shape, &run->bias)
               : NPOS_OK;
}

static npos_status open_parts(npi_run *run, const npos_compute *compute) {
    char *recipe = NULL, *model = NULL;
    npi_safetensors *file = NULL;
    network *net;
    npos_status status;
    NPI_TRY_GOTO(npi_path_join(&recipe, run->path, "recipe.yaml"), done);
    NPI_TRY_GOTO(npi_path_join(&model, run->path, "model.safetensors"), done);
    if (!npi_is_file(recipe) || !npi_is_file(model)) {
        const char *missing = npi_is_file(recipe) ? model : recipe;
        status =
            npi_hint(npi_fail(NPOS_NOT_FOUND, "%s: no such file: '%s' is not a finished run",
                              missing, run->path),
                     "a run directory is what `npos train --out` wrote; an interrupted one needs "
                     "`npos train --out %s --resume` first (one of CLIP: `npos finetune`)",
                     run->path);
        goto done;
    }
    NPI_TRY_GOTO(npi_recipe_load(recipe, &run->recipe), done);
    run->transform = npi_settings_transform(&run->recipe);
    NPI_TRY_GOTO(npi_safetensors_open(model, &file), done);
    NPI_TRY_GOTO(npi_model_file_classes(file, model, &run->class_names, &run->classes), done);
    NPI_TRY_GOTO(npi_model_file_calibration(file, &run->calibration), done);
    NPI_TRY_GOTO(npi_compute_open(compute, &run->dev), done);
    if (strcmp(run->recipe.encoder, "none") == 0) {
        status = read_external(run, file);
        goto done;
    }
    if (strcmp(run->recipe.encoder, "clip") == 0) {
        status = npi_run_clip_open(run, file, model);
        goto done;
    }
    NPI_TRY_GOTO(npi_alloc(&net, 1, sizeof *net, "network"), done);
    run->network = net;
    NPI_TRY_GOTO(make_network(run, net), done);
    status = read_weights(run, net, file, model);
done:
    npi_safetensors_close(file);
    npi_free(recipe);
    npi_free(model);
    return status;
}

npos_status npi_run_open(const char *path, const npos_compute *compute, npi_run **out) {
    npi_run *run;
    *out = NULL;
    NPI_TRY(npi_alloc(&run, 1, sizeof *run, "run"));
    npos_status status = npi_strdup(&run->path, path);
    if (status == NPOS_OK)
        status = open_parts(run, compute);
    if (status == NPOS_OK)
        *out = run;
    else
        npi_run_close(run);
    return status;
}

void npi_run_close(npi_run *run) {
    if (!run)
        return;
    if (run->dev)
        free_network(run->dev, run->network);
    npi_run_clip_close(run);
    npi_device_close(run->dev);
    npi_class_names_free(run->class_names, run->classes);
    npi_bank_clear(&run->bank);
    npi_recipe_clear(&run->recipe);
    npi_free(run->calibration.score);
    npi_free(run->prototypes);
    npi_free(run->text);
    npi_free(run->weight);
    npi_free(run->bias);
    npi_free(run->path);
    npi_free(run);
}

npos_status npi_run_bank(npi_run *run) {
    if (run->bank.n != 0)
        return NPOS_OK;
    char *path;
    NPI_TRY(npi_path_join(&path, run->path, "bank.safetensors"));
    npos_status status = npi_bank_read(path, run->dim, &run->bank);
    npi_free(path);
    return status;
}

/* The heads' outputs of the images whose h was just computed. */
static npos_status run_heads(npi_device *dev, network *net) {
    const npi_model *m = &net->model;
    if (m->has_classifier)
        return npi_linear_forward(m, &m->classifier, net->pass, net->h, false, net->logits);
    const float *raw = net->h;
    if (m->has_projection) {
        NPI_TRY(npi_linear_forward(m, &m->projection[0], net->pass, net->h, true, net->hidden));
        NPI_TRY(npi_linear_forward(m, &m->projection[1], net->pass, net->hidden, false, net->raw));
        raw = net->raw;
    }
    NPI_TRY(dev->rows->normalize_forward(dev, net->pass, m->proj, raw, net->z, NULL));
    if (!m->has_phi)
        return NPOS_OK;
    NPI_TRY(npi_linear_forward(m, &m->phi[0], net->pass, net->h, true, net->phi_hidden));
    return npi_linear_forward(m, &m->phi[1], net->pass, net->phi_hidden, false, net->phi);
}

static npos_status fetch(npi_device *dev, const float *from, float *to, int64_t first, int n,
                         int width) {
    if (!to)
        return NPOS_OK;
    return dev->memory->download(dev, to + (size_t)first * (size_t)width, from,
                                 (size_t)n * (size_t)width * sizeof(float));
}

/* Images first..first+n of the host's pixels through the network. */
static npos_status pass(npi_run *run, const uint8_t *pixels, int64_t first, int n,
                        npi_features *out) {
    network *net = run->network;
    npi_device *dev = run->dev;
    size_t image =
        (size_t)run->transform.size * (size_t)run->transform.size * (size_t)run->transform.channels;
    NPI_TRY(
        dev->memory->upload(dev, net->images, pixels + (size_t)first * image, (size_t)n * image));
    NPI_TRY(dev->augment->normalise(dev, &net->normalise, net->images, 0, net->pass,
                                    npi_plan_input(net->plan)));
    NPI_TRY(npi_plan_forward(net->plan, net->h));
    NPI_TRY(run_heads(dev, net));
    NPI_TRY(fetch(dev, net->h, out->h, first, n, out->dim));
    NPI_TRY(fetch(dev, net->z, out->z, first, n, out->proj));
    NPI_TRY(fetch(dev, net->phi, out->phi, first, n, 1));
    NPI_TRY(fetch(dev, net->logits, out->logits, first, n, out->classes));
    if (!net->perturb)
        return NPOS_OK;
    NPI_TRY(dev->augment->normalise(dev, &net->normalise, net->images, 0, net->pass,
                                    npi_perturb_input(net->perturb)));
    NPI_TRY(npi_perturb_run(net->perturb, npi_plan_input(net->plan)));
    NPI_TRY(npi_plan_forward(net->plan, net->h));
    NPI_TRY(run_heads(dev, net));
    return fetch(dev, net->logits, out->perturbed, first, n, out->classes);
}

bool npi_run_perturbs(const npi_run *run) {
    return run->network && run->has_classifier && run->dev->compute == NPI_F32;
}

npos_status npi_run_perturb(npi_run *run) {
    network *net = run->network;
    const float *std = net->normalise.std;
    const npi_perturb_desc desc = {
        NPI_ODIN_EPSILON, NPI_ODIN_TEMPERATURE, {std[0], std[1], std[2]}};
    return net->perturb ? NPOS_OK
                        : npi_perturb_create(&net->model, net->pass, &desc, &net->perturb);
}

npos_status npi_run_features(npi_run *run, const uint8_t *pixels, int64_t n,
                             const npos_compute *compute, const char *phase, npi_features *out) {
    const network *net = run->network;
    if (run->clip)
        return npi_run_clip_features(run, pixels, n, compute, phase, out);
    if (!net)
        return npi_hint(
            npi_fail(NPOS_UNSUPPORTED, "%s has no network to see images with", run->path),
            "a run of npos fit takes embeddings: embeddings:H.npy");
    const npi_model *m = &net->model;
    size_t rows = (size_t)n;
    npos_status status;
    out->n = n;
    out->dim = m->dim;
    NPI_TRY_GOTO(npi_alloc(&out->h, rows * (size_t)m->dim, sizeof(float), "embeddings"), done);
    if (m->has_classifier) {
        out->classes = run->classes;
        NPI_TRY_GOTO(npi_alloc(&out->logits, rows * (size_t)out->classes, sizeof(float), "logits"),
                     done);
    } else {
        out->proj = m->proj;
        NPI_TRY_GOTO(npi_alloc(&out->z, rows * (size_t)m->proj, sizeof(float), "projections"),
                     done);
    }
    if (net->perturb)
        NPI_TRY_GOTO(npi_alloc(&out->perturbed, rows * (size_t)out->classes, sizeof(float),
                               "logits of perturbed images"),
                     done);
    if (m->has_phi)
        NPI_TRY_GOTO(npi_alloc(&out->phi, rows, sizeof(float), "head's logits"), done);
    status = NPOS_OK;
    for (int64_t first = 0; first < n; first += net->pass) {
        int count = n - first < net->pass ? (int)(n - first) : net->pass;
        NPI_TRY_GOTO(npi_compute_progress(compute, phase, first, n, NULL), done);
        NPI_TRY_GOTO(pass(run, pixels, first, count, out), done);
    }
    status = npi_compute_progress(compute, phase, n, n, NULL);
done:
    if (status != NPOS_OK)
        npi_features_clear(out);
    return status;
}

npos_status npi_run_write_model(const npi_run *run, const char *folder,
                                const npi_calibration *calibration) {
    const network *net = run->network;
    char *path;
    NPI_TRY(npi_path_join(&path, folder, "model.safetensors"));
    npi_model_file model = {.params = net ? &net->model.params : npi_run_clip_params(run),
                            .text = run->text,
                            .classes = run->classes,
                            .proj = run->proj,
                            .class_names = run->class_names,
                            .prototypes = run->prototypes,
                            .calibration = calibration,
                            .dim = run->dim,
                            .weight = run->weight,
                            .bias = run->bias,
                            .has_logits = run->has_classifier};
    npos_status status = npi_model_file_write(path, &model);
    npi_free(path);
    return status;
}

npos_status npi_run_set_calibration(npi_run *run, const npi_calibration *calibration) {
    char *score;
    NPI_TRY(npi_run_write_model(run, run->path, calibration));
    NPI_TRY(npi_strdup(&score, calibration->score));
    npi_free(run->calibration.score);
    run->calibration = *calibration;
    run->calibration.score = score;
    return NPOS_OK;
}
