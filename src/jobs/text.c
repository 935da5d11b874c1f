/* npos_text: T, one direction a class, from CLIP's text tower. */
#include <string.h>

#include "base/memory.h"
#include "jobs/clip_file.h"
#include "jobs/clip_text.h"
#include "jobs/options.h"
#include "jobs/text_file.h"
#include "npos/npos.h"

void npos_text_options_init(npos_text_options *options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
    options->compute = npi_compute_defaults();
}

npos_status npi_text_make(const npos_compute *compute, const char *path,
                          const npi_class_list *classes, const char *templates_path,
                          const char *out) {
    npos_compute own = *compute;
    npi_device *dev;
    /* directions are made once, and all scores are measured by them */
    if (!own.precision || strcmp(own.precision, "auto") == 0)
        own.precision = "fp32";
    NPI_TRY(npi_compute_open(&own, &dev));
    npi_templates templates = {0};
    npi_tokenizer *tokenizer = NULL;
    npi_clip clip = {0};
    float *rows = NULL;
    uint64_t weights;
    npos_status status;
    NPI_TRY_GOTO(npi_templates_open(templates_path, &templates), done);
    NPI_TRY_GOTO(npi_tokenizer_open_for(path, &tokenizer), done);
    NPI_TRY_GOTO(npi_clip_load(dev, path, NPI_CLIP_TEXT, NPI_CLIP_ACT_AUTO, &clip), done);
    NPI_TRY_GOTO(npi_alloc(&rows, (size_t)classes->count * (size_t)clip.config.projection,
                           sizeof *rows, "text embeddings"),
                 done);
    NPI_TRY_GOTO(npi_clip_text(&clip, tokenizer, classes, &templates, &own, rows), done);
    NPI_TRY_GOTO(npi_clip_hash(path, &weights), done);
    status = npi_text_file_write(out, weights, clip.config.projection, classes, &templates, rows);
done:
    npi_free(rows);
    if (clip.dev)
        npi_clip_free(&clip);
    npi_tokenizer_close(tokenizer);
    npi_templates_clear(&templates);
    npi_device_close(dev);
    return status;
}

npos_status npos_text(const npos_text_options *options) {
    NPI_CHECK_OPTIONS(options, "npos_text");
    if (!options->clip || !options->classes || !options->out)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "npos_text: clip, classes and out must be given, '%s' is missing",
                        !options->clip      ? "clip"
                        : !options->classes ? "classes"
                                            : "out");
    npi_class_list classes = {0};
    npos_status status = npi_class_list_open(options->classes, &classes);
    if (status == NPOS_OK)
        status = npi_text_make(&options->compute, options->clip, &classes, options->templates,
                               options->out);
    npi_class_list_clear(&classes);
    return status;
}
