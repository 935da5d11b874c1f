/* arguments.h - the options of a command as a table, and the parser that reads arguments by it.
 *
 * A row says where in the command's own struct the value goes, so that a command is a table, a text
 * and a few lines of code.  `--name value` and `--name=value` are the same; `--` ends options; a
 * lone `-` is an ordinary argument.  The first mistake is told as one `error:` and one `hint:`
 * line. */
#ifndef CLI_ARGUMENTS_H
#define CLI_ARGUMENTS_H

#include <stddef.h>

typedef enum cli_type {
    CLI_FLAG,   /* int: 1 when given */
    CLI_TEXT,   /* const char * */
    CLI_CHOICE, /* const char *, one of `values` */
    CLI_INT,    /* int */
    CLI_INT64,  /* int64_t */
    CLI_UINT64, /* uint64_t */
    CLI_REAL,   /* double; the int at `also` becomes 1 */
    CLI_PAIRS,  /* const char *const *: repeated, and after one the arguments that hold a '=' are
                   taken too; the int at `also` counts them */
    CLI_JSON,   /* const char *; without a value it becomes "-" */
    CLI_ROOT    /* a folder: it becomes the environment's NPOS_DATA */
} cli_type;

#define CLI_NOWHERE ((size_t)-1)

enum { CLI_USAGE = 2, CLI_HELD = 4 };

typedef struct cli_option {
    const char *name; /* without the dashes */
    char letter;      /* of a short form, or 0 */
    cli_type type;
    size_t offset, also; /* into the command's struct */
    const char *metavar; /* what the value is called; NULL for flags */
    const char *values;  /* "a b c": what may be given (CLI_CHOICE) or is offered by completion;
                            "@set": names of data sets, which CLI_PAIRS then takes too */
    const char *help;    /* one paragraph; it is wrapped when printed */
} cli_option;

/* Rows of the options that choose where and how to compute, in `member` of the struct `type`. */
/* clang-format off */
#define CLI_COMPUTE_ROWS(type, member)                                                             \
    {"device", 0, CLI_TEXT, offsetof(type, member.device), CLI_NOWHERE, "NAME",                    \
     "auto cpu cuda reference", "auto (default), cpu, cuda, cuda:N or reference"},                 \
    {"precision", 0, CLI_CHOICE, offsetof(type, member.precision), CLI_NOWHERE, "NAME",            \
     "auto fp32 bf16", "auto (default), fp32 or bf16; auto is bf16 where the processor gains by it"}, \
    {"threads", 0, CLI_INT, offsetof(type, member.threads), CLI_NOWHERE, "N", NULL,                \
     "processors to use; 0 (default): all that the process may use"},                              \
    {"verbose", 'v', CLI_FLAG, offsetof(type, member.verbose), CLI_NOWHERE, NULL, NULL,            \
     "tell more, such as the kernel chosen for each operation"}
#define CLI_SKIP_ROW(type, member)                                                                 \
    {"skip-broken", 0, CLI_FLAG, offsetof(type, member.skip_broken), CLI_NOWHERE, NULL, NULL,      \
     "leave out images that cannot be read, naming each on stderr and in what is written; all "     \
     "images are decoded once more to find them. Without it the first is an error"}
/* clang-format on */

/* The row of the folder that names of data sets stand for. */
#define CLI_ROOT_ROW                                                                               \
    {                                                                                              \
        "root", 0, CLI_ROOT, CLI_NOWHERE, CLI_NOWHERE, "DIR", "@file",                             \
            "folder of the data sets that are named ('npos data list'); default: NPOS_DATA, else " \
            "./datasets"                                                                           \
    }

/* What stands on the command line besides options, and the memory behind CLI_PAIRS. */
typedef struct cli_args {
    const char **items;
    int count;
    int help; /* --help or -h came: what follows it was not read */
    void *held[CLI_HELD];
    int held_count;
} cli_args;

typedef struct cli_command {
    const char *name;     /* of a verb: "data list" */
    const char *group;    /* heading in `npos --help` */
    const char *summary;  /* one line */
    const char *synopsis; /* what follows the name in the usage line */
    const char *about;    /* paragraphs, parted by line breaks; wrapped when printed */
    const cli_option *options;
    int option_count;
    int min_args, max_args; /* arguments besides options; max -1: any number */
    const char *arg_name;   /* what they are called: "a RUN" */
    const char *arg_values; /* what completion offers: "@file", "@recipe", "@command" or words */
    const char *examples;   /* lines */
    const char *writes;     /* lines: the files that it writes; NULL: none */
    const struct cli_command *const
        *verbs; /* NULL, or what the first argument chooses; ends with NULL */
    int (*run)(int argc, char **argv); /* arguments behind the name; returns the exit status */
} cli_command;

#define CLI_ROWS(table) .options = (table), .option_count = (int)(sizeof(table) / sizeof *(table))

/* Reads arguments into `values` (which holds the defaults) and *args.  Returns 0, or CLI_USAGE
 * after telling what is wrong.  *args is to be freed in both cases. */
int cli_parse(const cli_command *command, int argc, char **argv, void *values, cli_args *args);
void cli_args_free(cli_args *args);

/* Index of the name nearest to `word` (edit distance where a swap of neighbours counts as one, at
 * most a third of its letters), or -1. */
int cli_nearest(const char *word, const char *const *names, int count);

#endif
