#include <stdio.h>
#include <unistd.h>

#include "commands.h"
#include "jsonout.h"
#include "npos/npos.h"
#include "progress.h"
#include "say.h"

static int run(int argc, char **argv);

#define AT(member) offsetof(npos_data_check_options, member)

static const cli_option rows[] = {
    {"train", 0, CLI_TEXT, AT(train), CLI_NOWHERE, "SPEC", "@set", "training images"},
    {"test", 0, CLI_TEXT, AT(test), CLI_NOWHERE, "SPEC", "@set", "test images of the same classes"},
    {"ood", 0, CLI_PAIRS, AT(ood), AT(ood_count), "[GROUP/]NAME=SPEC", "@set",
     "images of none of the classes; may be repeated; a data set or benchmark by its name needs no "
     "SPEC"},
    {"recipe", 0, CLI_TEXT, AT(recipe), CLI_NOWHERE, "NAME", "@recipe",
     "compare mean and deviation with those that this recipe normalises with; images smaller than "
     "its size count as tiny"},
    {"any-statistics", 0, CLI_FLAG, AT(any_statistics), CLI_NOWHERE, NULL, NULL,
     "a recipe with another set's statistics is a warning, not an error"},
    {"near", 0, CLI_INT, AT(near), CLI_NOWHERE, "BITS", NULL,
     "bits of 64 in which near copies may differ (default 6, at most 15); -1: exact copies alone"},
    {"html", 0, CLI_TEXT, AT(html), CLI_NOWHERE, "FILE", "@file",
     "write one page with contact sheets and the pairs that were found"},
    {"json", 0, CLI_JSON, AT(json), CLI_NOWHERE, "FILE", "@file",
     "write it as JSON; without FILE to standard output instead of the table"},
    CLI_ROOT_ROW,
    {"threads", 0, CLI_INT, AT(compute.threads), CLI_NOWHERE, "N", NULL,
     "processors to use; 0 (default): all that the process may use"}};

const cli_command cli_data_check = {
    .name = "data check",
    .summary = "look sets through: counts, copies, broken images, statistics",
    .synopsis = "[SPEC] [--train SPEC] [--test SPEC] [--ood [GROUP/]NAME=SPEC...] [OPTION]...",
    .about =
        "Reads every image of the sets and tells how many there are of each class, which cannot be "
        "read, how many are grey, tiny or of one brightness, which come twice inside a set or "
        "across "
        "sets (exactly, by their pixels, or nearly, by a perceptual hash), and which OOD classes "
        "are "
        "called like ID classes. A SPEC with both splits is checked as train and test.\n"
        "\n"
        "Errors, which make the exit status 1, are images that cannot be read, and a recipe that "
        "normalises with another set's statistics.",
    CLI_ROWS(rows),
    .max_args = 1,
    .arg_name = "a SPEC",
    .arg_values = "@set",
    .examples = "npos data check cifar10 --ood npos-cifar --recipe cifar10 --html check.html\n"
                "npos data check --train photos#train --test photos#test --near 10\n"
                "npos data check photos.tar --json | jq '.sets[0].first_broken'",
    .writes = "the files that --html and --json name",
    .run = run};

static int run(int argc, char **argv) {
    npos_data_check_options options;
    cli_args args;
    cli_jsonout json;
    int exit_status;
    npos_data_check_options_init(&options);
    if (cli_begin(&cli_data_check, argc, argv, &options, &args, &exit_status))
        return exit_status;
    options.data = args.count > 0 ? args.items[0] : NULL;
    if (!options.data && !options.train && !options.test && options.ood_count == 0) {
        exit_status = cli_usage_error("for example npos data check cifar10 --ood svhn",
                                      "npos data check needs a SPEC");
    } else if ((exit_status = cli_jsonout_open(&json, &options.json)) == 0) {
        options.table = json.used ? NULL : stdout;
        cli_progress_use(&options.compute);
        exit_status = cli_finish(npos_data_check(&options));
        /* what was found is written also when it is bad */
        exit_status |= cli_jsonout_close(&json, json.used && access(json.path, R_OK) == 0);
    }
    cli_args_free(&args);
    return exit_status;
}
