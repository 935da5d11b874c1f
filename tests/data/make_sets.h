/* tests/data/make_sets.h - small images, files and archives that the tests of src/data make. */
#ifndef TESTS_MAKE_SETS_H
#define TESTS_MAKE_SETS_H

#include "check.h"

#include <archive.h>
#include <archive_entry.h>
#include <jpeglib.h>
#include <png.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/memory.h"
#include "data/dataset.h"

/* The same generator as tests/golden/images.py. */
static inline npi_image make_pattern(int height, int width, int channels, int kind) {
    npi_image image = {.height = height, .width = width, .channels = channels};
    size_t count = (size_t)height * (size_t)width * (size_t)channels;
    CHECK_OK(npi_alloc(&image.pixels, count, 1, "pattern"));
    uint32_t state = (uint32_t)height * 1000003u + (uint32_t)width * 1009u + (uint32_t)channels;
    for (size_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        uint32_t byte = state >> 24;
        if (kind == 1)
            byte = byte >= 128 ? 255 : 0;
        else if (kind == 2)
            byte = (uint32_t)(i * 7) / (uint32_t)channels + (byte >> 5);
        image.pixels[i] = (uint8_t)byte;
    }
    return image;
}

/* Bytes of a file in memory, to be freed with npi_free. */
typedef struct file_bytes {
    uint8_t *bytes;
    size_t size;
} file_bytes;

static inline void make_append(png_structp png, png_bytep data, size_t length) {
    file_bytes *out = png_get_io_ptr(png);
    CHECK_OK(npi_grow(&out->bytes, out->size, out->size + length, 1, "PNG"));
    memcpy(out->bytes + out->size, data, length);
    out->size += length;
}

/* A PNG of any type; rows are `row_bytes` each, as PNG stores them. */
static inline file_bytes make_png(int height, int width, int depth, int color, int interlace,
                                  const uint8_t *rows, size_t row_bytes) {
    file_bytes out = {0};
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    png_set_write_fn(png, &out, make_append, NULL);
    png_set_IHDR(png, info, (uint32_t)width, (uint32_t)height, depth, color, interlace, 0, 0);
    png_write_info(png, info);
    int passes = png_set_interlace_handling(png);
    for (int pass = 0; pass < passes; pass++)
        for (int y = 0; y < height; y++)
            png_write_row(png, rows + (size_t)y * row_bytes);
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
    return out;
}

/* A square PNG of one value: grey, or red-green-blue of 3 values that follow from it. */
static inline file_bytes make_plain_png(int size, int channels, int value) {
    uint8_t rows[64 * 64 * 3];
    for (int i = 0; i < size * size * channels; i++)
        rows[i] = (uint8_t)(value + 10 * (i % channels));
    return make_png(size, size, 8, channels == 3 ? PNG_COLOR_TYPE_RGB : PNG_COLOR_TYPE_GRAY,
                    PNG_INTERLACE_NONE, rows, (size_t)(size * channels));
}

static inline file_bytes make_jpeg(const npi_image *image, int quality) {
    file_bytes out = {0};
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    unsigned char *memory = NULL;
    unsigned long size = 0;
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_mem_dest(&jpeg, &memory, &size);
    jpeg.image_width = (JDIMENSION)image->width;
    jpeg.image_height = (JDIMENSION)image->height;
    jpeg.input_components = image->channels;
    jpeg.in_color_space = image->channels == 3 ? JCS_RGB : JCS_GRAYSCALE;
    jpeg_set_defaults(&jpeg);
    jpeg_set_quality(&jpeg, quality, TRUE);
    jpeg_start_compress(&jpeg, TRUE);
    for (int y = 0; y < image->height; y++) {
        JSAMPROW row = image->pixels + (size_t)y * (size_t)(image->width * image->channels);
        jpeg_write_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    CHECK_OK(npi_alloc(&out.bytes, size, 1, "JPEG"));
    memcpy(out.bytes, memory, size);
    out.size = size;
    free(memory);
    return out;
}

/* FOLDER/NAME gets these bytes; folders in between are made.  It is a new file each time: some file
 * systems write one out that is truncated and filled again, and npi_file_write would wait for that. */
static inline void put_bytes(const char *folder, const char *name, const void *bytes, size_t size) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    *strrchr(path, '/') = '\0';
    CHECK_OK(npi_make_folders(path));
    snprintf(path, sizeof path, "%s/%s", folder, name);
    remove(path);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_true(fwrite(bytes, 1, size, file) == size);
    assert_int_equal(fclose(file), 0);
}

static inline void put_text(const char *folder, const char *name, const char *text) {
    put_bytes(folder, name, text, strlen(text));
}

static inline void put_png(const char *folder, const char *name, int size, int channels,
                           int value) {
    file_bytes png = make_plain_png(size, channels, value);
    put_bytes(folder, name, png.bytes, png.size);
    npi_free(png.bytes);
}

/* An archive being written: what = "tar", "tar.gz", "tar.xz" or "zip". */
static inline struct archive *pack_open(const char *path, const char *what) {
    struct archive *a = archive_write_new();
    if (strcmp(what, "zip") == 0)
        archive_write_set_format_zip(a);
    else
        archive_write_set_format_gnutar(a);
    if (strcmp(what, "tar.gz") == 0) {
        archive_write_add_filter_gzip(a);
        archive_write_set_filter_option(a, "gzip", "compression-level", "1");
    }
    if (strcmp(what, "tar.xz") == 0)
        archive_write_add_filter_xz(a);
    assert_int_equal(archive_write_open_filename(a, path), ARCHIVE_OK);
    return a;
}

static inline void pack_bytes(struct archive *a, const char *name, const void *bytes, size_t size) {
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, name);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_size(entry, (int64_t)size);
    archive_entry_set_mtime(entry, 1, 0);
    assert_true(archive_write_header(a, entry) >= ARCHIVE_WARN);
    assert_true(archive_write_data(a, bytes, size) == (la_ssize_t)size);
    archive_entry_free(entry);
}

static inline void pack_png(struct archive *a, const char *name, int size, int channels,
                            int value) {
    file_bytes png = make_plain_png(size, channels, value);
    pack_bytes(a, name, png.bytes, png.size);
    npi_free(png.bytes);
}

static inline void pack_close(struct archive *a) {
    assert_int_equal(archive_write_close(a), ARCHIVE_OK);
    archive_write_free(a);
}

/* The name of image i, until the next call. */
static inline const char *name_of(const npi_dataset *set, int64_t i) {
    static char kept[512];
    char *name;
    CHECK_OK(npi_dataset_name(set, i, &name));
    snprintf(kept, sizeof kept, "%s", name);
    npi_free(name);
    return kept;
}

/* The first value of image i. */
static inline int first_value(const npi_dataset *set, int64_t i) {
    npi_image image;
    CHECK_OK(npi_dataset_decode(set, i, &image));
    int value = image.pixels[0];
    npi_image_clear(&image);
    return value;
}

#endif
