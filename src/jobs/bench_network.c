/* The rows of npos_bench with a network: ResNet-18 with the 3x3 stem on images of 32x32, alone and in the step of the
 * cifar10 recipe. */
#include <stdio.h>

#include "base/memory.h"
#include "jobs/bench.h"
#include "jobs/compute.h"
#include "jobs/settings.h"

enum { CLASSES = 10, SIDE = 32, IMAGE_BYTES = SIDE * SIDE * 3 };

typedef struct network {
    npi_device *dev;
    npi_model model;
    npi_plan *plan;
    float *h, *dh; /* [n][model.dim] */
    /* of inference and of the step */
    uint8_t *images;
    npi_augment_desc augment;
    /* of the step */
    int32_t *index;
    npi_objective objective;
    bool open;
} network;

/* *out = device memory with `count` random images. */
static npos_status random_images(npi_device *dev, int count, uint8_t **out) {
    size_t bytes = (size_t)count * IMAGE_BYTES;
    uint8_t *host;
    NPI_TRY(npi_alloc(&host, bytes, 1, "random images"));
    for (size_t i = 0; i < bytes; i++)
        host[i] = (uint8_t)(i * 2654435761u >> 24);
    npos_status status = dev->memory->alloc(dev, bytes, "random images", out);
    if (status == NPOS_OK)
        status = dev->memory->upload(dev, *out, host, bytes);
    if (status == NPOS_OK)
        status = dev->memory->sync(dev);
    npi_free(host);
    return status;
}

static npos_status make(network *net, const npi_recipe *recipe, int n, bool training) {
    npi_device *dev = net->dev;
    npi_model_desc desc = npi_settings_model(recipe, CLASSES);
    NPI_TRY(npi_model_create(dev, &desc, training, &net->model));
    NPI_TRY(npi_plan_create(&net->model, n, training, &net->plan));
    NPI_TRY(npi_params_init(&net->model.params, 0));
    size_t bytes = (size_t)n * (size_t)net->model.dim * sizeof(float);
    NPI_TRY(dev->memory->alloc(dev, bytes, "embeddings", &net->h));
    NPI_TRY(dev->memory->alloc(dev, bytes, "embeddings' gradient", &net->dh));
    net->augment = npi_settings_augment(recipe);
    return npi_plan_pack(net->plan);
}

static void destroy(network *net) {
    void *const all[] = {net->h, net->dh, net->images, net->index};
    npi_objective_free(&net->objective);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        net->dev->memory->free(net->dev, all[i]);
    npi_plan_free(net->plan);
    npi_model_free(&net->model);
}

static npos_status tell_variants(const npi_bench *bench, const network *net) {
    char text[256];
    for (int i = 0; bench->compute->verbose && i < net->model.arch.layer_count; i++) {
        const npi_layer *l = &net->model.arch.layers[i];
        snprintf(text, sizeof text, "%dx%d %d->%d stride %d at %dx%d: %s", l->kernel, l->kernel,
                 l->c, l->out_c, l->stride, l->side, l->side, npi_plan_variant(net->plan, i));
        NPI_TRY(npi_compute_progress(bench->compute, "network", 0, 0, text));
    }
    return NPOS_OK;
}

/* Calls `prepare` over a network of the cifar10 recipe, then times `work`. */
static npos_status run(npi_bench *bench, network *net, int n, bool training,
                       npos_status (*prepare)(network *, const npi_recipe *),
                       npos_status (*work)(void *)) {
    npi_recipe recipe;
    npos_status status;
    net->dev = bench->dev;
    NPI_TRY(npi_recipe_load("cifar10", &recipe));
    recipe.batch = n / recipe.views;
    NPI_TRY_GOTO(make(net, &recipe, n, training), done);
    NPI_TRY_GOTO(prepare(net, &recipe), done);
    NPI_TRY_GOTO(tell_variants(bench, net), done);
    bench->records = true;
    status = npi_bench_time(bench, work, net);
done:
    destroy(net);
    npi_recipe_clear(&recipe);
    return status;
}

/* ---- forward and backward ---- */

static npos_status fill_input(network *net, const npi_recipe *recipe) {
    npi_act to = npi_plan_input(net->plan);
    (void)recipe;
    NPI_TRY(random_images(net->dev, to.n, &net->images));
    return net->dev->augment->normalise(net->dev, &net->augment, net->images, 0, to.n, to);
}

static npos_status encode(void *context) {
    network *net = context;
    NPI_TRY(npi_plan_pack(net->plan));
    NPI_TRY(npi_plan_forward(net->plan, net->h));
    return npi_plan_backward(net->plan, net->h, net->dh);
}

npos_status npi_bench_encoder(npi_bench *bench) {
    network net = {0};
    int n = bench->dev->host ? 64 : 512;
    snprintf(bench->shape, sizeof bench->shape,
             "ResNet-18, %d images of 3x%dx%d, forward and backward", n, SIDE, SIDE);
    return run(bench, &net, n, true, fill_input, encode);
}

/* ---- inference ---- */

