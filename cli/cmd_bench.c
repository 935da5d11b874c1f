#include <stdio.h>

#include "commands.h"
#include "jsonout.h"
#include "npos/npos.h"
#include "progress.h"
#include "say.h"

static int run(int argc, char **argv);

#define AT(member) offsetof(npos_bench_options, member)

static const cli_option rows[] = {
    {"only", 0, CLI_TEXT, AT(only), CLI_NOWHERE, "LIST",
     "step step-open encoder knn synthesis augment inference decode decode-centre decode-large "
     "decode-scaled measure "
     "step-cifar100 step-imagenet100 "
     "clip-encoder clip-features clip-blocks clip-step knn-imagenet knn-imagenet-2048",
     "which benchmarks, parted by commas; default: all"},
    {"json", 0, CLI_JSON, AT(json), CLI_NOWHERE, "FILE", "@file",
     "write the results as JSON; without FILE to standard output instead of the table"},
    CLI_COMPUTE_ROWS(npos_bench_options, compute)};

const cli_command cli_bench = {
    .name = "bench",
    .group = "About this machine",
    .summary = "how fast this machine does the work of npos",
    .synopsis = "[--only LIST] [--json [FILE]] [OPTION]...",
    .about =
        "Times the parts of a training step at the sizes of the CIFAR-10 recipe. Each is run "
        "several times; the shortest time counts.\n"
        "step: the whole step before start_epoch; step-open: the one after it, with outliers and "
        "R_open. encoder: ResNet-18 on images of 32x32, forward and backward. "
        "knn: the 300th neighbour of 1,000 (on a GPU 10,000) among 50,000 embeddings of 512 "
        "numbers. "
        "synthesis: the outliers of one step, 10 classes with rings of 1,000. "
        "augment: augmented views a second. inference: images a second. "
        "decode: photographs of 500x375 a second that one thread decodes and crops to 224x224, "
        "with "
        "the three that follow: decode-centre: the same by resize and centre crop; decode-large: "
        "of 1600x1200; decode-scaled: these decoded at half their size (npos extract "
        "--reducing-gap 2). "
        "measure: FPR95, AUROC and AUPR with intervals of 50,000 and 35,640 scores. "
        "step-cifar100, step-imagenet100: step-open of these recipes; on a processor with 16 "
        "images. "
        "clip-encoder: CLIP ViT-B/16's embeddings of images; clip-features: its tokens behind "
        "block 9; clip-blocks: blocks 10 and 11 forward and backward; clip-step: the "
        "step of the recipe clip-imagenet100 with outliers, on a processor with 16 images. "
        "knn-imagenet, knn-imagenet-2048: the 1000th neighbour of 100 (on a GPU 10,000) among "
        "ImageNet-1k's 1,281,167 embeddings, or as many as half of the free memory holds. "
        "These eight run on a processor only where they are named.",
    CLI_ROWS(rows),
    .max_args = 0,
    .arg_name = "no argument",
    .examples = "npos bench\n"
                "npos bench --only step-open,knn --precision fp32 --threads 1\n"
                "npos bench --json bench.json",
    .run = run};

static int run(int argc, char **argv) {
    npos_bench_options options;
    cli_args args;
    cli_jsonout json;
    int exit_status;
    npos_bench_options_init(&options);
    if (cli_begin(&cli_bench, argc, argv, &options, &args, &exit_status))
        return exit_status;
    exit_status = cli_jsonout_open(&json, &options.json);
    if (exit_status == 0) {
        options.table = json.used ? NULL : stdout;
        cli_progress_use(&options.compute);
        exit_status = cli_finish(npos_bench(&options));
        exit_status |= cli_jsonout_close(&json, exit_status == 0);
    }
    cli_args_free(&args);
    return exit_status;
}
