/* data/split_files.h - sets of one file a split: a file that is a set, or a folder with the files of both. */
#ifndef NPI_DATA_SPLIT_FILES_H
#define NPI_DATA_SPLIT_FILES_H

#include "data/format.h"

/* What a format says of its files. */
typedef struct npi_split_files {
    npi_split (*split_of)(const char *name); /* by a file's name; NPI_SPLIT_ALL: it does not tell */
    /* *out = the path of a split's file in a folder; NULL where there is none. */
    npos_status (*find)(const char *folder, npi_split split, char **out);
    /* Reads one file into the source; takes over *path. */
    npos_status (*add)(npi_source *source, char **path);
    const char *missing; /* said of a folder without the file that was asked for */
} npi_split_files;

bool npi_split_files_have(const npi_split_files *files, const char *path, npi_split split);

/* Adds the file, or of a folder those of the split: test images before training images, whose names sort behind. */
NPOS_MUST_CHECK npos_status npi_split_files_open(const npi_split_files *files, npi_source *source,
                                                 npi_split split);

#endif
