#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "npos/npos.h"
#include "progress.h"
#include "say.h"

static int run(int argc, char **argv);

#define AT(member) offsetof(npos_score_options, member)

static const cli_option rows[] = {
    {"threshold", 0, CLI_REAL, AT(threshold), AT(has_threshold), "X", NULL,
     "accept scores of at least X; default: the calibrated threshold ('npos calibrate')"},
    {"score", 0, CLI_TEXT, AT(score), CLI_NOWHERE, "NAME",
     "knn head prototype msp maxlogit energy "
     "gen odin react ash she vim mahalanobis relative_mahalanobis mcm",
     "which score; default: the run's own"},
    {"neighbours", 0, CLI_INT, AT(neighbours), CLI_NOWHERE, "N", NULL,
     "add the N nearest training images to each line"},
    {"stdin", 0, CLI_CHOICE, AT(stream), CLI_NOWHERE, "KIND", "names raw",
     "what - reads: names (default), one a line, or raw: binary PPM and PGM images, one behind the "
     "other"},
    CLI_COMPUTE_ROWS(npos_score_options, compute)};

const cli_command cli_score = {
    .name = "score",
    .group = "Use",
    .summary = "one JSON line an image: score, threshold, verdict, class",
    .synopsis = "RUN FILE... [OPTION]...",
    .about =
        "Scores single images with a trained run. Each image gives one line: \"file\", \"score\" "
        "(larger = more like the training classes), \"threshold\", \"verdict\" (\"id\" or "
        "\"ood\"), "
        "\"p_value\", how often an image of the classes scores as low or lower (from the images of "
        "'npos calibrate'; null without), and \"class\", the nearest one. A file that cannot be "
        "read gives a line with \"error\"; "
        "the others are scored all the same, and the exit status is 1.\n"
        "\n"
        "The argument - reads file names from standard input, one a line, or, with --stdin raw, "
        "the "
        "images themselves. Any number of images is scored in constant memory.",
    CLI_ROWS(rows),
    .min_args = 2,
    .max_args = -1,
    .arg_name = "a RUN directory and image files",
    .arg_values = "@file",
    .examples =
        "npos score runs/cifar10 cat.jpg\n"
        "npos score runs/cifar10 --threshold -0.4 --neighbours 3 photos/*.png\n"
        "find photos -name '*.jpg' | npos score runs/cifar10 - > scores.jsonl\n"
        "ffmpeg -i film.mp4 -f image2pipe -c:v ppm - | npos score runs/cifar10 --stdin raw -",
    .run = run};

static int run(int argc, char **argv) {
    npos_score_options options;
    cli_args args;
    int exit_status;
    npos_score_options_init(&options);
    if (cli_begin(&cli_score, argc, argv, &options, &args, &exit_status))
        return exit_status;
    options.run = args.items[0];
    options.files = args.items + 1;
    options.file_count = args.count - 1;
    options.out = stdout;
    for (int i = 1; i < args.count; i++) {
        if (strcmp(args.items[i], "-") == 0)
            options.names = stdin;
    }
    cli_progress_use(&options.compute);
    exit_status = cli_finish(npos_score(&options));
    cli_args_free(&args);
    return exit_status;
}
