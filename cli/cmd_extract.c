#include <stdio.h>

#include "commands.h"
#include "npos/npos.h"
#include "progress.h"
#include "say.h"

static int run(int argc, char **argv);

#define AT(member) offsetof(npos_extract_options, member)

static const cli_option rows[] = {
    {"clip", 0, CLI_TEXT, AT(clip), CLI_NOWHERE, "DIR|FILE", "@file",
     "the model: a folder of Hugging Face or open_clip, or OpenAI's .pt file"},
    {"data", 0, CLI_TEXT, AT(data), CLI_NOWHERE, "SPEC", "@file", "the images"},
    {"out", 0, CLI_TEXT, AT(out), CLI_NOWHERE, "STORE", "@file", "folder, made if missing"},
    {"block", 0, CLI_INT, AT(block), CLI_NOWHERE, "N", NULL,
     "store the tokens that enter block N, counted from 0; default: 10"},
    {"batch", 0, CLI_INT, AT(batch), CLI_NOWHERE, "N", NULL,
     "images at once; default: 32 on a processor, 256 on a GPU"},
    {"reducing-gap", 0, CLI_REAL, AT(reducing_gap), CLI_NOWHERE, "X", NULL,
     "decode a JPEG at 1/2, 1/4 or 1/8 of its size where its short side is then still X times the "
     "model's or longer (1 or more), as Pillow's draft: faster for large photographs, other "
     "pixels; "
     "fine-tuning then needs --set reducing_gap=X. Default: 0, decoded whole"},
    {"resume", 0, CLI_FLAG, AT(resume), CLI_NOWHERE, NULL, NULL,
     "go on with a store that was left unfinished"},
    CLI_SKIP_ROW(npos_extract_options, compute),
    CLI_ROOT_ROW,
    CLI_COMPUTE_ROWS(npos_extract_options, compute)};

const cli_command cli_extract = {
    .name = "extract",
    .group = "Train",
    .summary = "tokens of images inside CLIP's image tower, for fine-tuning",
    .synopsis = "--clip DIR|FILE --data SPEC --out STORE [OPTION]...",
    .about =
        "Brings each image to the model's size (bicubic, as Pillow, then a centre crop), runs the "
        "blocks that stay frozen once and stores what comes out of them in float16: 302,592 bytes "
        "an image for ViT-B/16, so 39 GB for ImageNet-100. Chunks of 256 images carry checksums. "
        "A stopped extraction goes on with --resume at the first chunk that is missing.",
    CLI_ROWS(rows),
    .examples =
        "npos extract --clip clip-vit-base-patch16 --data datasets/ImageNet100/train --out tokens",
    .writes = "STORE/index.json  model, images, labels, classes\n"
              "STORE/*.tok       the tokens, docs/clip.md",
    .run = run};

static int run(int argc, char **argv) {
    npos_extract_options options;
    cli_args args;
    int exit_status;
    npos_extract_options_init(&options);
    if (cli_begin(&cli_extract, argc, argv, &options, &args, &exit_status))
        return exit_status;
    if (!options.clip) {
        exit_status =
            cli_usage_error("--clip DIR|FILE names the model", "npos extract needs --clip");
    } else if (!options.data) {
        exit_status = cli_usage_error("--data SPEC names the images", "npos extract needs --data");
    } else if (!options.out) {
        exit_status =
            cli_usage_error("--out STORE names the folder to write", "npos extract needs --out");
    } else {
        cli_progress_use(&options.compute);
        exit_status = cli_finish(npos_extract(&options));
    }
    cli_args_free(&args);
    return exit_status;
}
