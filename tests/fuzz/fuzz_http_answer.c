/* Headers of web servers: what is taken from them is in bounds and can go into a request as it is. */
#include <stdlib.h>
#include <string.h>

#include "data/http_answer.h"
#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    npi_http_answer answer;
    npi_http_answer_begin(&answer);
    for (size_t at = 0; at < size;) {
        const uint8_t *end = memchr(data + at, '\n', size - at);
        size_t length = end ? (size_t)(end - data) - at + 1 : size - at;
        char *line = malloc(length); /* of its own, so that a sanitizer sees its end */
        if (!line)
            abort();
        memcpy(line, data + at, length);
        npi_http_header(&answer, line, length);
        free(line);
        at += length;
        if (answer.range_start < -1 || answer.total < -1 || answer.total == 0)
            abort();
        if (answer.total >= 0 && answer.range_start >= answer.total)
            abort();
        if (!memchr(answer.tag, '\0', sizeof answer.tag))
            abort();
        for (const char *c = answer.tag; *c; c++)
            if ((unsigned char)*c < ' ' || *c == 127)
                abort();
    }
    return 0;
}
