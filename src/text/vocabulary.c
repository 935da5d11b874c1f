#include "text/vocabulary.h"

#include <limits.h>
#include <string.h>

#include "base/memory.h"
#include "text/runes.h"

enum { MOST_ID = (1 << 20) - 1 };

static size_t hash_bytes(const char *bytes, size_t length) {
    uint64_t hash = 0xCBF29CE484222325u; /* FNV-1a */
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * 0x100000001B3u;
    return (size_t)(hash ^ hash >> 32);
}

static size_t hash_pair(int32_t left, int32_t right) {
    uint64_t key = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9E3779B97F4A7C15u;
    return (size_t)(key ^ key >> 32);
}

void npi_vocabulary_clear(npi_vocabulary *vocabulary) {
    npi_free(vocabulary->bytes);
    npi_free(vocabulary->tokens);
    *vocabulary = (npi_vocabulary){0};
}

/* The slot of a token, or the empty one where it would go. */
static npi_token *slot_of(const npi_vocabulary *v, const char *token, size_t length) {
    size_t i = hash_bytes(token, length) & (v->slots - 1);
    while (v->tokens[i].length > 0 && (v->tokens[i].length != length ||
                                       memcmp(v->bytes + v->tokens[i].at, token, length) != 0))
        i = (i + 1) & (v->slots - 1);
    return &v->tokens[i];
}

static npos_status more_slots(npi_vocabulary *v) {
    npi_vocabulary bigger = *v;
    bigger.slots = v->slots ? v->slots * 2 : 1024;
    NPI_TRY(npi_alloc(&bigger.tokens, bigger.slots, sizeof *bigger.tokens, "vocabulary"));
    for (size_t i = 0; i < v->slots; i++)
        if (v->tokens[i].length > 0)
            *slot_of(&bigger, v->bytes + v->tokens[i].at, v->tokens[i].length) = v->tokens[i];
    npi_free(v->tokens);
    *v = bigger;
    return NPOS_OK;
}

/* A token for a message: no more of it than a line can show. */
static int shown(size_t length) {
    return length < 64 ? (int)length : 64;
}

npos_status npi_vocabulary_add(npi_vocabulary *v, const char *token, size_t length, int64_t id) {
    if (length == 0)
        return npi_fail(NPOS_BAD_DATA, "a token is empty");
    if (id < 0 || id > MOST_ID)
        return npi_fail(NPOS_BAD_DATA, "token '%.*s' has id %lld, expected 0 to %d", shown(length),
                        token, (long long)id, MOST_ID);
    if (v->count * 2 >= v->slots)
        NPI_TRY(more_slots(v));
    npi_token *slot = slot_of(v, token, length);
    if (slot->length > 0)
        return npi_fail(NPOS_BAD_DATA, "token '%.*s' is there twice, with ids %d and %lld",
                        shown(length), token, slot->id, (long long)id);
    if (length > v->room - v->used) {
        size_t room = (v->room + length) * 2;
        NPI_TRY(npi_grow(&v->bytes, v->room, room, 1, "vocabulary"));
        v->room = room;
    }
    memcpy(v->bytes + v->used, token, length);
    *slot = (npi_token){.at = v->used, .length = length, .id = (int32_t)id};
    v->used += length;
    v->count++;
    if (id > v->highest)
        v->highest = (int32_t)id;
    return NPOS_OK;
}

int32_t npi_vocabulary_find(const npi_vocabulary *v, const char *token, size_t length) {
    if (v->slots == 0 || length == 0)
        return -1;
    const npi_token *slot = slot_of(v, token, length);
    return slot->length > 0 ? slot->id : -1;
}

int npi_byte_letter(int byte, char *letters) {
    uint32_t code = (uint32_t)byte;
    if (byte < 0x21)
        code = 0x100 + code;
    else if (byte >= 0x7F && byte <= 0xA0)
        code = 0x100 + 0x21 + (code - 0x7F);
    else if (byte == 0xAD)
        code = 0x100 + 0x21 + 0x22;
    return npi_utf8_encode(code, letters);
}

static npi_merge *merge_slot(const npi_tokenizer *t, int32_t left, int32_t right) {
    size_t i = hash_pair(left, right) & (t->slots - 1);
    while (t->merges[i].rank != 0 && (t->merges[i].left != left || t->merges[i].right != right))
        i = (i + 1) & (t->slots - 1);
    return &t->merges[i];
}

