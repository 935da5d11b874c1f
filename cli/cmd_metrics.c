#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "jsonout.h"
#include "npos/npos.h"
#include "say.h"

static int run(int argc, char **argv);

typedef struct values {
    npos_metrics_options options;
    const char *larger;
} values;

#define AT(member) offsetof(values, member)

static const cli_option rows[] = {
    {"id", 0, CLI_TEXT, AT(options.id), CLI_NOWHERE, "FILE", "@file",
     "scores of ID images: .npy, float32 or float64, one value an image"},
    {"ood", 0, CLI_PAIRS, AT(options.ood), AT(options.ood_count), "[GROUP/]NAME=FILE", "@file",
     "scores of a set of OOD images; may be repeated"},
    {"larger", 0, CLI_CHOICE, AT(larger), CLI_NOWHERE, "WHICH", "id ood",
     "which images have the larger scores: id (default) or ood"},
    {"protocol", 0, CLI_CHOICE, AT(options.protocol), CLI_NOWHERE, "NAME", "oe openood knn-ood",
     "how FPR95 and AUPR are taken: oe (default), openood or knn-ood"},
    {"seed", 0, CLI_UINT64, AT(options.seed), CLI_NOWHERE, "N", NULL, "of the bootstrap intervals"},
    {"format", 0, CLI_CHOICE, AT(options.format), CLI_NOWHERE, "NAME",
     "table md csv latex json openood",
     "of what is printed: table (default), md, csv, latex, json or openood (OpenOOD's own CSV)"},
    {"json", 0, CLI_JSON, AT(options.json), CLI_NOWHERE, "FILE", "@file",
     "write the results as JSON; without FILE to standard output instead of the table"}};

const cli_command cli_metrics = {
    .name = "metrics",
    .group = "Measure",
    .summary = "the same table from any program's scores",
    .synopsis = "--id FILE --ood [GROUP/]NAME=FILE... [OPTION]...",
    .about =
        "Reads scores that any program wrote, one value an image, and prints the table that 'npos "
        "eval' prints: FPR95, AUROC and AUPR of each OOD set, of each group and in the mean, with "
        "95% intervals. When an AUROC below 0.5 looks like the wrong polarity, a note says so.",
    CLI_ROWS(rows),
    .max_args = 0,
    .arg_name = "no argument",
    .examples = "npos metrics --id cifar10.npy --ood far/svhn=svhn.npy --ood far/dtd=dtd.npy\n"
                "npos metrics --id id.npy --ood svhn=svhn.npy --larger ood --protocol openood\n"
                "npos metrics --id id.npy --ood svhn=svhn.npy --json results.json",
    .run = run};

static int run(int argc, char **argv) {
    values v = {.larger = "id"};
    npos_metrics_options *options = &v.options;
    cli_args args;
    cli_jsonout json;
    int exit_status;
    npos_metrics_options_init(options);
    if (cli_begin(&cli_metrics, argc, argv, &v, &args, &exit_status))
        return exit_status;
    options->larger_is_ood = strcmp(v.larger, "ood") == 0;
    options->notes = stderr;
    if (!options->id) {
        exit_status = cli_usage_error("--id FILE names the scores of ID images, a .npy file",
                                      "npos metrics needs --id FILE");
    } else if (options->ood_count == 0) {
        exit_status = cli_usage_error("for example --ood far/svhn=svhn.npy",
                                      "npos metrics needs at least one --ood [GROUP/]NAME=FILE");
    } else if ((exit_status = cli_jsonout_open(&json, &options->json)) == 0) {
        options->table = json.used ? NULL : stdout;
        exit_status = cli_finish(npos_metrics(options));
        exit_status |= cli_jsonout_close(&json, exit_status == 0);
    }
    cli_args_free(&args);
    return exit_status;
}
