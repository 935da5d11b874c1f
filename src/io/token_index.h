/* io/token_index.h - index.json and the chunks' headers of a token store: what its reader
 * (token_store.c) and its writer (token_writer.c) share. */
#ifndef NPI_IO_TOKEN_INDEX_H
#define NPI_IO_TOKEN_INDEX_H

#include <jansson.h>

#include "io/token_store.h"

/* In front of a chunk's tokens, little endian. */
typedef struct npi_token_header {
    char magic[8]; /* NPI_TOKEN_MAGIC */
    uint64_t number, images, image_bytes;
    uint64_t sum;   /* XXH3 of the tokens */
    uint64_t index; /* XXH3 of index.json */
    uint64_t zero[2];
} npi_token_header;

#define NPI_TOKEN_MAGIC "npostok1"

/* Frees what the info owns. */
void npi_token_info_clear(npi_token_info *info);

size_t npi_token_image_bytes(const npi_token_info *info);
int64_t npi_token_chunks(const npi_token_info *info);
/* Images of chunk `number`. */
int64_t npi_token_chunk_images(const npi_token_info *info, int64_t number);
/* *out = FOLDER/00017.tok, to be freed with npi_free. */
NPOS_MUST_CHECK npos_status npi_token_chunk_path(const char *folder, int64_t number, char **out);

/* The index as JSON; NULL only when memory ran out. */
json_t *npi_token_index_make(const npi_token_info *info);
/* Reads and checks FOLDER/index.json: *info is to be cleared, also after a failure; *json (may be
 * NULL) the object, to be released with json_decref; *hash of the file's bytes. */
NPOS_MUST_CHECK npos_status npi_token_index_read(const char *folder, npi_token_info *info,
                                                 json_t **json, uint64_t *hash);

/* Compares a chunk's header and length with what they must be; `path` for the error. */
NPOS_MUST_CHECK npos_status npi_token_header_check(const char *path, const npi_token_header *header,
                                                   uint64_t file_bytes, const npi_token_info *info,
                                                   int64_t number, uint64_t index);

#endif
