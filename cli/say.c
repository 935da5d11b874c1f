#include "say.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arguments.h"
#include "progress.h"

bool cli_is_terminal(int descriptor) {
    const char *term = getenv("TERM");
    return isatty(descriptor) && term && strcmp(term, "dumb") != 0;
}

bool cli_colour(void) {
    const char *no = getenv("NO_COLOR");
    return (!no || !*no) && cli_is_terminal(STDERR_FILENO);
}

static void say_error(const char *message, const char *hint) {
    bool colour = cli_colour();
    cli_progress_break();
    fprintf(stderr, "npos: %serror:%s %s\n", colour ? "\x1b[1;31m" : "", colour ? "\x1b[0m" : "",
            message);
    if (hint && *hint)
        fprintf(stderr, "%shint:%s %s\n", colour ? "\x1b[1;36m" : "", colour ? "\x1b[0m" : "",
                hint);
}

int cli_usage_error(const char *hint, const char *format, ...) {
    char message[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    say_error(message, hint);
    return CLI_USAGE;
}

bool cli_reader_left(void) {
    struct pollfd out = {STDOUT_FILENO, POLLOUT, 0};
    return ferror(stdout) && poll(&out, 1, 0) > 0 && (out.revents & POLLERR);
}

int cli_finish(npos_status status) {
    if (status == NPOS_OK)
        return 0;
    if (!cli_reader_left())
        say_error(npos_error_message(), npos_error_hint());
    return npos_status_exit(status);
}

int cli_flush(int exit_status) {
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return exit_status;
    if (cli_reader_left()) {
        signal(SIGPIPE, SIG_DFL);
        raise(SIGPIPE);
    }
    say_error("cannot write to standard output", errno ? strerror(errno) : NULL);
    return exit_status ? exit_status : 1;
}
