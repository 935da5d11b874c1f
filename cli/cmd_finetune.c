#include <stdio.h>

#include "commands.h"
#include "npos/npos.h"
#include "progress.h"
#include "say.h"

static int run(int argc, char **argv);

#define AT(member) offsetof(npos_finetune_options, member)

static const cli_option rows[] = {
    {"recipe", 0, CLI_TEXT, AT(recipe), CLI_NOWHERE, "RECIPE", "@recipe",
     "clip-imagenet100, clip-imagenet1k, or path of a .yaml file of method clip"},
    {"clip", 0, CLI_TEXT, AT(clip), CLI_NOWHERE, "DIR|FILE", "@file",
     "the model: a folder of Hugging Face or open_clip, or OpenAI's .pt file"},
    {"features", 0, CLI_TEXT, AT(features), CLI_NOWHERE, "STORE", "@file",
     "training images' tokens of npos extract; or feature.pt with target.pt beside it, or a folder "
     "with a folder of .pt files for each class"},
    {"data", 0, CLI_TEXT, AT(data), CLI_NOWHERE, "SPEC", "@file",
     "the training images themselves, in place of --features"},
    {"text", 0, CLI_TEXT, AT(text), CLI_NOWHERE, "T.safetensors", "@file",
     "what npos text wrote of the classes; default: made of their names"},
    {"out", 0, CLI_TEXT, AT(out), CLI_NOWHERE, "RUN", "@file", "run directory, made if missing"},
    {"set", 0, CLI_PAIRS, AT(set), AT(set_count), "KEY=VALUE", NULL,
     "change a setting of the recipe; may be repeated"},
    {"resume", 0, CLI_FLAG, AT(resume), CLI_NOWHERE, NULL, NULL,
     "go on from the run's checkpoint, bit for bit as if it had not stopped"},
    {"stop-after-epoch", 0, CLI_INT, AT(stop_after_epoch), CLI_NOWHERE, "N", NULL,
     "save and stop after that many epochs, to go on with --resume"},
    CLI_COMPUTE_ROWS(npos_finetune_options, compute)};

const cli_command cli_finetune = {
    .name = "finetune",
    .group = "Train",
    .summary = "fine-tune CLIP's last blocks with outliers",
    .synopsis = "--recipe RECIPE --clip DIR|FILE (--features STORE | --data SPEC) --out RUN "
                "[OPTION]...",
    .about =
        "Trains blocks 10 and 11 of CLIP's image tower, its last layer norm and its projection "
        "against the text embeddings of the classes, which stay as they are, and a head that tells "
        "images from outliers synthesised at the classes' borders (NPOS, ICLR 2023). The run holds "
        "the whole model, under the names that it came with, and is scored with MCM.\n"
        "\n"
        "Without --text the classes' directions are made first: ImageNet's WordNet ids by their "
        "names, other class folders by their own. Without a store the frozen blocks run on the "
        "images: once where the tokens fit in 8 GB (or with --set loading=memory), else in every "
        "step; npos extract is for larger sets. A store that was made with --reducing-gap X needs "
        "--set reducing_gap=X, which also lets --data be decoded so; the run keeps it.\n"
        "\n"
        "SIGINT (Ctrl-C) and SIGTERM finish the step, save a checkpoint and say how to go on.",
    CLI_ROWS(rows),
    .examples =
        "npos finetune --recipe clip-imagenet100 --clip clip-vit-base-patch16 --features tokens "
        "--text t.safetensors --out runs/clip\n"
        "npos finetune --recipe clip-imagenet100 --clip ViT-B-16.pt --data "
        "datasets/ImageNet100/train --out runs/clip\n"
        "npos finetune --out runs/clip --resume",
    .writes = "RUN/recipe.yaml             every setting, as run\n"
              "RUN/manifest.json           seed, versions, device, model, data and their hashes\n"
              "RUN/text.safetensors        the classes' directions\n"
              "RUN/clip/                   the tuned model, as --clip takes it\n"
              "RUN/model.safetensors       directions, outlier head\n"
              "RUN/bank.safetensors        training embeddings, for knn\n"
              "RUN/checkpoint.safetensors  all that --resume needs\n"
              "RUN/log.jsonl               one line an epoch; beside it TensorBoard events",
    .run = run};

static int run(int argc, char **argv) {
    npos_finetune_options options;
    cli_args args;
    int exit_status;
    npos_finetune_options_init(&options);
    if (cli_begin(&cli_finetune, argc, argv, &options, &args, &exit_status))
        return exit_status;
    if (!options.out) {
        exit_status =
            cli_usage_error("--out RUN names the run directory", "npos finetune needs --out");
    } else if (!options.recipe && !options.resume) {
        exit_status = cli_usage_error("clip-imagenet100 and clip-imagenet1k are there",
                                      "npos finetune needs --recipe RECIPE");
    } else {
        cli_progress_use(&options.compute);
        exit_status = cli_finish(npos_finetune(&options));
    }
    cli_args_free(&args);
    return exit_status;
}
