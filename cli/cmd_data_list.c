#include <stdio.h>

#include "commands.h"
#include "jsonout.h"
#include "npos/npos.h"
#include "say.h"

static int run(int argc, char **argv);

#define AT(member) offsetof(npos_data_list_options, member)

static const cli_option rows[] = {
    CLI_ROOT_ROW,
    {"names", 0, CLI_FLAG, AT(only_names), CLI_NOWHERE, NULL, NULL, "the names alone, a line each"},
    {"json", 0, CLI_JSON, AT(json), CLI_NOWHERE, "FILE", "@file",
     "write it as JSON; without FILE to standard output instead of the table"}};

const cli_command cli_data_list = {
    .name = "data list",
    .summary = "the data sets that npos knows by name, and which are here",
    .synopsis = "[NAME]... [OPTION]...",
    .about =
        "A line each: the role in papers (ID, near-OOD, far-OOD), images, size of the download, "
        "where from, the kind of checksum that was published, the licence or terms, and whether "
        "it lies below the root folder: 'complete' (counted), 'there' (too many to count in a "
        "moment), '9000 of 10000', 'unreadable' or 'missing'. With NAMEs all of those, also of "
        "benchmarks. A name serves as a SPEC everywhere: cifar10#train, svhn-select.",
    CLI_ROWS(rows),
    .max_args = -1,
    .arg_name = "NAMEs",
    .arg_values = "@set",
    .examples = "npos data list --root datasets\n"
                "npos data list svhn openood-cifar10\n"
                "npos data list --json | jq -r '.sets[] | select(.state == \"missing\").name'",
    .run = run};

static int run(int argc, char **argv) {
    npos_data_list_options options;
    cli_args args;
    cli_jsonout json;
    int exit_status;
    npos_data_list_options_init(&options);
    if (cli_begin(&cli_data_list, argc, argv, &options, &args, &exit_status))
        return exit_status;
    options.names = args.items;
    options.name_count = args.count;
    if ((exit_status = cli_jsonout_open(&json, &options.json)) == 0) {
        options.table = json.used ? NULL : stdout;
        exit_status = cli_finish(npos_data_list(&options));
        exit_status |= cli_jsonout_close(&json, exit_status == 0);
    }
    cli_args_free(&args);
    return exit_status;
}
