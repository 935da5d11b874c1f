#include "data/dataset.h"

#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "base/file.h"
#include "base/memory.h"
#include "data/images_open.h"
#include "data/spec.h"

struct npi_dataset {
    char *spec;
    npi_source source;
    int64_t count;
    int64_t *index;  /* [count] numbers in the source; NULL: all of it */
    int32_t *labels; /* [count] after the filters; NULL: the source's */
    int classes;
    char **class_names; /* [classes]; belongs to the dataset */
};

static void source_close(npi_source *source) {
    if (source->format && source->format->close)
        source->format->close(source);
    for (int i = 0; source->class_names && i < source->classes; i++)
        npi_free(source->class_names[i]);
    npi_free(source->class_names);
    npi_free(source->labels);
    npi_free(source->path);
    *source = (npi_source){0};
}

static npos_status recognise(const npi_spec *spec, const npi_data_format **out) {
    *out = spec->format;
    for (int i = 0; !*out && i < npi_format_count; i++)
        if (npi_formats[i]->recognise(spec->path))
            *out = npi_formats[i];
    if (*out || npi_is_file(spec->path))
        return *out ? NPOS_OK
                    : npi_hint(npi_fail(NPOS_BAD_DATA,
                                        "%s: a format that npos does not know, or damaged",
                                        spec->path),
                               "known are folders of images, tar and zip archives of them, "
                               "WebDataset shards, CIFAR "
                               "binary or Python, idx, .npy, .npz, SVHN's .mat");
    return npi_fail(NPOS_NOT_FOUND, "%s: no such file or folder", spec->path);
}

static npos_status source_open(const npi_spec *spec, npi_source *out) {
    const npi_data_format *format;
    NPI_TRY(recognise(spec, &format));
    *out = (npi_source){.format = format};
    npos_status status = npi_strdup(&out->path, spec->path);
    if (status == NPOS_OK)
        status = format->open(out, spec->split);
    if (status != NPOS_OK)
        source_close(out);
    return status;
}

static npos_status name_classes(npi_dataset *set) {
    const npi_source *source = &set->source;
    NPI_TRY(npi_alloc(&set->class_names, (size_t)source->classes, sizeof *set->class_names,
                      "class names"));
    set->classes = source->classes;
    for (int i = 0; i < set->classes; i++)
        NPI_TRY(source->class_names ? npi_strdup(&set->class_names[i], source->class_names[i])
                                    : npi_format(&set->class_names[i], "%d", i));
    return NPOS_OK;
}

/* The class that an item of a filter names: a name first, else a number. */
static npos_status find_class(const npi_dataset *set, const char *item, int *out) {
    for (*out = 0; *out < set->classes; ++*out)
        if (strcmp(set->class_names[*out], item) == 0)
            return NPOS_OK;
    char *end;
    long number = strtol(item, &end, 10);
    if (*item && !*end && number >= 0 && number < set->classes) {
        *out = (int)number;
        return NPOS_OK;
    }
    npi_fail(NPOS_NOT_FOUND, "class '%s' is not one of the %d classes", item, set->classes);
    const char *nearest =
        npi_nearest_name(item, (const char *const *)set->class_names, (size_t)set->classes);
    if (nearest)
        return npi_hint(NPOS_NOT_FOUND, "did you mean '%s'?", nearest);
    return npi_hint(NPOS_NOT_FOUND, "the first is '%s', the last '%s'", set->class_names[0],
                    set->class_names[set->classes - 1]);
}

/* Keeps the classes with keep[class] and renumbers them. */
static npos_status keep_classes(npi_dataset *set, const bool *keep) {
    int32_t *number;
    NPI_TRY(npi_alloc(&number, (size_t)set->classes, sizeof *number, "classes"));
    int classes = 0;
    for (int i = 0; i < set->classes; i++) {
        number[i] = keep[i] ? classes : -1;
        if (keep[i]) {
            char *name = set->class_names[i];
            set->class_names[i] = set->class_names[classes];
            set->class_names[classes++] = name;
        }
    }
    for (int i = classes; i < set->classes; i++) {
        npi_free(set->class_names[i]);
        set->class_names[i] = NULL;
    }
    set->classes = classes;
    int64_t kept = 0;
    for (int64_t i = 0; i < set->count; i++)
        if (number[set->labels[i]] >= 0) {
            set->labels[kept] = number[set->labels[i]];
            set->index[kept++] = set->index[i];
        }
    set->count = kept;
    npi_free(number);
    return kept > 0 ? NPOS_OK : npi_fail(NPOS_NOT_FOUND, "no image is left of the chosen classes");
}

static npos_status filter_classes(npi_dataset *set, const npi_filter *filter) {
    bool exclude = filter->kind == NPI_FILTER_EXCLUDE, *keep;
    if (!set->source.labels)
        return npi_fail(NPOS_INVALID_ARGUMENT, "#class on images without labels");
    NPI_TRY(npi_alloc(&keep, (size_t)set->classes, sizeof *keep, "class filter"));
    for (int i = 0; i < set->classes; i++)
        keep[i] = exclude;
    npos_status status = NPOS_OK;
    for (int i = 0, found; i < filter->count && status == NPOS_OK; i++) {
        status = find_class(set, filter->items[i], &found);
        if (status == NPOS_OK)
            keep[found] = !exclude;
    }
    if (status == NPOS_OK)
        status = keep_classes(set, keep);
    npi_free(keep);
    return status;
}

