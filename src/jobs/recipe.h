/* jobs/recipe.h - every setting of a run, from one table.
 *
 * The table below is the only place where a key exists: the YAML reader, `--set`, the help page,
 * docs and recipe.yaml of a run directory derive from it.  A recipe file may say `base: NAME` as
 * its first key to start from another recipe. */
#ifndef NPI_JOBS_RECIPE_H
#define NPI_JOBS_RECIPE_H

#include <stdbool.h>
#include <stdio.h>

#include "base/fail.h"

/* X(type, key, default, lowest, highest, help).  Types: INT, REAL, BOOL, TEXT (TEXT ignores the
 * bounds; an allowed list stands in the help between braces). */
#define NPI_RECIPE_MAP(X)                                                                          \
    X(TEXT, name, "custom", 0, 0, "what the recipe is called")                                     \
    X(TEXT, method, "npos", 0, 0,                                                                  \
      "{npos, cider, vos, ce, clip}: how outliers are made and what is trained; clip: a run of "   \
      "CLIP's image tower")                                                                        \
    X(TEXT, compat, "none", 0, 0,                                                                  \
      "{none, authors}: repeat the authors' bugs (docs/differences.md)")                           \
    X(TEXT, data, "", 0, 0, "training images, a SPEC")                                             \
    X(TEXT, test, "", 0, 0,                                                                        \
      "test images of the same classes, a SPEC; empty: the data's own #test split")                \
    X(TEXT, clip, "", 0, 0, "clip: the model to fine-tune, a folder or file")                      \
    X(TEXT, features, "", 0, 0, "clip: stored tokens of the training images; empty: made of data") \
    X(TEXT, text, "", 0, 0,                                                                        \
      "clip: the classes' directions, a file of npos text; empty: made of their names")            \
    X(INT, first_block, 10, 0, 1000, "clip: first block of the image tower that is trained")       \
    X(TEXT, loss, "logit_norm", 0, 0,                                                              \
      "{logit_norm, ce}: clip: cross-entropy over l / |l| / temperature of the cosines l, or "     \
      "over "                                                                                      \
      "l / tau")                                                                                   \
    X(REAL, temperature, 8, 1e-4, 1000, "clip: of logit_norm")                                     \
    X(TEXT, encoder, "resnet18", 0, 0,                                                             \
      "{resnet18, resnet34, resnet50, resnet101, resnet-small, none, clip}; none: a run of "       \
      "npos fit; clip: the model in RUN/clip")                                                     \
    X(TEXT, stem, "3x3", 0, 0,                                                                     \
      "{3x3, 3x3s2, 7x7}: 3x3 stride 1; 3x3 stride 2; 7x7 stride 2 with max-pool")                 \
    X(INT, width, 64, 8, 1024, "channels of the stem and the first stage")                         \
    X(INT, image_size, 32, 8, 1024, "side of the images that the encoder sees")                    \
    X(INT, channels, 3, 1, 3, "{1, 3}: grey or colour")                                            \
    X(INT, feature_dim, 0, 0, 8192,                                                                \
      "0: the encoder's own width; else h = ReLU(Linear(width, feature_dim))")                     \
    X(INT, projection_dim, 128, 0, 8192, "size of z; 0: no projection head, z = normalize(h)")     \
    X(INT, views, 2, 1, 2, "augmented views of an image in a step")                                \
    X(INT, batch, 256, 1, 65536, "images in a step (each enters `views` times)")                   \
    X(INT, epochs, 500, 1, 100000, "passes over the training images")                              \
    X(INT, start_epoch, 200, 0, 100000, "first epoch with outliers")                               \
    X(REAL, lr, 0.5, 0, 1000, "learning rate")                                                     \
    X(REAL, head_lr_scale, 1, 0, 1000, "the outlier head's rate, as a factor of lr")               \
    X(INT, warmup_epochs, 0, 0, 100000,                                                            \
      "linear warm-up; 0: none, or 10 epochs where batch > 256 and the schedule is cosine")        \
    X(REAL, warmup_from, 0.01, 0, 1000, "rate at the first step of the warm-up")                   \
    X(TEXT, schedule, "cosine", 0, 0,                                                              \
      "{cosine, step}: cosine by epoch; or lr, times lr_decay from drop_epoch on")                 \
    X(REAL, lr_decay, 0.1, 0, 1, "the cosine ends at lr * lr_decay^3; step: see schedule")         \
    X(INT, drop_epoch, 60, 1, 100000, "step: first epoch at the lower rate")                       \
    X(REAL, momentum, 0.9, 0, 1, "of SGD")                                                         \
    X(BOOL, nesterov, 1, 0, 1, "Nesterov's form of momentum")                                      \
    X(REAL, weight_decay, 1e-4, 0, 10, "on every parameter")                                       \
    X(REAL, clip_norm, 0, 0, 1e6, "largest norm of the gradient; 0: off")                          \
    X(REAL, w_disp, 0.5, 0, 1000, "weight of the dispersion loss")                                 \
    X(REAL, w_comp, 1, 0, 1000, "weight of the compactness loss")                                  \
    X(REAL, alpha, 0.1, 0, 1000, "weight of the open-set risk R_open")                             \
    X(REAL, tau, 0.1, 1e-4, 100, "temperature of the prototypes; clip: of loss ce")                \
    X(REAL, proto_m, 0.95, 0, 1, "momentum of the prototypes")                                     \
    X(TEXT, proto_start, "mean", 0, 0,                                                             \
      "{mean, spread}: prototypes start as their classes' mean z, or as far apart as can be")      \
    X(INT, proto_hold, 0, 0, 100000, "epochs in which the prototypes stay where they start")       \
    X(INT, head_dim, 128, 1, 8192, "hidden width of the outlier head")                             \
    X(INT, ring, 1000, 1, 1000000, "embeddings kept of each class")                                \
    X(INT, k, 300, 1, 1000000,                                                                     \
      "neighbour whose distance finds the boundary; itself counts as the first")                   \
    X(INT, select, 200, 1, 1000000, "boundary candidates of each class")                           \
    X(INT, pick, 2, 1, 1000000, "boundary rows drawn from them")                                   \
    X(INT, noise, 600, 1, 1000000, "noise vectors of a step")                                      \
    X(INT, keep, 200, 1, 1000000, "farthest samples kept of each boundary row")                    \
    X(REAL, sigma, 0.1, 0, 1000, "multiplies the noise")                                           \
    X(INT, draws, 10000, 1, 10000000, "vos: samples of each class's Gaussian")                     \
    X(TEXT, augment, "cifar", 0, 0,                                                                \
      "{cifar, pad-crop, imagenet, none}: cifar is crop-resize, flip, jitter, grey")               \
    X(REAL, crop_lo, 0.2, 0.001, 1, "smallest area of a random crop")                              \
    X(REAL, crop_hi, 1, 0.001, 1, "largest area of a random crop")                                 \
    X(TEXT, crop_filter, "bilinear", 0, 0,                                                         \
      "{bilinear, bicubic}: how a random crop is resized; bicubic needs streamed images")          \
    X(INT, pad, 4, 0, 64, "padding of pad-crop")                                                   \
    X(REAL, flip_p, 0.5, 0, 1, "probability of a horizontal flip")                                 \
    X(REAL, jitter_p, 0.8, 0, 1, "probability of the colour jitter")                               \
    X(REAL, brightness, 0.4, 0, 1, "range of the jitter")                                          \
    X(REAL, contrast, 0.4, 0, 1, "range of the jitter")                                            \
    X(REAL, saturation, 0.4, 0, 1, "range of the jitter")                                          \
    X(REAL, hue, 0.1, 0, 0.5, "range of the jitter, in turns")                                     \
    X(REAL, grey_p, 0.2, 0, 1, "probability of grey")                                              \
    X(TEXT, mean, "0.4914 0.4822 0.4465", 0, 0, "of each channel of the training images")          \
    X(TEXT, std, "0.2471 0.2435 0.2616", 0, 0, "of each channel of the training images")           \
    X(TEXT, interpolation, "bilinear", 0, 0,                                                       \
      "{bilinear, bicubic}: how images are brought to image_size")                                 \
    X(REAL, reducing_gap, 0, 0, 64,                                                                \
      "clip: JPEGs are decoded at 1/2, 1/4 or 1/8 of their size, no smaller than this times "      \
      "image_size, as Pillow's draft does: faster, other pixels (docs/data.md); 0: whole")         \
    X(TEXT, loading, "auto", 0, 0,                                                                 \
      "{auto, memory, stream}: training images in memory, or decoded in each step; auto: "         \
      "streamed where they take more than 8 GB or crop_filter is bicubic; clip: tokens in the "    \
      "device's memory, or streamed")                                                              \
    X(TEXT, score, "knn", 0, 0,                                                                    \
      "{knn, head, prototype, msp, maxlogit, energy, gen, odin, react, ash, she, vim, "            \
      "mahalanobis, "                                                                              \
      "relative_mahalanobis, mcm}: the model's own score")                                         \
    X(INT, knn_k, 300, 1, 10000000, "neighbour of the k-NN score")                                 \
    X(INT, checkpoint_every, 0, 0, 100000,                                                         \
      "epochs between checkpoints; 0: as many as take a twentieth of the time")                    \
    X(INT, seed, 0, 0, 2147483647, "of every random draw")

