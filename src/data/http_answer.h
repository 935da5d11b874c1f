/* data/http_answer.h - what the headers of a web server's answer say of the file that it sends. */
#ifndef NPI_DATA_HTTP_ANSWER_H
#define NPI_DATA_HTTP_ANSWER_H

#include <stddef.h>
#include <stdint.h>

enum { NPI_HTTP_TAG = 256 };

typedef struct npi_http_answer {
    char
        tag[NPI_HTTP_TAG]; /* of this version of the file: a strong ETag, else its date; "": none */
    int64_t range_start,
        total; /* Content-Range: the first byte that is sent, the bytes of the whole file; -1: not said */
} npi_http_answer;

/* Nothing said yet. */
void npi_http_answer_begin(npi_http_answer *answer);

/* Takes one line of headers, which need not end with a zero; a status line ("HTTP/1.1 200 OK") begins anew, as behind a
 * redirect.  A tag that is too long or holds control characters is none: it goes into a later request as it is. */
void npi_http_header(npi_http_answer *answer, const char *line, size_t length);

#endif
