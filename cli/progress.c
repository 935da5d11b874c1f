#include "progress.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "say.h"

/* Repaints of the bar are at least this far apart; plain lines come every tenth of the work, but
 * not within PLAIN_SOONEST seconds of the last, and after plain_latest seconds at the latest. */
#define REPAINT 0.1
#define PLAIN_SOONEST 1.0

enum { PHASE_BYTES = 64, LINE_BYTES = 512, BAR_CELLS = 24 };

static struct {
    char phase[PHASE_BYTES];
    double began, told; /* seconds: of the phase, of the last line or repaint */
    int64_t first;      /* `done` at the phase's first call: a resumed job starts within */
    int64_t told_done;
    bool on_screen; /* the bar's line is not ended yet */
    bool finished;  /* the phase's last line was printed */
} now;

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void cli_duration(double s, char text[16]) {
    int whole = s > 0 && s < 1e8 ? (int)(s + 0.5) : 0;
    if (whole < 10)
        snprintf(text, 16, "%.1f s", s > 0 && s < 1e8 ? s : 0.0);
    else if (whole < 60)
        snprintf(text, 16, "%d s", whole);
    else if (whole < 3600)
        snprintf(text, 16, "%dm%02ds", whole / 60, whole % 60);
    else
        snprintf(text, 16, "%dh%02dm", whole / 3600, whole / 60 % 60);
}

static double plain_latest(double elapsed) {
    return elapsed < 60 ? 5 : elapsed < 600 ? 15 : 60;
}

static int columns(void) {
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= 20)
        return size.ws_col;
    return 80;
}

void cli_progress_break(void) {
    if (now.on_screen)
        fputc('\n', stderr);
    now.on_screen = false;
}

static void rate_text(double rate, char text[16]) {
    if (rate >= 1e5)
        snprintf(text, 16, "%.0fk/s", rate / 1e3);
    else
        snprintf(text, 16, rate >= 100 ? "%.0f/s" : "%.2g/s", rate);
}

/* "1200/60000  2%  811/s  1m12s left" (or "in 1m14s" at the end), without the phase. */
static void figures(char *line, size_t size, int64_t done, int64_t total, double elapsed) {
    char rate[16] = "", time[16] = "";
    double per_second = elapsed > 0 ? (double)(done - now.first) / elapsed : 0;
    if (per_second > 0)
        rate_text(per_second, rate);
    int used = total > 0 ? snprintf(line, size, "%lld/%lld  %3d%%", (long long)done,
                                    (long long)total, (int)(100.0 * (double)done / (double)total))
                         : snprintf(line, size, "%lld", (long long)done);
    if (total > 0 && done >= total) {
        cli_duration(elapsed, time);
        snprintf(line + used, size - (size_t)used, "%s%s  in %s", *rate ? "  " : "", rate, time);
    } else if (total > 0 && per_second > 0 && elapsed > 0.5) {
        cli_duration((double)(total - done) / per_second, time);
        snprintf(line + used, size - (size_t)used, "  %s  %s left", rate, time);
    } else if (*rate) {
        snprintf(line + used, size - (size_t)used, "  %s", rate);
    }
}

/* Cuts a UTF-8 text to at most `cells` bytes without splitting a character. */
static void cut(char *text, size_t cells) {
    if (strlen(text) <= cells)
        return;
    while (cells > 0 && ((unsigned char)text[cells] & 0xC0) == 0x80)
        cells--;
    text[cells] = '\0';
}

static void paint(int64_t done, int64_t total, const char *text, double elapsed) {
    char line[LINE_BYTES], numbers[128], bar[BAR_CELLS + 1];
    int width = columns();
    int cells = width < 110 ? BAR_CELLS / 2 : BAR_CELLS;
    int filled = total > 0 ? (int)((double)cells * (double)done / (double)total) : 0;
    for (int i = 0; i < cells; i++)
        bar[i] = i < filled ? '=' : i == filled ? '>' : ' ';
    bar[cells] = '\0';
    figures(numbers, sizeof numbers, done, total, elapsed);
    if (total > 0 && width >= 70)
        snprintf(line, sizeof line, "%s [%s] %s  %s", now.phase, bar, numbers, text);
    else
        snprintf(line, sizeof line, "%s %s  %s", now.phase, numbers, text);
    cut(line, (size_t)width - 1);
    fprintf(stderr, "\r%s\x1b[K", line);
    now.on_screen = true;
}

static void begin(const char *phase, int64_t done) {
    cli_progress_break();
    snprintf(now.phase, sizeof now.phase, "%s", phase);
    now.began = seconds();
    now.told = 0;
    now.first = done;
    now.told_done = done;
    now.finished = false;
}

int cli_progress(void *context, const char *phase, int64_t done, int64_t total, const char *text) {
    (void)context;
    text = text ? text : "";
    bool terminal = cli_is_terminal(STDERR_FILENO);
    if (total == 0 && done == 0 && *text) {
        if (now.on_screen)
            fputs("\r\x1b[K", stderr);
        now.on_screen = false;
        fprintf(stderr, "%s: %s\n", phase, text);
        return cli_reader_left();
    }
    if (strcmp(phase, now.phase) != 0 || (now.finished && done < now.told_done))
        begin(phase, done);
    double t = seconds(), elapsed = t - now.began,
           since = t - (now.told > 0 ? now.told : now.began);
    bool last = total > 0 && done >= total;
    if (last && now.finished)
        return cli_reader_left();
    if (terminal && (last || now.told == 0 || since >= REPAINT)) {
        paint(done, total, text, elapsed);
        now.told = t;
        if (last)
            cli_progress_break();
    }
    if (!terminal) {
        bool tenth = total > 0 && done - now.told_done >= (total + 9) / 10;
        if (last || (tenth && since >= PLAIN_SOONEST) || since >= plain_latest(elapsed)) {
            char numbers[128];
            figures(numbers, sizeof numbers, done, total, elapsed);
            fprintf(stderr, "%s: %s%s%s\n", phase, numbers, *text ? "  " : "", text);
            now.told = t;
            now.told_done = done;
        }
    }
    now.finished = last;
    if (last)
        now.told_done = done;
    return cli_reader_left();
}

void cli_progress_use(npos_compute *compute) {
    compute->progress = cli_progress;
    compute->progress_context = NULL;
}
