#include <stdio.h>

#include "commands.h"
#include "jsonout.h"
#include "npos/npos.h"
#include "say.h"

static int run(int argc, char **argv);

static const cli_option rows[] = {{"json", 0, CLI_JSON, offsetof(npos_info_options, json),
                                   CLI_NOWHERE, "FILE", "@file",
                                   "write it as JSON; without FILE to standard output"}};

const cli_command cli_info = {
    .name = "info",
    .group = "About this machine",
    .summary = "version, devices and what they can do, libraries",
    .synopsis = "[--json [FILE]]",
    .about = "Tells the version of npos, the devices that it can compute on here with their "
             "instruction sets, the libraries that it was built with, and where it looks for "
             "recipes. Put its output into reports of problems.",
    CLI_ROWS(rows),
    .max_args = 0,
    .arg_name = "no argument",
    .examples = "npos info\n"
                "npos info --json | jq '.devices[].name'",
    .run = run};

static int run(int argc, char **argv) {
    npos_info_options options;
    cli_args args;
    cli_jsonout json;
    int exit_status;
    npos_info_options_init(&options);
    if (cli_begin(&cli_info, argc, argv, &options, &args, &exit_status))
        return exit_status;
    exit_status = cli_jsonout_open(&json, &options.json);
    if (exit_status == 0) {
        options.table = options.json ? NULL : stdout;
        exit_status = cli_finish(npos_info(&options));
        exit_status |= cli_jsonout_close(&json, exit_status == 0);
    }
    cli_args_free(&args);
    return exit_status;
}
