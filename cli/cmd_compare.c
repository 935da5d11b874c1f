#include <stdio.h>
#include <stdlib.h>

#include "commands.h"
#include "jsonout.h"
#include "npos/npos.h"
#include "say.h"

static int run(int argc, char **argv);

typedef struct values {
    npos_compare_options options;
    const char *const *group;
    int group_count;
} values;

#define AT(member) offsetof(values, member)

static const cli_option rows[] = {
    {"group", 0, CLI_PAIRS, AT(group), AT(group_count), "METHOD=RUN", "@file",
     "a run of a method; runs of one METHOD differ in their seed; may be repeated, and the shell "
     "can: --group npos=runs/npos-{0,1,2}"},
    {"seeds", 0, CLI_FLAG, AT(options.seeds), CLI_NOWHERE, NULL, NULL,
     "the RUNs are seeds of one method: their mean and standard deviation"},
    {"score", 0, CLI_TEXT, AT(options.scores), CLI_NOWHERE, "LIST", NULL,
     "scores to show, parted by commas; default: all that a method's runs share"},
    {"protocol", 0, CLI_CHOICE, AT(options.protocol), CLI_NOWHERE, "NAME", "oe openood knn-ood",
     "how FPR95 and AUPR are taken; default: as in the first run's evaluation"},
    {"seed", 0, CLI_UINT64, AT(options.seed), CLI_NOWHERE, "N", NULL, "of the bootstrap"},
    {"format", 0, CLI_CHOICE, AT(options.format), CLI_NOWHERE, "NAME", "table md csv latex json",
     "of what is printed: table (default), md, csv, latex or json"},
    {"json", 0, CLI_JSON, AT(options.json), CLI_NOWHERE, "FILE", "@file",
     "write the results as JSON; without FILE to standard output instead of the table"}};

const cli_command cli_compare = {
    .name = "compare",
    .group = "Measure",
    .summary = "put evaluated runs side by side, with intervals of their differences",
    .synopsis = "RUN... | --group METHOD=RUN... [OPTION]...",
    .about =
        "Reads the scores that 'npos eval' stored in runs that were measured on the same images. "
        "The first run, or METHOD, is what the others are compared with: each row with its row of "
        "the same score, or with its first where it has none.\n"
        "\n"
        "One run a method: figures with 95% intervals, and differences with intervals and p-values "
        "by the paired bootstrap: the same images are drawn for both. That says what other images "
        "would change, not what other seeds would. Several runs a method: mean and standard "
        "deviation over them, and differences of the runs of equal seed, with Student's t.",
    CLI_ROWS(rows),
    .max_args = -1,
    .arg_name = "a RUN directory",
    .arg_values = "@file",
    .examples =
        "npos compare runs/npos runs/cider\n"
        "npos compare --seeds runs/npos-{0,1,2} --format md\n"
        "npos compare --group npos=runs/npos-{0,1,2} --group ce=runs/ce-{0,1,2} --format latex",
    .run = run};

/* The RUNs, then the pairs, in one list. */
static const char **all_runs(const cli_args *args, const values *v) {
    const char **all = malloc(((size_t)args->count + (size_t)v->group_count + 1) * sizeof *all);
    for (int i = 0; all && i < args->count; i++)
        all[i] = args->items[i];
    for (int i = 0; all && i < v->group_count; i++)
        all[args->count + i] = v->group[i];
    return all;
}

static int run(int argc, char **argv) {
    values v = {0};
    npos_compare_options *options = &v.options;
    cli_args args;
    cli_jsonout json;
    int exit_status;
    npos_compare_options_init(options);
    if (cli_begin(&cli_compare, argc, argv, &v, &args, &exit_status))
        return exit_status;
    const char **runs = all_runs(&args, &v);
    options->runs = runs;
    options->run_count = args.count + v.group_count;
    if (!runs) {
        exit_status = cli_usage_error("", "no memory for the arguments");
    } else if (options->run_count == 0) {
        exit_status = cli_usage_error("for example npos compare runs/npos runs/cider",
                                      "npos compare needs RUN directories or --group METHOD=RUN");
    } else if ((exit_status = cli_jsonout_open(&json, &options->json)) == 0) {
        options->table = json.used ? NULL : stdout;
        exit_status = cli_finish(npos_compare(options));
        exit_status |= cli_jsonout_close(&json, exit_status == 0);
    }
    free(runs);
    cli_args_free(&args);
    return exit_status;
}
