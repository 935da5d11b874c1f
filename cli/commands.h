/* commands.h - the commands, one file each (cmd_NAME.c). */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

#include "arguments.h"

extern const cli_command cli_train, cli_import, cli_eval, cli_score, cli_embed, cli_export, cli_fit,
    cli_text, cli_extract, cli_finetune, cli_metrics, cli_calibrate, cli_compare, cli_report,
    cli_info, cli_bench, cli_recipes, cli_data, cli_data_list, cli_data_fetch, cli_data_check,
    cli_data_show, cli_help, cli_completion;

/* What every command does first: reads the arguments into `values`; when that failed or help was
 * asked for, the command returns `*exit_status` at once. */
int cli_begin(const cli_command *command, int argc, char **argv, void *values, cli_args *args,
              int *exit_status);

#endif
