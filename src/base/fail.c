#include "base/fail.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MESSAGE_BYTES = 2048 };

static _Thread_local char message[MESSAGE_BYTES];
static _Thread_local char hint[MESSAGE_BYTES];

npos_status npi_fail(npos_status status, const char *format, ...) {
    char text[MESSAGE_BYTES]; /* the arguments may point into the old message */
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    memcpy(message, text, sizeof text);
    hint[0] = '\0';
    return status;
}

npos_status npi_fail_errno(const char *format, ...) {
    const char *reason = strerror(errno);
    char text[MESSAGE_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return npi_fail(NPOS_IO, "%s: %s", text, reason);
}

npos_status npi_hint(npos_status status, const char *format, ...) {
    char text[MESSAGE_BYTES]; /* the arguments may point into the old hint */
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    memcpy(hint, text, sizeof text);
    return status;
}

npos_status npi_fail_in(npos_status status, const char *format, ...) {
    char context[MESSAGE_BYTES / 4];
    char whole[MESSAGE_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(context, sizeof context, format, args);
    va_end(args);
    int used = snprintf(whole, sizeof whole, "%s: ", context);
    snprintf(whole + used, sizeof whole - (size_t)used, "%.*s",
             (int)(sizeof whole - (size_t)used - 1), message);
    memcpy(message, whole, sizeof whole);
    return status;
}

const char *npos_error_message(void) {
    return message;
}

const char *npos_error_hint(void) {
    return hint;
}

static const struct {
    const char *name, *text;
    int exit_status;
} rows[] = {
#define NPOS_STATUS_ROW(code, name, exit_status, text) {name, text, exit_status},
    NPOS_STATUS_MAP(NPOS_STATUS_ROW)
#undef NPOS_STATUS_ROW
};

static int known(npos_status status) {
    return (unsigned)status < sizeof rows / sizeof *rows;
}

const char *npos_status_name(npos_status status) {
    return known(status) ? rows[status].name : "unknown";
}

const char *npos_status_text(npos_status status) {
    return known(status) ? rows[status].text : "unknown status";
}

int npos_status_exit(npos_status status) {
    return known(status) ? rows[status].exit_status : 1;
}
