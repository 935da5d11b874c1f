#include <stdio.h>

#include "commands.h"
#include "jsonout.h"
#include "npos/npos.h"
#include "progress.h"
#include "say.h"

static int run(int argc, char **argv);

#define AT(member) offsetof(npos_eval_options, member)

static const cli_option rows[] = {
    {"ood", 0, CLI_PAIRS, AT(ood), AT(ood_count), "[GROUP/]NAME=SPEC", "@set",
     "a set of images of none of the classes; may be repeated; a data set or benchmark by its name "
     "('npos data list') needs no SPEC"},
    {"id", 0, CLI_TEXT, AT(id), CLI_NOWHERE, "SPEC", "@file",
     "test images of the classes; default: the recipe's test set"},
    {"csid", 0, CLI_PAIRS, AT(csid), AT(csid_count), "NAME=SPEC", "@set",
     "full spectrum: a set of the classes under other conditions (corrupted, drawn, later ones), "
     "which counts as ID with the test images; may be repeated; a benchmark stands for those that "
     "it has"},
    {"score", 0, CLI_TEXT, AT(scores), CLI_NOWHERE, "LIST",
     "all knn head prototype msp maxlogit "
     "energy gen odin react ash she vim mahalanobis relative_mahalanobis mcm",
     "scores to compare, parted by commas, or all; default: the recipe's own"},
    {"protocol", 0, CLI_CHOICE, AT(protocol), CLI_NOWHERE, "NAME", "oe openood knn-ood",
     "how FPR95 and AUPR are taken: oe (default), openood or knn-ood"},
    {"max-images", 0, CLI_INT64, AT(max_images), CLI_NOWHERE, "N", NULL,
     "images of each OOD set, drawn with the seed; 0: all; default: 10000 under oe, else all"},
    {"seed", 0, CLI_UINT64, AT(seed), CLI_NOWHERE, "N", NULL,
     "of the subsets and of the bootstrap intervals"},
    {"format", 0, CLI_CHOICE, AT(format), CLI_NOWHERE, "NAME", "table md csv latex json openood",
     "of what is printed: table (default), md, csv, latex, json or openood (OpenOOD's own CSV)"},
    {"json", 0, CLI_JSON, AT(json), CLI_NOWHERE, "FILE", "@file",
     "write the results as JSON; without FILE to standard output instead of the table"},
    CLI_SKIP_ROW(npos_eval_options, compute),
    CLI_ROOT_ROW,
    CLI_COMPUTE_ROWS(npos_eval_options, compute)};

const cli_command cli_eval = {
    .name = "eval",
    .group = "Measure",
    .summary = "measure how well a run tells its classes from other images",
    .synopsis = "RUN --ood [GROUP/]NAME=SPEC... [OPTION]...",
    .about =
        "Scores the test images of a run's classes (ID) and images of other things (OOD), and "
        "prints for each OOD set, for each group and in the mean: FPR95 (the share of OOD images "
        "taken for ID when 95% of the ID images are accepted), AUROC and AUPR, with 95% intervals "
        "and numbers of images, beside the accuracy on ID images.\n"
        "\n"
        "The same scores give other figures under other protocols; the table names the one in use. "
        "oe: measures of Outlier Exposure, as NPOS and CIDER report; openood: OpenOOD v1.5, OOD is "
        "positive; knn-ood: ODIN's script.\n"
        "\n"
        "With --csid the figures are those of the full spectrum: a detector is to accept the "
        "classes under other conditions too.",
    CLI_ROWS(rows),
    .min_args = 1,
    .max_args = 1,
    .arg_name = "a RUN directory",
    .arg_values = "@file",
    .examples =
        "npos eval runs/cifar10 --ood far/svhn=svhn.tar --ood near/cifar100=cifar-100#test\n"
        "npos eval runs/cifar10 --ood dtd=dtd.tar --score all --protocol openood\n"
        "npos eval runs/cifar10 --ood svhn lsun-c near/cifar100 --root datasets\n"
        "npos eval runs/cifar10 --ood openood-cifar10 --root OpenOOD/data --protocol openood\n"
        "npos eval runs/cifar10 --ood openood-cifar10 --csid openood-cifar10 --protocol openood\n"
        "npos eval runs/cifar10 --ood dtd=dtd.tar --json | jq '.results[0].means'",
    .writes = "RUN/eval.json              the results (also where --json says)\n"
              "RUN/scores/SCORE/NAME.npy  one value an image, larger = more ID\n"
              "RUN/scores/NAME.txt        the images' names\n"
              "RUN/scores/classes.safetensors  what each image is taken for",
    .run = run};

static int run(int argc, char **argv) {
    npos_eval_options options;
    cli_args args;
    cli_jsonout json;
    int exit_status;
    npos_eval_options_init(&options);
    if (cli_begin(&cli_eval, argc, argv, &options, &args, &exit_status))
        return exit_status;
    options.run = args.items[0];
    if (options.ood_count == 0) {
        exit_status = cli_usage_error("for example --ood far/svhn=svhn.tar",
                                      "npos eval needs at least one --ood [GROUP/]NAME=SPEC");
    } else if ((exit_status = cli_jsonout_open(&json, &options.json)) == 0) {
        options.table = json.used ? NULL : stdout;
        cli_progress_use(&options.compute);
        exit_status = cli_finish(npos_eval(&options));
        exit_status |= cli_jsonout_close(&json, exit_status == 0);
    }
    cli_args_free(&args);
    return exit_status;
}
