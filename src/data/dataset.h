/* data/dataset.h - one interface to every set of images.
 *
 * A SPEC is "PATH" or "format:PATH", with "#train" or "#test" and then any of the suffixes "#class=a,b", "#class!=a,b",
 * "#class=@file", "#first=N", "#draw=N" (data/spec.h).  The format is recognised from the content (npi_dataset_open).
 * A dataset gives images one by one, decoded, in an order that depends on the files' names alone
 * (sorted bytewise). All functions may be called from several threads at once after open. */
#ifndef NPI_DATA_DATASET_H
#define NPI_DATA_DATASET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/fail.h"

/* A decoded image: uint8, rows top to bottom, HWC, 1 or 3 channels.  pixels belongs to the image
 * (npi_image_clear).
 *
 * A JPEG may have been decoded at 1/shrink of its size, 2, 4 or 8 (data/image_decode.h): its sides are then
 * those of the file divided by it and rounded up, and stored_height and stored_width are the file's.
 * Everywhere else shrink is 0 and the two are not looked at. */
typedef struct npi_image {
    int height, width, channels;
    uint8_t *pixels;
    int shrink, stored_height, stored_width;
} npi_image;
void npi_image_clear(npi_image *image);

/* Decodes one file (data/image_decode.h); `least_side` 0: whole. */
NPOS_MUST_CHECK npos_status npi_image_read(const char *path, int least_side, npi_image *out);

typedef struct npi_dataset npi_dataset;

NPOS_MUST_CHECK npos_status npi_dataset_open(const char *spec, npi_dataset **out);
void npi_dataset_close(npi_dataset *set); /* NULL is accepted */

int64_t npi_dataset_count(const npi_dataset *set);
int npi_dataset_classes(const npi_dataset *set); /* 0: without labels */
/* "airplane"; for formats that know only numbers, the number as text.  After #class= filters
 * classes are renumbered 0.. in the order of their names (or of their numbers). */
const char *npi_dataset_class_name(const npi_dataset *set, int label);
int npi_dataset_label(const npi_dataset *set, int64_t i); /* -1: without label */
/* "train/cat/0001.jpg", "t10k-images-idx3-ubyte.gz[17]".  *out is to be freed with npi_free. */
NPOS_MUST_CHECK npos_status npi_dataset_name(const npi_dataset *set, int64_t i, char **out);
/* Decodes image i as it is stored, or smaller after npi_dataset_shrink.  The error names the file. */
NPOS_MUST_CHECK npos_status npi_dataset_decode(const npi_dataset *set, int64_t i, npi_image *out);
/* From now on JPEG files may be decoded smaller, their short side at least `least_side` (0: whole, as
 * after open).  To be called before other threads use the set. */
void npi_dataset_shrink(npi_dataset *set, int least_side);
/* *out = a number that changes with what is stored of image i, without decoding it: of files in a
 * folder or a shard their size, of all else xxh3 of the stored bytes or pixels. */
NPOS_MUST_CHECK npos_status npi_dataset_stamp(const npi_dataset *set, int64_t i, uint64_t *out);
const char *
npi_dataset_format(const npi_dataset *set); /* its name in data/formats.c: "folder", "idx", ... */
const char *npi_dataset_spec(const npi_dataset *set);
/* Says whether the SPEC's format has named splits (#train / #test). */
bool npi_dataset_has_split(const char *spec, const char *split);

/* What brings a decoded image to the model's size, stored with a model, the same for every set it
 * sees: grey to three channels or back (ITU-R 601, as Pillow's convert("L")), short side to `size`
 * (Pillow's antialiased resize), centre crop.
 *
 * reducing_gap 0: every image is decoded whole.  1 or more: a JPEG is decoded at 1/2, 1/4 or 1/8 of its
 * size (scaled inverse DCT) where its short side is then still reducing_gap * size or longer, and resized
 * from there: less work, other pixels (docs/data.md says by how much).  It is what Pillow's
 * Image.thumbnail(..., reducing_gap) asks Image.draft for. */
