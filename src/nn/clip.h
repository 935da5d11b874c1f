/* nn/clip.h - CLIP's two towers (Radford et al., ICML 2021) and plans that run them.
 *
 *   image [c][side][side] -> tokens -> blocks 0..layers-1 -> row 0 -> layer norm -> W x   [projection]
 *   ids [t]               -> tokens -> blocks, causal     -> row of <end> -> the same     [projection]
 *
 * Neither embedding is normalised.  Names are those of transformers' CLIPModel, but that queries, keys
 * and values are one parameter, self_attn.qkv_proj, in this order.  Values come by npi_param_set; of
 * files, by jobs/clip_file.h.
 *
 *     npi_clip clip;
 *     NPI_TRY_GOTO(npi_clip_create(dev, &config, &clip), done);      and values
 *     NPI_TRY_GOTO(npi_clip_images_create(&clip, 64, &images), done);
 *     NPI_TRY_GOTO(npi_clip_images_pack(images), done);
 *     NPI_TRY_GOTO(npi_clip_images_embed(images, act, h), done); */
#ifndef NPI_NN_CLIP_H
#define NPI_NN_CLIP_H

#include "nn/encoder.h"
#include "nn/model.h"

typedef struct npi_clip_tower_config {
    int width, layers, heads, hidden; /* heads divides width; hidden: of the MLPs */
    npi_block_act act;
} npi_clip_tower_config;

typedef struct npi_clip_config {
    npi_clip_tower_config vision, text; /* layers 0: the model has no such tower */
    int channels, side, patch;          /* of images; patch divides side */
    int vocabulary, context;            /* of texts: ids, most rows */
    int projection;                     /* size of an embedding */
} npi_clip_config;

/* Parameters of a block, in this order and next to each other; as npi_block_params. */
enum { NPI_CLIP_BLOCK_PARAMS = 12 };

/* The block whose first parameter is number `at`: its values, or its gradients. */
npi_block_params npi_clip_block_values(const npi_params *params, int at);
npi_block_params npi_clip_block_grads(const npi_params *params, int at);

typedef struct npi_clip_tower {
    npi_params params;
    int blocks; /* number of block 0's first parameter */
} npi_clip_tower;

typedef struct npi_clip {
    npi_device *dev;
    npi_clip_config config;
    npi_clip_tower vision, text;
} npi_clip;

/* Fills *out (to be freed with npi_clip_free, also after a failure); all values are zero.  Errors:
 * NPOS_UNSUPPORTED on a device without tokens and blocks, NPOS_INVALID_ARGUMENT for sizes that cannot
 * be, which it names. */
NPOS_MUST_CHECK npos_status npi_clip_create(npi_device *dev, const npi_clip_config *config,
                                            npi_clip *out);
void npi_clip_free(npi_clip *clip);

/* Rows of tokens of an image: 1 + (side / patch)^2. */
int npi_clip_rows(const npi_clip_config *config);

/* ---- images: a plan of up to n at once; all memory is allocated when it is made ---- */

typedef struct npi_clip_images npi_clip_images;

NPOS_MUST_CHECK npos_status npi_clip_images_create(npi_clip *clip, int n, npi_clip_images **out);
void npi_clip_images_free(npi_clip_images *plan); /* NULL is accepted; before the model */
/* Refreshes compute-precision copies of the weights; after each change of them. */
NPOS_MUST_CHECK npos_status npi_clip_images_pack(npi_clip_images *plan);

/* h [n][projection] (device memory) of 1..n normalised images. */
NPOS_MUST_CHECK npos_status npi_clip_images_embed(npi_clip_images *plan, npi_act images, float *h);

/* The tokens that enter block number `block`, 0 <= block < layers, as the plan's own: valid until its
 * next call. */
NPOS_MUST_CHECK npos_status npi_clip_images_tokens(npi_clip_images *plan, npi_act images, int block,
                                                   npi_tokens *out);
/* h of tokens that enter block number `block`, which are left as they are. */
NPOS_MUST_CHECK npos_status npi_clip_images_finish(npi_clip_images *plan, npi_tokens tokens,
                                                   int block, float *h);

/* ---- fine-tuning: blocks first..layers-1 of the image tower, the layer norm behind them and the projection
 *
 * They are a model of their own, under the tower's names, with gradients and velocities, so that what
 * lies below stays as it is and takes no memory for training. ---- */

/* Fills *out (to be freed with npi_model_free, also after a failure) with the tower's values; head_dim > 0
 * adds an outlier head, which is zero until it is set.  h is the embedding: dim = projection, no
 * projection head. */
NPOS_MUST_CHECK npos_status npi_clip_tuned_create(const npi_clip *clip, int first, int head_dim,
                                                  npi_model *out);
/* Copies a tuned model's values into the tower. */
NPOS_MUST_CHECK npos_status npi_clip_tuned_put(const npi_model *tuned, int first, npi_clip *clip);

/* A plan of up to n images a step; all memory is allocated when it is made.  Its encoder takes any
 * number of images from 1 to n. */
typedef struct npi_clip_tuning npi_clip_tuning;

NPOS_MUST_CHECK npos_status npi_clip_tuning_create(npi_model *tuned, const npi_clip_config *config,
                                                   int first, int n, npi_clip_tuning **out);
void npi_clip_tuning_free(npi_clip_tuning *plan); /* NULL is accepted; before the model */
/* Where to put the tokens that enter block `first`: [n][rows][width]. */
npi_tokens npi_clip_tuning_input(npi_clip_tuning *plan);
npi_encoder npi_clip_tuning_encoder(npi_clip_tuning *plan);

/* ---- texts: a plan of up to n at once, of t rows, 1 <= t <= context ---- */

typedef struct npi_clip_texts npi_clip_texts;

NPOS_MUST_CHECK npos_status npi_clip_texts_create(npi_clip *clip, int n, int t,
                                                  npi_clip_texts **out);
void npi_clip_texts_free(npi_clip_texts *plan); /* NULL is accepted; before the model */
NPOS_MUST_CHECK npos_status npi_clip_texts_pack(npi_clip_texts *plan);
/* h [count][projection] of ids [count][t], with <end> in row ends[i] of text i (all device memory). */
NPOS_MUST_CHECK npos_status npi_clip_texts_embed(npi_clip_texts *plan, int count,
                                                 const int32_t *ids, const int32_t *ends, float *h);

#endif
