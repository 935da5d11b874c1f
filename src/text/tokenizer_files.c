/* Which files a tokenizer comes in, found and read whole. */
#include <string.h>

#include <zlib.h>

#include "base/file.h"
#include "base/memory.h"
#include "text/vocabulary.h"

enum { BYTES_MOST = 64 << 20 }; /* CLIP's files have 1 to 4 MB unpacked */

/* *out = the file's bytes, unpacked where it is a .gz, with a zero behind them. */
static npos_status read_unpacked(const char *path, char **out, size_t *size) {
    npos_status status = NPOS_OK;
    size_t room = 0;
    *out = NULL;
    *size = 0;
    if (!npi_is_file(path))
        return npi_fail(NPOS_NOT_FOUND, "%s: no such file", path);
    gzFile file = gzopen(path, "rbe");
    if (!file)
        return npi_fail_errno("%s: cannot open", path);
    for (;;) {
        if (room - *size < 65537) {
            size_t more = room ? room * 2 : 1 << 20;
            NPI_TRY_GOTO(npi_grow(out, room, more, 1, path), done);
            room = more;
        }
        int got = gzread(file, *out + *size, (unsigned)(room - *size - 1));
        if (got < 0) {
            int code;
            const char *why = gzerror(file, &code);
            status = npi_fail(NPOS_BAD_DATA, "%s: cannot be unpacked: %s", path, why);
            goto done;
        }
        if (got == 0)
            break;
        *size += (size_t)got;
        if (*size > BYTES_MOST) {
            status = npi_fail(NPOS_BAD_DATA, "%s: more than %d bytes, too many for CLIP's tokens",
                              path, BYTES_MOST);
            goto done;
        }
    }
    (*out)[*size] = '\0';
done:
    if (gzclose(file) == Z_BUF_ERROR && status == NPOS_OK)
        status = npi_fail(NPOS_BAD_DATA, "%s: ends in the middle of its packed bytes", path);
    if (status != NPOS_OK) {
        npi_free(*out);
        *out = NULL;
    }
    return status;
}

/* ---- which file -------------------------------------------------------------------------------------- */

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* *out = "FOLDER/name" where that is a file, else NULL. */
static npos_status file_in(const char *folder, const char *name, char **out) {
    NPI_TRY(npi_path_join(out, folder, name));
    if (!npi_is_file(*out)) {
        npi_free(*out);
        *out = NULL;
    }
    return NPOS_OK;
}

/* *out = the file in a folder that says how words are read; with vocab.json merges.txt is checked. */
static npos_status file_of_folder(const char *folder, char **out) {
    static const char *const names[] = {"vocab.json", "merges.txt", "tokenizer.json",
                                        "bpe_simple_vocab_16e6.txt.gz",
                                        "bpe_simple_vocab_16e6.txt"};
    char *found[5] = {NULL};
    npos_status status = NPOS_OK;
    *out = NULL;
    for (int i = 0; i < 5; i++)
        NPI_TRY_GOTO(file_in(folder, names[i], &found[i]), done);
    int first = found[0] && found[1] ? 0 : found[2] ? 2 : found[3] ? 3 : 4;
    if (!found[first]) {
        if (found[0] || found[1])
            status = npi_fail(NPOS_NOT_FOUND, "%s: has %s, but not %s", folder,
                              found[0] ? names[0] : names[1], found[0] ? names[1] : names[0]);
        else
            status = npi_hint(npi_fail(NPOS_NOT_FOUND, "%s: no tokenizer in this folder", folder),
                              "it is vocab.json with merges.txt, tokenizer.json or "
                              "bpe_simple_vocab_16e6.txt.gz; the last one comes with OpenAI's CLIP "
                              "and open_clip");
        goto done;
    }
    *out = found[first];
    found[first] = NULL;
done:
    for (int i = 0; i < 5; i++)
        npi_free(found[i]);
    return status;
}

/* *out = the file `name` beside `path`. */
static npos_status beside(const char *path, const char *name, char **out) {
    return npi_format(out, "%.*s%s", (int)(npi_path_name(path) - path), path, name);
}

static npos_status take_list(npi_tokenizer *tokenizer, npi_vocabulary *vocabulary,
                             const char *path) {
    char *text;
    size_t size;
    NPI_TRY(read_unpacked(path, &text, &size));
    npos_status status = ends_with(path, ".json")
                             ? npi_words_from_json(tokenizer, vocabulary, text, size)
                             : npi_words_from_list(tokenizer, vocabulary, text, size);
    npi_free(text);
    return status == NPOS_OK ? status : npi_fail_in(status, "%s", path);
}

static npos_status take_pair(npi_tokenizer *tokenizer, npi_vocabulary *vocabulary,
                             const char *vocab_path, const char *merges_path) {
    char *text;
    size_t size;
    NPI_TRY(read_unpacked(vocab_path, &text, &size));
    npos_status status = npi_words_from_vocab(vocabulary, text, size);
    npi_free(text);
    if (status != NPOS_OK)
        return npi_fail_in(status, "%s", vocab_path);
    NPI_TRY(read_unpacked(merges_path, &text, &size));
    status = npi_words_from_merges(tokenizer, vocabulary, text, size);
    npi_free(text);
    return status == NPOS_OK ? status : npi_fail_in(status, "%s", merges_path);
}

npos_status npi_tokenizer_read(npi_tokenizer *tokenizer, const char *path) {
    npi_vocabulary vocabulary = {0};
    char *file = NULL, *other = NULL;
    NPI_TRY(npi_is_folder(path) ? file_of_folder(path, &file) : npi_strdup(&file, path));
    npos_status status = NPOS_OK;
    if (strcmp(npi_path_name(file), "vocab.json") == 0) {
        NPI_TRY_GOTO(beside(file, "merges.txt", &other), done);
        NPI_TRY_GOTO(take_pair(tokenizer, &vocabulary, file, other), done);
    } else if (strcmp(npi_path_name(file), "merges.txt") == 0) {
        NPI_TRY_GOTO(beside(file, "vocab.json", &other), done);
        NPI_TRY_GOTO(take_pair(tokenizer, &vocabulary, other, file), done);
    } else {
        NPI_TRY_GOTO(take_list(tokenizer, &vocabulary, file), done);
    }
    status = npi_tokenizer_settle(tokenizer, &vocabulary);
    if (status != NPOS_OK)
        status = npi_fail_in(status, "%s", file);
done:
    tokenizer->path = file;
    npi_free(other);
    npi_vocabulary_clear(&vocabulary);
    return status;
}