typedef enum npi_interpolation { NPI_BILINEAR, NPI_BICUBIC } npi_interpolation;
typedef struct npi_transform {
    int size, channels;
    npi_interpolation interpolation;
    double reducing_gap;
} npi_transform;
/* The least_side of npi_image_decode for images that go through the transform. */
int npi_transform_least_side(const npi_transform *transform);
/* out is size x size x channels, contents as Pillow and torchvision give bit for bit.  An image that was
 * decoded smaller counts for the size that is stored: same crop, to a fraction of a pixel. */
NPOS_MUST_CHECK npos_status npi_transform_apply(const npi_transform *transform, const npi_image *in,
                                                npi_image *out);
/* Pillow's Image.resize((width, height), resample) on uint8, bit for bit; `box` (NULL: the whole
 * image) is left, top, right, bottom in source pixels. */
NPOS_MUST_CHECK npos_status npi_resize(const npi_image *in, int height, int width,
                                       npi_interpolation interpolation, const float box[4],
                                       npi_image *out);

/* An image that was left out of a set because it cannot be read, and the error that says so. */
typedef struct npi_broken {
    char *name, *why;
} npi_broken;

/* A set that a job works on: whole in memory at the model's size (npi_images_load), or open, its
 * images to be decoded one by one when they are needed (npi_images_open, data/stream.h). */
typedef struct npi_images {
    int64_t count, available; /* chosen, and in the set: they differ where a subset was drawn */
    int size, channels, classes;
    uint8_t *pixels;    /* [count][size][size][channels]; NULL where the set is open */
    int32_t *labels;    /* [count], -1 without */
    char **names;       /* [count] */
    char **class_names; /* [classes] */
    uint64_t hash;      /* loaded: xxh3 over the transformed pixels and the labels, in order; open:
                           0 until npi_images_stamp */
    char *spec;
    npi_dataset *set;   /* the open set, else NULL */
    int64_t *chosen;    /* [count] numbers in the set; NULL: all of it */
    npi_broken *broken; /* [broken_count] those that npi_images_sift left out */
    int64_t broken_count;
} npi_images;

/* Called now and then with what is done of `total`; returning a status other than NPOS_OK stops the
 * work. */
typedef npos_status npi_progress_fn(void *context, int64_t done, int64_t total);

/* Loads a whole SPEC with `threads` decoders (0: as many as processors).  limit > 0: a subset of
 * that size, drawn with NPI_RANDOM_SUBSET and `seed`, in order.  progress may be NULL. */
NPOS_MUST_CHECK npos_status npi_images_load(const char *spec, const npi_transform *transform,
                                            int64_t limit, uint64_t seed, int threads,
                                            npi_progress_fn *progress, void *context,
                                            npi_images *out);
void npi_images_clear(npi_images *images);

/* All of *out but the pixels and the hash; nothing is decoded.  limit and seed as npi_images_load. */
NPOS_MUST_CHECK npos_status npi_images_open(const char *spec, const npi_transform *transform,
                                            int64_t limit, uint64_t seed, npi_images *out);

/* Leaves those images out of an opened set that cannot be read, which decodes all of them once; the list
 * of them is images->broken.  A set of which none is left is NPOS_BAD_DATA. */
NPOS_MUST_CHECK npos_status npi_images_sift(npi_images *images, int threads,
                                            npi_progress_fn *progress, void *context);
/* Leaves those images out of an opened set for which out[i] is true. */
NPOS_MUST_CHECK npos_status npi_images_drop(npi_images *images, const bool *out);

/* Makes an opened set a loaded one: decodes all of it into memory. */
NPOS_MUST_CHECK npos_status npi_images_fill(npi_images *images, const npi_transform *transform,
                                            int threads, npi_progress_fn *progress, void *context);

/* Decodes image i of an opened set as it is stored, or smaller where the transform that the set was
 * opened with has a reducing_gap. */
NPOS_MUST_CHECK npos_status npi_images_decode(const npi_images *images, int64_t i, npi_image *out);

/* Sets an opened set's hash without decoding compressed images: xxh3 over each image's name, label
 * and stored content (npi_dataset_stamp), in order. */
NPOS_MUST_CHECK npos_status npi_images_stamp(npi_images *images);

#endif
