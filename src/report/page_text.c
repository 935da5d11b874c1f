#include "report/page_text.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"

void npi_page_clear(npi_page *page) {
    npi_free(page->bytes);
    *page = (npi_page){0};
}

/* Room for `more` bytes and a zero byte. */
static bool reserve(npi_page *page, size_t more) {
    if (page->status != NPOS_OK)
        return false;
    size_t need = page->length + more + 1;
    if (need <= page->room)
        return true;
    size_t room = page->room ? page->room : 4096;
    while (room < need)
        room *= 2;
    page->status = npi_grow(&page->bytes, page->room, room, 1, "page");
    if (page->status == NPOS_OK)
        page->room = room;
    return page->status == NPOS_OK;
}

void npi_page_bytes(npi_page *page, const char *bytes, size_t length) {
    if (!reserve(page, length))
        return;
    memcpy(page->bytes + page->length, bytes, length);
    page->length += length;
    page->bytes[page->length] = '\0';
}

void npi_page_add(npi_page *page, const char *format, ...) {
    va_list list, again;
    va_start(list, format);
    va_copy(again, list);
    int length = vsnprintf(NULL, 0, format, list);
    if (length >= 0 && reserve(page, (size_t)length)) {
        vsnprintf(page->bytes + page->length, (size_t)length + 1, format, again);
        page->length += (size_t)length;
    }
    va_end(again);
    va_end(list);
}

/* Bytes of the UTF-8 character at `s`, 0 when it is none (RFC 3629: no surrogates, no overlong
 * forms). */
static size_t utf8_length(const unsigned char *s) {
    static const struct {
        unsigned char lo, hi, next_lo, next_hi;
        size_t length;
    } rows[] = {
        {0x00, 0x7f, 0, 0, 1},       {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4}};
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        if (s[0] < rows[r].lo || s[0] > rows[r].hi)
            continue;
        if (rows[r].length > 1 && (s[1] < rows[r].next_lo || s[1] > rows[r].next_hi))
            return 0;
        for (size_t i = 2; i < rows[r].length; i++)
            if ((s[i] & 0xc0) != 0x80)
                return 0;
        return rows[r].length;
    }
    return 0;
}

void npi_page_escape(npi_page *page, const char *text) {
    const unsigned char *s = (const unsigned char *)text;
    while (*s) {
        size_t length = utf8_length(s);
        bool control = (*s < ' ' && *s != '\n' && *s != '\t' && *s != '\r') || *s == 127;
        const char *entity = *s == '&'                ? "&amp;"
                             : *s == '<'              ? "&lt;"
                             : *s == '>'              ? "&gt;"
                             : *s == '"'              ? "&quot;"
                             : *s == '\''             ? "&#39;"
                             : control || length == 0 ? "\xef\xbf\xbd"
                                                      : NULL;
        if (entity)
            npi_page_bytes(page, entity, strlen(entity));
        else
            npi_page_bytes(page, (const char *)s, length);
        s += length ? length : 1;
    }
}

void npi_page_base64(npi_page *page, const void *bytes, size_t length) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *in = bytes;
    size_t size = (length + 2) / 3 * 4;
    if (!reserve(page, size))
        return;
    char *to = page->bytes + page->length;
    for (size_t i = 0; i < length; i += 3, to += 4) {
        size_t left = length - i;
        uint32_t word = (uint32_t)in[i] << 16 | (left > 1 ? (uint32_t)in[i + 1] << 8 : 0u) |
                        (left > 2 ? (uint32_t)in[i + 2] : 0u);
        to[0] = digits[word >> 18];
        to[1] = digits[word >> 12 & 63];
        to[2] = left > 1 ? digits[word >> 6 & 63] : '=';
        to[3] = left > 2 ? digits[word & 63] : '=';
    }
    page->length += size;
    page->bytes[page->length] = '\0';
}
