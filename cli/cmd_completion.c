#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "help.h"
#include "say.h"

static int run(int argc, char **argv);

const cli_command cli_completion = {
    .name = "completion",
    .group = "Help",
    .summary = "completion of commands, options and recipes for a shell",
    .synopsis = "bash",
    .about = "Prints a script that teaches bash to complete npos's commands, options, their values "
             "and the names of recipes. 'make install' puts it where bash-completion finds it.",
    .min_args = 1,
    .max_args = 1,
    .arg_name = "the name of a shell: bash",
    .arg_values = "bash",
    .examples = "source <(npos completion bash)",
    .run = run};

/* The lines of a `case` on the option's name that fill COMPREPLY with its values. */
static void value_case(const cli_option *option) {
    const char *values = option->values ? option->values : "";
    printf("        --%s) ", option->name);
    if (strcmp(values, "@file") == 0)
        printf("_npos_files ;;\n");
    else if (strcmp(values, "@set") == 0)
        printf("_npos_words \"$(_npos_sets)\"; _npos_more_files '*' ;;\n");
    else if (strcmp(values, "@recipe") == 0)
        printf("_npos_words \"$(_npos_recipes)\"; _npos_more_files yaml ;;\n");
    else
        printf("_npos_words \"%s\" ;;\n", values);
}

static void argument_words(const cli_command *command) {
    const char *values = command->arg_values ? command->arg_values : "";
    if (strcmp(values, "@file") == 0)
        printf("_npos_files");
    else if (strcmp(values, "@set") == 0)
        printf("_npos_words \"$(_npos_sets)\"");
    else if (strcmp(values, "@command") == 0)
        printf("_npos_words \"$_npos_commands\"");
    else if (strstr(values, "@recipe"))
        printf("_npos_words \"%.*s$(_npos_recipes)\"", (int)strcspn(values, "@"), values);
    else
        printf("_npos_words \"%s\"", values);
}

static void command_case(const cli_command *command);

/* A command of verbs: its verbs as the first word, then what each takes. */
static void verbs_case(const cli_command *command) {
    printf("    %s)\n    if ((COMP_CWORD == 2)); then _npos_words \"", command->name);
    for (int i = 0; command->verbs[i]; i++)
        printf("%s ", strrchr(command->verbs[i]->name, ' ') + 1);
    printf("--help\"; return; fi\n    case ${COMP_WORDS[2]} in\n");
    for (int i = 0; command->verbs[i]; i++)
        command_case(command->verbs[i]);
    printf("    esac ;;\n");
}

static void command_case(const cli_command *command) {
    const char *verb = strrchr(command->name, ' ');
    if (command->verbs) {
        verbs_case(command);
        return;
    }
    printf("    %s)\n        case $option in\n", verb ? verb + 1 : command->name);
    for (int i = 0; i < command->option_count; i++) {
        if (command->options[i].type != CLI_FLAG)
            value_case(&command->options[i]);
    }
    printf("        *) if [[ $current == -* ]]; then _npos_words \"");
    for (int i = 0; i < command->option_count; i++)
        printf("--%s ", command->options[i].name);
    printf("--help\"; else ");
    argument_words(command);
    printf("; fi ;;\n        esac ;;\n");
}

static void bash(void) {
    printf("# Completion of npos for bash; printed by `npos completion bash`.\n"
           "_npos_commands=\"");
    for (int i = 0; cli_commands[i]; i++)
        printf("%s%s", i ? " " : "", cli_commands[i]->name);
    printf("\"\n\n"
           "_npos_recipes() { npos recipes list 2>/dev/null | cut -d' ' -f1 | tr '\\n' ' '; }\n"
           "_npos_sets() { npos data list --names 2>/dev/null | tr '\\n' ' '; }\n"
           "_npos_words() { mapfile -t COMPREPLY < <(compgen -W \"$1\" -- \"$current\"); }\n"
           "_npos_files() { compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "
           "\"$current\"); }\n"
           "_npos_more_files() {\n"
           "    local found\n"
           "    compopt -o filenames\n"
           "    mapfile -t found < <(compgen -f -X \"!*.$1\" -- \"$current\"; compgen -d -- "
           "\"$current\")\n"
           "    COMPREPLY+=(\"${found[@]}\")\n"
           "}\n\n"
           "_npos() {\n"
           "    local current=${COMP_WORDS[COMP_CWORD]} option=${COMP_WORDS[COMP_CWORD - 1]}\n"
           "    COMPREPLY=()\n"
           "    if [[ $current == '=' ]]; then current=''; fi\n"
           "    if [[ $option == '=' ]]; then option=${COMP_WORDS[COMP_CWORD - 2]}; fi\n"
           "    if ((COMP_CWORD == 1)); then\n"
           "        _npos_words \"$_npos_commands --help --version\"\n"
           "        return\n"
           "    fi\n"
           "    case ${COMP_WORDS[1]} in\n");
    for (int i = 0; cli_commands[i]; i++)
        command_case(cli_commands[i]);
    printf("    esac\n}\ncomplete -F _npos npos\n");
}

static int run(int argc, char **argv) {
    cli_args args;
    int exit_status;
    if (cli_begin(&cli_completion, argc, argv, NULL, &args, &exit_status))
        return exit_status;
    if (strcmp(args.items[0], "bash") == 0)
        bash();
    else
        exit_status = cli_usage_error("only bash is known",
                                      "npos completion: no completion for '%s'", args.items[0]);
    cli_args_free(&args);
    return exit_status;
}
