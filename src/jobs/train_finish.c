#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "jobs/compute.h"
#include "jobs/model_file.h"
#include "jobs/trainer.h"

enum { SLOTS = 3 };

static int pass_size(const npi_trainer *t) {
    return npi_compute_pass(t->dev, t->recipe.image_size);
}

/* Calls `take` with the embeddings h [n][dim] (device memory, a pass of room) of consecutive images, in inference mode. */
typedef npos_status take_fn(npi_trainer *t, void *context, int64_t first, int n, const float *h);

/* A pass over a set: its pixels where it is in memory, else decoded ahead in blocks of a pass. */
typedef struct source {
    const npi_images *images;
    npi_stream *stream;
    const uint8_t *pixels; /* of the block */
} source;

static npos_status open_source(const npi_trainer *t, const npi_images *images, source *out) {
    const int pass = pass_size(t);
    *out = (source){.images = images};
    if (!images->set)
        return NPOS_OK;
    npi_stream_desc desc = {.images = images,
                            .transform = npi_settings_transform(&t->recipe),
                            .batch = pass,
                            .views = 1,
                            .end = (images->count + pass - 1) / pass,
                            .threads = t->options->compute.threads,
                            .slots = t->dev->host ? 1 : SLOTS};
    return npi_stream_open(&desc, &out->stream);
}

/* The images from `first` on; the block before is given back. */
static npos_status next_block(source *s, int64_t first, size_t image) {
    npi_stream_batch batch;
    if (!s->stream) {
        s->pixels = s->images->pixels + (size_t)first * image;
        return NPOS_OK;
    }
    npi_stream_release(s->stream);
    NPI_TRY(npi_stream_next(s->stream, &batch));
    s->pixels = batch.pixels;
    return NPOS_OK;
}

static npos_status embed_all(npi_trainer *t, const npi_images *images, const char *phase,
                             take_fn *take, void *context) {
    npi_device *dev = t->dev;
    npi_plan *plan = NULL;
    float *h = NULL;
    uint8_t *pixels = NULL;
    npos_status status;
    source from = {0};
    const int pass = pass_size(t);
    size_t image = (size_t)images->size * (size_t)images->size * (size_t)images->channels;
    NPI_TRY_GOTO(npi_plan_create(&t->model, pass, false, &plan), done);
    NPI_TRY_GOTO(npi_plan_pack(plan), done);
    NPI_TRY_GOTO(
        dev->memory->alloc(dev, (size_t)pass * (size_t)t->model.dim * sizeof *h, "embeddings", &h),
        done);
    NPI_TRY_GOTO(dev->memory->alloc(dev, (size_t)pass * image, "images", &pixels), done);
    NPI_TRY_GOTO(open_source(t, images, &from), done);
    for (int64_t first = 0; first < images->count; first += pass) {
        int n = images->count - first < pass ? (int)(images->count - first) : pass;
        NPI_TRY_GOTO(npi_compute_progress(&t->options->compute, phase, first, images->count, NULL),
                     done);
        NPI_TRY_GOTO(next_block(&from, first, image), done);
        NPI_TRY_GOTO(dev->memory->upload(dev, pixels, from.pixels, (size_t)n * image), done);
        NPI_TRY_GOTO(
            dev->augment->normalise(dev, &t->augment, pixels, 0, pass, npi_plan_input(plan)), done);
        NPI_TRY_GOTO(npi_plan_forward(plan, h), done);
        NPI_TRY_GOTO(take(t, context, first, n, h), done);
    }
    status = npi_compute_progress(&t->options->compute, phase, images->count, images->count, NULL);
done:
    npi_stream_close(from.stream);
    dev->memory->free(dev, h);
    dev->memory->free(dev, pixels);
    npi_plan_free(plan);
    return status;
}

/* ---- prototypes' start ------------------------------------------------------------------------------- */

typedef struct class_sums {
    const int32_t *labels;
    double *sum; /* [classes][proj] */
    float *z;    /* a pass, host */
} class_sums;

