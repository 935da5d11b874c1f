/* devices/cuda/cuda_conv.cuh - one convolution, forward or one of its gradients, planned once with cuDNN.
 *
 * x is n x h x w x c, y is n x oh x ow x out_c, w is out_c x kernel x kernel x c, all of the device's compute type.
 * Channels are those in memory, multiples of 8; pointers are 16-byte aligned.  Sums are float32; engines that round
 * float32 input (TF32), or whose result depends on the order in which blocks finish, are never taken. */
#ifndef NPI_CUDA_CONV_CUH
#define NPI_CUDA_CONV_CUH

#include "devices/cuda/cuda.cuh"

typedef enum npi_conv_pass {
    NPI_CONV_FORWARD, /* y = conv(x, w) */
    NPI_CONV_BIAS,    /* y = relu?( conv(x, w) + bias + residual? ), for inference */
    NPI_CONV_DATA,    /* x = (accumulate: +=) the gradient of y through w */
    NPI_CONV_FILTER   /* w = the gradient of y through x */
} npi_conv_pass;

typedef struct npi_conv_desc {
    const char *name; /* for errors while it is made */
    npi_conv_pass pass;
    int n, c, h, w, out_c, oh, ow, kernel, stride, pad;
    bool accumulate;     /* NPI_CONV_DATA */
    bool residual, relu; /* NPI_CONV_BIAS */
} npi_conv_desc;

/* Device memory; what the pass does not name is not looked at. */
typedef struct npi_conv_args {
    const char *name; /* for errors */
    void *x, *w, *y;
    const float *bias;    /* [out_c] */
    const void *residual; /* as y */
} npi_conv_args;

typedef struct npi_conv npi_conv;

/* *out = the device's plan for this, made on the first request and shared by all later ones; it lives as long as the
 * device.  May measure which engine is fastest (cuda_tune.cuh).  NPOS_UNSUPPORTED where cuDNN has no engine; nothing is
 * recorded of such a failure if `quiet`: the caller has another way. */
npos_status npi_conv_create(npi_device *dev, const npi_conv_desc *desc, bool quiet, npi_conv **out);
void npi_conv_free_all(npi_device *dev);
/* Enqueues on the current lane, whose scratch it uses. */
npos_status npi_conv_run(npi_conv *conv, const npi_conv_args *args);
/* The engine's number, for variant lines. */
int npi_conv_engine(const npi_conv *conv);

#endif
