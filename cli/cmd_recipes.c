#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "npos/npos.h"
#include "say.h"

static int run(int argc, char **argv);

const cli_command cli_recipes = {
    .name = "recipes",
    .group = "Train",
    .summary = "the recipes that this installation knows",
    .synopsis = "[list | show RECIPE]",
    .about =
        "A recipe is a YAML file that holds every setting of a run. 'list' (the default) names "
        "them with a line each; 'show' prints all settings of one, each with what it means: the "
        "text is itself a recipe, to be changed and given to 'npos train --recipe FILE'.",
    .max_args = 2,
    .arg_name = "list or show RECIPE",
    .arg_values = "list show @recipe",
    .examples = "npos recipes\n"
                "npos recipes show cifar10\n"
                "npos recipes show cifar10 > mine.yaml",
    .run = run};

static int run(int argc, char **argv) {
    cli_args args;
    int exit_status;
    if (cli_begin(&cli_recipes, argc, argv, NULL, &args, &exit_status))
        return exit_status;
    const char *verb = args.count > 0 ? args.items[0] : "list";
    if (strcmp(verb, "list") == 0 && args.count < 2)
        exit_status = cli_finish(npos_recipes(NULL, stdout));
    else if (strcmp(verb, "show") == 0 && args.count == 2)
        exit_status = cli_finish(npos_recipes(args.items[1], stdout));
    else if (strcmp(verb, "show") == 0)
        exit_status = cli_usage_error("'npos recipes list' names them",
                                      "npos recipes show needs the name of a RECIPE");
    else
        exit_status = cli_usage_error("usage: npos recipes [list | show RECIPE]",
                                      "npos recipes: unexpected argument '%s'",
                                      args.count == 2 ? args.items[1] : verb);
    cli_args_free(&args);
    return exit_status;
}
