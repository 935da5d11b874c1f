#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "npos/npos.h"
#include "progress.h"
#include "say.h"

static int run(int argc, char **argv);

#define AT(member) offsetof(npos_train_options, member)

static const cli_option rows[] = {
    {"recipe", 0, CLI_TEXT, AT(recipe), CLI_NOWHERE, "RECIPE", "@recipe",
     "name of a recipe ('npos recipes' lists them) or path of a .yaml file"},
    {"data", 0, CLI_TEXT, AT(data), CLI_NOWHERE, "SPEC", "@file",
     "training images; default: the recipe's"},
    {"out", 0, CLI_TEXT, AT(out), CLI_NOWHERE, "RUN", "@file",
     "run directory, made if missing; default: runs/ and the recipe's name"},
    {"set", 0, CLI_PAIRS, AT(set), AT(set_count), "KEY=VALUE", NULL,
     "change a setting of the recipe; may be repeated"},
    {"init", 0, CLI_TEXT, AT(init), CLI_NOWHERE, "WEIGHTS", "@file",
     "weights to start from: a run, a model.safetensors or checkpoint.safetensors, or another "
     "program's ResNet (npos help import)"},
    {"resume", 0, CLI_FLAG, AT(resume), CLI_NOWHERE, NULL, NULL,
     "go on from the run's checkpoint, bit for bit as if it had not stopped"},
    {"stop-after-epoch", 0, CLI_INT, AT(stop_after_epoch), CLI_NOWHERE, "N", NULL,
     "save and stop after that many epochs, to go on with --resume"},
    CLI_SKIP_ROW(npos_train_options, compute),
    CLI_ROOT_ROW,
    CLI_COMPUTE_ROWS(npos_train_options, compute)};

const cli_command cli_train = {
    .name = "train",
    .group = "Train",
    .summary = "train a network from scratch",
    .synopsis = "--recipe RECIPE [--data SPEC] [--out RUN] [OPTION]...",
    .about =
        "Trains an encoder whose classes form tight, well separated groups, and a head that tells "
        "them from outliers synthesised at the groups' borders (NPOS, ICLR 2023). A recipe holds "
        "every setting; --set changes single ones.\n"
        "\n"
        "SPEC is a path whose format is recognised from its content (a folder or archive of class "
        "folders, WebDataset shards, a list of files, CIFAR's batches, idx, SVHN's .mat, .npy, "
        ".npz), or format:path; after it, #train or #test picks a split, #class=a,b, #class!=a,b "
        "or #class=@file some of the classes, and #first=K the first K images of each.\n"
        "\n"
        "SIGINT (Ctrl-C) and SIGTERM finish the step, save a checkpoint and say how to go on.",
    CLI_ROWS(rows),
    .max_args = 0,
    .arg_name = "no argument",
    .examples = "npos train --recipe cifar10-100e --data cifar-10-batches-bin --out runs/cifar10\n"
                "npos train --recipe cifar10 --data photos.tar --set epochs=20 --set batch=64\n"
                "npos train --recipe cifar10-100e --out runs/cifar10 --resume",
    .writes = "RUN/recipe.yaml             every setting, as run\n"
              "RUN/manifest.json           seed, versions, device, data and its hash\n"
              "RUN/model.safetensors       weights, prototypes, outlier head\n"
              "RUN/bank.safetensors        training embeddings, so that eval needs no images\n"
              "RUN/checkpoint.safetensors  all that --resume needs\n"
              "RUN/log.jsonl               one line an epoch; beside it TensorBoard events",
    .run = run};

/* "runs/NAME" of a recipe's name or path. */
static void default_out(const char *recipe, char *out, size_t size) {
    const char *name = strrchr(recipe, '/');
    name = name ? name + 1 : recipe;
    size_t length = strlen(name);
    if (length > 5 && strcmp(name + length - 5, ".yaml") == 0)
        length -= 5;
    snprintf(out, size, "runs/%.*s", (int)length, name);
}

static int run(int argc, char **argv) {
    npos_train_options options;
    cli_args args;
    char out[512];
    int exit_status;
    npos_train_options_init(&options);
    options.recipe = options.out = NULL;
    if (cli_begin(&cli_train, argc, argv, &options, &args, &exit_status))
        return exit_status;
    if (!options.recipe && !(options.resume && options.out)) {
        exit_status =
            cli_usage_error("'npos recipes' lists the recipes", "npos train needs --recipe RECIPE");
    } else {
        if (!options.out) {
            default_out(options.recipe, out, sizeof out);
            options.out = out;
        }
        cli_progress_use(&options.compute);
        exit_status = cli_finish(npos_train(&options));
    }
    cli_args_free(&args);
    return exit_status;
}
