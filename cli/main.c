/* npos - the program: finds the command, gives it the arguments behind its name. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#ifdef __GLIBC__ /* which the headers above define */
#include <malloc.h>
#endif

#include "commands.h"
#include "help.h"
#include "npos/npos.h"
#include "say.h"

int cli_begin(const cli_command *command, int argc, char **argv, void *values, cli_args *args,
              int *exit_status) {
    *exit_status = cli_parse(command, argc, argv, values, args);
    if (*exit_status == 0 && !args->help)
        return 0;
    if (args->help)
        cli_help_command(command, stdout);
    cli_args_free(args);
    return 1;
}

static int run(int argc, char **argv) {
    if (argc < 2)
        return cli_usage_error("'npos --help' lists the commands", "npos needs a command");
    const char *word = argv[1];
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        cli_help_program(stdout);
        return 0;
    }
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
        printf("npos %s\n", NPOS_VERSION);
        return 0;
    }
    if (word[0] == '-')
        return cli_usage_error("usage: npos COMMAND [ARGUMENTS]; 'npos --help' lists the commands",
                               "npos has no option '%s'", word);
    const cli_command *command = cli_command_find(word);
    if (!command)
        return cli_command_unknown(word);
    return command->run(argc - 2, argv + 2);
}

/* Decoders allocate and free images of some hundred kB again and again.  glibc would give each back to the system and
 * fetch its pages anew, a third of the time of decoding a photograph; up to 16 MB a thread are kept instead. */
static void keep_freed_memory(void) {
#ifdef __GLIBC__
    enum { KEPT = 16 << 20 };
    (void)mallopt(M_MMAP_THRESHOLD, KEPT);
    (void)mallopt(M_TRIM_THRESHOLD, KEPT);
#endif
}

int main(int argc, char **argv) {
    keep_freed_memory();
    /* A job must not end because who reads its progress went away; cli_flush ends the program when
     * the results cannot be written.  Nor without a word at a limit on the size of files: then a
     * write fails, which is reported. */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    return cli_flush(run(argc, argv));
}
