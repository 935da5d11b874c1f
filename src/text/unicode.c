#include "text/unicode.h"

#include <string.h>

typedef struct npi_code_lower {
    uint32_t first, last, stride;
    int32_t delta;
} npi_code_lower;

typedef struct npi_code_mark {
    uint32_t first, last;
    uint8_t class; /* canonical combining class */
} npi_code_mark;

typedef struct npi_code_repair {
    uint32_t code, into[3];
} npi_code_repair;

#include "text/unicode_tables.inc"

#define COUNT(table) (sizeof(table) / sizeof(table)[0])

/* All tables begin their rows with the first code point.  Row whose first is the greatest that is not
 * above `code`, or NULL. */
static const void *row_of(const void *table, size_t count, size_t size, uint32_t code) {
    const char *rows = table;
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        uint32_t first;
        memcpy(&first, rows + middle * size, sizeof first);
        if (first <= code)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 ? rows + (low - 1) * size : NULL;
}
#define ROW_OF(table, code) row_of(table, COUNT(table), sizeof(table)[0], code)

bool npi_code_in(const npi_code_range *ranges, size_t count, uint32_t code) {
    const npi_code_range *range = row_of(ranges, count, sizeof *ranges, code);
    return range && code <= range->last;
}

bool npi_is_letter(uint32_t code) {
    return npi_code_in(letter_codes, COUNT(letter_codes), code);
}

bool npi_is_number(uint32_t code) {
    return npi_code_in(number_codes, COUNT(number_codes), code);
}

bool npi_is_skipped(uint32_t code) {
    return npi_code_in(skipped_codes, COUNT(skipped_codes), code);
}

bool npi_is_digit(uint32_t code) {
    return npi_code_in(digit_codes, COUNT(digit_codes), code);
}

bool npi_is_space(uint32_t code) {
    return npi_code_in(space_codes, COUNT(space_codes), code);
}

bool npi_is_removed(uint32_t code) {
    return npi_code_in(removed_codes, COUNT(removed_codes), code);
}

static bool is_cased(uint32_t code) {
    return npi_code_in(cased_codes, COUNT(cased_codes), code);
}

static bool is_case_ignorable(uint32_t code) {
    return npi_code_in(case_ignorable_codes, COUNT(case_ignorable_codes), code);
}

/* The sigma text[i] ends a word: a cased character before it, none behind, those without case between
 * passed over (Unicode, Final_Sigma). */
static bool ends_word(const npi_runes *text, size_t i) {
    size_t before = i, behind = i + 1;
    while (before > 0 && is_case_ignorable(text->at[before - 1]))
        before--;
    while (behind < text->count && is_case_ignorable(text->at[behind]))
        behind++;
    return before > 0 && is_cased(text->at[before - 1]) &&
           !(behind < text->count && is_cased(text->at[behind]));
}

npos_status npi_lower(const npi_runes *text, npi_runes *out) {
    enum { SIGMA = 0x3A3, FINAL_SIGMA = 0x3C2, DOTTED_I = 0x130, DOT_ABOVE = 0x307 };
    for (size_t i = 0; i < text->count; i++) {
        uint32_t code = text->at[i];
        const npi_code_lower *row = ROW_OF(lower_codes, code);
        if (code == DOTTED_I) {
            NPI_TRY(npi_runes_append(out, (const uint32_t[]){'i', DOT_ABOVE}, 2));
            continue;
        }
        if (code == SIGMA && ends_word(text, i))
            code = FINAL_SIGMA;
        else if (row && code <= row->last && (code - row->first) % row->stride == 0)
            code = (uint32_t)((int32_t)code + row->delta);
        NPI_TRY(npi_runes_push(out, code));
    }
    return NPOS_OK;
}

npos_status npi_repair(const npi_runes *text, npi_runes *out) {
    for (size_t i = 0; i < text->count; i++) {
        uint32_t code = text->at[i];
        const npi_code_repair *row = ROW_OF(repaired_codes, code);
        if (!row || row->code != code) {
            NPI_TRY(npi_runes_push(out, code));
            continue;
        }
        size_t count = row->into[2] ? 3 : row->into[1] ? 2 : 1;
        NPI_TRY(npi_runes_append(out, row->into, count));
    }
    return NPOS_OK;
}

/* ---- normalisation form C ------------------------------------------------------------------------- */

/* Hangul syllables are composed by arithmetic (The Unicode Standard, section 3.12). */
enum {
    HANGUL = 0xAC00,
    HANGUL_L = 0x1100,
    HANGUL_V = 0x1161,
    HANGUL_T = 0x11A7,
    HANGUL_LS = 19,
    HANGUL_VS = 21,
    HANGUL_TS = 28,
    HANGULS = HANGUL_LS * HANGUL_VS * HANGUL_TS
};

