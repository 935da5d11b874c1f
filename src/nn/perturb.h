/* nn/perturb.h - images moved a little towards what the classifier says of them.
 *
 *     x' = x - epsilon sign( grad_x CE(l(x) / T, argmax_c l_c(x)) ),   sign(0) = 1
 *
 * x in units of pixels in [0, 1], l the classifier's logits under running statistics (ODIN: Liang, Li,
 * Srikant, ICLR 2018, equation 2; x' is not cut to [0, 1], as in the authors' program).
 *
 *     npi_perturb_create(&model, n, &desc, &perturb);
 *     dev->augment->normalise(dev, ..., npi_perturb_input(perturb));
 *     npi_perturb_run(perturb, npi_plan_input(plan));            then npi_plan_forward(plan, h) of x' */
#ifndef NPI_NN_PERTURB_H
#define NPI_NN_PERTURB_H

#include "nn/model.h"

/* ODIN's, as in its authors' program and in OpenOOD. */
#define NPI_ODIN_TEMPERATURE 1000.0
#define NPI_ODIN_EPSILON 0.0014

typedef struct npi_perturb_desc {
    double epsilon, temperature;
    float std[3]; /* images are normalised by it: what a step in pixels is divided by */
} npi_perturb_desc;

typedef struct npi_perturb npi_perturb;

/* Plans n images of a model with a classifier, whose weights are loaded and do not change afterwards.
 * Free before the model. */
NPOS_MUST_CHECK npos_status npi_perturb_create(npi_model *model, int n,
                                               const npi_perturb_desc *desc, npi_perturb **out);
void npi_perturb_free(npi_perturb *perturb); /* NULL is accepted */

/* Where to put the n normalised images. */
npi_act npi_perturb_input(npi_perturb *perturb);

/* to = x' of the images in the input, normalised; an activation of the input's shape. */
NPOS_MUST_CHECK npos_status npi_perturb_run(npi_perturb *perturb, npi_act to);

#endif