typedef struct npi_recipe {
#define NPI_RECIPE_FIELD_INT int
#define NPI_RECIPE_FIELD_REAL double
#define NPI_RECIPE_FIELD_BOOL bool
#define NPI_RECIPE_FIELD_TEXT char *
#define NPI_RECIPE_FIELD(type, key, value, lowest, highest, help) NPI_RECIPE_FIELD_##type key;
    NPI_RECIPE_MAP(NPI_RECIPE_FIELD)
#undef NPI_RECIPE_FIELD
} npi_recipe;

/* All keys at their defaults.  Release with npi_recipe_clear. */
NPOS_MUST_CHECK npos_status npi_recipe_defaults(npi_recipe *out);
void npi_recipe_clear(npi_recipe *recipe);

/* Reads a recipe by name (recipes/NAME.yaml in npi_recipe_folder) or by path; a base by name is first looked for in the
 * folder of the recipe that stands on it.  Unknown keys, wrong
 * types and values out of range are errors that name the file, the line, the key, what was seen and
 * what is allowed; an unknown key names the nearest one. */
NPOS_MUST_CHECK npos_status npi_recipe_load(const char *name_or_path, npi_recipe *out);

/* Reads a recipe from YAML text; `origin` names it in errors. */
NPOS_MUST_CHECK npos_status npi_recipe_parse(const char *text, size_t length, const char *origin,
                                             npi_recipe *out);

