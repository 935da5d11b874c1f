/* text/tokenizer.h - CLIP's byte-pair tokenizer (Radford et al., 2021; byte-level BPE: Sennrich et al.,
 * 2016): from words to the numbers of the token table's rows, the same as OpenAI's Python code gives.
 *
 *     text --clean (text/clean.h)--> one line in lower case
 *          --split--> <|startoftext|> | <|endoftext|> | 's 't 're 've 'm 'll 'd | letters | one digit | others
 *          --bytes--> each byte a symbol, the word's last one marked as its end ("</w>")
 *          --merge--> the pair of lowest rank becomes one symbol, until no pair has a rank
 *          --> ids
 *
 *     npi_tokenizer *words;
 *     NPI_TRY(npi_tokenizer_open("ViT-B-16", &words));
 *     int32_t row[77];
 *     int used;
 *     NPI_TRY_GOTO(npi_tokenizer_row(words, "a photo of a cat.", 77, false, row, &used), done);
 *
 * An opened tokenizer is never written: threads may share it. */
#ifndef NPI_TEXT_TOKENIZER_H
#define NPI_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fail.h"

enum {
    NPI_CLIP_CONTEXT = 77
}; /* tokens of a text, start and end included, in all of OpenAI's models */

typedef struct npi_tokenizer npi_tokenizer;

/* Opens what `path` is:
 *     a folder             the first of these that is there: vocab.json with merges.txt, tokenizer.json,
 *                          bpe_simple_vocab_16e6.txt.gz, bpe_simple_vocab_16e6.txt
 *     vocab.json           Hugging Face's, with merges.txt beside it (or the other way round)
 *     tokenizer.json       Hugging Face's fast tokenizer: model.vocab and model.merges
 *     any other file       OpenAI's list of merges, plain or .gz; 48,894 of them count, ids follow from
 *                          their order
 * Every symbol that a merge reads or makes must have an id, as must all 256 bytes, inside and at the end
 * of a word, <|startoftext|> and <|endoftext|>: then no text fails for want of a token.  Errors name the
 * file, the line or key, and what was expected. */
NPOS_MUST_CHECK npos_status npi_tokenizer_open(const char *path, npi_tokenizer **out);

/* Opens the tokenizer that comes with a model, as --clip names it: in the folder `model`, or in the folder
 * of the file `model` (ViT-B-16.pt), by the names above.  NPOS_NOT_FOUND says what was looked for where. */
NPOS_MUST_CHECK npos_status npi_tokenizer_open_for(const char *model, npi_tokenizer **out);

void npi_tokenizer_close(npi_tokenizer *tokenizer); /* NULL is accepted */

/* The file that the merges came from, for messages. */
const char *npi_tokenizer_path(const npi_tokenizer *tokenizer);

/* 1 + the highest id: the rows of the token table (49,408 for OpenAI's). */
int32_t npi_tokenizer_size(const npi_tokenizer *tokenizer);

/* NPOS_SHAPE_MISMATCH where a model's token table has another number of rows: then these are not the words
 * that it was trained with. */
NPOS_MUST_CHECK npos_status npi_tokenizer_check(const npi_tokenizer *tokenizer, int64_t rows);

/* Ids of <|startoftext|> and <|endoftext|> (49,406 and 49,407 for OpenAI's). */
int32_t npi_tokenizer_start(const npi_tokenizer *tokenizer);
int32_t npi_tokenizer_end(const npi_tokenizer *tokenizer);

/* *ids = the *count ids of a whole text of `length` bytes of UTF-8, without start and end, to be freed
 * with npi_free (a valid pointer where *count is 0).  Bytes that are not UTF-8 are NPOS_BAD_DATA with
 * their place. */
NPOS_MUST_CHECK npos_status npi_tokenizer_encode(const npi_tokenizer *tokenizer, const char *text,
                                                 size_t length, int32_t **ids, int64_t *count);

/* row[0..context) = start, the text's ids, end, then zeros; *used (may be NULL) = how many of them come
 * before the zeros.  A text with more than context - 2 ids is NPOS_INVALID_ARGUMENT, as OpenAI's
 * tokenize has it, or, where `truncate` is set, loses its last ids and keeps the end.  context >= 2. */
NPOS_MUST_CHECK npos_status npi_tokenizer_row(const npi_tokenizer *tokenizer, const char *text,
                                              int context, bool truncate, int32_t *row, int *used);

#endif
