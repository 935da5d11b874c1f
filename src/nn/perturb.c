#include "nn/perturb.h"

#include <math.h>

#include "base/memory.h"

struct npi_perturb {
    npi_model *model;
    npi_plan *plan;
    npi_perturb_desc desc;
    int n;
    size_t pixels;                 /* of the n images */
    float *h, *logits, *dh, *nchw; /* device memory: [n][dim], [n][classes], [n][dim], the images */
    float *weight;                 /* [classes][dim]; this and what follows on the host */
    float *host_logits, *host_dh;  /* [n][classes], [n][dim] */
    float *host_x, *host_gradient; /* the images */
};

static npos_status device_rows(const npi_perturb *p, size_t floats, float **out) {
    return p->model->dev->memory->alloc(p->model->dev, floats * sizeof **out, "perturbation", out);
}

static npos_status make(npi_perturb *p) {
    const npi_model *m = p->model;
    const npi_act x = npi_plan_input(p->plan);
    size_t n = (size_t)p->n, dim = (size_t)m->dim, classes = (size_t)m->classifier.out;
    p->pixels = n * (size_t)x.c * (size_t)x.h * (size_t)x.w;
    NPI_TRY(npi_plan_pack(p->plan));
    NPI_TRY(device_rows(p, n * dim, &p->h));
    NPI_TRY(device_rows(p, n * dim, &p->dh));
    NPI_TRY(device_rows(p, n * classes, &p->logits));
    NPI_TRY(device_rows(p, p->pixels, &p->nchw));
    NPI_TRY(npi_alloc(&p->weight, classes * dim, sizeof *p->weight, "perturbation"));
    NPI_TRY(npi_alloc(&p->host_logits, n * classes, sizeof *p->host_logits, "perturbation"));
    NPI_TRY(npi_alloc(&p->host_dh, n * dim, sizeof *p->host_dh, "perturbation"));
    NPI_TRY(npi_alloc(&p->host_x, p->pixels, sizeof *p->host_x, "perturbation"));
    NPI_TRY(npi_alloc(&p->host_gradient, p->pixels, sizeof *p->host_gradient, "perturbation"));
    return npi_param_get(&m->params, NPI_ARENA_VALUES, m->classifier.weight, p->weight);
}

npos_status npi_perturb_create(npi_model *model, int n, const npi_perturb_desc *desc,
                               npi_perturb **out) {
    npi_perturb *p;
    *out = NULL;
    NPI_TRY(npi_alloc(&p, 1, sizeof *p, "perturbation"));
    p->model = model;
    p->desc = *desc;
    p->n = n;
    npos_status status = npi_plan_create_frozen(model, n, &p->plan);
    if (status == NPOS_OK)
        status = make(p);
    if (status == NPOS_OK)
        *out = p;
    else
        npi_perturb_free(p);
    return status;
}

void npi_perturb_free(npi_perturb *p) {
    if (!p)
        return;
    npi_device *dev = p->model->dev;
    npi_plan_free(p->plan);
    float *const device[] = {p->h, p->dh, p->logits, p->nchw};
    for (size_t i = 0; i < sizeof device / sizeof *device; i++)
        dev->memory->free(dev, device[i]);
    npi_free(p->weight);
    npi_free(p->host_logits);
    npi_free(p->host_dh);
    npi_free(p->host_x);
    npi_free(p->host_gradient);
    npi_free(p);
}

npi_act npi_perturb_input(npi_perturb *p) {
    return npi_plan_input(p->plan);
}

/* dh = T grad_h CE(l / T, argmax l) = sum_c (softmax(l / T)_c - [c = argmax l]) w_c.  The factor T does
 * not change the sign, and without it no gradient is lost to rounding towards 0. */
static void loss_gradient(npi_perturb *p) {
    const npi_linear *fc = &p->model->classifier;
#pragma omp parallel for schedule(static)
    for (int i = 0; i < p->n; i++) {
        const float *l = p->host_logits + (ptrdiff_t)i * fc->out;
        float *dh = p->host_dh + (ptrdiff_t)i * fc->in;
        int largest = 0;
        double sum = 0;
        for (int c = 1; c < fc->out; c++)
            largest = l[c] > l[largest] ? c : largest;
        for (int c = 0; c < fc->out; c++)
            sum += exp(((double)l[c] - (double)l[largest]) / p->desc.temperature);
        for (int d = 0; d < fc->in; d++)
            dh[d] = -p->weight[(ptrdiff_t)largest * fc->in + d];
        for (int c = 0; c < fc->out; c++) {
            double from = ((double)l[c] - (double)l[largest]) / p->desc.temperature;
            float share = (float)(exp(from) / sum);
            for (int d = 0; d < fc->in; d++)
                dh[d] += share * p->weight[(ptrdiff_t)c * fc->in + d];
        }
    }
}

static void step(npi_perturb *p) {
    const npi_act x = npi_plan_input(p->plan);
    size_t plane = (size_t)x.h * (size_t)x.w;
    for (size_t i = 0; i < p->pixels; i++) {
        float by = (float)(p->desc.epsilon / (double)p->desc.std[i / plane % (size_t)x.c]);
        p->host_x[i] -= p->host_gradient[i] >= 0 ? by : -by;
    }
}

npos_status npi_perturb_run(npi_perturb *p, npi_act to) {
    npi_device *dev = p->model->dev;
    const npi_memory_ops *memory = dev->memory;
    const npi_linear *fc = &p->model->classifier;
    size_t n = (size_t)p->n, images = p->pixels * sizeof(float);
    NPI_TRY(npi_plan_forward(p->plan, p->h));
    NPI_TRY(npi_linear_forward(p->model, fc, p->n, p->h, false, p->logits));
    NPI_TRY(memory->download(dev, p->host_logits, p->logits, n * (size_t)fc->out * sizeof(float)));
    loss_gradient(p);
    NPI_TRY(memory->upload(dev, p->dh, p->host_dh, n * (size_t)fc->in * sizeof(float)));
    NPI_TRY(npi_plan_backward(p->plan, p->h, p->dh));
    NPI_TRY(dev->acts->export_nchw(dev, npi_plan_input_gradient(p->plan), p->nchw));
    NPI_TRY(memory->download(dev, p->host_gradient, p->nchw, images));
    NPI_TRY(dev->acts->export_nchw(dev, npi_plan_input(p->plan), p->nchw));
    NPI_TRY(memory->download(dev, p->host_x, p->nchw, images));
    step(p);
    NPI_TRY(memory->upload(dev, p->nchw, p->host_x, images));
    return dev->acts->import_nchw(dev, p->nchw, to);
}
