/* ood/objective.h - one training step of the method: losses, gradients and updates, in the order of the paper's code.
 *
 *   views -> encoder -> h -> projection -> z
 *   loss = w_disp L_disp + w_comp L_comp + alpha R_open                        methods npos, vos; cider: alpha 0
 *   loss = CE(fc(h), y)                                                        method ce
 *   loss = CE(logits, y) + alpha R_open, logits from cos(h, T)                 method clip: T is given and stays
 *   prototypes updated, L_disp, L_comp (CIDER) -> this step's h into the rings -> outliers from the rings (NPOS
 *   section 3; VOS) -> R_open -> backward -> SGD
 *
 * The objective owns rings, prototypes, outliers and the gradients of rows; the model owns parameters; the plan owns
 * the encoder's activations.  Nothing is allocated after npi_objective_create.  Written against comm: z, h and labels
 * of all members are gathered and gradients summed. */
#ifndef NPI_OOD_OBJECTIVE_H
#define NPI_OOD_OBJECTIVE_H

#include "comm/comm.h"
#include "nn/model.h"

typedef enum npi_method {
    NPI_METHOD_NPOS,
    NPI_METHOD_CIDER,
    NPI_METHOD_VOS,
    NPI_METHOD_CE,
    NPI_METHOD_CLIP
} npi_method;

/* Method clip: l = cos(h, T); logits are l / (|l| + 1e-7) / temperature (LogitNorm), or l / temperature. */
typedef enum npi_cosine_loss { NPI_COSINE_LOGIT_NORM, NPI_COSINE_PLAIN } npi_cosine_loss;

typedef struct npi_objective_desc {
    npi_method method;
    int samples; /* views x batch; the most of a step */
    int classes;
    float w_disp, w_comp, alpha, tau, proto_m;
    npi_cosine_loss cosine_loss; /* clip */
    float temperature;
    npi_synth_desc synth; /* npos, clip */
    npi_gauss_desc gauss; /* vos */
    npi_sgd_desc sgd;
} npi_objective_desc;

/* What R_open's gradient of h is computed in. */
typedef struct npi_pull {
    float *hidden, *dhidden, *logit, *dlogit, *losses, *unused, *unused_bias;
} npi_pull;

typedef struct npi_objective {
    npi_objective_desc desc;
    npi_device *dev;
    npi_comm *comm;
    npi_model *model;
    npi_encoder encoder;
    int n; /* samples of the next step: desc.samples, or fewer where the encoder takes them (clip) */
    bool held; /* the next step leaves the prototypes where they are; L_disp then has no gradient */
    npi_ring ring;
    npi_synth *synth;
    int outliers; /* rows of V; 0 for cider and ce */
    int boundary; /* rows of `picked` in all; npos, clip */
    float *mu; /* [classes][proj], unit rows: prototypes; clip: T, set by npi_objective_set_text */
    int32_t *labels; /* [samples] */
    npi_step *step;
    float *losses;   /* [NPI_LOSS_COUNT] */
    float *rows;     /* [n + outliers][dim]: h, then V */
    int32_t *picked; /* [classes][pick]: boundary rows of the newest synthesis */
    /* What the group shares: with one member the same memory as z, dz, rows and labels. */
    float *all_z, *all_dz, *all_h;
    int32_t *all_labels;
    float *
        hidden; /* [samples][dim]: the projection's hidden layer, behind its ReLU; NULL without projection */
    /* private */
    float *drows, *dhidden, *raw, *z, *norms, *dz, *draw, *phi_hidden, *dphi_hidden, *logit,
        *dlogit, *cosine, *dcosine, *text_columns;
    npi_pull pull;
    void *workspace;
} npi_objective;

/* Makes the objective over a model and its training plan.  *out is to be freed also after a failure. */
NPOS_MUST_CHECK npos_status npi_objective_create(npi_comm *comm, npi_model *model,
                                                 npi_encoder encoder,
                                                 const npi_objective_desc *desc,
                                                 npi_objective *out);
void npi_objective_free(npi_objective *objective);

/* Method clip: T [classes][dim], unit rows, on the host; before the first step. */
NPOS_MUST_CHECK npos_status npi_objective_set_text(npi_objective *objective, const float *text);

/* Runs one step on the views in the plan's input, with labels and *step already uploaded.  open: with R_open (the caller
 * knows when start_epoch has come and whether every ring is full).  given (NULL: draw) serves tests.
 * Weights, velocities, running statistics, prototypes, rings and losses change. */
NPOS_MUST_CHECK npos_status npi_objective_step(npi_objective *objective, bool open,
                                               const npi_synth_given *given);

/* The same without SGD: gradients lie in the model's arena. */
NPOS_MUST_CHECK npos_status npi_objective_gradients(npi_objective *objective, bool open,
                                                    const npi_synth_given *given);

/* z [n][proj] of h [n][dim] with the objective's buffers, n <= samples; on the device. */
NPOS_MUST_CHECK npos_status npi_objective_project(npi_objective *objective, int n, const float *h,
                                                  float *z);

/* The weighted sum of the losses that the method minimises; losses: host copy. */
double npi_objective_total(const npi_objective_desc *desc, const float *losses, bool open);

#endif
