/* data/cifar_files.h - where CIFAR's files lie, in both of its versions: a folder of batches, the tar archive of one, or a
 * single batch. */
#ifndef NPI_DATA_CIFAR_FILES_H
#define NPI_DATA_CIFAR_FILES_H

#include "data/archive_pick.h"
#include "data/format.h"

enum {
    NPI_CIFAR_SIDE = 32,
    NPI_CIFAR_PIXELS = 3 * NPI_CIFAR_SIDE * NPI_CIFAR_SIDE, /* three planes */
    NPI_CIFAR_BATCHES =
        8, /* of CIFAR-10 1 to 5 and test, of CIFAR-100 test and train, in this order */
    NPI_CIFAR_FILES = 10 /* and behind them those of class names, of CIFAR-10 and of CIFAR-100 */
};

typedef struct npi_cifar_files {
    const char *const *names; /* [NPI_CIFAR_FILES] */
    int first;                /* byte that a batch begins with; -1: any */
    bool (*is_batch)(const char *path);
    /* Adds the images, labels and classes (10 or 100) of one batch; takes over *name, for messages, and the file's bytes.
     * `file`: its number, -1: a single file of another name. */
    npos_status (*add)(npi_source *source, int file, char **name, npi_picked *bytes);
    npos_status (*take_names)(npi_source *source, const char *path, const npi_picked *bytes);
    const char *missing; /* said where batches of a split are not there */
} npi_cifar_files;

/* Whether file number `file` is of CIFAR-100. */
static inline bool npi_cifar_is_hundred(int file) {
    return file >= 6;
}

bool npi_cifar_is_archive(const npi_cifar_files *files, const char *path);
bool npi_cifar_has_split(const npi_cifar_files *files, const char *path, npi_split split);

/* Adds the batches of a split in their order, then the class names where these lie with them; without, classes are numbers. */
NPOS_MUST_CHECK npos_status npi_cifar_open(const npi_cifar_files *files, npi_source *source,
                                           npi_split split);

/* The image of three planes, red, green and blue. */
NPOS_MUST_CHECK npos_status npi_cifar_image(const uint8_t *planes, const char *path,
                                            npi_image *out);

#endif
