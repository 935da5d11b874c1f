#include "base/clock.h"

#include <signal.h>
#include <time.h>

double npi_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void npi_utc_now(char text[32]) {
    time_t now = time(NULL);
    struct tm utc;
    gmtime_r(&now, &utc);
    strftime(text, 32, "%Y-%m-%dT%H:%M:%SZ", &utc);
}

static volatile sig_atomic_t stop;
static int depth;
static struct sigaction old_int, old_term;

static void request(int number) {
    stop = 1;
    signal(number, SIG_DFL); /* the second one ends the program */
}

void npi_stop_watch(void) {
    if (depth++ != 0)
        return;
    stop = 0;
    struct sigaction action = {.sa_handler = request, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, &old_int);
    sigaction(SIGTERM, &action, &old_term);
}

void npi_stop_unwatch(void) {
    if (--depth != 0)
        return;
    sigaction(SIGINT, &old_int, NULL);
    sigaction(SIGTERM, &old_term, NULL);
}

bool npi_stop_requested(void) {
    return stop != 0;
}
