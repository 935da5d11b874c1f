/* Tokenizers: a first letter that says which file it is, then its bytes: l OpenAI's list, j tokenizer.json,
 * v vocab.json with, behind a zero byte, merges.txt.  What opens also encodes a text. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "fuzz/fuzz.h"
#include "text/vocabulary.h"

static npos_status read_any(npi_tokenizer *words, npi_vocabulary *vocabulary, char kind,
                            const char *text, size_t size) {
    if (kind == 'l')
        return npi_words_from_list(words, vocabulary, text, size);
    if (kind == 'j')
        return npi_words_from_json(words, vocabulary, text, size);
    const char *zero = memchr(text, '\0', size);
    size_t first = zero ? (size_t)(zero - text) : size;
    NPI_TRY(npi_words_from_vocab(vocabulary, text, first));
    if (!zero)
        return NPOS_OK;
    return npi_words_from_merges(words, vocabulary, zero + 1, size - first - 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char text[] = "A photo of the Ca\xCC\x81t's &amp; \xF0\x9F\x98\x80 12 hats!";
    if (size == 0)
        return 0;
    npi_vocabulary vocabulary = {0};
    npi_tokenizer *words;
    if (npi_alloc(&words, 1, sizeof *words, "tokenizer") != NPOS_OK)
        abort();
    npos_status status =
        read_any(words, &vocabulary, (char)data[0], (const char *)data + 1, size - 1);
    if (status == NPOS_OK && npi_tokenizer_settle(words, &vocabulary) == NPOS_OK) {
        int32_t *ids;
        int64_t count;
        if (npi_tokenizer_encode(words, text, sizeof text - 1, &ids, &count) != NPOS_OK)
            abort();
        for (int64_t i = 0; i < count; i++)
            if (ids[i] < 0 || ids[i] >= npi_tokenizer_size(words))
                abort();
        npi_free(ids);
    }
    npi_vocabulary_clear(&vocabulary);
    npi_tokenizer_close(words);
    return 0;
}