/* Applies "key=value". */
NPOS_MUST_CHECK npos_status npi_recipe_set(npi_recipe *recipe, const char *assignment);

/* Checks what no single key can show: k <= ring, pick <= select <= ring, keep <= noise,
 * start_epoch, sizes that the encoder can take.  Every loader calls it; call it again after
 * npi_recipe_set. */
NPOS_MUST_CHECK npos_status npi_recipe_check(const npi_recipe *recipe);

/* Writes all keys as YAML, with their help as comments when `comments`; npi_recipe_parse reads it
 * back to equal values. */
NPOS_MUST_CHECK npos_status npi_recipe_format(const npi_recipe *recipe, bool comments, char **out);

/* Parses "a b c" of `mean` and `std` into `channels` numbers; one number serves all channels. */
NPOS_MUST_CHECK npos_status npi_recipe_numbers(const char *key, const char *text, int channels,
                                               float *out);

/* Where recipes are: NPOS_RECIPES, ../share/npos/recipes seen from the program, recipes/ beside the
 * source, the installed share/npos/recipes. */
const char *npi_recipe_folder(void);

/* NULL-terminated sorted names of the recipes there; free with npi_names_free. */
NPOS_MUST_CHECK npos_status npi_recipe_names(char ***out);
void npi_names_free(char **names);

#endif
