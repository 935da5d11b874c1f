/* A set's list of images, labels and names, before anything is decoded. */
#include "data/images_open.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "base/memory.h"
#include "base/philox.h"

int npi_decoder_threads(int wanted) {
    cpu_set_t allowed;
    if (wanted < 1)
        wanted = sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : 1;
    return wanted > NPI_MAX_DECODERS ? NPI_MAX_DECODERS : wanted;
}

static int by_number(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

npos_status npi_draw_subset(int64_t count, int64_t limit, uint64_t seed, int64_t **out) {
    int32_t *order;
    *out = NULL;
    if (count > INT32_MAX)
        return npi_fail(NPOS_UNSUPPORTED, "a subset of %lld images, at most %d can be drawn from",
                        (long long)count, INT32_MAX);
    NPI_TRY(npi_alloc(&order, (size_t)count, sizeof *order, "subset"));
    npos_status status = npi_alloc(out, (size_t)limit, sizeof **out, "subset");
    if (status == NPOS_OK) {
        npi_permutation(seed, NPI_RANDOM_SUBSET, 0, order, (int32_t)count);
        for (int64_t i = 0; i < limit; i++)
            (*out)[i] = order[i];
        qsort(*out, (size_t)limit, sizeof **out, by_number);
    }
    npi_free(order);
    return status;
}

static int64_t number_of(const npi_images *images, int64_t i) {
    return images->chosen ? images->chosen[i] : i;
}

static npos_status fill(const npi_transform *transform, int64_t limit, uint64_t seed,
                        npi_images *out) {
    const npi_dataset *set = out->set;
    int64_t count = npi_dataset_count(set);
    out->size = transform->size;
    out->channels = transform->channels;
    out->available = count;
    if (limit > 0 && limit < count) {
        NPI_TRY(npi_draw_subset(count, limit, seed, &out->chosen));
        count = limit;
    }
    NPI_TRY(npi_alloc(&out->class_names, (size_t)npi_dataset_classes(set), sizeof *out->class_names,
                      "class names"));
    out->classes = npi_dataset_classes(set);
    for (int i = 0; i < out->classes; i++)
        NPI_TRY(npi_strdup(&out->class_names[i], npi_dataset_class_name(set, i)));
    NPI_TRY(npi_strdup(&out->spec, npi_dataset_spec(set)));
    NPI_TRY(npi_alloc(&out->labels, (size_t)count, sizeof *out->labels, "labels"));
    NPI_TRY(npi_alloc(&out->names, (size_t)count, sizeof *out->names, "names"));
    out->count = count;
    for (int64_t i = 0; i < count; i++) {
        out->labels[i] = npi_dataset_label(set, number_of(out, i));
        NPI_TRY(npi_dataset_name(set, number_of(out, i), &out->names[i]));
    }
    return NPOS_OK;
}

npos_status npi_images_open(const char *spec, const npi_transform *transform, int64_t limit,
                            uint64_t seed, npi_images *out) {
    *out = (npi_images){0};
    if (transform->size < 1 || (transform->channels != 1 && transform->channels != 3))
        return npi_fail(NPOS_INVALID_ARGUMENT, "%s: transform of size %d with %d channels", spec,
                        transform->size, transform->channels);
    NPI_TRY(npi_dataset_open(spec, &out->set));
    npi_dataset_shrink(out->set, npi_transform_least_side(transform));
    npos_status status = fill(transform, limit, seed, out);
    if (status != NPOS_OK)
        npi_images_clear(out);
    return status;
}

npos_status npi_images_decode(const npi_images *images, int64_t i, npi_image *out) {
    return npi_dataset_decode(images->set, number_of(images, i), out);
}

npos_status npi_images_stamp(npi_images *images) {
    npos_status status = NPOS_OK;
    XXH3_state_t *hash = XXH3_createState();
    if (!hash)
        return npi_fail(NPOS_OUT_OF_MEMORY, "%s: no memory for a hash", images->spec);
    XXH3_64bits_reset(hash);
    for (int64_t i = 0; i < images->count && status == NPOS_OK; i++) {
        uint64_t stamp = 0;
        status = npi_dataset_stamp(images->set, number_of(images, i), &stamp);
        XXH3_64bits_update(hash, images->names[i], strlen(images->names[i]) + 1);
        XXH3_64bits_update(hash, &images->labels[i], sizeof *images->labels);
        XXH3_64bits_update(hash, &stamp, sizeof stamp);
    }
    images->hash = XXH3_64bits_digest(hash);
    XXH3_freeState(hash);
    return status;
}

void npi_images_clear(npi_images *images) {
    for (int64_t i = 0; images->names && i < images->count; i++)
        npi_free(images->names[i]);
    for (int i = 0; images->class_names && i < images->classes; i++)
        npi_free(images->class_names[i]);
    for (int64_t i = 0; i < images->broken_count; i++) {
        npi_free(images->broken[i].name);
        npi_free(images->broken[i].why);
    }
    npi_free(images->broken);
    npi_free(images->names);
    npi_free(images->class_names);
    npi_free(images->pixels);
    npi_free(images->labels);
    npi_free(images->spec);
    npi_free(images->chosen);
    npi_dataset_close(images->set);
    *images = (npi_images){0};
}
