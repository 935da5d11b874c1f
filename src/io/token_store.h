/* io/token_store.h - tokens of images, as they enter one block of CLIP's image tower, on the disk.
 *
 *     STORE/index.json   what the tokens are of, labels and classes; written first, never changed
 *           00000.tok    chunks of `chunk` images (the last may hold fewer): 64 bytes of header, then
 *           00001.tok    IEEE float16 [images][rows][width] in C order, little endian
 *
 * A chunk's header holds "npostok1" and, as little-endian 64-bit numbers, its number, its images, the
 * bytes of an image, XXH3 of its tokens, XXH3 of index.json, two zeros.  Each chunk is written whole
 * or not at all, so that an extraction that was stopped makes the missing ones alone; an index of another
 * store, a truncated chunk or a changed byte is found.
 *
 *     writing                                          reading
 *     npi_token_writer_open(folder, &info, resume,     npi_token_store_open(path, &store)
 *                           chunks, &writer)           info = npi_token_store_info(store)
 *     i = npi_token_writer_missing(writer, 0)          npi_token_store_read(store, i, halves)
 *     npi_token_writer_add(writer, 1, halves)          npi_token_store_close(store)
 *     npi_token_writer_finish(writer)
 *     npi_token_writer_close(writer) */
#ifndef NPI_IO_TOKEN_STORE_H
#define NPI_IO_TOKEN_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/fail.h"

enum { NPI_TOKEN_CHUNK = 256 };

/* What the tokens are.  A reader's belongs to it; a writer's to its caller. */
typedef struct npi_token_info {
    int64_t images;
    int block;       /* they enter block number `block`; -1: not known (files of others) */
    int rows, width; /* [rows][width] an image, row 0 the class token */
    int chunk;       /* images of a chunk */
    uint64_t model;  /* npi_weights_hash of the weights; 0: not known */
    uint64_t names;  /* npi_token_names_hash of the images' names; 0: not known */
    int classes;
    char **class_names; /* [classes]; of files of others the numbers as text */
    int32_t *labels;    /* [images], 0..classes-1, or -1 without */
    char *spec;         /* of the images; NULL: not known */
    char *transform;    /* how they were prepared, for people; NULL: not known */
    /* Least ratio of a JPEG's decoded size to the model's (npi_transform's); 0: decoded whole; -1: not
     * known (files of others) */
    double reducing_gap;
    char **skipped; /* [skipped_count] names of images that were left out as broken; for the
                           index alone: a reader does not fill it */
    int64_t skipped_count;
} npi_token_info;

/* XXH3 over the names, each with its zero byte; never 0. */
NPOS_MUST_CHECK npos_status npi_token_names_hash(char *const *names, int64_t count, uint64_t *out);

/* ---- reading: memory-mapped, any image at any time, from several threads at once ---- */

typedef struct npi_token_store npi_token_store;

/* `path` is what npos extract wrote; or feature.pt of others, one tensor [images][rows][width], with
 * target.pt beside it, [images]; or a folder with a folder of .pt files for each class, each file one
 * tensor [rows][width], [1][rows][width] or [rows][1][width].  (class_names: the folders' names;
 * images sorted by class, then by name.)  Tensors are float16, bfloat16, float32 or float64, and are
 * given as float16.  Errors: an index that is damaged or says what cannot be, a store that is not
 * whole (the hint says how to go on), tensors of other shapes; with the file's name. */
NPOS_MUST_CHECK npos_status npi_token_store_open(const char *path, npi_token_store **out);
void npi_token_store_close(npi_token_store *store); /* NULL is accepted */
const npi_token_info *npi_token_store_info(const npi_token_store *store);

/* *out = a number that changes with the tokens, the labels and the classes, without reading the tokens:
 * XXH3 of the chunks' checksums and of the index but for its SPEC; never 0.  Of others' feature.pt the
 * tokens are read; of their folders the files' names and sizes count. */
NPOS_MUST_CHECK npos_status npi_token_store_identity(const npi_token_store *store, uint64_t *out);

/* out [rows][width] = tokens of image i, float16.  The checksum of a chunk is compared when its first
 * image is read (of others: CRC-32, of feature.pt when it is opened); a token that is not finite is an
 * error that names the image. */
NPOS_MUST_CHECK npos_status npi_token_store_read(npi_token_store *store, int64_t i, uint16_t *out);

/* ---- writing: one thread calls, full chunks are written by threads of the writer ---- */

typedef struct npi_token_writer npi_token_writer;

/* Makes the folder and its index.  A store that is there is an error unless `resume`; then its index
 * must say the same as `info` (but for the SPEC; the error names what differs), and the chunks that
 * are there are kept.  The folder is locked until the writer is closed: a second one is NPOS_IO.  `info` need not
 * outlive the call.
 *
 * The writer has memory for `chunks` chunks, 1 or more: while one is filled the others are summed up and
 * written side by side, each by a thread of its own.  With 1 the next chunk waits until the one before it
 * is on the disk.  Of ViT-B/16's tokens a chunk is 256 images of 302,592 bytes: 77 MB, and 390 MB for five,
 * which keep four threads writing.  The files are the same whatever their number. */
NPOS_MUST_CHECK npos_status npi_token_writer_open(const char *folder, const npi_token_info *info,
                                                  bool resume, int chunks, npi_token_writer **out);
/* The first image from `from` on whose chunk is not there; the index's `images` when there is none.  What this writer
 * writes is there when add has taken its chunk's memory for another one, or after finish. */
int64_t npi_token_writer_missing(const npi_token_writer *writer, int64_t from);
/* Adds the next `count` of the missing images, halves [count][rows][width], which are copied; the writing of
 * a chunk begins when its last image has come, and add waits while all chunks' memory is being written.
 * What a write fails with is returned, message and hint included, by the add that would take its memory, or
 * by finish.  After an error only finish, which returns one again, and close may be called; the store can be
 * resumed.  More images than are missing are NPOS_INVALID_ARGUMENT. */
NPOS_MUST_CHECK npos_status npi_token_writer_add(npi_token_writer *writer, int64_t count,
                                                 const uint16_t *halves);
/* Waits until all full chunks are on the disk, which is known only when this returns NPOS_OK. */
NPOS_MUST_CHECK npos_status npi_token_writer_finish(npi_token_writer *writer);
/* Waits for what is being written and frees the writer; images of a chunk that is not full are lost, and so
 * is an error that neither add nor finish has returned.  The newest message stays.  NULL is accepted. */
void npi_token_writer_close(npi_token_writer *writer);

#endif
