#include <stdio.h>

#include "commands.h"
#include "npos/npos.h"
#include "progress.h"
#include "say.h"

static int run(int argc, char **argv);

static const cli_option rows[] = {CLI_ROOT_ROW, CLI_COMPUTE_ROWS(npos_report_options, compute)};

const cli_command cli_report = {
    .name = "report",
    .group = "Measure",
    .summary = "one HTML file that shows a run",
    .synopsis = "RUN [OTHER-RUN]... [OPTION]...",
    .about =
        "Draws the table of 'npos eval' with its intervals, under all three protocols, histograms "
        "of the scores with the threshold, ROC curves, precision by recall, which classes take "
        "what does not belong, the most and least typical images and the most confident mistakes, "
        "distances of the classes, a map of the embeddings, how training went, and what was run, "
        "into one HTML file that opens offline, on a phone and in print. Further runs that were "
        "evaluated stand beside the first in the table.",
    CLI_ROWS(rows),
    .min_args = 1,
    .max_args = -1,
    .arg_name = "a RUN directory",
    .arg_values = "@file",
    .examples = "npos report runs/cifar10\n"
                "npos report runs/npos runs/cider runs/ce",
    .writes = "RUN/report/index.html",
    .run = run};

static int run(int argc, char **argv) {
    npos_report_options options;
    cli_args args;
    int exit_status;
    npos_report_options_init(&options);
    if (cli_begin(&cli_report, argc, argv, &options, &args, &exit_status))
        return exit_status;
    options.run = args.items[0];
    options.compare = args.items + 1;
    options.compare_count = args.count - 1;
    cli_progress_use(&options.compute);
    exit_status = cli_finish(npos_report(&options));
    if (exit_status == 0)
        printf("%s/report/index.html\n", options.run);
    cli_args_free(&args);
    return exit_status;
}
