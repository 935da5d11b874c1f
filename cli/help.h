/* help.h - the help texts, made from the commands' tables. */
#ifndef CLI_HELP_H
#define CLI_HELP_H

#include <stdio.h>

#include "arguments.h"

/* All commands in the order of `npos --help`; ends with NULL. */
extern const cli_command *const cli_commands[];

const cli_command *cli_command_find(const char *name);

/* Tells that there is no such command, with the nearest one; returns CLI_USAGE. */
int cli_command_unknown(const char *name);

/* What `npos --help` and `npos COMMAND --help` print. */
void cli_help_program(FILE *out);
void cli_help_command(const cli_command *command, FILE *out);

#endif
