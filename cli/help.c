#include "help.h"

#include <string.h>

#include "commands.h"
#include "npos/npos.h"
#include "say.h"

enum { COLUMNS = 80, OPTION_COLUMN = 28 };

const cli_command *const cli_commands[] = {
    &cli_train, &cli_import,     &cli_text,    &cli_extract,   &cli_finetune, &cli_recipes,
    &cli_data,  &cli_eval,       &cli_metrics, &cli_compare,   &cli_report,   &cli_score,
    &cli_embed, &cli_export,     &cli_fit,     &cli_calibrate, &cli_info,     &cli_bench,
    &cli_help,  &cli_completion, NULL};

const cli_command *cli_command_find(const char *name) {
    for (int i = 0; cli_commands[i]; i++) {
        if (strcmp(cli_commands[i]->name, name) == 0)
            return cli_commands[i];
    }
    return NULL;
}

int cli_command_unknown(const char *name) {
    const char *names[32];
    char hint[128];
    int count = 0;
    while (cli_commands[count] && count < 32) {
        names[count] = cli_commands[count]->name;
        count++;
    }
    int nearest = cli_nearest(name, names, count);
    if (nearest >= 0)
        snprintf(hint, sizeof hint, "did you mean 'npos %s'?", names[nearest]);
    else
        snprintf(hint, sizeof hint, "'npos --help' lists all commands");
    return cli_usage_error(hint, "npos has no command '%s'", name);
}

/* Words of `text` from `column` on, lines indented by `indent`; a line break in the text parts
 * paragraphs. */
static void wrap(const char *text, int column, int indent, FILE *out) {
    int at = column;
    while (*text) {
        if (*text == '\n') {
            fprintf(out, "\n%*s", indent, "");
            at = indent;
            text++;
            continue;
        }
        int length = (int)strcspn(text, " \n");
        if (at > indent && at + 1 + length > COLUMNS) {
            fprintf(out, "\n%*s", indent, "");
            at = indent;
        } else if (at > indent) {
            fputc(' ', out);
            at++;
        }
        fprintf(out, "%.*s", length, text);
        at += length;
        text += length;
        text += strspn(text, " ");
    }
    fputc('\n', out);
}

static void lines(const char *text, FILE *out) {
    while (*text) {
        int length = (int)strcspn(text, "\n");
        fprintf(out, "  %.*s\n", length, text);
        text += length + (text[length] == '\n');
    }
}

static void option_help(const char *left, const char *help, FILE *out) {
    int used = fprintf(out, "  %s", left);
    if (used > OPTION_COLUMN - 2)
        fprintf(out, "\n%*s", OPTION_COLUMN, "");
    else
        fprintf(out, "%*s", OPTION_COLUMN - used, "");
    wrap(help, OPTION_COLUMN, OPTION_COLUMN, out);
}

static void option_rows(const cli_command *command, FILE *out) {
    char left[96], letter[8];
    fprintf(out, "\nOptions:\n");
    for (int i = 0; i < command->option_count; i++) {
        const cli_option *option = &command->options[i];
        letter[0] = '\0';
        if (option->letter)
            snprintf(letter, sizeof letter, "-%c, ", option->letter);
        if (option->type == CLI_JSON)
            snprintf(left, sizeof left, "--%s [%s]", option->name, option->metavar);
        else
            snprintf(left, sizeof left, "%s--%s%s%s", letter, option->name,
                     option->metavar ? " " : "", option->metavar ? option->metavar : "");
        option_help(left, option->help, out);
    }
    option_help("-h, --help", "this text", out);
}

void cli_help_command(const cli_command *command, FILE *out) {
    fprintf(out, "npos %s: %s\n\nUsage: npos %s %s\n\n", command->name, command->summary,
            command->name, command->synopsis);
    wrap(command->about, 0, 0, out);
    for (int i = 0; command->verbs && command->verbs[i]; i++) {
        fputc('\n', out);
        cli_help_command(command->verbs[i], out);
    }
    if (command->verbs)
        return;
    option_rows(command, out);
    if (command->examples) {
        fprintf(out, "\nExamples:\n");
        lines(command->examples, out);
    }
    if (command->writes) {
        fprintf(out, "\nFiles written:\n");
        lines(command->writes, out);
    }
}

void cli_help_program(FILE *out) {
    fprintf(out,
            "npos %s: trains networks that know what they do not know, and measures how well.\n\n"
            "Usage: npos COMMAND [ARGUMENTS]\n       npos --help | --version\n",
            NPOS_VERSION);
    const char *group = "";
    for (int i = 0; cli_commands[i]; i++) {
        if (strcmp(group, cli_commands[i]->group) != 0) {
            group = cli_commands[i]->group;
            fprintf(out, "\n%s:\n", group);
        }
        fprintf(out, "  %-12s%s\n", cli_commands[i]->name, cli_commands[i]->summary);
    }
    fputc('\n', out);
    wrap("'npos help COMMAND' or 'npos COMMAND --help' explains a command. Results go to standard "
         "output, progress to standard error; the exit status is 0 when done, 1 when something "
         "failed, 2 on wrong usage.",
         0, 0, out);
}