/* Adds up z by class, a few rows at a time: the objective's buffers hold `samples` rows. */
static npos_status add_rows(npi_trainer *t, void *context, int64_t first, int n, const float *h) {
    class_sums *sums = context;
    size_t proj = (size_t)t->model.proj, dim = (size_t)t->model.dim;
    int room = t->objective.desc.samples;
    for (int from = 0; from < n; from += room) {
        int rows = n - from < room ? n - from : room;
        NPI_TRY(npi_objective_project(&t->objective, rows, h + (size_t)from * dim, t->objective.z));
        NPI_TRY(t->dev->memory->download(t->dev, sums->z, t->objective.z,
                                         (size_t)rows * proj * sizeof(float)));
        for (int i = 0; i < rows; i++) {
            int32_t label = sums->labels[first + from + i];
            if (label < 0) /* compat authors takes test images, which may lack labels */
                continue;
            double *to = sums->sum + (size_t)label * proj;
            for (size_t j = 0; j < proj; j++)
                to[j] += (double)sums->z[(size_t)i * proj + j];
        }
    }
    return NPOS_OK;
}

npos_status npi_trainer_start_prototypes(npi_trainer *t, const npi_images *images) {
    size_t classes = (size_t)t->images.classes, proj = (size_t)t->model.proj;
    class_sums sums = {.labels = images->labels};
    float *mu = NULL;
    npos_status status;
    NPI_TRY_GOTO(npi_alloc(&sums.sum, classes * proj, sizeof *sums.sum, "prototypes"), done);
    NPI_TRY_GOTO(npi_alloc(&sums.z, (size_t)pass_size(t) * proj, sizeof *sums.z, "projections"),
                 done);
    NPI_TRY_GOTO(npi_alloc(&mu, classes * proj, sizeof *mu, "prototypes"), done);
    NPI_TRY_GOTO(embed_all(t, images, "start prototypes", add_rows, &sums), done);
    for (size_t c = 0; c < classes; c++) {
        double square = 0;
        for (size_t j = 0; j < proj; j++)
            square += sums.sum[c * proj + j] * sums.sum[c * proj + j];
        for (size_t j = 0; j < proj; j++)
            mu[c * proj + j] = (float)(sums.sum[c * proj + j] / fmax(sqrt(square), 1e-12));
    }
    status = t->dev->memory->upload(t->dev, t->objective.mu, mu, classes * proj * sizeof *mu);
done:
    npi_free(sums.sum);
    npi_free(sums.z);
    npi_free(mu);
    return status;
}

/* ---- the end ------------------------------------------------------------------------------------------ */

static npos_status keep_rows(npi_trainer *t, void *context, int64_t first, int n, const float *h) {
    npi_bank *bank = context;
    size_t dim = (size_t)bank->dim;
    return t->dev->memory->download(t->dev, bank->h + (size_t)first * dim, h,
                                    (size_t)n * dim * sizeof *bank->h);
}

static npos_status write_bank(npi_trainer *t) {
    char *path = NULL;
    npi_bank bank = {.n = t->images.count,
                     .dim = t->model.dim,
                     .labels = t->images.labels,
                     .names = t->images.names}; /* labels and names belong to the images */
    npos_status status;
    NPI_TRY(npi_alloc(&bank.h, (size_t)bank.n * (size_t)bank.dim, sizeof *bank.h,
                      "training embeddings"));
    NPI_TRY_GOTO(t->clip ? npi_trainer_clip_embed(t, bank.h)
                         : embed_all(t, &t->images, "embed training images", keep_rows, &bank),
                 done);
    NPI_TRY_GOTO(npi_trainer_path(t, "bank.safetensors", &path), done);
    status = npi_bank_write(path, &bank);
done:
    npi_free(bank.h);
    npi_free(path);
    return status;
}

static npos_status write_model(npi_trainer *t) {
    char *path = NULL;
    float *mu = NULL;
    size_t count = (size_t)t->images.classes * (size_t)t->model.proj;
    npos_status status;
    if (t->objective.mu) {
        NPI_TRY(npi_alloc(&mu, count, sizeof *mu, "prototypes"));
        NPI_TRY_GOTO(t->dev->memory->download(t->dev, mu, t->objective.mu, count * sizeof *mu),
                     done);
    }
    NPI_TRY_GOTO(npi_trainer_path(t, "model.safetensors", &path), done);
    npi_model_file model = {.params = &t->model.params,
                            .classes = t->images.classes,
                            .proj = t->model.proj,
                            .class_names = t->images.class_names,
                            .prototypes = mu};
    status = npi_model_file_write(path, &model);
done:
    npi_free(mu);
    npi_free(path);
    return status;
}

npos_status npi_trainer_finish(npi_trainer *t) {
    npi_trainer_input_close(t);
    NPI_TRY(write_bank(t));
    return t->clip ? npi_trainer_clip_write(t) : write_model(t);
}
