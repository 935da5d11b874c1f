/* jsonout.h - `--json -`: the library writes JSON files; this brings one to standard output. */
#ifndef CLI_JSONOUT_H
#define CLI_JSONOUT_H

#include <stdbool.h>

typedef struct cli_jsonout {
    bool used;
    char folder[64], path[96];
} cli_jsonout;

/* When *json is "-", points it to a temporary file.  Returns 0, or 1 after telling what failed. */
int cli_jsonout_open(cli_jsonout *out, const char **json);

/* Copies the file to stdout when `copy`, and removes it.  Returns 0, or 1 after telling what
 * failed. */
int cli_jsonout_close(cli_jsonout *out, bool copy);

#endif
