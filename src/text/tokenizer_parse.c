/* What the files of a tokenizer say: OpenAI's list of merges, Hugging Face's vocab.json and merges.txt, and
 * its tokenizer.json. */
#include <limits.h>
#include <string.h>

#include <jansson.h>

#include "text/runes.h"
#include "text/vocabulary.h"

enum { OPENAI_MERGES = 49152 - 256 - 2 }; /* of the list's 262,144 */

/* ---- lists of merges, one a line -------------------------------------------------------------------- */

/* A line of a text, and on request its two symbols. */
typedef struct npi_line {
    const char *at, *next; /* next: the line behind it */
    size_t length, number; /* number: from 1 */
    const char *left, *right;
    size_t left_length, right_length;
} npi_line;

static bool next_line(npi_line *line, const char *end) {
    if (line->next == end)
        return false;
    const char *stop = memchr(line->next, '\n', (size_t)(end - line->next));
    line->at = line->next;
    line->length = (size_t)((stop ? stop : end) - line->at);
    line->next = stop ? stop + 1 : end;
    line->number++;
    while (line->length > 0 && strchr(" \t\r", line->at[line->length - 1]))
        line->length--; /* a zero byte counts as one of these: no symbol has it */
    return true;
}

static npos_status two_symbols(npi_line *line) {
    const char *end = line->at + line->length;
    const char *blank = memchr(line->at, ' ', line->length);
    if (!blank || blank == line->at || memchr(blank + 1, ' ', (size_t)(end - blank - 1)))
        return npi_fail(NPOS_BAD_DATA, "'%.*s', expected two symbols with a blank between",
                        line->length < 64 ? (int)line->length : 64, line->at);
    line->left = line->at;
    line->left_length = (size_t)(blank - line->at);
    line->right = blank + 1;
    line->right_length = (size_t)(end - blank - 1);
    return NPOS_OK;
}

/* Bytes in the order of OpenAI's table: the printable ones, then the others. */
static npos_status add_bytes(npi_vocabulary *vocabulary) {
    int id = 0;
    for (int ending = 0; ending < 2; ending++)
        for (int others = 0; others < 2; others++)
            for (int byte = 0; byte < 256; byte++) {
                char letters[8];
                int length = npi_byte_letter(byte, letters);
                uint32_t code = 0;
                if (npi_utf8_decode(letters, (size_t)length, &code) == 0 || (code >= 256) != others)
                    continue;
                memcpy(letters + length, "</w>", 4);
                NPI_TRY(
                    npi_vocabulary_add(vocabulary, letters, (size_t)(length + 4 * ending), id++));
            }
    return NPOS_OK;
}

/* Token of each merge in its order: OpenAI's list has no ids. */
static npos_status add_results(npi_vocabulary *vocabulary, const char *text, size_t size) {
    npi_line line = {.next = text};
    int merges = 0;
    (void)next_line(&line, text + size); /* the first says the version */
    while (merges < OPENAI_MERGES && next_line(&line, text + size)) {
        char both[256];
        npos_status status = two_symbols(&line);
        if (status == NPOS_OK && line.length > sizeof both)
            status = npi_fail(NPOS_BAD_DATA, "a symbol of %zu bytes", line.length - 1);
        if (status == NPOS_OK) {
            memcpy(both, line.left, line.left_length);
            memcpy(both + line.left_length, line.right, line.right_length);
            status = npi_vocabulary_add(vocabulary, both, line.length - 1, 512 + merges);
        }
        if (status != NPOS_OK)
            return npi_fail_in(status, "line %zu", line.number);
        merges++;
    }
    if (merges < OPENAI_MERGES)
        return npi_fail(NPOS_BAD_DATA,
                        "%d merges, expected at least %d: the file is cut short or "
                        "is not CLIP's",
                        merges, OPENAI_MERGES);
    return NPOS_OK;
}

/* At most `most` merges, from the second line on where the first is a heading. */
static npos_status add_merges(npi_tokenizer *tokenizer, const npi_vocabulary *vocabulary,
                              const char *text, size_t size, bool heading, size_t most) {
    npi_line line = {.next = text};
    while (tokenizer->count < most && next_line(&line, text + size)) {
        if ((heading && line.number == 1) || (line.length == 0 && line.next == text + size))
            continue;
        npos_status status = two_symbols(&line);
        if (status == NPOS_OK)
            status = npi_merge_add(tokenizer, vocabulary, line.left, line.left_length, line.right,
                                   line.right_length);
        if (status != NPOS_OK)
            return npi_fail_in(status, "line %zu", line.number);
    }
    return NPOS_OK;
}

npos_status npi_words_from_list(npi_tokenizer *tokenizer, npi_vocabulary *vocabulary,
                                const char *text, size_t size) {
    NPI_TRY(add_bytes(vocabulary));
    NPI_TRY(add_results(vocabulary, text, size));
    NPI_TRY(npi_vocabulary_add(vocabulary, "<|startoftext|>", 15, 512 + OPENAI_MERGES));
    NPI_TRY(npi_vocabulary_add(vocabulary, "<|endoftext|>", 13, 513 + OPENAI_MERGES));
    return add_merges(tokenizer, vocabulary, text, size, true, OPENAI_MERGES);
}

