/* text/vocabulary.h - what a tokenizer is filled from while its files are read: tokens with their ids,
 * then merges.  Tokens are written in the letters of OpenAI's byte table, UTF-8, with "</w>" where they
 * end a word. */
#ifndef NPI_TEXT_VOCABULARY_H
#define NPI_TEXT_VOCABULARY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fail.h"
#include "text/tokenizer.h"

/* A pair of symbols that becomes one; rank 0 marks an empty slot, lower ranks go first. */
typedef struct npi_merge {
    int32_t left, right, result, rank;
} npi_merge;

struct npi_tokenizer {
    char *path;
    int32_t size, start, end;
    int32_t inside[256], last[256]; /* id of each byte, inside a word and as its last */
    npi_merge *merges;              /* open addressing by (left, right) */
    size_t slots, count;            /* slots: a power of two, more than count */
};

typedef struct npi_token {
    size_t at, length; /* in the vocabulary's bytes; length 0 marks an empty slot */
    int32_t id;
} npi_token;

/* Starts as {0}. */
typedef struct npi_vocabulary {
    char *bytes;
    size_t used, room;
    npi_token *tokens; /* open addressing */
    size_t slots, count;
    int32_t highest;
} npi_vocabulary;

void npi_vocabulary_clear(npi_vocabulary *vocabulary);

/* Adds a token; one that is there already, an empty one, and an id outside [0, 2^20) are NPOS_BAD_DATA. */
NPOS_MUST_CHECK npos_status npi_vocabulary_add(npi_vocabulary *vocabulary, const char *token,
                                               size_t length, int64_t id);
/* Id of a token, or -1. */
int32_t npi_vocabulary_find(const npi_vocabulary *vocabulary, const char *token, size_t length);

/* letters[4] = the letter of OpenAI's byte table for a byte, in UTF-8; returns how many bytes it has.
 * Printable Latin-1 stands for itself, the other 68 bytes are U+0100 and on in their order. */
int npi_byte_letter(int byte, char *letters);

/* Adds the merge of two tokens, at most once each pair.  Both tokens and what they make must be in the
 * vocabulary. */
NPOS_MUST_CHECK npos_status npi_merge_add(npi_tokenizer *tokenizer,
                                          const npi_vocabulary *vocabulary, const char *left,
                                          size_t left_length, const char *right,
                                          size_t right_length);
/* The merge of two ids, or NULL. */
const npi_merge *npi_merge_find(const npi_tokenizer *tokenizer, int32_t left, int32_t right);

/* Takes the ids of all bytes, of start and end and the size from the vocabulary; what is missing, and two
 * tokens with one id, are NPOS_BAD_DATA with their names. */
NPOS_MUST_CHECK npos_status npi_tokenizer_settle(npi_tokenizer *tokenizer,
                                                 const npi_vocabulary *vocabulary);

/* What the bytes of one file say (text/tokenizer_parse.c): OpenAI's list, unpacked, with its tokens and
 * merges; Hugging Face's vocab.json, its tokens; merges.txt, the merges of tokens known by then; and
 * tokenizer.json, both.  Errors name the line or the key. */
NPOS_MUST_CHECK npos_status npi_words_from_list(npi_tokenizer *tokenizer,
                                                npi_vocabulary *vocabulary, const char *text,
                                                size_t size);
NPOS_MUST_CHECK npos_status npi_words_from_vocab(npi_vocabulary *vocabulary, const char *text,
                                                 size_t size);
NPOS_MUST_CHECK npos_status npi_words_from_merges(npi_tokenizer *tokenizer,
                                                  const npi_vocabulary *vocabulary,
                                                  const char *text, size_t size);
NPOS_MUST_CHECK npos_status npi_words_from_json(npi_tokenizer *tokenizer,
                                                npi_vocabulary *vocabulary, const char *text,
                                                size_t size);

/* Reads the files that `path` leads to (text/tokenizer.h) into an empty tokenizer. */
NPOS_MUST_CHECK npos_status npi_tokenizer_read(npi_tokenizer *tokenizer, const char *path);

#endif
