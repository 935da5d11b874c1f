#include <stdio.h>

#include "commands.h"
#include "npos/npos.h"
#include "progress.h"
#include "say.h"

static int run(int argc, char **argv);

#define AT(member) offsetof(npos_data_fetch_options, member)

static const cli_option rows[] = {
    CLI_ROOT_ROW,
    {"mirror", 0, CLI_TEXT, AT(mirror), CLI_NOWHERE, "URL", NULL,
     "a server that has the files as URL/FILE; it is asked before the sources of the catalogue"},
    {"keep", 0, CLI_FLAG, AT(keep), CLI_NOWHERE, NULL, NULL,
     "keep archives beside what they unpacked to"}};

const cli_command cli_data_fetch = {
    .name = "data fetch",
    .summary = "download data sets, with checksum, into the authors' folder layout",
    .synopsis = "NAME... [OPTION]...",
    .about =
        "Downloads sets, or all sets of a benchmark, below the root folder. What is there stays. A "
        "download that was cut goes on where it ended, also days later; sizes and published "
        "checksums are compared, free space is checked before, archives are unpacked whole or not "
        "at all and then removed. Links that redirect are followed. What cannot be had without "
        "signing in (ImageNet) says where to get it. Please read each set's terms.",
    CLI_ROWS(rows),
    .min_args = 1,
    .max_args = -1,
    .arg_name = "NAMEs of sets",
    .arg_values = "@set",
    .examples = "npos data fetch cifar10 npos-cifar --root datasets\n"
                "npos data fetch dtd --mirror http://mirror.example.org/ood",
    .writes = "ROOT/FOLDER/...        the sets, where 'npos data list NAME' looks for them first\n"
              "ROOT/.../FILE.part     what came of a download that was cut",
    .run = run};

static int run(int argc, char **argv) {
    npos_data_fetch_options options;
    cli_args args;
    int exit_status;
    npos_data_fetch_options_init(&options);
    if (cli_begin(&cli_data_fetch, argc, argv, &options, &args, &exit_status))
        return exit_status;
    options.names = args.items;
    options.name_count = args.count;
    options.out = stdout;
    cli_progress_use(&options.compute);
    exit_status = cli_finish(npos_data_fetch(&options));
    cli_args_free(&args);
    return exit_status;
}
