#include "arguments.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "npos/npos.h"
#include "say.h"

enum { NAME_LETTERS = 48, TEXT_BYTES = 512 };

/* Optimal string alignment distance of two words of at most NAME_LETTERS letters. */
static int distance(const char *a, const char *b) {
    int rows[3][NAME_LETTERS + 1];
    int n = (int)strlen(a), m = (int)strlen(b);
    if (n > NAME_LETTERS || m > NAME_LETTERS)
        return NAME_LETTERS;
    int *before = rows[0], *last = rows[1], *now = rows[2];
    memset(rows, 0, sizeof rows);
    for (int j = 0; j <= m; j++)
        last[j] = j;
    for (int i = 1; i <= n; i++) {
        now[0] = i;
        for (int j = 1; j <= m; j++) {
            int best = last[j - 1] + (a[i - 1] != b[j - 1]);
            if (last[j] + 1 < best)
                best = last[j] + 1;
            if (now[j - 1] + 1 < best)
                best = now[j - 1] + 1;
            bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (swapped && before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            now[j] = best;
        }
        int *oldest = before;
        before = last;
        last = now;
        now = oldest;
    }
    return last[m];
}

int cli_nearest(const char *word, const char *const *names, int count) {
    int limit = ((int)strlen(word) + 2) / 3, best = -1;
    for (int i = 0; i < count; i++) {
        int d = distance(word, names[i]);
        if (d <= limit) {
            best = i;
            limit = d - 1;
        }
    }
    return best;
}

/* Where one parse stands. */
typedef struct parse {
    const cli_command *command;
    int argc, next; /* next: index of the first argument not yet looked at */
    char **argv;
    char *values;
    cli_args *args;
} parse;

static int unknown_option(const parse *p, const char *word, size_t length) {
    const char *names[32] = {"help"};
    char name[NAME_LETTERS + 1], hint[TEXT_BYTES];
    int count = 1;
    for (int i = 0; i < p->command->option_count && count < 32; i++)
        names[count++] = p->command->options[i].name;
    snprintf(name, sizeof name, "%.*s", (int)length, word);
    int nearest = cli_nearest(name, names, count);
    if (nearest >= 0)
        snprintf(hint, sizeof hint, "did you mean '--%s'?", names[nearest]);
    else
        snprintf(hint, sizeof hint, "'npos %s --help' lists all options", p->command->name);
    return cli_usage_error(hint, "npos %s has no option '--%s'", p->command->name, name);
}

static int bad_value(const cli_option *option, const char *text, const char *expected) {
    char hint[TEXT_BYTES];
    snprintf(hint, sizeof hint, "--%s %s", option->name, option->metavar);
    return cli_usage_error(hint, "option '--%s': '%s' is not %s", option->name, text, expected);
}

static int missing_value(const cli_option *option) {
    char hint[TEXT_BYTES];
    snprintf(hint, sizeof hint, "--%s %s", option->name, option->metavar);
    return cli_usage_error(hint, "option '--%s' needs a value", option->name);
}

static int read_choice(const cli_option *option, const char *text) {
    char hint[TEXT_BYTES];
    size_t length = strlen(text);
    for (const char *word = option->values; *word;) {
        size_t n = strcspn(word, " ");
        if (n == length && memcmp(word, text, n) == 0)
            return 0;
        word += n + strspn(word + n, " ");
    }
    snprintf(hint, sizeof hint, "choose one of: %s", option->values);
    return cli_usage_error(hint, "option '--%s': '%s' is not known", option->name, text);
}

/* Numbers are whole words: "12x", "", " 1" and what does not fit are errors. */
static int read_number(const cli_option *option, const char *text, void *to) {
    char *end = NULL;
    bool blank = *text == '\0' || *text == ' ' || *text == '\t';
    errno = 0;
    if (option->type == CLI_REAL) {
        double value = strtod(text, &end);
        if (blank || *end || errno == ERANGE || !(value - value == 0))
            return bad_value(option, text, "a number");
        *(double *)to = value;
        return 0;
    }
    if (option->type == CLI_UINT64) {
        unsigned long long value = strtoull(text, &end, 10);
        if (blank || *end || errno == ERANGE || *text == '-')
            return bad_value(option, text, "a whole number from 0 to 2^64 - 1");
        *(uint64_t *)to = value;
        return 0;
    }
    long long value = strtoll(text, &end, 10);
    if (blank || *end || errno == ERANGE)
        return bad_value(option, text, "a whole number");
    if (option->type == CLI_INT64) {
        *(int64_t *)to = value;
        return 0;
    }
    if (value < INT_MIN || value > INT_MAX)
        return bad_value(option, text, "a whole number below 2^31");
    *(int *)to = (int)value;
    return 0;
}

static int out_of_memory(void) {
    return cli_usage_error("free some memory", "no memory for the arguments");
}

/* Whether an argument belongs to the pairs before it. */
static bool goes_on(const cli_option *option, const char *text) {
    bool sets = option->values && strcmp(option->values, "@set") == 0;
    return text[0] != '-' && (strchr(text, '=') || (sets && npos_data_known(text)));
}

/* Adds `text` and the arguments behind it that hold a '=', or name a set where sets may be named. */
static int read_pairs(parse *p, const cli_option *option, const char *text) {
    const char *const **list = (const char *const **)(void *)(p->values + option->offset);
    int *count = (int *)(void *)(p->values + option->also);
    const char **items;
    if (*count == 0) {
        items = calloc((size_t)p->argc + 1, sizeof *items);
        if (!items || p->args->held_count == CLI_HELD) {
            free(items);
            return out_of_memory();
        }
        p->args->held[p->args->held_count++] = items;
        *list = (const char *const *)items;
    } else {
        items = (const char **)*list;
    }
    items[(*count)++] = text;
    while (p->next < p->argc && goes_on(option, p->argv[p->next]))
        items[(*count)++] = p->argv[p->next++];
    return 0;
}

/* The value behind `--name`; NULL when there is none.  A text that starts with "--" is an option.
 */
static const char *following(parse *p) {
    if (p->next < p->argc && strncmp(p->argv[p->next], "--", 2) != 0)
        return p->argv[p->next++];
    return NULL;
}

static int read_option(parse *p, const cli_option *option, const char *text) {
    void *to = p->values + option->offset;
    if (option->type == CLI_FLAG) {
        if (text)
            return cli_usage_error("leave the value out", "option '--%s' takes no value, got '%s'",
                                   option->name, text);
        *(int *)to = 1;
        return 0;
    }
    if (!text)
        text = following(p);
    if (!text && option->type == CLI_JSON)
        text = "-";
    if (!text)
        return missing_value(option);
    switch (option->type) {
    case CLI_PAIRS:
        return read_pairs(p, option, text);
    case CLI_ROOT:
        return *text == '\0'                       ? missing_value(option)
               : setenv("NPOS_DATA", text, 1) != 0 ? out_of_memory()
                                                   : 0;
    case CLI_CHOICE:
        if (read_choice(option, text) != 0)
            return CLI_USAGE;
        *(const char **)to = text;
        return 0;
    case CLI_TEXT:
    case CLI_JSON:
        if (*text == '\0')
            return missing_value(option);
        *(const char **)to = text;
        return 0;
    default:
        if (option->also != CLI_NOWHERE)
            *(int *)(void *)(p->values + option->also) = 1;
        return read_number(option, text, to);
    }
}

static int read_long(parse *p, const char *word) {
    size_t length = strcspn(word, "=");
    const char *text = word[length] == '=' ? word + length + 1 : NULL;
    if (length == 4 && memcmp(word, "help", 4) == 0) {
        p->args->help = 1;
        return 0;
    }
    for (int i = 0; i < p->command->option_count; i++) {
        const cli_option *option = &p->command->options[i];
        if (strlen(option->name) == length && memcmp(option->name, word, length) == 0)
            return read_option(p, option, text);
    }
    return unknown_option(p, word, length);
}

static int read_letters(parse *p, const char *letters) {
    char hint[TEXT_BYTES];
    for (; *letters; letters++) {
        const cli_option *option = NULL;
        if (*letters == 'h') {
            p->args->help = 1;
            continue;
        }
        for (int i = 0; i < p->command->option_count; i++) {
            if (p->command->options[i].letter == *letters)
                option = &p->command->options[i];
        }
        if (!option) {
            snprintf(hint, sizeof hint, "'npos %s --help' lists all options", p->command->name);
            return cli_usage_error(hint, "npos %s has no option '-%c'", p->command->name, *letters);
        }
        if (read_option(p, option, NULL) != 0)
            return CLI_USAGE;
    }
    return 0;
}

static int check_count(const parse *p) {
    const cli_command *command = p->command;
    char hint[TEXT_BYTES];
    snprintf(hint, sizeof hint, "usage: npos %s %s", command->name, command->synopsis);
    if (p->args->count < command->min_args)
        return cli_usage_error(hint, "npos %s needs %s", command->name, command->arg_name);
    if (command->max_args >= 0 && p->args->count > command->max_args)
        return cli_usage_error(hint, "npos %s: unexpected argument '%s'", command->name,
                               p->args->items[command->max_args]);
    return 0;
}

int cli_parse(const cli_command *command, int argc, char **argv, void *values, cli_args *args) {
    parse p = {command, argc, 0, argv, values, args};
    memset(args, 0, sizeof *args);
    args->items = calloc((size_t)argc + 1, sizeof *args->items);
    if (!args->items)
        return out_of_memory();
    bool options = true;
    while (p.next < argc && !args->help) {
        const char *word = argv[p.next++];
        int status = 0;
        if (options && strcmp(word, "--") == 0)
            options = false;
        else if (options && strncmp(word, "--", 2) == 0)
            status = read_long(&p, word + 2);
        else if (options && word[0] == '-' && word[1])
            status = read_letters(&p, word + 1);
        else
            args->items[args->count++] = word;
        if (status != 0)
            return status;
    }
    return args->help ? 0 : check_count(&p);
}

void cli_args_free(cli_args *args) {
    for (int i = 0; i < args->held_count; i++)
        free(args->held[i]);
    free(args->items);
    memset(args, 0, sizeof *args);
}