static npos_status upload_images(network *net, const npi_recipe *recipe) {
    (void)recipe;
    return random_images(net->dev, npi_plan_input(net->plan).n, &net->images);
}

static npos_status infer(void *context) {
    network *net = context;
    npi_act to = npi_plan_input(net->plan);
    NPI_TRY(net->dev->augment->normalise(net->dev, &net->augment, net->images, 0, to.n, to));
    return npi_plan_forward(net->plan, net->h);
}

npos_status npi_bench_inference(npi_bench *bench) {
    network net = {0};
    bench->images = npi_compute_pass(bench->dev, SIDE);
    snprintf(bench->shape, sizeof bench->shape, "ResNet-18, %d images of 3x%dx%d, inference",
             bench->images, SIDE, SIDE);
    return run(bench, &net, bench->images, false, upload_images, infer);
}

/* ---- the step ---- */

/* Rings full of random embeddings, labels 0, 1, 2, .. */
static npos_status fill_rings(network *net) {
    npi_device *dev = net->dev;
    const npi_ring *ring = &net->objective.ring;
    size_t rows = (size_t)ring->classes * (size_t)ring->size, count = rows * (size_t)ring->dim;
    uint64_t full[CLASSES];
    float *host;
    for (int c = 0; c < CLASSES; c++)
        full[c] = (uint64_t)ring->size;
    NPI_TRY(dev->memory->upload(dev, ring->count, full, sizeof full));
    NPI_TRY(npi_alloc(&host, count, sizeof *host, "random embeddings"));
    npi_bench_normals(host, count, 1);
    npos_status status = dev->memory->upload(dev, ring->rows, host, count * sizeof *host);
    if (status == NPOS_OK)
        status = dev->memory->sync(dev);
    npi_free(host);
    return status;
}

/* Prototypes along the axes: from zeros the gradients would be so small that processors slow down. */
static npos_status fill_prototypes(network *net) {
    npi_device *dev = net->dev;
    size_t proj = (size_t)net->model.proj;
    float *host;
    NPI_TRY(npi_alloc(&host, CLASSES * proj, sizeof *host, "prototypes"));
    for (size_t c = 0; c < CLASSES; c++)
        host[c * proj + c] = 1.0f;
    npos_status status =
        dev->memory->upload(dev, net->objective.mu, host, CLASSES * proj * sizeof *host);
    if (status == NPOS_OK)
        status = dev->memory->sync(dev);
    npi_free(host);
    return status;
}

static npos_status fill_labels(network *net, int batch, int samples) {
    npi_device *dev = net->dev;
    int32_t *numbers;
    NPI_TRY(npi_alloc(&numbers, (size_t)(batch + samples), sizeof *numbers, "labels"));
    for (int i = 0; i < batch; i++)
        numbers[i] = i;
    for (int i = 0; i < samples; i++)
        numbers[batch + i] = i % batch % CLASSES;
    npos_status status =
        dev->memory->alloc(dev, (size_t)batch * sizeof *numbers, "batch indices", &net->index);
    if (status == NPOS_OK)
        status = dev->memory->upload(dev, net->index, numbers, (size_t)batch * sizeof *numbers);
    if (status == NPOS_OK)
        status = dev->memory->upload(dev, net->objective.labels, numbers + batch,
                                     (size_t)samples * sizeof *numbers);
    if (status == NPOS_OK)
        status = dev->memory->sync(dev);
    npi_free(numbers);
    return status;
}

static npos_status make_objective(network *net, const npi_recipe *recipe) {
    npi_device *dev = net->dev;
    const npi_step first = {.number = 1, .lr = 1e-3f, .head_lr = 1e-3f};
    npi_objective_desc desc = npi_settings_objective(recipe, CLASSES, net->model.dim);
    NPI_TRY(npi_objective_create(npi_comm_self(), &net->model, npi_plan_encoder(net->plan), &desc,
                                 &net->objective));
    NPI_TRY(random_images(dev, recipe->batch, &net->images));
    NPI_TRY(fill_labels(net, recipe->batch, desc.samples));
    NPI_TRY(fill_rings(net));
    NPI_TRY(fill_prototypes(net));
    return dev->memory->upload(dev, net->objective.step, &first, sizeof first);
}

static npos_status step(void *context) {
    network *net = context;
    NPI_TRY(net->dev->augment->augment(net->dev, &net->augment, net->images, net->index,
                                       net->objective.step, NULL, npi_plan_input(net->plan)));
    return npi_objective_step(&net->objective, net->open, NULL);
}

static npos_status run_step(npi_bench *bench, bool open) {
    network net = {.open = open};
    int views = bench->dev->host ? 64 : 512;
    snprintf(bench->shape, sizeof bench->shape, "cifar10's whole step, %d views, %s R_open", views,
             open ? "with" : "without");
    return run(bench, &net, views, true, make_objective, step);
}

npos_status npi_bench_step(npi_bench *bench) {
    return run_step(bench, false);
}

npos_status npi_bench_step_open(npi_bench *bench) {
    return run_step(bench, true);
}
