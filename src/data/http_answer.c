#include "data/http_answer.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

void npi_http_answer_begin(npi_http_answer *answer) {
    answer->tag[0] = '\0';
    answer->range_start = answer->total = -1;
}

/* The value of a header line that is called `name`, blanks at both ends dropped. */
static bool header_is(const char *line, size_t length, const char *name, const char **value,
                      size_t *size) {
    size_t n = strlen(name);
    if (length < n + 1 || strncasecmp(line, name, n) != 0 || line[n] != ':')
        return false;
    line += n + 1;
    length -= n + 1;
    while (length > 0 && (*line == ' ' || *line == '\t'))
        line++, length--;
    while (length > 0 && (unsigned char)line[length - 1] <= ' ')
        length--;
    *value = line;
    *size = length;
    return true;
}

static void take_tag(npi_http_answer *answer, const char *value, size_t size) {
    if (size >= sizeof answer->tag)
        return;
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)value[i] < ' ' || value[i] == 127)
            return;
    memcpy(answer->tag, value, size);
    answer->tag[size] = '\0';
}

/* Digits at *at, which moves behind them; -1: there are none, or too many. */
static int64_t number(const char **at, const char *end) {
    int64_t value = 0;
    const char *start = *at;
    for (; *at < end && **at >= '0' && **at <= '9'; ++*at) {
        if (value > (INT64_MAX - 9) / 10)
            return -1;
        value = 10 * value + (**at - '0');
    }
    return *at > start ? value : -1;
}

/* "bytes 100-199/1000", "bytes 100-199" followed by "/" and "*" where the whole is not known. */
static void take_range(npi_http_answer *answer, const char *at, size_t size) {
    const char *end = at + size;
    /* a second one, or one that cannot be read, is none */
    answer->range_start = answer->total = -1;
    if (size < 6 || strncasecmp(at, "bytes ", 6) != 0)
        return;
    at += 6;
    int64_t first = number(&at, end);
    if (first < 0 || at == end || *at++ != '-')
        return;
    int64_t last = number(&at, end);
    if (last < first)
        return;
    answer->range_start = first;
    if (at == end || *at++ != '/')
        return;
    int64_t total = number(&at, end);
    if (total > last)
        answer->total = total;
}

void npi_http_header(npi_http_answer *answer, const char *line, size_t length) {
    const char *value;
    size_t size;
    if (length > 5 && memcmp(line, "HTTP/", 5) == 0)
        npi_http_answer_begin(answer);
    else if (header_is(line, length, "ETag", &value, &size)) {
        if (size < 2 || memcmp(value, "W/", 2) != 0) /* weak ones do not promise equal bytes */
            take_tag(answer, value, size);
    } else if (header_is(line, length, "Last-Modified", &value, &size)) {
        if (!answer->tag[0])
            take_tag(answer, value, size);
    } else if (header_is(line, length, "Content-Range", &value, &size)) {
        take_range(answer, value, size);
    }
}
