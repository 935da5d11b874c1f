/* text/clean.h - how OpenAI's tokenizer cleans a text before it splits it into words:
 *
 *     lower(whitespace(html.unescape(html.unescape(ftfy.fix_text(text)))))
 *
 * ftfy's part here is all that touches sound UTF-8: character references, C1 controls, Latin ligatures,
 * full-width and half-width forms, curly quotes, line breaks, terminal escapes, control characters and
 * normalisation form C, line by line until nothing changes.  Its guessing at text that was once decoded
 * with a wrong encoding ("Ã©" for "é") is left out. */
#ifndef NPI_TEXT_CLEAN_H
#define NPI_TEXT_CLEAN_H

#include "text/runes.h"

/* Replaces the text by its clean form: one line, single blanks between words, none at the ends, lower
 * case.  Character references or terminal escapes nested deeper than any text has them (64 levels) are
 * NPOS_BAD_DATA. */
NPOS_MUST_CHECK npos_status npi_clean(npi_runes *text);

#endif
