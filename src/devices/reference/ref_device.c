#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "devices/devices.h"
#include "devices/reference/ref.h"

static npi_ref *own(npi_device *dev) {
    return (npi_ref *)dev->own;
}

/* ---- activations ---- */

static size_t act_bytes(npi_device *dev, int n, int c, int h, int w) {
    (void)dev;
    return (size_t)n * (size_t)c * (size_t)h * (size_t)w * sizeof(float);
}

static npos_status import_nchw(npi_device *dev, const float *nchw, npi_act to) {
    memcpy(to.data, nchw, act_bytes(dev, to.n, to.c, to.h, to.w));
    return NPOS_OK;
}

static npos_status export_nchw(npi_device *dev, npi_act from, float *nchw) {
    memcpy(nchw, from.data, act_bytes(dev, from.n, from.c, from.h, from.w));
    return NPOS_OK;
}

const npi_act_ops npi_ref_acts = {
    .bytes = act_bytes, .import_nchw = import_nchw, .export_nchw = export_nchw};

/* ---- what the families share ---- */

npos_status npi_ref_scratch(npi_device *dev, size_t bytes, void *out) {
    npi_ref *ref = own(dev);
    if (bytes > ref->scratch_bytes) {
        npi_free(ref->scratch);
        ref->scratch_bytes = 0;
        NPI_TRY(npi_alloc(&ref->scratch, bytes, 1, "device 'reference': scratch"));
        ref->scratch_bytes = bytes;
    }
    memcpy(out, &ref->scratch, sizeof ref->scratch);
    return NPOS_OK;
}

npos_status npi_ref_check_act(const char *what, npi_act act, int n, int c, int h, int w) {
    if (act.n == n && act.c == c && act.h == h && act.w == w && act.data)
        return NPOS_OK;
    return npi_fail(NPOS_SHAPE_MISMATCH, "%s: %d x %d x %d x %d%s, expected %d x %d x %d x %d",
                    what, act.n, act.c, act.h, act.w, act.data ? "" : " without data", n, c, h, w);
}

npos_status npi_ref_check_labels(const char *what, int n, const int32_t *labels, int least,
                                 int classes) {
    for (int i = 0; i < n; i++)
        if (labels[i] < least || labels[i] >= classes)
            return npi_fail(NPOS_INVALID_ARGUMENT, "%s: label %d of row %d, expected %d to %d",
                            what, labels[i], i, least, classes - 1);
    return NPOS_OK;
}

double npi_ref_dot(int n, const float *a, const float *b) {
    double sum = 0.0;
    for (int i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

double npi_ref_square_distance(int n, const float *a, const float *b) {
    double sum = 0.0;
    for (int i = 0; i < n; i++) {
        double difference = (double)a[i] - (double)b[i];
        sum += difference * difference;
    }
    return sum;
}

/* ---- open and close ---- */

static void ref_close(npi_device *dev) {
    npi_free(own(dev)->scratch);
    npi_free(dev->own);
    npi_free(dev);
}

npos_status npi_reference_open(npi_device **out) {
    npi_device *dev;
    *out = NULL;
    NPI_TRY(npi_alloc(&dev, 1, sizeof *dev, "device 'reference'"));
    npi_ref *ref;
    npos_status status = npi_alloc(&ref, 1, sizeof *ref, "device 'reference'");
    if (status != NPOS_OK) {
        npi_free(dev);
        return status;
    }
    *dev = (npi_device){.name = "reference",
                        .compute = NPI_F32,
                        .host = true,
                        .memory = &npi_host_memory,
                        .acts = &npi_ref_acts,
                        .units = &npi_ref_units,
                        .pools = &npi_ref_pools,
                        .rows = &npi_ref_rows,
                        .losses = &npi_ref_losses,
                        .ood = &npi_ref_ood,
                        .augment = &npi_ref_augment,
                        .optim = &npi_ref_optim,
                        .tokens = &npi_ref_tokens,
                        .blocks = &npi_ref_blocks,
                        .close = ref_close,
                        .own = ref};
    snprintf(dev->description, sizeof dev->description, "plain loops, fp32, one thread");
    *out = dev;
    return NPOS_OK;
}
