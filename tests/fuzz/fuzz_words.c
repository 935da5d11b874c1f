/* Texts from anyone, cleaned and encoded with a vocabulary of bytes and a few merges: what is UTF-8 has ids,
 * the same as from a merging of the plainest kind. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "fuzz/fuzz.h"
#include "text/clean.h"
#include "text/vocabulary.h"

static const char *const merges[][2] = {
    {"a", "b"},  {"b", "c"},      {"a", "a"},     {"ab", "c"},  {"aa", "a</w>"},
    {"a", "bc"}, {"abc", "a"},    {"'", "s</w>"}, {"t", "h"},   {"th", "e</w>"},
    {"!", "!"},  {"!!", "!</w>"}, {"abc", "abc"}, {"aa", "aa"},
};

static const npi_tokenizer *words_of_bytes(void) {
    static npi_tokenizer words;
    static npi_vocabulary vocabulary; /* both stay for the life of the program */
    int id = 512;
    if (words.size > 0)
        return &words;
    for (int byte = 0; byte < 256; byte++) {
        char letters[8];
        size_t length = (size_t)npi_byte_letter(byte, letters);
        memcpy(letters + length, "</w>", 4);
        if (npi_vocabulary_add(&vocabulary, letters, length, byte) != NPOS_OK ||
            npi_vocabulary_add(&vocabulary, letters, length + 4, 256 + byte) != NPOS_OK)
            abort();
    }
    for (size_t i = 0; i < sizeof merges / sizeof *merges; i++) {
        char both[16];
        strcat(strcpy(both, merges[i][0]), merges[i][1]);
        if (npi_vocabulary_find(&vocabulary, both, strlen(both)) < 0 &&
            npi_vocabulary_add(&vocabulary, both, strlen(both), id++) != NPOS_OK)
            abort();
        if (npi_merge_add(&words, &vocabulary, merges[i][0], strlen(merges[i][0]), merges[i][1],
                          strlen(merges[i][1])) != NPOS_OK)
            abort();
    }
    if (npi_vocabulary_add(&vocabulary, "<|startoftext|>", 15, id) != NPOS_OK ||
        npi_vocabulary_add(&vocabulary, "<|endoftext|>", 13, id + 1) != NPOS_OK ||
        npi_tokenizer_settle(&words, &vocabulary) != NPOS_OK)
        abort();
    return &words;
}

/* The clean text, if it is one word of small letters, merged pair by pair as Python does it. */
static void compare_plainly(const npi_tokenizer *words, const npi_runes *clean, const int32_t *ids,
                            int64_t count) {
    enum { LONGEST = 512 };
    int32_t word[LONGEST];
    size_t n = clean->count;
    if (n == 0 || n > LONGEST)
        return;
    for (size_t i = 0; i < n; i++) {
        if (clean->at[i] < 'a' || clean->at[i] > 'z')
            return;
        word[i] = i + 1 < n ? words->inside[clean->at[i]] : words->last[clean->at[i]];
    }
    for (;;) {
        const npi_merge *best = NULL;
        for (size_t i = 0; i + 1 < n; i++) {
            const npi_merge *merge = npi_merge_find(words, word[i], word[i + 1]);
            if (merge && (!best || merge->rank < best->rank))
                best = merge;
        }
        if (!best)
            break;
        size_t kept = 0;
        for (size_t i = 0; i < n; i++, kept++) {
            bool pair = i + 1 < n && word[i] == best->left && word[i + 1] == best->right;
            word[kept] = pair ? best->result : word[i];
            i += pair;
        }
        n = kept;
    }
    if ((int64_t)n != count || memcmp(word, ids, n * sizeof *word) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const npi_tokenizer *words = words_of_bytes();
    npi_runes clean = {0};
    int32_t *ids;
    int64_t count;
    npos_status status = npi_tokenizer_encode(words, (const char *)data, size, &ids, &count);
    if (status == NPOS_OK) {
        if (npi_runes_decode(&clean, (const char *)data, size) != NPOS_OK ||
            npi_clean(&clean) != NPOS_OK)
            abort();
        for (int64_t i = 0; i < count; i++)
            if (ids[i] < 0 || ids[i] >= words->size)
                abort();
        compare_plainly(words, &clean, ids, count);
    } else if (status != NPOS_BAD_DATA) {
        abort();
    }
    npi_runes_clear(&clean);
    npi_free(ids);
    return 0;
}
