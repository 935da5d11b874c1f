/* text/unicode.h - what OpenAI's tokenizer asks of characters.  The tables (unicode_tables.inc) are
 * written by scripts/text-tables.py from the Python libraries that the tokenizer is made of; they are
 * theirs and no newer: ids are promised to agree, not to follow each new edition of Unicode. */
#ifndef NPI_TEXT_UNICODE_H
#define NPI_TEXT_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "text/runes.h"

typedef struct npi_code_range {
    uint32_t first, last;
} npi_code_range;

/* A code point and what it is made of; b is 0 where it stands for one other. */
typedef struct npi_code_pair {
    uint32_t code, a, b;
} npi_code_pair;

/* Is the code point in one of the ranges, which are in order? */
bool npi_code_in(const npi_code_range *ranges, size_t count, uint32_t code);

/* \p{L}, \p{N} and what no word of the tokenizer's pattern takes: white space, and U+0345, which the
 * pattern, as it ignores case, counts neither as a letter nor as none. */
bool npi_is_letter(uint32_t code);
bool npi_is_number(uint32_t code);
bool npi_is_skipped(uint32_t code);

/* Decimal digits of any script (Python's \d) and white space (its str.isspace). */
bool npi_is_digit(uint32_t code);
bool npi_is_space(uint32_t code);

/* out += str.lower() of the text: U+0130 becomes two characters; a capital sigma at the end of a word
 * becomes the final one. */
NPOS_MUST_CHECK npos_status npi_lower(const npi_runes *text, npi_runes *out);

/* out += the text in normalisation form C (Unicode Standard Annex 15). */
NPOS_MUST_CHECK npos_status npi_normalise(const npi_runes *text, npi_runes *out);

/* out += the text as ftfy's steps leave it that look at one character: C1 controls as Windows-1252,
 * Latin ligatures apart, full-width and half-width forms in their ordinary width, quotes straight, line
 * breaks as "\n". */
NPOS_MUST_CHECK npos_status npi_repair(const npi_runes *text, npi_runes *out);

/* Control characters that ftfy takes out. */
bool npi_is_removed(uint32_t code);

#endif
