/* npos_export: a run's weights for other programs, under torchvision's names; or, with a detector, a run
 * without its training embeddings (jobs/deploy.h). */
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/pt_write.h"
#include "jobs/compute.h"
#include "jobs/deploy.h"
#include "jobs/options.h"
#include "npos/npos.h"

void npos_export_options_init(npos_export_options *options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
    options->compute = npi_compute_defaults();
}

static bool ends(const char *text, const char *with) {
    size_t a = strlen(text), b = strlen(with);
    return a >= b && strcmp(text + a - b, with) == 0;
}

/* "encoder.layer1.0.conv1.weight" is torchvision's "layer1.0.conv1.weight"; what it has no name for
 * keeps ours. */
static npos_status write_weights(const npi_safetensors *file, const char *path) {
    static const char ours[] = "encoder.";
    int count = npi_safetensors_count(file);
    npi_named_tensor *tensors;
    NPI_TRY(npi_alloc(&tensors, (size_t)count, sizeof *tensors, "tensors"));
    for (int i = 0; i < count; i++) {
        tensors[i] = *npi_safetensors_at(file, i);
        if (strncmp(tensors[i].name, ours, sizeof ours - 1) == 0)
            tensors[i].name += sizeof ours - 1;
    }
    npos_status status = ends(path, ".pt") || ends(path, ".pth")
                             ? npi_pt_write(path, tensors, count)
                             : npi_safetensors_write(path, tensors, count, NULL);
    npi_free(tensors);
    return status;
}

npos_status npos_export(const npos_export_options *options) {
    NPI_CHECK_OPTIONS(options, "npos_export");
    npi_safetensors *file = NULL;
    char *model;
    if (!options->run || !options->out)
        return npi_fail(NPOS_INVALID_ARGUMENT, "npos_export: no run or no file was named");
    if (options->detector)
        return npi_deploy(options);
    if (options->size || options->id || options->ood_count)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "npos_export: size, id and ood belong to a detector, none was named");
    if (!ends(options->out, ".pt") && !ends(options->out, ".pth") &&
        !ends(options->out, ".safetensors"))
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "%s: expected a name that ends in .pt, .pth or .safetensors", options->out);
    NPI_TRY(npi_path_join(&model, options->run, "model.safetensors"));
    npos_status status = npi_safetensors_open(model, &file);
    if (status == NPOS_OK)
        status = write_weights(file, options->out);
    npi_safetensors_close(file);
    npi_free(model);
    return status;
}
