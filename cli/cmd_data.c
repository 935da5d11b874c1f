#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "help.h"
#include "jsonout.h"
#include "npos/npos.h"
#include "progress.h"
#include "say.h"

static int run(int argc, char **argv);
static int run_list(int argc, char **argv);
static int run_fetch(int argc, char **argv);

#define AT(member) offsetof(npos_data_list_options, member)

static const cli_option list_rows[] = {
    CLI_ROOT_ROW,
    {"names", 0, CLI_FLAG, AT(only_names), CLI_NOWHERE, NULL, NULL, "the names alone, a line each"},
    {"json", 0, CLI_JSON, AT(json), CLI_NOWHERE, "FILE", "@file",
     "write it as JSON; without FILE to standard output instead of the table"}};

static const cli_command list = {
    .name = "data list",
    .summary = "the data sets that npos knows by name, and which are here",
    .synopsis = "[NAME]... [OPTION]...",
    .about =
        "A line each: the role in papers (ID, near-OOD, far-OOD), images, size of the download, "
        "where from, the kind of checksum that was published, the licence or terms, and whether "
        "it lies below the root folder: 'complete' (counted), 'there' (too many to count in a "
        "moment), '9000 of 10000', 'unreadable' or 'missing'. With NAMEs all of those, also of "
        "benchmarks. A name serves as a SPEC everywhere: cifar10#train, svhn-select.",
    CLI_ROWS(list_rows),
    .max_args = -1,
    .arg_name = "NAMEs",
    .arg_values = "@set",
    .examples = "npos data list --root datasets\n"
                "npos data list svhn openood-cifar10\n"
                "npos data list --json | jq -r '.sets[] | select(.state == \"missing\").name'",
    .run = run_list};

#undef AT
#define AT(member) offsetof(npos_data_fetch_options, member)

static const cli_option fetch_rows[] = {
    CLI_ROOT_ROW,
    {"mirror", 0, CLI_TEXT, AT(mirror), CLI_NOWHERE, "URL", NULL,
     "a server that has the files as URL/FILE; it is asked before the sources of the catalogue"},
    {"keep", 0, CLI_FLAG, AT(keep), CLI_NOWHERE, NULL, NULL,
     "keep archives beside what they unpacked to"}};

static const cli_command fetch = {
    .name = "data fetch",
    .summary = "download data sets, with checksum, into the authors' folder layout",
    .synopsis = "NAME... [OPTION]...",
    .about =
        "Downloads sets, or all sets of a benchmark, below the root folder. What is there stays. A "
        "download that was cut goes on where it ended, also days later; sizes and published "
        "checksums are compared, free space is checked before, archives are unpacked whole or not "
        "at all and then removed. Links that redirect are followed. What cannot be had without "
        "signing in (ImageNet) says where to get it. Please read each set's terms.",
    CLI_ROWS(fetch_rows),
    .min_args = 1,
    .max_args = -1,
    .arg_name = "NAMEs of sets",
    .arg_values = "@set",
    .examples = "npos data fetch cifar10 npos-cifar --root datasets\n"
                "npos data fetch dtd --mirror http://mirror.example.org/ood",
    .writes = "ROOT/FOLDER/...        the sets, where 'npos data list NAME' looks for them first\n"
              "ROOT/.../FILE.part     what came of a download that was cut",
    .run = run_fetch};

static const cli_command *const verbs[] = {&list, &fetch, NULL};

const cli_command cli_data = {
    .name = "data",
    .group = "Data",
    .summary = "data sets by name: what there is, where it lies, downloads",
    .synopsis = "list | fetch ...",
    .about = "Sets of images that papers on OOD detection use have names here.",
    .arg_name = "a verb",
    .verbs = verbs,
    .run = run};

static int run_list(int argc, char **argv) {
    npos_data_list_options options;
    cli_args args;
    cli_jsonout json;
    int exit_status;
    npos_data_list_options_init(&options);
    if (cli_begin(&list, argc, argv, &options, &args, &exit_status))
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

static int run_fetch(int argc, char **argv) {
    npos_data_fetch_options options;
    cli_args args;
    int exit_status;
    npos_data_fetch_options_init(&options);
    if (cli_begin(&fetch, argc, argv, &options, &args, &exit_status))
        return exit_status;
    options.names = args.items;
    options.name_count = args.count;
    options.out = stdout;
    cli_progress_use(&options.compute);
    exit_status = cli_finish(npos_data_fetch(&options));
    cli_args_free(&args);
    return exit_status;
}

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
