#include "jsonout.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "say.h"

static int failed(const char *what) {
    cli_usage_error(strerror(errno), "--json: cannot %s", what);
    return 1;
}

int cli_jsonout_open(cli_jsonout *out, const char **json) {
    memset(out, 0, sizeof *out);
    if (!*json || strcmp(*json, "-") != 0)
        return 0;
    const char *base = getenv("TMPDIR");
    int length = snprintf(out->folder, sizeof out->folder, "%s/npos-XXXXXX",
                          base && *base ? base : P_tmpdir);
    if (length >= (int)sizeof out->folder)
        snprintf(out->folder, sizeof out->folder, "%s/npos-XXXXXX", P_tmpdir);
    if (!mkdtemp(out->folder))
        return failed("make a temporary folder");
    snprintf(out->path, sizeof out->path, "%s/result.json", out->folder);
    out->used = true;
    *json = out->path;
    return 0;
}

int cli_jsonout_close(cli_jsonout *out, bool copy) {
    if (!out->used)
        return 0;
    int status = 0;
    FILE *file = copy ? fopen(out->path, "rb") : NULL;
    if (copy && !file)
        status = failed("read the result back");
    for (int c; file && (c = getc(file)) != EOF;)
        putchar(c);
    if (file)
        fclose(file);
    unlink(out->path);
    rmdir(out->folder);
    out->used = false;
    return status;
}
