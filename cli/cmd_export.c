#include "commands.h"
#include "npos/npos.h"
#include "say.h"

static int run(int argc, char **argv);

#define AT(member) offsetof(npos_export_options, member)

static const cli_option rows[] = {
    {"out", 0, CLI_TEXT, AT(out), CLI_NOWHERE, "FILE", "@file",
     "a state dict for PyTorch (.pt, .pth) or safetensors (.safetensors)"}};

const cli_command cli_export = {
    .name = "export",
    .group = "Use",
    .summary = "a run's weights for PyTorch, under torchvision's names",
    .synopsis = "RUN --out FILE",
    .about = "Writes the weights of a finished run for other programs. The ResNet's have "
             "torchvision's names (conv1.weight, layer1.0.bn1.weight, ...), so that "
             "load_state_dict takes them; the others keep theirs: fc (classifier), head "
             "(projection), phi (outlier head), prototypes. A .pt file loads with "
             "torch.load(FILE, weights_only=True).",
    CLI_ROWS(rows),
    .min_args = 1,
    .max_args = 1,
    .arg_name = "a RUN directory",
    .arg_values = "@file",
    .examples = "npos export runs/cifar10 --out resnet18.pt\n"
                "npos export runs/cifar10 --out resnet18.safetensors",
    .writes = "the file that --out names, whole or not at all",
    .run = run};

static int run(int argc, char **argv) {
    npos_export_options options;
    cli_args args;
    int exit_status;
    npos_export_options_init(&options);
    if (cli_begin(&cli_export, argc, argv, &options, &args, &exit_status))
        return exit_status;
    options.run = args.items[0];
    if (!options.out)
        exit_status =
            cli_usage_error("--out FILE names the file to write", "npos export needs --out");
    else
        exit_status = cli_finish(npos_export(&options));
    cli_args_free(&args);
    return exit_status;
}
