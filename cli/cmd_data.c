#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "help.h"
#include "say.h"

static int run(int argc, char **argv);

static const cli_command *const verbs[] = {&cli_data_list, &cli_data_fetch, &cli_data_check,
                                           &cli_data_show, NULL};

const cli_command cli_data = {
    .name = "data",
    .group = "Data",
    .summary = "data sets: by name, downloads, faults, contact sheets",
    .synopsis = "list | fetch | check | show ...",
    .about =
        "Sets of images that papers on OOD detection use have names here; any set can be looked "
        "through before it is used.",
    .arg_name = "a verb",
    .verbs = verbs,
    .run = run};

static int run(int argc, char **argv) {
    char hint[64];
    const char *verb = argc > 0 ? argv[0] : NULL, *names[8];
    int count = 0;
    if (verb && (strcmp(verb, "--help") == 0 || strcmp(verb, "-h") == 0)) {
        cli_help_command(&cli_data, stdout);
        return 0;
    }
    for (; verbs[count]; count++) {
        names[count] = strchr(verbs[count]->name, ' ') + 1;
        if (verb && strcmp(verb, names[count]) == 0)
            return verbs[count]->run(argc - 1, argv + 1);
    }
    int nearest = verb ? cli_nearest(verb, names, count) : -1;
    if (nearest >= 0)
        snprintf(hint, sizeof hint, "did you mean 'npos data %s'?", names[nearest]);
    else
        snprintf(hint, sizeof hint, "usage: npos data %s", cli_data.synopsis);
    return verb ? cli_usage_error(hint, "npos data has no verb '%s'", verb)
                : cli_usage_error(hint, "npos data needs a verb");
}
