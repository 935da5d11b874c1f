#include <stdio.h>

#include "commands.h"
#include "npos/npos.h"
#include "progress.h"
#include "say.h"

static int run(int argc, char **argv);

#define AT(member) offsetof(npos_embed_options, member)

static const cli_option rows[] = {
    {"data", 0, CLI_TEXT, AT(data), CLI_NOWHERE, "SPEC", "@file", "the images"},
    {"out", 0, CLI_TEXT, AT(out), CLI_NOWHERE, "H.npy", "@file",
     "penultimate embeddings, float32 [images][D], not normalised"},
    {"logits", 0, CLI_TEXT, AT(logits), CLI_NOWHERE, "L.npy", "@file",
     "the classifier's logits too, float32 [images][classes]"},
    {"labels", 0, CLI_TEXT, AT(labels), CLI_NOWHERE, "Y.npy", "@file",
     "the labels too, int64 [images], -1 for images without"},
    CLI_SKIP_ROW(npos_embed_options, compute),
    CLI_ROOT_ROW,
    CLI_COMPUTE_ROWS(npos_embed_options, compute)};

const cli_command cli_embed = {
    .name = "embed",
    .group = "Use",
    .summary = "penultimate embeddings, for anyone's own detector",
    .synopsis = "RUN --data SPEC --out H.npy [OPTION]...",
    .about = "Runs a trained network over images and writes what its last layer before the heads "
             "says of each, as NumPy files, in the order of the images. --logits needs a run with "
             "a classifier (method: ce).",
    CLI_ROWS(rows),
    .min_args = 1,
    .max_args = 1,
    .arg_name = "a RUN directory",
    .arg_values = "@file",
    .examples = "npos embed runs/cifar10 --data cifar-10-batches-bin#test --out h.npy\n"
                "npos embed runs/ce --data photos.zip --out h.npy --logits l.npy --labels y.npy",
    .writes = "the files that --out, --logits and --labels name, whole or not at all\n"
              "H.npy.skipped.txt  the images without a row, where --skip-broken left some out",
    .run = run};

static int run(int argc, char **argv) {
    npos_embed_options options;
    cli_args args;
    int exit_status;
    npos_embed_options_init(&options);
    if (cli_begin(&cli_embed, argc, argv, &options, &args, &exit_status))
        return exit_status;
    options.run = args.items[0];
    if (!options.data) {
        exit_status = cli_usage_error("--data SPEC names the images", "npos embed needs --data");
    } else if (!options.out) {
        exit_status =
            cli_usage_error("--out H.npy names the file to write", "npos embed needs --out");
    } else {
        cli_progress_use(&options.compute);
        exit_status = cli_finish(npos_embed(&options));
    }
    cli_args_free(&args);
    return exit_status;
}
