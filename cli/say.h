/* say.h - what the program says on stderr, and how it ends. */
#ifndef CLI_SAY_H
#define CLI_SAY_H

#include <stdbool.h>

#include "npos/status.h"

/* "npos: error: ..." and "hint: ..." (NULL or "": none); returns CLI_USAGE. */
int cli_usage_error(const char *hint, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The exit status of a call of the library; a failure's message and hint go to stderr. */
int cli_finish(npos_status status);

/* Flushes stdout.  Returns `exit_status`, or 1 after telling why stdout could not be written.  A
 * reader that went away (`npos recipes | head -1`) ends the program by SIGPIPE, without a word. */
int cli_flush(int exit_status);

/* Whether writing to stdout failed because who read it went away. */
bool cli_reader_left(void);

/* Whether escape sequences may go to this descriptor: a terminal, TERM not "dumb". */
bool cli_is_terminal(int descriptor);

/* Whether stderr may be coloured: a terminal and no NO_COLOR (no-color.org). */
bool cli_colour(void);

#endif
