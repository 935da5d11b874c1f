/* io/json_text.h - JSON strings of names that may hold any bytes. */
#ifndef NPI_IO_JSON_TEXT_H
#define NPI_IO_JSON_TEXT_H

#include <jansson.h>

#include "base/fail.h"

/* A new JSON string of `text`: bytes that are not UTF-8 (file names may hold them) become U+FFFD, so
 * that no name can make a result unwritable.  NULL only when memory ran out. */
json_t *npi_json_text(const char *text);

/* A new JSON number; null for what JSON has no number for (NaN, infinities). */
json_t *npi_json_number(double value);

/* Writes `root` with a line break behind it to `path`, whole or not at all, and releases it.  A NULL root is a lack of
 * memory. */
NPOS_MUST_CHECK npos_status npi_json_write(json_t *root, const char *path);

#endif
