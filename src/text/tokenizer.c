#include "text/tokenizer.h"

#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "text/clean.h"
#include "text/runes.h"
#include "text/unicode.h"
#include "text/vocabulary.h"

npos_status npi_tokenizer_open(const char *path, npi_tokenizer **out) {
    *out = NULL;
    npi_tokenizer *tokenizer;
    NPI_TRY(npi_alloc(&tokenizer, 1, sizeof *tokenizer, "tokenizer"));
    npos_status status = npi_tokenizer_read(tokenizer, path);
    if (status != NPOS_OK) {
        npi_tokenizer_close(tokenizer);
        return status;
    }
    *out = tokenizer;
    return NPOS_OK;
}

npos_status npi_tokenizer_open_for(const char *model, npi_tokenizer **out) {
    *out = NULL;
    if (npi_is_folder(model))
        return npi_tokenizer_open(model, out);
    if (!npi_is_file(model))
        return npi_fail(NPOS_NOT_FOUND, "%s: no such file or folder", model);
    char *folder;
    NPI_TRY(npi_format(&folder, "%.*s.", (int)(npi_path_name(model) - model), model));
    npos_status status = npi_tokenizer_open(folder, out);
    npi_free(folder);
    return status;
}

void npi_tokenizer_close(npi_tokenizer *tokenizer) {
    if (!tokenizer)
        return;
    npi_free(tokenizer->path);
    npi_free(tokenizer->merges);
    npi_free(tokenizer);
}

const char *npi_tokenizer_path(const npi_tokenizer *tokenizer) {
    return tokenizer->path;
}

int32_t npi_tokenizer_size(const npi_tokenizer *tokenizer) {
    return tokenizer->size;
}

npos_status npi_tokenizer_check(const npi_tokenizer *tokenizer, int64_t rows) {
    if (rows == tokenizer->size)
        return NPOS_OK;
    return npi_hint(npi_fail(NPOS_SHAPE_MISMATCH,
                             "%s has ids below %d, but the model's token table has %lld rows",
                             tokenizer->path, tokenizer->size, (long long)rows),
                    "take the tokenizer that comes with the model");
}

int32_t npi_tokenizer_start(const npi_tokenizer *tokenizer) {
    return tokenizer->start;
}

int32_t npi_tokenizer_end(const npi_tokenizer *tokenizer) {
    return tokenizer->end;
}

/* ---- words ------------------------------------------------------------------------------------------ */

/* text[i..) begins with `word` (lower-case ASCII), the long s standing for an s: the pattern ignores case,
 * and no other letter that lower-casing leaves has one of these as its other case.  *exact: letter for
 * letter. */
static bool begins_with(const npi_runes *text, size_t i, const char *word, bool *exact) {
    enum { LONG_S = 0x17F };
    *exact = true;
    for (; *word; word++, i++) {
        if (i >= text->count)
            return false;
        if (text->at[i] == LONG_S && *word == 's')
            *exact = false;
        else if (text->at[i] != (unsigned char)*word)
            return false;
    }
    return true;
}

typedef enum npi_word_kind { WORD_PLAIN, WORD_START, WORD_END } npi_word_kind;

/* Length of the word at text[i], which is no blank (npi_is_skipped):
 *     <|startoftext|>|<|endoftext|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+ */
