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

typedef enum weights_format { PT, SAFETENSORS, FORMATS } weights_format;

static const char *const format_names[FORMATS] = {"pt", "safetensors"};

static npos_status choose_format(const npos_export_options *options, weights_format *out) {
    const char *to = options->to, *path = options->out;
    for (int f = 0; to && f < FORMATS; f++)
        if (strcmp(to, format_names[f]) == 0) {
            *out = (weights_format)f;
            return NPOS_OK;
        }
    if (to)
        return npi_hint(npi_fail(NPOS_INVALID_ARGUMENT, "export: format '%s' is not known", to),
                        "formats: pt, safetensors");
    *out = ends(path, ".safetensors") ? SAFETENSORS : PT;
    if (*out == PT && !ends(path, ".pt") && !ends(path, ".pth"))
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "%s: expected a name that ends in .pt, .pth or .safetensors", path);
    return NPOS_OK;
}

/* "encoder.layer1.0.conv1.weight" is torchvision's "layer1.0.conv1.weight"; what it has no name for
 * keeps ours. */
static npos_status write_weights(const npi_safetensors *file, weights_format format,
                                 const char *path) {
    static const char ours[] = "encoder.";
    int count = npi_safetensors_count(file);
    npi_named_tensor *tensors;
    NPI_TRY(npi_alloc(&tensors, (size_t)count, sizeof *tensors, "tensors"));
    for (int i = 0; i < count; i++) {
        tensors[i] = *npi_safetensors_at(file, i);
        if (strncmp(tensors[i].name, ours, sizeof ours - 1) == 0)
            tensors[i].name += sizeof ours - 1;
    }
    npos_status status = format == PT ? npi_pt_write(path, tensors, count)
                                      : npi_safetensors_write(path, tensors, count, NULL);
    npi_free(tensors);
    return status;
}

static npos_status export_weights(const npos_export_options *options) {
    npi_safetensors *file = NULL;
    char *model = NULL, *path = NULL, *clip = NULL;
    weights_format format;
    npos_status status;
    NPI_TRY(choose_format(options, &format));
    NPI_TRY_GOTO(npi_path_join(&clip, options->run, "clip"), done);
    if (npi_is_folder(clip)) {
        status = npi_hint(npi_fail(NPOS_UNSUPPORTED, "%s: a run of CLIP", options->run),
                          "'%s' is its model as transformers, open_clip or OpenAI's code opens it; "
                          "the outlier head and the text directions are in its model.safetensors",
                          clip);
        goto done;
    }
    NPI_TRY_GOTO(npi_path_join(&model, options->run, "model.safetensors"), done);
    NPI_TRY_GOTO(options->out ? npi_strdup(&path, options->out)
                              : npi_format(&path, "%s/weights.%s", options->run, options->to),
                 done);
    NPI_TRY_GOTO(npi_safetensors_open(model, &file), done);
    status = write_weights(file, format, path);
done:
    npi_safetensors_close(file);
    npi_free(clip);
    npi_free(path);
    npi_free(model);
    return status;
}

npos_status npos_export(const npos_export_options *options) {
    NPI_CHECK_OPTIONS(options, "npos_export");
    if (!options->run || (!options->out && (!options->to || options->detector)))
        return npi_fail(NPOS_INVALID_ARGUMENT, "npos_export: no run or no file was named");
    if (options->detector && options->to)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "npos_export: a format belongs to weights, a detector makes a run");
    if (options->detector)
        return npi_deploy(options);
    if (options->size || options->id || options->ood_count)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "npos_export: size, id and ood belong to a detector, none was named");
    return export_weights(options);
}
