/* io/zip_map.h - the directory of a zip archive in a memory-mapped file, and its stored entries in place.
 *
 * What torch and NumPy write: entries stored without compression or deflated, one disk, zip64 where sizes
 * need it.  Deflated entries can be unpacked; encrypted and other entries are listed but have no bytes.
 * Every number of the file is checked against its size, so an entry's bytes lie inside the mapping.
 *
 * Source: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3 (records) and 4.5.3 (zip64). */
#ifndef NPI_IO_ZIP_MAP_H
#define NPI_IO_ZIP_MAP_H

#include <stddef.h>
#include <stdint.h>

#include "base/fail.h"

typedef struct npi_zip_entry {
    const char *name; /* name_bytes bytes in the mapping, no zero behind them */
    size_t name_bytes;
    const uint8_t *data;   /* `size` bytes, of any alignment; NULL: compressed or encrypted */
    uint64_t size;         /* uncompressed */
    const uint8_t *packed; /* packed_bytes deflated bytes; NULL: not deflated, or encrypted */
    uint64_t packed_bytes;
    uint32_t crc; /* CRC-32 that the archive claims for them */
} npi_zip_entry;

typedef struct npi_zip npi_zip;

/* Opens and reads the whole directory.  NPOS_BAD_DATA: not a zip archive, truncated, damaged, or two
 * entries of one name. */
NPOS_MUST_CHECK npos_status npi_zip_open(const char *path, npi_zip **out);
void npi_zip_close(npi_zip *zip); /* NULL is accepted */

/* Entries in the order of their names' bytes. */
size_t npi_zip_count(const npi_zip *zip);
const npi_zip_entry *npi_zip_at(const npi_zip *zip, size_t i);
/* NULL when there is no such entry. */
const npi_zip_entry *npi_zip_find(const npi_zip *zip, const char *name, size_t name_bytes);

/* Compares the CRC-32 of a stored entry's bytes with the archive's; the error names the entry. */
NPOS_MUST_CHECK npos_status npi_zip_check(const npi_zip *zip, const npi_zip_entry *entry);

/* *out = the bytes of a deflated entry, to be freed with npi_free; their CRC-32 is compared.  Other
 * entries are NPOS_UNSUPPORTED.  No memory is taken for more than 1032 bytes of one packed byte. */
NPOS_MUST_CHECK npos_status npi_zip_unpack(const npi_zip *zip, const npi_zip_entry *entry,
                                           uint8_t **out);

#endif
