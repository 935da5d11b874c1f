#include "io/json_text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"

/* Bytes of the well-formed UTF-8 sequence at `s` (Unicode 15, table 3-7), 0 when there is none. */
static size_t sequence(const unsigned char *s) {
    static const struct {
        unsigned char first_lo, first_hi, second_lo, second_hi, length;
    } forms[] = {
        {0x01, 0x7f, 0, 0, 1},       {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if (s[0] < forms[i].first_lo || s[0] > forms[i].first_hi)
            continue;
        if (forms[i].length > 1 && (s[1] < forms[i].second_lo || s[1] > forms[i].second_hi))
            return 0;
        for (size_t j = 2; j < forms[i].length; j++)
            if (s[j] < 0x80 || s[j] > 0xbf)
                return 0;
        return forms[i].length;
    }
    return 0;
}

json_t *npi_json_text(const char *text) {
    static const char replacement[] = "\xef\xbf\xbd";
    char *clean;
    if (npi_alloc(&clean, 3 * strlen(text) + 1, 1, "JSON text") != NPOS_OK)
        return NULL;
    char *to = clean;
    for (const unsigned char *at = (const unsigned char *)text; *at;) {
        size_t length = sequence(at);
        memcpy(to, length ? (const char *)at : replacement, length ? length : 3);
        to += length ? length : 3;
        at += length ? length : 1;
    }
    json_t *out = json_string(clean);
    npi_free(clean);
    return out;
}

json_t *npi_json_number(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

npos_status npi_json_write(json_t *root, const char *path) {
    char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
    json_decref(root);
    if (!text)
        return npi_fail(NPOS_OUT_OF_MEMORY, "%s: no memory for the JSON text", path);
    npi_atomic file;
    npos_status status = npi_atomic_open(&file, path);
    if (status == NPOS_OK) {
        fprintf(file.stream, "%s\n", text);
        status = npi_atomic_commit(&file);
    }
    free(text);
    return status;
}
