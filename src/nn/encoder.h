/* nn/encoder.h - what the objective asks of an encoder: h of the samples in its input, and its parameters' gradients
 * from h's.  Filled by npi_plan_encoder (nn/model.h) and npi_clip_tuning_encoder (nn/clip.h). */
#ifndef NPI_NN_ENCODER_H
#define NPI_NN_ENCODER_H

#include "base/fail.h"

typedef struct npi_encoder {
    void *plan; /* passed to the functions; belongs to who made it */
    /* Refreshes compute-precision copies of the weights; after each change of them. */
    npos_status (*pack)(void *plan);
    /* h [n][dim], device memory, of the first n samples of the input, 1 <= n <= what was planned. */
    npos_status (*forward)(void *plan, int n, float *h);
    /* Gradients of the newest forward's parameters, overwritten, from dh [n][dim] (destroyed). */
    npos_status (*backward)(void *plan, const float *h, float *dh);
} npi_encoder;

#endif