static npos_status keep_first(npi_dataset *set, int64_t most) {
    int64_t *seen, kept = 0;
    NPI_TRY(npi_alloc(&seen, (size_t)set->classes + 1, sizeof *seen, "images of each class"));
    for (int64_t i = 0; i < set->count; i++) {
        int label = npi_dataset_label(set, i);
        if (seen[label < 0 ? set->classes : label]++ >= most)
            continue;
        set->index[kept] = set->index[i];
        if (set->labels)
            set->labels[kept] = label;
        kept++;
    }
    set->count = kept;
    npi_free(seen);
    return NPOS_OK;
}

static npos_status keep_drawn(npi_dataset *set, const npi_filter *filter) {
    int64_t *chosen;
    if (filter->number >= set->count)
        return NPOS_OK;
    NPI_TRY(npi_draw_subset(set->count, filter->number, filter->seed, &chosen));
    for (int64_t i = 0; i < filter->number; i++) { /* ascending: nothing is overwritten too early */
        set->index[i] = set->index[chosen[i]];
        if (set->labels)
            set->labels[i] = set->labels[chosen[i]];
    }
    set->count = filter->number;
    npi_free(chosen);
    return NPOS_OK;
}

static npos_status apply_filters(npi_dataset *set, const npi_spec *spec) {
    if (spec->filter_count == 0)
        return NPOS_OK;
    size_t count = (size_t)set->count;
    NPI_TRY(npi_alloc(&set->index, count, sizeof *set->index, "filter"));
    for (size_t i = 0; i < count; i++)
        set->index[i] = (int64_t)i;
    if (set->source.labels) {
        NPI_TRY(npi_alloc(&set->labels, count, sizeof *set->labels, "filter"));
        memcpy(set->labels, set->source.labels, count * sizeof *set->labels);
    }
    for (int f = 0; f < spec->filter_count; f++) {
        const npi_filter *filter = &spec->filters[f];
        if (filter->kind == NPI_FILTER_FIRST)
            NPI_TRY(keep_first(set, filter->number));
        else if (filter->kind == NPI_FILTER_DRAW)
            NPI_TRY(keep_drawn(set, filter));
        else
            NPI_TRY(filter_classes(set, filter));
    }
    return NPOS_OK;
}

npos_status npi_dataset_open(const char *spec, npi_dataset **out) {
    npi_spec parsed = {0};
    npi_dataset *set = NULL;
    npos_status status;
    *out = NULL;
    NPI_TRY(npi_spec_parse(spec, &parsed));
    NPI_TRY_GOTO(npi_alloc(&set, 1, sizeof *set, "data set"), done);
    NPI_TRY_GOTO(npi_strdup(&set->spec, spec), done);
    NPI_TRY_GOTO(source_open(&parsed, &set->source), done);
    set->count = set->source.count;
    NPI_TRY_GOTO(name_classes(set), done);
    status = apply_filters(set, &parsed);
    if (status != NPOS_OK)
        status = npi_fail_in(status, "%s", spec);
done:
    npi_spec_clear(&parsed);
    if (status != NPOS_OK)
        npi_dataset_close(set);
    else
        *out = set;
    return status;
}

void npi_dataset_close(npi_dataset *set) {
    if (!set)
        return;
    for (int i = 0; set->class_names && i < set->classes; i++)
        npi_free(set->class_names[i]);
    npi_free(set->class_names);
    npi_free(set->labels);
    npi_free(set->index);
    npi_free(set->spec);
    source_close(&set->source);
    npi_free(set);
}

int64_t npi_dataset_count(const npi_dataset *set) {
    return set->count;
}

int npi_dataset_classes(const npi_dataset *set) {
    return set->classes;
}

const char *npi_dataset_class_name(const npi_dataset *set, int label) {
    return label >= 0 && label < set->classes ? set->class_names[label] : "";
}

int npi_dataset_label(const npi_dataset *set, int64_t i) {
    const int32_t *labels = set->labels ? set->labels : set->source.labels;
    return labels ? labels[i] : -1;
}

static int64_t source_index(const npi_dataset *set, int64_t i) {
    return set->index ? set->index[i] : i;
}

npos_status npi_dataset_name(const npi_dataset *set, int64_t i, char **out) {
    return set->source.format->name_of(&set->source, source_index(set, i), out);
}

void npi_dataset_shrink(npi_dataset *set, int least_side) {
    set->source.least_side = least_side;
}

npos_status npi_dataset_decode(const npi_dataset *set, int64_t i, npi_image *out) {
    *out = (npi_image){0};
    return set->source.format->decode(&set->source, source_index(set, i), out);
}

npos_status npi_dataset_stamp(const npi_dataset *set, int64_t i, uint64_t *out) {
    npi_image image;
    if (set->source.format->stamp)
        return set->source.format->stamp(&set->source, source_index(set, i), out);
    NPI_TRY(npi_dataset_decode(set, i, &image));
    *out = XXH3_64bits(image.pixels,
                       (size_t)image.height * (size_t)image.width * (size_t)image.channels);
    npi_image_clear(&image);
    return NPOS_OK;
}

const char *npi_dataset_format(const npi_dataset *set) {
    return set->source.format->name;
}

const char *npi_dataset_spec(const npi_dataset *set) {
    return set->spec;
}

bool npi_dataset_has_split(const char *spec, const char *split) {
    bool train = strcmp(split, "train") == 0, found = false;
    const npi_data_format *format;
    npi_spec parsed;
    if ((!train && strcmp(split, "test") != 0) || npi_spec_parse(spec, &parsed) != NPOS_OK)
        return false;
    if (recognise(&parsed, &format) == NPOS_OK)
        found = format->has_split(parsed.path, train ? NPI_SPLIT_TRAIN : NPI_SPLIT_TEST);
    npi_spec_clear(&parsed);
    return found;
}
