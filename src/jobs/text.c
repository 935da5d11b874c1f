/* npos_text: T, one direction a class, from CLIP's text tower. */
#include <jansson.h>
#include <string.h>

#include "base/memory.h"
#include "io/json_text.h"
#include "io/safetensors.h"
#include "jobs/clip_file.h"
#include "jobs/clip_text.h"
#include "jobs/options.h"
#include "npos/npos.h"

void npos_text_options_init(npos_text_options *options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
    options->compute = npi_compute_defaults();
}

/* *out = a JSON list of texts, to be freed with free. */
static npos_status json_list(int count, char *const *texts, char **out) {
    json_t *list = json_array();
    bool whole = list != NULL;
    for (int i = 0; i < count; i++)
        whole = json_array_append_new(list, npi_json_text(texts[i])) == 0 && whole;
    *out = whole ? json_dumps(list, JSON_COMPACT) : NULL;
    json_decref(list);
    return *out ? NPOS_OK : npi_fail(NPOS_OUT_OF_MEMORY, "no memory for a list of %d texts", count);
}

static npos_status write_text(const char *path, int projection, const npi_class_list *classes,
                              const npi_templates *templates, const float *rows) {
    char *names = NULL, *prompts = NULL;
    npos_status status;
    NPI_TRY_GOTO(json_list(classes->count, classes->names, &names), done);
    NPI_TRY_GOTO(json_list(templates->count, templates->text, &prompts), done);
    npi_named_tensor tensor = {.name = "text",
                               .dtype = NPI_F32,
                               .ndim = 2,
                               .shape = {classes->count, projection},
                               .data = rows};
    const char *metadata[] = {"format",    "npos-text-1", "classes", names,
                              "templates", prompts,       NULL};
    status = npi_safetensors_write(path, &tensor, 1, metadata);
done:
    free(names);
    free(prompts);
    return status;
}

static npos_status text(const npos_text_options *o, npi_device *dev) {
    npi_class_list classes = {0};
    npi_templates templates = {0};
    npi_tokenizer *tokenizer = NULL;
    npi_clip clip = {0};
    float *rows = NULL;
    npos_status status;
    NPI_TRY_GOTO(npi_class_list_open(o->classes, &classes), done);
    NPI_TRY_GOTO(npi_templates_open(o->templates, &templates), done);
    NPI_TRY_GOTO(npi_tokenizer_open_for(o->clip, &tokenizer), done);
    NPI_TRY_GOTO(npi_clip_load(dev, o->clip, NPI_CLIP_TEXT, NPI_CLIP_ACT_AUTO, &clip), done);
    NPI_TRY_GOTO(npi_alloc(&rows, (size_t)classes.count * (size_t)clip.config.projection,
                           sizeof *rows, "text embeddings"),
                 done);
    NPI_TRY_GOTO(npi_clip_text(&clip, tokenizer, &classes, &templates, &o->compute, rows), done);
    status = write_text(o->out, clip.config.projection, &classes, &templates, rows);
done:
    npi_free(rows);
    if (clip.dev)
        npi_clip_free(&clip);
    npi_tokenizer_close(tokenizer);
    npi_templates_clear(&templates);
    npi_class_list_clear(&classes);
    return status;
}

npos_status npos_text(const npos_text_options *options) {
    NPI_CHECK_OPTIONS(options, "npos_text");
    npi_device *dev;
    if (!options->clip || !options->classes || !options->out)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "npos_text: clip, classes and out must be given, '%s' is missing",
                        !options->clip      ? "clip"
                        : !options->classes ? "classes"
                                            : "out");
    NPI_TRY(npi_compute_open(&options->compute, &dev));
    npos_status status = text(options, dev);
    npi_device_close(dev);
    return status;
}
