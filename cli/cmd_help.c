#include <stdio.h>

#include "commands.h"
#include "help.h"
#include "say.h"

static int run(int argc, char **argv);

const cli_command cli_help = {.name = "help",
                              .group = "Help",
                              .summary = "explain a command",
                              .synopsis = "[COMMAND]",
                              .about = "Prints what 'npos COMMAND --help' prints, or the list of "
                                       "commands.",
                              .max_args = 1,
                              .arg_name = "a COMMAND",
                              .arg_values = "@command",
                              .examples = "npos help train",
                              .run = run};

static int run(int argc, char **argv) {
    cli_args args;
    int exit_status;
    if (cli_begin(&cli_help, argc, argv, NULL, &args, &exit_status))
        return exit_status;
    if (args.count == 0) {
        cli_help_program(stdout);
    } else {
        const cli_command *command = cli_command_find(args.items[0]);
        if (command)
            cli_help_command(command, stdout);
        else
            exit_status = cli_command_unknown(args.items[0]);
    }
    cli_args_free(&args);
    return exit_status;
}
