#include "text/html.h"

#include <stdbool.h>
#include <string.h>

#include "text/unicode.h"

typedef struct npi_entity {
    const char *name, *text; /* name without '&', with ';' where it has one; text in UTF-8 */
} npi_entity;

#include "text/html_entities.inc"

#define COUNT(table) (sizeof(table) / sizeof(table)[0])

enum {
    LONGEST = 33,       /* characters of a name with its semicolon that html.unescape looks at */
    LONGEST_WHOLE = 24, /* of a reference between '&' or "&#" and ';' that ftfy looks at */
    REPLACEMENT = 0xFFFD
};

/* Every reference is at least as long as what it stands for, so texts shrink in place: `from` is read
 * before `to` overtakes it. */
typedef struct npi_cursor {
    uint32_t *at;
    size_t count, from, to;
} npi_cursor;

static void put(npi_cursor *text, uint32_t code) {
    text->at[text->to++] = code;
}

static void put_utf8(npi_cursor *text, const char *bytes) {
    for (size_t left = strlen(bytes); left > 0;) {
        uint32_t code = REPLACEMENT;
        int used = npi_utf8_decode(bytes, left, &code);
        used += used == 0;
        put(text, code);
        bytes += used;
        left -= (size_t)used;
    }
}

static const char *find_name(const npi_entity *table, size_t count, const char *name,
                             size_t length) {
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strncmp(table[middle].name, name, length);
        if (order == 0 && table[middle].name[length] == '\0')
            return table[middle].text;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static int digit_of(uint32_t code, bool hex) {
    if (code >= '0' && code <= '9')
        return (int)code - '0';
    uint32_t low = code | 0x20;
    return hex && low >= 'a' && low <= 'f' ? (int)low - 'a' + 10 : -1;
}

/* A numbered reference at text[i], just behind "&#".  Returns the place behind its digits, i where there
 * are none; *code = its number, saturated. */
static size_t read_number(const npi_cursor *text, size_t i, uint32_t *code) {
    size_t begin = i;
    bool hex = i < text->count && (text->at[i] | 0x20) == 'x';
    size_t digits = i += hex;
    *code = 0;
    for (; i < text->count && digit_of(text->at[i], hex) >= 0; i++)
        if (*code <= 0x10FFFF)
            *code = *code * (hex ? 16 : 10) + (uint32_t)digit_of(text->at[i], hex);
    return i > digits ? i : begin;
}

/* Puts what a numbered reference stands for; nothing for those that HTML forbids. */
static void put_number(npi_cursor *text, uint32_t code) {
    for (size_t i = 0; i < COUNT(numbered_exceptions); i++)
        if (numbered_exceptions[i].code == code) {
            put(text, numbered_exceptions[i].a);
            return;
        }
    if ((code >= 0xD800 && code <= 0xDFFF) || code > 0x10FFFF)
        put(text, REPLACEMENT);
    else if (!npi_code_in(numbered_nothings, COUNT(numbered_nothings), code))
        put(text, code);
}

static bool ends_name(uint32_t code) {
    return code == '\t' || code == '\n' || code == '\f' || code == ' ' || code == '<' ||
           code == '&' || code == '#' || code == ';';
}

/* text->from is behind an '&' that a name may follow.  Puts the longest known name's text, or the '&',
 * and leaves `from` where reading goes on. */
static void unescape_name(npi_cursor *text) {
    char name[LONGEST + 1];
    size_t i = text->from, length = 0, ascii;
    while (length < LONGEST - 1 && i + length < text->count && !ends_name(text->at[i + length]))
        length++;
    if (length > 0 && i + length < text->count && text->at[i + length] == ';')
        length++;
    for (ascii = 0; ascii < length && text->at[i + ascii] < 0x80; ascii++)
        name[ascii] = (char)text->at[i + ascii];
    for (size_t used = ascii; used >= 2; used--) {
        const char *found = find_name(html_entities, COUNT(html_entities), name, used);
        if (found) {
            put_utf8(text, found);
            text->from = i + used;
            return;
        }
    }
    put(text, '&');
}

void npi_html_unescape(npi_runes *runes) {
    npi_cursor text = {runes->at, runes->count, 0, 0};
    while (text.from < text.count) {
        uint32_t code = text.at[text.from++];
        if (code != '&') {
            put(&text, code);
        } else if (text.from < text.count && text.at[text.from] == '#') {
            uint32_t number;
            size_t end = read_number(&text, text.from + 1, &number);
            if (end == text.from + 1) {
                put(&text, '&');
                continue;
            }
            text.from = end + (end < text.count && text.at[end] == ';');
            put_number(&text, number);
        } else {
            unescape_name(&text);
        }
    }
    runes->count = text.to;
}

static bool is_name_letter(uint32_t code) {
    return (code >= '0' && code <= '9') || ((code | 0x20) >= 'a' && (code | 0x20) <= 'z');
}

/* text->from is behind an '&': puts what a whole reference stands for and moves behind it; false where
 * none is there. */
static bool unescape_whole(npi_cursor *text) {
    char name[LONGEST_WHOLE + 2];
    size_t i = text->from, length = 0;
    bool numbered = i < text->count && text->at[i] == '#';
    i += numbered;
    while (length < LONGEST_WHOLE && i + length < text->count &&
           is_name_letter(text->at[i + length])) {
        name[length] = (char)text->at[i + length];
        length++;
    }
    if (length == 0 || i + length >= text->count || text->at[i + length] != ';')
        return false;
    if (numbered) {
        uint32_t number;
        if (read_number(text, i, &number) != i + length || number == ';')
            return false;
        text->from = i + length + 1;
        put_number(text, number);
        return true;
    }
    name[length] = ';';
    const char *found = find_name(html_entities, COUNT(html_entities), name, length + 1);
    if (!found)
        found = find_name(capital_entities, COUNT(capital_entities), name, length + 1);
    if (!found)
        return false;
    text->from = i + length + 1;
    put_utf8(text, found);
    return true;
}

void npi_html_unescape_whole(npi_runes *runes) {
    npi_cursor text = {runes->at, runes->count, 0, 0};
    while (text.from < text.count) {
        uint32_t code = text.at[text.from++];
        if (code != '&' || !unescape_whole(&text))
            put(&text, code);
    }
    runes->count = text.to;
}
