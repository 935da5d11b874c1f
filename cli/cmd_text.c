#include <stdio.h>

#include "commands.h"
#include "npos/npos.h"
#include "progress.h"
#include "say.h"

static int run(int argc, char **argv);

#define AT(member) offsetof(npos_text_options, member)

static const cli_option rows[] = {
    {"clip", 0, CLI_TEXT, AT(clip), CLI_NOWHERE, "DIR|FILE", "@file",
     "the model and its tokenizer: a folder of Hugging Face or open_clip, or OpenAI's .pt file "
     "with "
     "the tokenizer's files beside it"},
    {"classes", 0, CLI_TEXT, AT(classes), CLI_NOWHERE, "LIST", "@file",
     "imagenet-1k, imagenet-100, or a file with one class a line"},
    {"templates", 0, CLI_TEXT, AT(templates), CLI_NOWHERE, "FILE", "@file",
     "one prompt a line, {} stands for the class (default: 18 of photos)"},
    {"out", 0, CLI_TEXT, AT(out), CLI_NOWHERE, "T.safetensors", "@file",
     "one direction a class, float32 [classes][D] named 'text'"},
    CLI_COMPUTE_ROWS(npos_text_options, compute)};

const cli_command cli_text = {
    .name = "text",
    .group = "Train",
    .summary = "what CLIP's text tower says of classes",
    .synopsis = "--clip DIR|FILE --classes LIST --out T.safetensors [OPTION]...",
    .about =
        "Puts each class into each template, runs CLIP's text tower over the prompts and writes "
        "the normalised mean of their normalised embeddings: the directions that images are "
        "compared with. Class names and templates are kept in the file. In float32, unless "
        "--precision bf16 is given: it is done once.",
    CLI_ROWS(rows),
    .examples = "npos text --clip clip-vit-base-patch16 --classes imagenet-100 --out t.safetensors",
    .writes = "the file that --out names, whole or not at all",
    .run = run};

static int run(int argc, char **argv) {
    npos_text_options options;
    cli_args args;
    int exit_status;
    npos_text_options_init(&options);
    if (cli_begin(&cli_text, argc, argv, &options, &args, &exit_status))
        return exit_status;
    if (!options.clip) {
        exit_status = cli_usage_error("--clip DIR|FILE names the model", "npos text needs --clip");
    } else if (!options.classes) {
        exit_status =
            cli_usage_error("--classes LIST names the classes", "npos text needs --classes");
    } else if (!options.out) {
        exit_status =
            cli_usage_error("--out T.safetensors names the file to write", "npos text needs --out");
    } else {
        cli_progress_use(&options.compute);
        exit_status = cli_finish(npos_text(&options));
    }
    cli_args_free(&args);
    return exit_status;
}
