#include <stdio.h>

#include "commands.h"
#include "jsonout.h"
#include "npos/npos.h"
#include "progress.h"
#include "say.h"

static int run(int argc, char **argv);

#define AT(member) offsetof(npos_calibrate_options, member)

static const cli_option rows[] = {
    {"id", 0, CLI_TEXT, AT(id), CLI_NOWHERE, "SPEC", "@file",
     "ID images that the run was not trained on"},
    {"tpr", 0, CLI_REAL, AT(tpr), CLI_NOWHERE, "X", NULL,
     "share of ID images to accept, between 0 and 1 (default 0.95)"},
    {"score", 0, CLI_TEXT, AT(score), CLI_NOWHERE, "NAME",
     "knn head prototype msp maxlogit energy "
     "gen odin react ash she vim mahalanobis relative_mahalanobis mcm",
     "which score; default: the run's own"},
    {"ood", 0, CLI_PAIRS, AT(ood), AT(ood_count), "NAME=SPEC", "@set",
     "OOD images for validation, not those of the evaluation: the k of the score knn is chosen by "
     "them; may be repeated"},
    {"json", 0, CLI_JSON, AT(json), CLI_NOWHERE, "FILE", "@file",
     "write the result as JSON; without FILE to standard output instead of the text"},
    CLI_SKIP_ROW(npos_calibrate_options, compute),
    CLI_ROOT_ROW,
    CLI_COMPUTE_ROWS(npos_calibrate_options, compute)};

const cli_command cli_calibrate = {
    .name = "calibrate",
    .group = "Use",
    .summary = "a threshold that accepts a wanted share of ID images",
    .synopsis = "RUN --id SPEC [--tpr X] [OPTION]...",
    .about = "Finds the score at which the wanted share of ID images is accepted and stores it in "
             "the model, where 'npos score' finds it. The share itself is an estimate: its 95% "
             "interval (Clopper-Pearson) is told and stored beside it. Use images that the run was "
             "not trained on: on training images every score is too good; and not those of the "
             "evaluation, which a note tells.",
    CLI_ROWS(rows),
    .min_args = 1,
    .max_args = 1,
    .arg_name = "a RUN directory",
    .arg_values = "@file",
    .examples = "npos calibrate runs/cifar10 --id held/data_batch_5.bin\n"
                "npos calibrate runs/cifar10 --id held --score knn --ood noise=noise.npy\n"
                "npos calibrate runs/cifar10 --id holdout.tar --tpr 0.99 --json",
    .writes = "RUN/model.safetensors  rewritten whole, with the threshold",
    .run = run};

static int run(int argc, char **argv) {
    npos_calibrate_options options;
    cli_args args;
    cli_jsonout json;
    int exit_status;
    npos_calibrate_options_init(&options);
    if (cli_begin(&cli_calibrate, argc, argv, &options, &args, &exit_status))
        return exit_status;
    options.run = args.items[0];
    if (!options.id) {
        exit_status = cli_usage_error("--id SPEC names ID images that the run was not trained on",
                                      "npos calibrate needs --id SPEC");
    } else if ((exit_status = cli_jsonout_open(&json, &options.json)) == 0) {
        options.out = json.used ? NULL : stdout;
        cli_progress_use(&options.compute);
        exit_status = cli_finish(npos_calibrate(&options));
        exit_status |= cli_jsonout_close(&json, exit_status == 0);
    }
    cli_args_free(&args);
    return exit_status;
}