npos_status npi_words_from_merges(npi_tokenizer *tokenizer, const npi_vocabulary *vocabulary,
                                  const char *text, size_t size) {
    static const char version[] = "#version";
    bool heading = size >= sizeof version - 1 && memcmp(text, version, sizeof version - 1) == 0;
    return add_merges(tokenizer, vocabulary, text, size, heading, INT_MAX);
}

/* ---- Hugging Face's files --------------------------------------------------------------------------- */

static npos_status parse_json(const char *text, size_t size, json_t **out) {
    json_error_t error;
    *out = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
    if (!*out)
        return npi_fail(NPOS_BAD_DATA, "line %d: %s", error.line, error.text);
    return NPOS_OK;
}

/* {"token": id, ...} */
static npos_status add_tokens(npi_vocabulary *vocabulary, json_t *tokens) {
    const char *token;
    json_t *id;
    if (!json_is_object(tokens))
        return npi_fail(NPOS_BAD_DATA, "expected an object of tokens with their ids");
    json_object_foreach(tokens, token, id) {
        if (!json_is_integer(id))
            return npi_fail(NPOS_BAD_DATA, "token '%.64s' has an id that is no integer", token);
        NPI_TRY(npi_vocabulary_add(vocabulary, token, strlen(token), json_integer_value(id)));
    }
    return NPOS_OK;
}

npos_status npi_words_from_vocab(npi_vocabulary *vocabulary, const char *text, size_t size) {
    json_t *tokens;
    NPI_TRY(parse_json(text, size, &tokens));
    npos_status status = add_tokens(vocabulary, tokens);
    json_decref(tokens);
    return status;
}

/* A merge of tokenizer.json: "left right" or ["left", "right"]. */
static npos_status add_json_merge(npi_tokenizer *tokenizer, const npi_vocabulary *vocabulary,
                                  json_t *merge) {
    if (json_is_array(merge) && json_array_size(merge) == 2) {
        const char *left = json_string_value(json_array_get(merge, 0));
        const char *right = json_string_value(json_array_get(merge, 1));
        if (left && right)
            return npi_merge_add(tokenizer, vocabulary, left, strlen(left), right, strlen(right));
    }
    const char *text = json_string_value(merge);
    if (!text)
        return npi_fail(NPOS_BAD_DATA, "expected two symbols");
    npi_line line = {.at = text, .length = strlen(text)};
    NPI_TRY(two_symbols(&line));
    return npi_merge_add(tokenizer, vocabulary, line.left, line.left_length, line.right,
                         line.right_length);
}

/* Start and end may stand among the added tokens alone. */
static npos_status add_added(npi_vocabulary *vocabulary, json_t *added) {
    size_t i;
    json_t *one;
    json_array_foreach(added, i, one) {
        const char *token = json_string_value(json_object_get(one, "content"));
        json_t *id = json_object_get(one, "id");
        if (!token || !json_is_integer(id))
            return npi_fail(NPOS_BAD_DATA, "added token %zu lacks its content or its id", i);
        int32_t known = npi_vocabulary_find(vocabulary, token, strlen(token));
        if (known >= 0 && known != json_integer_value(id))
            return npi_fail(NPOS_BAD_DATA,
                            "added token '%.64s' has id %lld, but the vocabulary "
                            "says %d",
                            token, (long long)json_integer_value(id), known);
        if (known < 0)
            NPI_TRY(npi_vocabulary_add(vocabulary, token, strlen(token), json_integer_value(id)));
    }
    return NPOS_OK;
}

static npos_status take_tokenizer_json(npi_tokenizer *tokenizer, npi_vocabulary *vocabulary,
                                       json_t *root) {
    json_t *model = json_object_get(root, "model"), *merges = json_object_get(model, "merges");
    const char *type = json_string_value(json_object_get(model, "type"));
    const char *ending = json_string_value(json_object_get(model, "end_of_word_suffix"));
    size_t i;
    json_t *merge;
    if (!model || (type && strcmp(type, "BPE") != 0))
        return npi_fail(NPOS_BAD_DATA, "model.type is '%.64s', expected 'BPE'", type ? type : "");
    if (!ending || strcmp(ending, "</w>") != 0)
        return npi_hint(npi_fail(NPOS_BAD_DATA,
                                 "model.end_of_word_suffix is '%.64s', expected '</w>'",
                                 ending ? ending : ""),
                        "this is the tokenizer of another model than CLIP");
    if (!json_is_array(merges))
        return npi_fail(NPOS_BAD_DATA, "model.merges is no list");
    npos_status status = add_tokens(vocabulary, json_object_get(model, "vocab"));
    if (status != NPOS_OK)
        return npi_fail_in(status, "model.vocab");
    NPI_TRY(add_added(vocabulary, json_object_get(root, "added_tokens")));
    json_array_foreach(merges, i, merge) {
        status = add_json_merge(tokenizer, vocabulary, merge);
        if (status != NPOS_OK)
            return npi_fail_in(status, "model.merges[%zu]", i);
    }
    return NPOS_OK;
}

npos_status npi_words_from_json(npi_tokenizer *tokenizer, npi_vocabulary *vocabulary,
                                const char *text, size_t size) {
    json_t *root;
    NPI_TRY(parse_json(text, size, &root));
    npos_status status = take_tokenizer_json(tokenizer, vocabulary, root);
    json_decref(root);
    return status;
}