static size_t word_at(const npi_runes *text, size_t i, npi_word_kind *kind) {
    static const char *const fixed[] = {
        "<|startoftext|>", "<|endoftext|>", "'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    *kind = WORD_PLAIN;
    if (text->at[i] == '<' || text->at[i] == '\'')
        for (size_t f = 0; f < sizeof fixed / sizeof *fixed; f++) {
            bool exact;
            if (begins_with(text, i, fixed[f], &exact)) {
                if (exact && f < 2)
                    *kind = f == 0 ? WORD_START : WORD_END;
                return strlen(fixed[f]);
            }
        }
    if (npi_is_number(text->at[i]))
        return 1;
    size_t end = i + 1;
    if (npi_is_letter(text->at[i])) {
        while (end < text->count && npi_is_letter(text->at[end]))
            end++;
        return end - i;
    }
    while (end < text->count && !npi_is_skipped(text->at[end]) && !npi_is_letter(text->at[end]) &&
           !npi_is_number(text->at[end]))
        end++;
    return end - i;
}

/* ---- merging ---------------------------------------------------------------------------------------- */

/* A symbol of the word, linked to its neighbours by place; id -1: swallowed by the one before it. */
typedef struct npi_symbol {
    int32_t id;
    size_t before, behind; /* NONE at the ends */
} npi_symbol;
enum { NONE = -1 };

/* A pair that may be merged: the symbol at `place` and the one behind it, if they still are those. */
typedef struct npi_candidate {
    const npi_merge *merge;
    size_t place;
} npi_candidate;

/* Room for the longest word so far.  heap[0..heaped): a binary heap, least (rank, place) on top;
 * heap[heaped..heaped + waiting): pairs that came up while one rank is being merged. */
typedef struct npi_merging {
    npi_symbol *symbols;
    npi_candidate *heap;
    size_t room, heaped, waiting;
} npi_merging;

static npos_status make_room(npi_merging *m, size_t bytes) {
    if (bytes <= m->room)
        return NPOS_OK;
    size_t room = bytes > 2 * m->room ? bytes + 64 : 2 * m->room;
    NPI_TRY(npi_grow(&m->symbols, m->room, room, sizeof *m->symbols, "word"));
    /* A word of n bytes has n - 1 pairs and at most n - 1 merges, each of which makes two more. */
    NPI_TRY(npi_grow(&m->heap, 3 * m->room, 3 * room, sizeof *m->heap, "word"));
    m->room = room;
    return NPOS_OK;
}

static bool goes_before(npi_candidate a, npi_candidate b) {
    return a.merge->rank < b.merge->rank || (a.merge->rank == b.merge->rank && a.place < b.place);
}

static void heap_push(npi_merging *m, npi_candidate one) {
    size_t i = m->heaped++;
    for (; i > 0 && goes_before(one, m->heap[(i - 1) / 2]); i = (i - 1) / 2)
        m->heap[i] = m->heap[(i - 1) / 2];
    m->heap[i] = one;
}

/* Takes the top; the last of the heap fills its place and leaves a gap before the waiting ones, which the
 * last of these fills. */
static npi_candidate heap_pop(npi_merging *m) {
    npi_candidate top = m->heap[0], moved = m->heap[--m->heaped];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child + 1 < m->heaped && goes_before(m->heap[child + 1], m->heap[child]))
            child++;
        if (child >= m->heaped || !goes_before(m->heap[child], moved))
            break;
        m->heap[i] = m->heap[child];
        i = child;
    }
    m->heap[i] = moved;
    m->heap[m->heaped] = m->heap[m->heaped + m->waiting];
    return top;
}

/* The pair at `place` waits, if it has a merge. */
static void propose(const npi_tokenizer *t, npi_merging *m, size_t place) {
    if (place == (size_t)NONE || m->symbols[place].behind == (size_t)NONE)
        return;
    const npi_symbol *left = &m->symbols[place];
    const npi_merge *merge = npi_merge_find(t, left->id, m->symbols[left->behind].id);
    if (merge)
        m->heap[m->heaped + m->waiting++] = (npi_candidate){merge, place};
}

static void admit(npi_merging *m) {
    for (; m->waiting > 0; m->waiting--)
        heap_push(m, m->heap[m->heaped]);
}

/* Merges symbols[0..count) as Python's loop does: of all pairs that stand in the word the one of lowest rank,
 * everywhere from left to right, before any pair that this makes is looked at. */
static void merge_word(const npi_tokenizer *t, npi_merging *m, size_t count) {
    m->heaped = m->waiting = 0;
    for (size_t i = 0; i + 1 < count; i++)
        propose(t, m, i);
    admit(m);
    while (m->heaped > 0) {
        const npi_merge *merge = m->heap[0].merge;
        while (m->heaped > 0 && m->heap[0].merge == merge) {
            size_t place = heap_pop(m).place;
            npi_symbol *left = &m->symbols[place];
            if (left->id != merge->left || left->behind == (size_t)NONE)
                continue;
            npi_symbol *right = &m->symbols[left->behind];
            if (right->id != merge->right)
                continue;
            left->id = merge->result;
            left->behind = right->behind;
            right->id = NONE;
            if (left->behind != (size_t)NONE)
                m->symbols[left->behind].before = place;
            propose(t, m, left->before);
            propose(t, m, place);
        }
        admit(m);
    }
}

