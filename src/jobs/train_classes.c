/* The classes of a run of CLIP: their directions T, and labels that count them as T does. */
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "jobs/evaluation.h"
#include "jobs/model_file.h"
#include "jobs/trainer.h"

/* ---- T ---- */

static npos_status make_text(const npi_trainer *t, const char *path) {
    npi_class_list classes;
    NPI_TRY(npi_class_list_of(t->images.class_names, t->images.classes, &classes));
    npos_status status = npi_text_make(&t->options->compute, t->recipe.clip, &classes, NULL, path);
    npi_class_list_clear(&classes);
    return status;
}

static npos_status copy_text(const npi_trainer *t, const char *path) {
    char *bytes;
    size_t size;
    NPI_TRY(npi_file_read(t->recipe.text, &bytes, &size));
    npos_status status = npi_file_write(path, bytes, size);
    npi_free(bytes);
    return status;
}

static npos_status read_text(const npi_trainer *t, const char *path, npi_text_file *out) {
    NPI_TRY(npi_text_file_read(path, out));
    NPI_TRY(npi_text_file_check(out, path, t->recipe.clip));
    if (out->dim == t->clip->config.projection)
        return NPOS_OK;
    return npi_fail(NPOS_SHAPE_MISMATCH, "%s: directions of %d numbers, the model's have %d", path,
                    out->dim, t->clip->config.projection);
}

/* A file that is given is looked at before it is taken over; when a run goes on, it has to be the one that the run
 * keeps (the checkpoint's hash tells). */
static npos_status find_text(npi_trainer *t) {
    npi_train_clip *clip = t->clip;
    const char *given = t->recipe.text;
    bool resume = t->options->resume != 0;
    char *path;
    NPI_TRY(npi_trainer_path(t, "text.safetensors", &path));
    npos_status status = NPOS_OK;
    if (*given && (!resume || npi_is_file(given))) {
        status = read_text(t, given, &clip->text);
        if (status == NPOS_OK && !resume)
            status = copy_text(t, path);
    } else {
        if (!resume)
            status = make_text(t, path);
        if (status == NPOS_OK)
            status = read_text(t, path, &clip->text);
    }
    npi_free(path);
    return status == NPOS_OK ? npi_text_file_hash(&clip->text, &clip->text_hash) : status;
}

/* ---- labels ---- */

/* Are the classes called 0, 1, ... in this order, as sets call them that know no names? */
static bool numbered(char *const *names, int count) {
    for (int c = 0; c < count; c++) {
        char number[16];
        snprintf(number, sizeof number, "%d", c);
        if (strcmp(names[c], number) != 0)
            return false;
    }
    return true;
}

static npos_status take_labels(npi_trainer *t) {
    npi_images *images = &t->images;
    const npi_text_file *text = &t->clip->text;
    int32_t *labels;
    if (numbered(images->class_names, images->classes) && !numbered(text->folders, text->classes)) {
        if (images->classes == text->classes)
            return NPOS_OK; /* the same order */
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "%s: its classes are numbers, %d of them, and the text has %d classes",
                        images->spec, images->classes, text->classes);
    }
    NPI_TRY(npi_alloc(&labels, (size_t)images->count, sizeof *labels, "labels"));
    npos_status status = npi_labels_of_model(images, text->folders, text->classes, labels);
    if (status == NPOS_OK)
        memcpy(images->labels, labels, (size_t)images->count * sizeof *labels);
    npi_free(labels);
    return status;
}

/* The images' classes are T's from here on. */
static npos_status take_classes(npi_trainer *t) {
    npi_images *images = &t->images;
    const npi_text_file *text = &t->clip->text;
    npi_class_names_free(images->class_names, images->classes);
    images->class_names = NULL;
    images->classes = text->classes;
    NPI_TRY(npi_alloc(&images->class_names, (size_t)images->classes, sizeof *images->class_names,
                      "class names"));
    for (int c = 0; c < images->classes; c++)
        NPI_TRY(npi_strdup(&images->class_names[c], text->folders[c]));
    return NPOS_OK;
}

npos_status npi_trainer_classes(npi_trainer *t) {
    NPI_TRY(find_text(t));
    NPI_TRY(take_labels(t));
    return take_classes(t);
}
