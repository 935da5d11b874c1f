#include "commands.h"
#include "npos/npos.h"
#include "say.h"

static int run(int argc, char **argv);

#define AT(member) offsetof(npos_fit_options, member)

static const cli_option rows[] = {
    {"embeddings", 0, CLI_TEXT, AT(embeddings), CLI_NOWHERE, "H.npy", "@file",
     "embeddings of the training images, n rows of D numbers, float32 or float64"},
    {"labels", 0, CLI_TEXT, AT(labels), CLI_NOWHERE, "Y.npy", "@file",
     "their classes, n whole numbers from 0"},
    {"logits", 0, CLI_TEXT, AT(logits), CLI_NOWHERE, "L.npy", "@file",
     "their logits, n rows of C numbers"},
    {"head", 0, CLI_TEXT, AT(head), CLI_NOWHERE, "W.npy", "@file",
     "weights of the classifier that makes logits from embeddings, C rows of D numbers"},
    {"bias", 0, CLI_TEXT, AT(bias), CLI_NOWHERE, "B.npy", "@file",
     "what the classifier adds, C numbers; default: 0"},
    {"out", 0, CLI_TEXT, AT(out), CLI_NOWHERE, "RUN", "@file", "run directory to make"},
    {"score", 0, CLI_TEXT, AT(score), CLI_NOWHERE, "NAME", NULL,
     "the run's own score; default: knn"},
    {"knn-k", 0, CLI_INT, AT(knn_k), CLI_NOWHERE, "K", NULL,
     "neighbour of the k-NN score; default: 300, or n where that is less"}};

const cli_command cli_fit = {
    .name = "fit",
    .group = "Use",
    .summary = "make a run from another program's embeddings",
    .synopsis = "--embeddings H.npy --labels Y.npy --out RUN [OPTION]...",
    .about =
        "Makes a run without a network, so that detectors, protocols, calibration and scoring "
        "serve "
        "a network that lives elsewhere. 'npos eval', 'npos calibrate' and 'npos score' then take "
        "embeddings:H.npy[#logits=L.npy][#labels=Y.npy] where other runs take images.\n"
        "\n"
        "Embeddings and labels serve knn, prototype and the Mahalanobis distances; logits msp, "
        "maxlogit, energy and gen; the head's weights react, ash, she and vim too, and they make "
        "logits where a SPEC names none.",
    CLI_ROWS(rows),
    .max_args = 0,
    .arg_name = "no argument",
    .examples =
        "npos fit --embeddings train.npy --labels y.npy --head w.npy --bias b.npy --out runs/mine\n"
        "npos eval runs/mine --id embeddings:test.npy#labels=ty.npy --ood svhn=embeddings:svhn.npy",
    .writes = "RUN/recipe.yaml, manifest.json, bank.safetensors, model.safetensors",
    .run = run};

static int run(int argc, char **argv) {
    npos_fit_options options;
    cli_args args;
    int exit_status;
    npos_fit_options_init(&options);
    if (cli_begin(&cli_fit, argc, argv, &options, &args, &exit_status))
        return exit_status;
    const char *missing = !options.embeddings ? "--embeddings H.npy"
                          : !options.labels   ? "--labels Y.npy"
                          : !options.out      ? "--out RUN"
                                              : NULL;
    exit_status = missing ? cli_usage_error("'npos fit --help' shows an example",
                                            "npos fit needs %s", missing)
                          : cli_finish(npos_fit(&options));
    cli_args_free(&args);
    return exit_status;
}