/* Appends the ids of one word, given as code points. */
static npos_status encode_word(const npi_tokenizer *t, npi_merging *m, const uint32_t *word,
                               size_t length, npi_runes *ids) {
    size_t count = 0, most = 0;
    for (size_t i = 0; i < length; i++)
        most += word[i] < 0x80 ? 1 : 4;
    NPI_TRY(make_room(m, most));
    for (size_t i = 0; i < length; i++) {
        char bytes[4];
        int used = npi_utf8_encode(word[i], bytes);
        for (int b = 0; b < used; b++, count++)
            m->symbols[count] = (npi_symbol){.id = t->inside[(unsigned char)bytes[b]],
                                             .before = count > 0 ? count - 1 : (size_t)NONE,
                                             .behind = count + 1};
        if (i + 1 == length) {
            m->symbols[count - 1].id = t->last[(unsigned char)bytes[used - 1]];
            m->symbols[count - 1].behind = (size_t)NONE;
        }
    }
    merge_word(t, m, count);
    for (size_t i = 0; i != (size_t)NONE; i = m->symbols[i].behind)
        NPI_TRY(npi_runes_push(ids, (uint32_t)m->symbols[i].id));
    return NPOS_OK;
}

npos_status npi_tokenizer_encode(const npi_tokenizer *tokenizer, const char *text, size_t length,
                                 int32_t **ids, int64_t *count) {
    npos_status status = NPOS_OK;
    npi_runes runes = {0}, found = {0};
    npi_merging merging = {0};
    *ids = NULL;
    *count = 0;
    NPI_TRY_GOTO(npi_runes_decode(&runes, text, length), done);
    NPI_TRY_GOTO(npi_clean(&runes), done);
    for (size_t i = 0; i < runes.count;) {
        npi_word_kind kind;
        if (npi_is_skipped(runes.at[i])) {
            i++;
            continue;
        }
        size_t used = word_at(&runes, i, &kind);
        if (kind == WORD_PLAIN)
            status = encode_word(tokenizer, &merging, runes.at + i, used, &found);
        else
            status = npi_runes_push(
                &found, (uint32_t)(kind == WORD_START ? tokenizer->start : tokenizer->end));
        if (status != NPOS_OK)
            goto done;
        i += used;
    }
    NPI_TRY_GOTO(npi_alloc(ids, found.count, sizeof **ids, "tokens"), done);
    for (size_t i = 0; i < found.count; i++)
        (*ids)[i] = (int32_t)found.at[i];
    *count = (int64_t)found.count;
done:
    npi_runes_clear(&runes);
    npi_runes_clear(&found);
    npi_free(merging.symbols);
    npi_free(merging.heap);
    return status;
}

npos_status npi_tokenizer_row(const npi_tokenizer *tokenizer, const char *text, int context,
                              bool truncate, int32_t *row, int *used) {
    int32_t *ids;
    int64_t count;
    if (context < 2)
        return npi_fail(NPOS_INVALID_ARGUMENT, "a text's length is %d tokens, expected at least 2",
                        context);
    NPI_TRY(npi_tokenizer_encode(tokenizer, text, strlen(text), &ids, &count));
    if (count > context - 2) {
        if (!truncate) {
            npi_free(ids);
            return npi_fail(NPOS_INVALID_ARGUMENT,
                            "'%.60s%s' has %lld tokens, at most %d fit the model", text,
                            strlen(text) > 60 ? "..." : "", (long long)count, context - 2);
        }
        count = context - 2;
    }
    memset(row, 0, (size_t)context * sizeof *row);
    row[0] = tokenizer->start;
    memcpy(row + 1, ids, (size_t)count * sizeof *row);
    row[count + 1] = tokenizer->end;
    if (used)
        *used = (int)count + 2;
    npi_free(ids);
    return NPOS_OK;
}