static uint8_t combining_class(uint32_t code) {
    const npi_code_mark *row = ROW_OF(mark_codes, code);
    return row && code <= row->last ? row->class : 0;
}

/* Appends the full canonical decomposition: only first parts are decomposed further. */
static npos_status decompose(uint32_t code, npi_runes *out) {
    uint32_t tail[8];
    size_t tails = 0;
    if (code >= HANGUL && code < HANGUL + HANGULS) {
        uint32_t at = code - HANGUL, t = at % HANGUL_TS;
        uint32_t parts[3] = {HANGUL_L + at / (HANGUL_VS * HANGUL_TS),
                             HANGUL_V + at / HANGUL_TS % HANGUL_VS, HANGUL_T + t};
        return npi_runes_append(out, parts, t ? 3 : 2);
    }
    for (;;) {
        const npi_code_pair *row = ROW_OF(decomposed_codes, code);
        if (!row || row->code != code || tails == COUNT(tail))
            break;
        if (row->b)
            tail[tails++] = row->b;
        code = row->a;
    }
    NPI_TRY(npi_runes_push(out, code));
    while (tails > 0)
        NPI_TRY(npi_runes_push(out, tail[--tails]));
    return NPOS_OK;
}

/* Orders marks by class, equal ones as they stood: counting, so that a long run of marks costs no more
 * than classes x marks. */
static npos_status order_marks(uint32_t *marks, size_t count, npi_runes *scratch) {
    bool sorted = true;
    for (size_t i = 1; i < count && sorted; i++)
        sorted = combining_class(marks[i - 1]) <= combining_class(marks[i]);
    if (sorted)
        return NPOS_OK;
    size_t places[257] = {0};
    scratch->count = 0;
    NPI_TRY(npi_runes_append(scratch, marks, count));
    for (size_t i = 0; i < count; i++)
        places[combining_class(marks[i]) + 1]++;
    for (size_t class = 1; class < 257; class ++)
        places[class] += places[class - 1];
    for (size_t i = 0; i < count; i++)
        marks[places[combining_class(scratch->at[i])]++] = scratch->at[i];
    return NPOS_OK;
}

/* The composed character of two, or 0. */
static uint32_t compose(uint32_t a, uint32_t b) {
    if (a >= HANGUL_L && a < HANGUL_L + HANGUL_LS && b >= HANGUL_V && b < HANGUL_V + HANGUL_VS)
        return HANGUL + ((a - HANGUL_L) * HANGUL_VS + (b - HANGUL_V)) * HANGUL_TS;
    if (a >= HANGUL && a < HANGUL + HANGULS && (a - HANGUL) % HANGUL_TS == 0 && b > HANGUL_T &&
        b < HANGUL_T + HANGUL_TS)
        return a + (b - HANGUL_T);
    size_t low = 0, high = COUNT(composing_pairs);
    while (low < high) {
        size_t middle = (low + high) / 2;
        const npi_code_pair *pair = &decomposed_codes[composing_pairs[middle]];
        if (pair->a == a && pair->b == b)
            return pair->code;
        if (pair->a < a || (pair->a == a && pair->b < b))
            low = middle + 1;
        else
            high = middle;
    }
    return 0;
}

/* Composes text[0..count) in place and returns how many are left.  A character joins the last starter
 * unless one of its own class, or of none, stands between. */
static size_t compose_all(uint32_t *text, size_t count) {
    size_t starter = count, kept = 0;
    uint8_t before = 0;
    for (size_t i = 0; i < count; i++) {
        uint8_t class = combining_class(text[i]);
        bool adjacent = starter < kept && kept == starter + 1;
        if (starter < kept && (adjacent || (before < class && before != 0))) {
            uint32_t joined = compose(text[starter], text[i]);
            if (joined) {
                text[starter] = joined;
                continue;
            }
        }
        if (class == 0)
            starter = kept;
        before = class;
        text[kept++] = text[i];
    }
    return kept;
}

npos_status npi_normalise(const npi_runes *text, npi_runes *out) {
    npos_status status = NPOS_OK;
    npi_runes scratch = {0};
    size_t begin = out->count, plain = 0;
    while (plain < text->count && text->at[plain] < 0x300) /* composed already, and no marks */
        plain++;
    if (plain == text->count)
        return npi_runes_append(out, text->at, text->count);
    for (size_t i = 0; i < text->count; i++)
        NPI_TRY_GOTO(decompose(text->at[i], out), done);
    for (size_t i = begin; i < out->count;) {
        size_t end = i;
        while (end < out->count && combining_class(out->at[end]) != 0)
            end++;
        if (end > i)
            NPI_TRY_GOTO(order_marks(out->at + i, end - i, &scratch), done);
        i = end + 1;
    }
    out->count = begin + compose_all(out->at + begin, out->count - begin);
done:
    npi_runes_clear(&scratch);
    return status;
}
