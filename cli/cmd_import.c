#include <stdio.h>

#include "commands.h"
#include "npos/npos.h"
#include "progress.h"
#include "say.h"

static int run(int argc, char **argv);

#define AT(member) offsetof(npos_train_options, member)

static const cli_option rows[] = {
    {"recipe", 0, CLI_TEXT, AT(recipe), CLI_NOWHERE, "RECIPE", "@recipe",
     "name or path of a recipe: encoder, stem, image size, statistics, method"},
    {"data", 0, CLI_TEXT, AT(data), CLI_NOWHERE, "SPEC", "@file",
     "the images that the network was trained on; default: the recipe's"},
    {"text", 0, CLI_TEXT, AT(text), CLI_NOWHERE, "T.safetensors", "@file",
     "WEIGHTS is a CLIP model (a folder, or OpenAI's .pt): a zero-shot run with these directions "
     "of npos text; no "
     "recipe, and --data only for the scores that need training embeddings"},
    {"tuned", 0, CLI_TEXT, AT(tuned), CLI_NOWHERE, "FILE", "@file",
     "with --text: what NPOS's authors fine-tuned of the CLIP model WEIGHTS, their .pt: its last "
     "blocks and an outlier head"},
    {"out", 0, CLI_TEXT, AT(out), CLI_NOWHERE, "RUN", "@file", "run directory, made if missing"},
    {"set", 0, CLI_PAIRS, AT(set), AT(set_count), "KEY=VALUE", NULL,
     "change a setting of the recipe; may be repeated"},
    CLI_ROOT_ROW,
    CLI_COMPUTE_ROWS(npos_train_options, compute)};

const cli_command cli_import = {
    .name = "import",
    .group = "Train",
    .summary = "a run from a ResNet or a CLIP model that others trained",
    .synopsis =
        "WEIGHTS (--recipe RECIPE --data SPEC | --text T.safetensors [--data SPEC]) --out RUN "
        "[OPTION]...",
    .about =
        "Reads the ResNets of torchvision, timm and OpenOOD and those of NPOS's and CIDER's "
        "authors "
        "(.pth, .pt, .bin, .safetensors), without executing anything that is in the file. Every "
        "tensor must have its place and every place its tensor; heads that the recipe's method has "
        "no use for are told and passed over.\n"
        "\n"
        "The recipe says what the network is: method=ce for one with a classifier, "
        "method=cider with projection_dim=0 for an encoder alone, npos for the authors' networks. "
        "Its mean and std must be those of the training. The classes of SPEC, in the order of "
        "their names, must be the network's. The images' embeddings are kept, as training does, "
        "and eval, score, calibrate, embed and report take the run like any other.\n"
        "\n"
        "With --text, WEIGHTS is a CLIP model and nothing is trained: an image belongs to the "
        "class "
        "whose text embedding is nearest, and the score mcm says how clearly. The model is copied "
        "into RUN/clip.",
    CLI_ROWS(rows),
    .max_args = 1,
    .arg_name = "WEIGHTS",
    .examples =
        "npos import resnet18.pth --recipe cifar10-100e-ce --data cifar-10-batches-bin --out "
        "runs/theirs\n"
        "npos import resnet50.pth --recipe imagenet-ce --data imagenet/train --out runs/resnet50\n"
        "npos import clip-vit-base-patch16 --text t.safetensors --out runs/zero-shot\n"
        "npos import clip-vit-base-patch16 --text t.safetensors --tuned epoch_19.pt --out "
        "runs/authors",
    .writes = "RUN/recipe.yaml        every setting\n"
              "RUN/manifest.json      versions, device, data and its hash\n"
              "RUN/model.safetensors  weights, prototypes\n"
              "RUN/bank.safetensors   training embeddings, so that eval needs no images",
    .run = run};

static int run(int argc, char **argv) {
    npos_train_options options;
    cli_args args;
    int exit_status;
    npos_train_options_init(&options);
    options.recipe = options.out = NULL;
    if (cli_begin(&cli_import, argc, argv, &options, &args, &exit_status))
        return exit_status;
    if (args.count == 0 || (!options.recipe && !options.text) || !options.out) {
        exit_status = cli_usage_error("'npos import --help' shows examples",
                                      "npos import needs WEIGHTS, --recipe RECIPE (or --text "
                                      "T.safetensors) and --out RUN");
    } else {
        options.init = args.items[0];
        cli_progress_use(&options.compute);
        exit_status = cli_finish(npos_import(&options));
    }
    cli_args_free(&args);
    return exit_status;
}
