#include "text/clean.h"

#include <stdbool.h>
#include <string.h>

#include "text/html.h"
#include "text/unicode.h"

enum { MOST_ROUNDS = 64 };

static bool same(const npi_runes *a, const npi_runes *b) {
    return a->count == b->count &&
           (a->count == 0 || memcmp(a->at, b->at, a->count * sizeof *a->at) == 0);
}

/* Takes out "ESC [ digits and semicolons, one letter", in place. */
static void drop_terminal_escapes(npi_runes *text) {
    size_t kept = 0;
    for (size_t i = 0; i < text->count; i++) {
        uint32_t code = text->at[i];
        if (code == 0x1B && i + 1 < text->count && text->at[i + 1] == '[') {
            size_t end = i + 2;
            while (end < text->count && (text->at[end] == ';' || npi_is_digit(text->at[end])))
                end++;
            if (end < text->count && (text->at[end] | 0x20) >= 'a' &&
                (text->at[end] | 0x20) <= 'z') {
                i = end;
                continue;
            }
        }
        text->at[kept++] = code;
    }
    text->count = kept;
}

static void drop_controls(npi_runes *text) {
    size_t kept = 0;
    for (size_t i = 0; i < text->count; i++)
        if (!npi_is_removed(text->at[i]))
            text->at[kept++] = text->at[i];
    text->count = kept;
}

/* One line as ftfy's fix_and_explain: rounds of all steps until one changes nothing.  The result is in
 * `line`; the other two are room. */
static npos_status fix_line(npi_runes *line, npi_runes *next, npi_runes *room, bool unescape) {
    for (int round = 0; round < MOST_ROUNDS; round++) {
        room->count = next->count = 0;
        NPI_TRY(npi_runes_append(room, line->at, line->count));
        if (unescape)
            npi_html_unescape_whole(room);
        NPI_TRY(npi_repair(room, next));
        drop_terminal_escapes(next);
        drop_controls(next);
        room->count = 0;
        NPI_TRY(npi_normalise(next, room));
        if (same(line, room))
            return NPOS_OK;
        npi_runes was = *line;
        *line = *room;
        *room = was;
    }
    return npi_fail(NPOS_BAD_DATA,
                    "a text nests character references or terminal escapes deeper than %d levels",
                    MOST_ROUNDS);
}

/* ftfy's fix_text: a literal '<' marks HTML, whose references stay from its line on. */
static npos_status fix_text(npi_runes *text) {
    npi_runes out = {0}, line = {0}, next = {0}, room = {0};
    npos_status status = NPOS_OK;
    bool unescape = true;
    for (size_t from = 0; from < text->count;) {
        size_t end = from;
        while (end < text->count && text->at[end] != '\n') {
            unescape = unescape && text->at[end] != '<';
            end++;
        }
        end += end < text->count;
        line.count = 0;
        NPI_TRY_GOTO(npi_runes_append(&line, text->at + from, end - from), done);
        NPI_TRY_GOTO(fix_line(&line, &next, &room, unescape), done);
        NPI_TRY_GOTO(npi_runes_append(&out, line.at, line.count), done);
        from = end;
    }
    npi_runes was = *text;
    *text = out;
    out = was;
done:
    npi_runes_clear(&out);
    npi_runes_clear(&line);
    npi_runes_clear(&next);
    npi_runes_clear(&room);
    return status;
}

static void single_blanks(npi_runes *text) {
    size_t kept = 0;
    bool blank = false;
    for (size_t i = 0; i < text->count; i++) {
        if (npi_is_space(text->at[i])) {
            blank = kept > 0;
            continue;
        }
        if (blank)
            text->at[kept++] = ' ';
        blank = false;
        text->at[kept++] = text->at[i];
    }
    text->count = kept;
}

npos_status npi_clean(npi_runes *text) {
    npi_runes low = {0};
    NPI_TRY(fix_text(text));
    npi_html_unescape(text);
    npi_html_unescape(text);
    single_blanks(text);
    npos_status status = npi_lower(text, &low);
    if (status == NPOS_OK) {
        npi_runes was = *text;
        *text = low;
        low = was;
    }
    npi_runes_clear(&low);
    return status;
}
