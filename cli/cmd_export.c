#include "commands.h"
#include "npos/npos.h"
#include "progress.h"
#include "say.h"

static int run(int argc, char **argv);

#define AT(member) offsetof(npos_export_options, member)

static const cli_option rows[] = {
    {"out", 0, CLI_TEXT, AT(out), CLI_NOWHERE, "OUT", "@file",
     "a state dict for PyTorch (.pt, .pth) or safetensors (.safetensors); with --detector a run "
     "directory to make"},
    {"to", 0, CLI_TEXT, AT(to), CLI_NOWHERE, "FORMAT", "pt safetensors",
     "the weights' format: pt or safetensors; default: as OUT ends, and OUT's default is "
     "RUN/weights.FORMAT"},
    {"detector", 0, CLI_TEXT, AT(detector), CLI_NOWHERE, "NAME",
     "coreset head prototype msp maxlogit energy gen odin react ash she vim mahalanobis "
     "relative_mahalanobis mcm",
     "make a run that scores with it and leaves the training embeddings behind: coreset (knn over "
     "a few of them), head, prototype, or another score that can do without"},
    {"size", 0, CLI_INT64, AT(size), CLI_NOWHERE, "N", NULL,
     "embeddings of the coreset; default: a twentieth of them"},
    {"id", 0, CLI_TEXT, AT(id), CLI_NOWHERE, "SPEC", "@file",
     "ID images, with --ood to measure what is lost"},
    {"ood", 0, CLI_PAIRS, AT(ood), AT(ood_count), "[GROUP/]NAME=SPEC", "@file",
     "a set of OOD images; may be repeated"},
    CLI_COMPUTE_ROWS(npos_export_options, compute)};

const cli_command cli_export = {
    .name = "export",
    .group = "Use",
    .summary = "weights for PyTorch, or a run without its training embeddings",
    .synopsis = "RUN --to FORMAT | --out OUT [--detector NAME] [OPTION]...",
    .about = "Writes the weights of a finished run for other programs. The ResNet's have "
             "torchvision's names (conv1.weight, layer1.0.bn1.weight, ...), so that "
             "load_state_dict takes them; the others keep theirs: fc (classifier), head "
             "(projection), phi (outlier head), prototypes. A .pt file loads with "
             "torch.load(FILE, weights_only=True).\n\n"
             "With --detector it makes a run for 'npos score', 'eval' and 'calibrate' that is as "
             "small as its weights. A coreset keeps the training embeddings nearest to the centres "
             "of k-means within each class. With --id and --ood both are measured, and what is "
             "lost is told and kept in the new run's manifest.json. The run's threshold goes along "
             "where the new scores are the same; else there is none until 'npos calibrate'.",
    CLI_ROWS(rows),
    .min_args = 1,
    .max_args = 1,
    .arg_name = "a RUN directory",
    .arg_values = "@file",
    .examples = "npos export runs/cifar10 --to pt\n"
                "npos export runs/cifar10 --out resnet18.safetensors\n"
                "npos export runs/cifar10 --detector head --out runs/small\n"
                "npos export runs/cifar10 --detector coreset --size 2000 --out runs/core --id test "
                "--ood dtd=dtd.tar",
    .writes = "the file that --out names, whole or not at all; or a run directory",
    .run = run};

static int run(int argc, char **argv) {
    npos_export_options options;
    cli_args args;
    int exit_status;
    npos_export_options_init(&options);
    if (cli_begin(&cli_export, argc, argv, &options, &args, &exit_status))
        return exit_status;
    options.run = args.items[0];
    if (!options.out && !options.to)
        exit_status = cli_usage_error("--out names the file or the run to write; --to pt writes "
                                      "RUN/weights.pt",
                                      "npos export needs --to or --out");
    else {
        options.table = stdout;
        cli_progress_use(&options.compute);
        exit_status = cli_finish(npos_export(&options));
    }
    cli_args_free(&args);
    return exit_status;
}
