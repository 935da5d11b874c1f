/* nn/model.h - a whole model: encoder, projection head, outlier head, classifier; and plans that run it.
 *
 *   h = mean over pixels of the encoder's last map, or ReLU(Linear(width, feature_dim)) of it      [n][dim]
 *   z = normalize(Linear(ReLU(Linear(h)))), or normalize(h) without a projection head             [n][proj]
 *   phi(h) = Linear(ReLU(Linear(h)))                                                               [n]
 *   logits = Linear(h)                                                                             [n][classes]
 *
 * Names: encoder.* (arch.h), encoder.feature.weight/bias, head.0, head.2 (projection), fc (classifier), phi.0, phi.2.
 * A model owns parameters; a plan owns units, activations and workspace for a fixed number of images, all allocated
 * when it is made. Several plans may share a model; a training plan's forward and backward come in pairs. */
#ifndef NPI_NN_MODEL_H
#define NPI_NN_MODEL_H

#include "nn/arch.h"
#include "nn/encoder.h"
#include "nn/params.h"

typedef struct npi_model_desc {
    npi_arch_desc arch;
    int feature_dim;    /* 0: h is the encoder's own mean */
    int projection_dim; /* 0: no projection head */
    int head_dim;       /* 0: no outlier head */
    int classes;        /* > 0: a classifier */
} npi_model_desc;

typedef struct npi_linear {
    int weight, bias; /* parameter numbers */
    int in, out;
} npi_linear;

typedef struct npi_model {
    npi_device *dev;
    npi_arch arch;
    npi_params params;
    int dim, proj; /* of h and z */
    int layer_param
        [NPI_ARCH_LAYERS]; /* the first of five: weight, gamma, beta, running mean, running variance */
    bool has_feature, has_projection, has_phi, has_classifier;
    npi_linear feature, projection[2], phi[2], classifier;
} npi_model;

/* Fills *out (to be freed with npi_model_free, also after a failure). Values are zero until npi_params_init or a load;
 * convolution weights may be read and written by name once a plan exists. */
NPOS_MUST_CHECK npos_status npi_model_create(npi_device *dev, const npi_model_desc *desc,
                                             bool training, npi_model *out);
void npi_model_free(npi_model *model);
/* For what fills a model otherwise (nn/clip.h): an outlier head on h, the last parameters; head_dim 0: none. */
NPOS_MUST_CHECK npos_status npi_model_add_phi(npi_model *model, int head_dim);

typedef struct npi_plan npi_plan;

/* Plans `n` images a pass.  The first plan of a model serves npi_param_get and npi_param_set
 * and must live as long as they are used. */
NPOS_MUST_CHECK npos_status npi_plan_create(npi_model *model, int n, bool training, npi_plan **out);
/* A plan for the gradient of images: forward under running statistics that keeps what backward needs.
 * The model may be one without gradients. */
NPOS_MUST_CHECK npos_status npi_plan_create_frozen(npi_model *model, int n, npi_plan **out);
void npi_plan_free(npi_plan *plan); /* NULL is accepted; before the model */

/* Where to put the images (act of the model's channels and side). */
npi_act npi_plan_input(npi_plan *plan);

/* Refreshes compute-precision copies of all weights; after each change of the parameters. */
NPOS_MUST_CHECK npos_status npi_plan_pack(npi_plan *plan);

/* h [n][dim] of the images in the input, which stay as they are: batch statistics in a training plan, running ones
 * otherwise. */
NPOS_MUST_CHECK npos_status npi_plan_forward(npi_plan *plan, float *h);

/* Gradients of the encoder's parameters from dh [n][dim] (destroyed); of a frozen plan none. */
NPOS_MUST_CHECK npos_status npi_plan_backward(npi_plan *plan, const float *h, float *dh);

/* A training plan as the objective sees it; n is always the plan's. */
npi_encoder npi_plan_encoder(npi_plan *plan);

/* After backward of a frozen plan: the gradient of its input, valid until the next forward. */
npi_act npi_plan_input_gradient(npi_plan *plan);

/* One line a layer with the variant that the device chose, for -v; i in [0, layers). */
const char *npi_plan_variant(npi_plan *plan, int i);

/* y = relu?(Linear(x)) over n rows; backward as rows->linear_backward. */
NPOS_MUST_CHECK npos_status npi_linear_forward(const npi_model *model, const npi_linear *layer,
                                               int n, const float *x, bool relu, float *y);
NPOS_MUST_CHECK npos_status npi_linear_backward(const npi_model *model, const npi_linear *layer,
                                                int n, const float *x, const float *y, bool relu,
                                                float *dy, float *dx, int dx_rows, bool accumulate);

#endif
