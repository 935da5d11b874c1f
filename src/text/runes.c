#include "text/runes.h"

#include <string.h>

#include "base/memory.h"

static npos_status reserve(npi_runes *runes, size_t more) {
    if (more <= runes->room - runes->count)
        return NPOS_OK;
    size_t room = runes->room * 2;
    if (room < runes->count + more)
        room = runes->count + more + 64;
    NPI_TRY(npi_grow(&runes->at, runes->room, room, sizeof *runes->at, "text"));
    runes->room = room;
    return NPOS_OK;
}

npos_status npi_runes_push(npi_runes *runes, uint32_t code) {
    NPI_TRY(reserve(runes, 1));
    runes->at[runes->count++] = code;
    return NPOS_OK;
}

npos_status npi_runes_append(npi_runes *runes, const uint32_t *codes, size_t count) {
    NPI_TRY(reserve(runes, count));
    if (count > 0)
        memcpy(runes->at + runes->count, codes, count * sizeof *codes);
    runes->count += count;
    return NPOS_OK;
}

void npi_runes_clear(npi_runes *runes) {
    npi_free(runes->at);
    *runes = (npi_runes){0};
}

int npi_utf8_decode(const char *text, size_t length, uint32_t *code) {
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned char first = (unsigned char)text[0];
    int bytes = first < 0x80 ? 1 : first < 0xC0 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    if (bytes == 0 || first > 0xF4 || (size_t)bytes > length)
        return 0;
    uint32_t value = bytes == 1 ? first : first & (0x7Fu >> bytes);
    for (int i = 1; i < bytes; i++) {
        unsigned char next = (unsigned char)text[i];
        if ((next & 0xC0) != 0x80)
            return 0;
        value = value << 6 | (next & 0x3F);
    }
    if (value < least[bytes] || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF))
        return 0;
    *code = value;
    return bytes;
}

int npi_utf8_encode(uint32_t code, char *bytes) {
    if (code < 0x80) {
        bytes[0] = (char)code;
        return 1;
    }
    int count = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (int i = count - 1; i > 0; i--, code >>= 6)
        bytes[i] = (char)(0x80 | (code & 0x3F));
    bytes[0] = (char)((0xF00u >> count) | code);
    return count;
}

npos_status npi_runes_decode(npi_runes *runes, const char *text, size_t length) {
    NPI_TRY(reserve(runes, length));
    for (size_t at = 0; at < length;) {
        uint32_t code = 0;
        int bytes = npi_utf8_decode(text + at, length - at, &code);
        if (bytes == 0)
            return npi_fail(NPOS_BAD_DATA, "byte %zu (0x%02x) of a text is not UTF-8", at,
                            (unsigned)(unsigned char)text[at]);
        runes->at[runes->count++] = code;
        at += (size_t)bytes;
    }
    return NPOS_OK;
}
