/* text/runes.h - text as an array of Unicode code points. */
#ifndef NPI_TEXT_RUNES_H
#define NPI_TEXT_RUNES_H

#include <stddef.h>
#include <stdint.h>

#include "base/fail.h"

/* Starts as {0}; `at` belongs to it and is freed by npi_runes_clear. */
typedef struct npi_runes {
    uint32_t *at;
    size_t count, room;
} npi_runes;

NPOS_MUST_CHECK npos_status npi_runes_push(npi_runes *runes, uint32_t code);
NPOS_MUST_CHECK npos_status npi_runes_append(npi_runes *runes, const uint32_t *codes, size_t count);
void npi_runes_clear(npi_runes *runes);

/* One code point of UTF-8 from text[0..length), length >= 1: *code and the return value, its bytes.  0 where
 * the bytes are none: cut short, too long a form, a surrogate, beyond U+10FFFF. */
int npi_utf8_decode(const char *text, size_t length, uint32_t *code);

/* bytes[4] = the UTF-8 of a code point; returns how many. */
int npi_utf8_encode(uint32_t code, char *bytes);

/* Appends a whole text; NPOS_BAD_DATA names the place of bytes that are not UTF-8. */
NPOS_MUST_CHECK npos_status npi_runes_decode(npi_runes *runes, const char *text, size_t length);

#endif
