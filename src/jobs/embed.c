/* npos_embed: embeddings of any images, for anyone's own detector. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/npy.h"
#include "jobs/compute.h"
#include "jobs/fitted.h"
#include "jobs/options.h"
#include "npos/npos.h"

void npos_embed_options_init(npos_embed_options *options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
    options->compute = npi_compute_defaults();
}

static npos_status write_labels(const char *path, const npi_images *images) {
    int64_t *labels;
    NPI_TRY(npi_alloc(&labels, (size_t)images->count, sizeof *labels, "labels"));
    for (int64_t i = 0; i < images->count; i++)
        labels[i] = images->labels[i];
    npos_status status = npi_npy_write(path, NPI_I64, 1, &images->count, labels);
    npi_free(labels);
    return status;
}

/* H.npy.skipped.txt: the images that have no row, one a line; where all have one, none of an H.npy
 * before stays. */
static npos_status write_skipped(const char *out, const npi_images *images) {
    char *path;
    npi_atomic file = {0};
    NPI_TRY(npi_format(&path, "%s.skipped.txt", out));
    if (images->broken_count == 0) {
        remove(path);
        npi_free(path);
        return NPOS_OK;
    }
    npos_status status = npi_atomic_open(&file, path);
    for (int64_t i = 0; i < images->broken_count && status == NPOS_OK; i++)
        fprintf(file.stream, "%s\n", images->broken[i].name);
    if (status == NPOS_OK)
        status = npi_atomic_commit(&file);
    npi_atomic_abort(&file);
    npi_free(path);
    return status;
}

static npos_status embed(const npos_embed_options *options, const npi_fitted *run) {
    npi_images images = {0};
    npi_features f = {0};
    npos_status status;
    NPI_TRY_GOTO(npi_fitted_features(run, &options->compute, "embed images", options->data, 0, 0,
                                     &images, &f),
                 done);
    int64_t shape[2] = {f.n, f.dim};
    NPI_TRY_GOTO(write_skipped(options->out, &images), done);
    NPI_TRY_GOTO(npi_npy_write(options->out, NPI_F32, 2, shape, f.h), done);
    shape[1] = f.classes;
    if (options->logits)
        NPI_TRY_GOTO(npi_npy_write(options->logits, NPI_F32, 2, shape, f.logits), done);
    if (options->labels)
        status = write_labels(options->labels, &images);
done:
    npi_features_clear(&f);
    npi_images_clear(&images);
    return status;
}

npos_status npos_embed(const npos_embed_options *options) {
    NPI_CHECK_OPTIONS(options, "npos_embed");
    npi_fitted run = {0};
    if (!options->run || !options->data || !options->out)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "npos_embed: run, data and out must be given, '%s' is missing",
                        !options->run    ? "run"
                        : !options->data ? "data"
                                         : "out");
    npos_status status = npi_run_open(options->run, &options->compute, &run.run);
    if (status == NPOS_OK && options->logits && !run.run->has_classifier)
        status = npi_hint(npi_fail(NPOS_INVALID_ARGUMENT,
                                   "%s: logits were asked for, but the model has no classifier",
                                   options->run),
                          "method ce trains one");
    if (status == NPOS_OK)
        status = embed(options, &run);
    npi_fitted_close(&run);
    return status;
}