static npos_status more_merges(npi_tokenizer *t) {
    npi_tokenizer bigger = *t;
    bigger.slots = t->slots ? t->slots * 2 : 1024;
    NPI_TRY(npi_alloc(&bigger.merges, bigger.slots, sizeof *bigger.merges, "merges"));
    for (size_t i = 0; i < t->slots; i++)
        if (t->merges[i].rank != 0)
            *merge_slot(&bigger, t->merges[i].left, t->merges[i].right) = t->merges[i];
    npi_free(t->merges);
    *t = bigger;
    return NPOS_OK;
}

const npi_merge *npi_merge_find(const npi_tokenizer *t, int32_t left, int32_t right) {
    if (t->slots == 0)
        return NULL;
    const npi_merge *merge = merge_slot(t, left, right);
    return merge->rank != 0 ? merge : NULL;
}

npos_status npi_merge_add(npi_tokenizer *t, const npi_vocabulary *v, const char *left,
                          size_t left_length, const char *right, size_t right_length) {
    int32_t a = npi_vocabulary_find(v, left, left_length);
    int32_t b = npi_vocabulary_find(v, right, right_length);
    if (a < 0 || b < 0)
        return npi_fail(NPOS_BAD_DATA, "a merge of '%.*s' and '%.*s', but '%.*s' is no token",
                        shown(left_length), left, shown(right_length), right,
                        a < 0 ? shown(left_length) : shown(right_length), a < 0 ? left : right);
    char *both;
    NPI_TRY(npi_alloc(&both, left_length + right_length, 1, "merge"));
    memcpy(both, left, left_length);
    memcpy(both + left_length, right, right_length);
    int32_t result = npi_vocabulary_find(v, both, left_length + right_length);
    npi_free(both);
    if (result < 0)
        return npi_fail(NPOS_BAD_DATA,
                        "a merge of '%.*s' and '%.*s', but what they make is no token",
                        shown(left_length), left, shown(right_length), right);
    if (t->count * 2 >= t->slots)
        NPI_TRY(more_merges(t));
    npi_merge *slot = merge_slot(t, a, b);
    if (slot->rank != 0)
        return npi_fail(NPOS_BAD_DATA, "a merge of '%.*s' and '%.*s' for the second time",
                        shown(left_length), left, shown(right_length), right);
    if (t->count >= INT32_MAX - 1)
        return npi_fail(NPOS_BAD_DATA, "more merges than fit 32 bits");
    *slot = (npi_merge){.left = a, .right = b, .result = result, .rank = (int32_t)++t->count};
    return NPOS_OK;
}

static npos_status need(const npi_vocabulary *v, const char *token, size_t length, int32_t *id) {
    *id = npi_vocabulary_find(v, token, length);
    if (*id < 0)
        return npi_hint(npi_fail(NPOS_BAD_DATA, "%zu tokens, and '%.*s' is not one of them",
                                 v->count, (int)length, token),
                        "CLIP's vocabulary has all bytes, alone and with </w>, <|startoftext|> and "
                        "<|endoftext|>");
    return NPOS_OK;
}

/* No two tokens may have one id. */
static npos_status check_ids(const npi_vocabulary *v) {
    npi_token *owners;
    npos_status status = NPOS_OK;
    NPI_TRY(npi_alloc(&owners, (size_t)v->highest + 1, sizeof *owners, "vocabulary"));
    for (size_t i = 0; i < v->slots && status == NPOS_OK; i++) {
        npi_token token = v->tokens[i], *owner = &owners[token.id];
        if (token.length == 0)
            continue;
        if (owner->length > 0)
            status = npi_fail(NPOS_BAD_DATA, "tokens '%.*s' and '%.*s' both have id %d",
                              shown(owner->length), v->bytes + owner->at, shown(token.length),
                              v->bytes + token.at, token.id);
        *owner = token;
    }
    npi_free(owners);
    return status;
}

npos_status npi_tokenizer_settle(npi_tokenizer *t, const npi_vocabulary *v) {
    static const char start[] = "<|startoftext|>", end[] = "<|endoftext|>";
    for (int byte = 0; byte < 256; byte++) {
        char letters[8];
        int length = npi_byte_letter(byte, letters);
        NPI_TRY(need(v, letters, (size_t)length, &t->inside[byte]));
        memcpy(letters + length, "</w>", 4);
        NPI_TRY(need(v, letters, (size_t)length + 4, &t->last[byte]));
    }
    NPI_TRY(need(v, start, sizeof start - 1, &t->start));
    NPI_TRY(need(v, end, sizeof end - 1, &t->end));
    t->size = v->highest + 1;
    return check_ids(v);
}
