#include <stdio.h>

#include "commands.h"
#include "npos/npos.h"
#include "say.h"

static int run(int argc, char **argv);

#define AT(member) offsetof(npos_data_show_options, member)

static const cli_option rows[] = {
    {"out", 0, CLI_TEXT, AT(out), CLI_NOWHERE, "FILE", "@file", "the sheet, a PNG"},
    {"rows", 0, CLI_INT, AT(rows), CLI_NOWHERE, "N", NULL,
     "classes to show, evenly spread over all (default 20); without labels, rows of images"},
    {"columns", 0, CLI_INT, AT(columns), CLI_NOWHERE, "N", NULL,
     "images of each class, evenly spread over them (default 12)"},
    {"size", 0, CLI_INT, AT(size), CLI_NOWHERE, "PIXELS", NULL,
     "side of an image's cell (default 64)"},
    CLI_ROOT_ROW};

const cli_command cli_data_show = {
    .name = "data show",
    .summary = "a contact sheet: some images of each class as one PNG",
    .synopsis = "SPEC --out FILE [OPTION]...",
    .about =
        "Draws a row of images of each class below its name, each image whole in its cell: larger "
        "ones are made smaller, smaller ones larger by a whole factor, so that pixels show. Images "
        "that cannot be read are passed over ('npos data check' names them).",
    CLI_ROWS(rows),
    .min_args = 1,
    .max_args = 1,
    .arg_name = "a SPEC",
    .arg_values = "@set",
    .examples = "npos data show cifar10#train --out cifar10.png\n"
                "npos data show photos.tar#class=cat,dog --columns 20 --size 128 --out pets.png",
    .writes = "the file that --out names, whole or not at all",
    .run = run};

static int run(int argc, char **argv) {
    npos_data_show_options options;
    cli_args args;
    int exit_status;
    npos_data_show_options_init(&options);
    if (cli_begin(&cli_data_show, argc, argv, &options, &args, &exit_status))
        return exit_status;
    options.data = args.items[0];
    options.table = stdout;
    if (!options.out)
        exit_status =
            cli_usage_error("--out FILE names the PNG to write", "npos data show needs --out");
    else
        exit_status = cli_finish(npos_data_show(&options));
    cli_args_free(&args);
    return exit_status;
}
