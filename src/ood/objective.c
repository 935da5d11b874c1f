#include "ood/objective.h"

#include "base/memory.h"

static npos_status alloc_floats(npi_objective *o, size_t count, const char *what, float **out) {
    return o->dev->memory->alloc(o->dev, count * sizeof(float), what, out);
}

static npos_status make_rings(npi_objective *o) {
    const npi_objective_desc *d = &o->desc;
    npi_device *dev = o->dev;
    o->ring = (npi_ring){d->classes, d->method == NPI_METHOD_VOS ? d->gauss.ring : d->synth.ring,
                         o->model->dim, NULL, NULL};
    size_t rows = (size_t)d->classes * (size_t)o->ring.size;
    NPI_TRY(alloc_floats(o, rows * (size_t)o->ring.dim, "rings", &o->ring.rows));
    NPI_TRY(dev->memory->alloc(dev, (size_t)d->classes * sizeof(uint64_t), "ring counters",
                               &o->ring.count));
    if (d->method == NPI_METHOD_VOS) {
        o->outliers = d->classes * d->gauss.keep;
        return dev->ood->gauss_create(dev, &d->gauss, &o->synth);
    }
    o->boundary = d->classes * d->synth.pick;
    o->outliers = o->boundary * d->synth.keep;
    NPI_TRY(dev->memory->alloc(dev, (size_t)o->boundary * sizeof(int32_t), "boundary rows",
                               &o->picked));
    return dev->ood->synth_create(dev, &d->synth, &o->synth);
}

/* What open_pull works with, beside open_risk's: both may run at the same time. */
static npos_status make_pull(npi_objective *o) {
    const npi_linear *phi = o->model->phi;
    npi_pull *pull = &o->pull;
    size_t n = (size_t)o->desc.samples, hidden = n * (size_t)phi[0].out;
    NPI_TRY(alloc_floats(o, hidden, "outlier head's hidden layer", &pull->hidden));
    NPI_TRY(alloc_floats(o, hidden, "outlier head's hidden gradient", &pull->dhidden));
    NPI_TRY(alloc_floats(o, n, "outlier head's logits", &pull->logit));
    NPI_TRY(alloc_floats(o, n, "outlier head's gradient", &pull->dlogit));
    NPI_TRY(alloc_floats(o, NPI_LOSS_COUNT, "losses", &pull->losses));
    NPI_TRY(
        alloc_floats(o, (size_t)phi[0].in * (size_t)phi[0].out, "unused gradient", &pull->unused));
    return alloc_floats(o, (size_t)phi[0].out, "unused gradient", &pull->unused_bias);
}

static npos_status make_heads(npi_objective *o) {
    const npi_model *m = o->model;
    size_t n = (size_t)o->desc.samples, all = n + (size_t)o->outliers, dim = (size_t)m->dim;
    NPI_TRY(alloc_floats(o, all * dim, "embeddings and outliers", &o->rows));
    NPI_TRY(alloc_floats(o, n * dim, "embeddings' gradient", &o->drows));
    size_t logits = n * (size_t)o->desc.classes;
    if (o->desc.method == NPI_METHOD_CE) {
        NPI_TRY(alloc_floats(o, logits, "logits", &o->logit));
        return alloc_floats(o, logits, "logits' gradient", &o->dlogit);
    }
    size_t proj = (size_t)m->proj;
    if (m->has_projection) {
        NPI_TRY(alloc_floats(o, n * dim, "projection's hidden layer", &o->hidden));
        NPI_TRY(alloc_floats(o, n * dim, "projection's hidden gradient", &o->dhidden));
        NPI_TRY(alloc_floats(o, n * proj, "projections", &o->raw));
        NPI_TRY(alloc_floats(o, n * proj, "projections' gradient", &o->draw));
    }
    NPI_TRY(alloc_floats(o, n * proj, "normalised projections", &o->z));
    NPI_TRY(alloc_floats(o, n * proj, "normalised projections' gradient", &o->dz));
    NPI_TRY(alloc_floats(o, n, "projections' norms", &o->norms));
    NPI_TRY(alloc_floats(o, (size_t)o->desc.classes * proj, "prototypes", &o->mu));
    if (o->desc.method == NPI_METHOD_CLIP) {
        NPI_TRY(alloc_floats(o, logits, "cosines", &o->cosine));
        NPI_TRY(alloc_floats(o, logits, "cosines' gradient", &o->dcosine));
        NPI_TRY(alloc_floats(o, (size_t)o->desc.classes * proj, "texts", &o->text_columns));
    }
    if (m->has_phi) {
        size_t hidden = all * (size_t)m->phi[0].out;
        NPI_TRY(alloc_floats(o, hidden, "outlier head's hidden layer", &o->phi_hidden));
        NPI_TRY(alloc_floats(o, hidden, "outlier head's hidden gradient", &o->dphi_hidden));
        NPI_TRY(alloc_floats(o, all, "outlier head's logits", &o->logit));
        NPI_TRY(alloc_floats(o, all, "outlier head's gradient", &o->dlogit));
        return make_pull(o);
    }
    return NPOS_OK;
}

/* Buffers of the whole group's samples; one member needs none of its own. */
static npos_status make_group(npi_objective *o) {
    if (o->comm->size == 1) {
        o->all_z = o->z;
        o->all_dz = o->dz;
        o->all_h = o->rows;
        o->all_labels = o->labels;
        return NPOS_OK;
    }
    size_t n = (size_t)o->desc.samples * (size_t)o->comm->size, proj = (size_t)o->model->proj;
    NPI_TRY(alloc_floats(o, n * proj, "the group's projections", &o->all_z));
    NPI_TRY(alloc_floats(o, n * proj, "the group's projections' gradient", &o->all_dz));
    NPI_TRY(alloc_floats(o, n * (size_t)o->model->dim, "the group's embeddings", &o->all_h));
    return o->dev->memory->alloc(o->dev, n * sizeof(int32_t), "the group's labels", &o->all_labels);
}

/* R_open of h and V as they lie in `rows`, with the outlier head's gradient.  Outliers are constants, and what h gets is
 * open_pull's. */
static npos_status open_risk(npi_objective *o) {
    const npi_model *m = o->model;
    int n = o->n, all = n + o->outliers;
    NPI_TRY(npi_linear_forward(m, &m->phi[0], all, o->rows, true, o->phi_hidden));
    NPI_TRY(npi_linear_forward(m, &m->phi[1], all, o->phi_hidden, false, o->logit));
    NPI_TRY(o->dev->losses->outlier_bce(o->dev, n, o->outliers, o->logit, o->desc.alpha, o->losses,
                                        o->dlogit));
    NPI_TRY(npi_linear_backward(m, &m->phi[1], all, o->phi_hidden, o->logit, false, o->dlogit,
                                o->dphi_hidden, all, false));
    return npi_linear_backward(m, &m->phi[0], all, o->rows, o->phi_hidden, true, o->dphi_hidden,
                               NULL, 0, false);
}

/* drows += alpha dR_open/dh.  R_open is a mean over h and V of terms of one row each, so this needs no V, and the
 * encoder's backward pass need not wait for the synthesis. */
static npos_status open_pull(npi_objective *o) {
    const npi_linear *phi = o->model->phi;
    const npi_params *p = &o->model->params;
    const npi_rows_ops *rows = o->dev->rows;
    const npi_pull *pull = &o->pull;
    int n = o->n;
    float share = o->desc.alpha * (float)n / (float)(n + o->outliers);
    NPI_TRY(npi_linear_forward(o->model, &phi[0], n, o->rows, true, pull->hidden));
    NPI_TRY(npi_linear_forward(o->model, &phi[1], n, pull->hidden, false, pull->logit));
    NPI_TRY(
        o->dev->losses->outlier_bce(o->dev, n, 0, pull->logit, share, pull->losses, pull->dlogit));
    NPI_TRY(rows->linear_backward(o->dev, n, phi[1].in, phi[1].out, pull->hidden,
                                  npi_param_value(p, phi[1].weight), pull->logit, false,
                                  pull->dlogit, pull->unused, pull->unused_bias, pull->dhidden, n,
                                  false));
    return rows->linear_backward(o->dev, n, phi[0].in, phi[0].out, o->rows,
                                 npi_param_value(p, phi[0].weight), pull->hidden, true,
                                 pull->dhidden, pull->unused, pull->unused_bias, o->drows, n, true);
}

/* V from the rings as they now are, behind h in `rows`. */
static npos_status synthesise(npi_objective *o, const npi_synth_given *given) {
    float *outliers = o->rows + (size_t)o->n * (size_t)o->model->dim;
    if (o->desc.method == NPI_METHOD_VOS)
        return o->dev->ood->gauss_synthesise(o->synth, &o->ring, o->step, outliers);
    return o->dev->ood->synthesise(o->synth, &o->ring, o->step, given, outliers, o->picked);
}

/* Synthesis and the outlier head first come at start_epoch, with more rows than any other layer: run once now, on zeros,
 * so that the device's scratch has its size before the first step.  Leaves losses and gradients as they were: zero. */
static npos_status rehearse(npi_objective *o) {
    npi_device *dev = o->dev;
    const npi_params *p = &o->model->params;
    NPI_TRY(synthesise(o, NULL));
    NPI_TRY(open_risk(o));
    NPI_TRY(dev->memory->zero(dev, o->losses, NPI_LOSS_COUNT * sizeof *o->losses));
    return dev->memory->zero(dev, p->grads + p->body, p->head * sizeof *p->grads);
}

/* Samples of the whole group's step. */
static int all_samples(const npi_objective *o) {
    return o->n * o->comm->size;
}

static npi_contrast_desc contrast_desc(const npi_objective *o) {
    const npi_objective_desc *d = &o->desc;
    return (npi_contrast_desc){
        all_samples(o), d->classes, o->model->proj, o->held ? 1.0f : d->proto_m,
        d->tau,         d->w_disp,  d->w_comp};
}

npos_status npi_objective_create(npi_comm *comm, npi_model *model, npi_encoder encoder,
                                 const npi_objective_desc *desc, npi_objective *out) {
    npi_device *dev = model->dev;
    *out = (npi_objective){.desc = *desc,
                           .dev = dev,
                           .comm = comm,
                           .model = model,
                           .encoder = encoder,
                           .n = desc->samples};
    if (desc->method == NPI_METHOD_CLIP && !(dev->losses->cosine_ce && dev->losses->logit_norm_ce))
        return npi_fail(NPOS_UNSUPPORTED, "device %s lacks losses over cosines", dev->name);
    NPI_TRY(
        dev->memory->alloc(dev, (size_t)desc->samples * sizeof(int32_t), "labels", &out->labels));
    NPI_TRY(dev->memory->alloc(dev, sizeof *out->step, "step", &out->step));
    NPI_TRY(alloc_floats(out, NPI_LOSS_COUNT, "losses", &out->losses));
    if (desc->method == NPI_METHOD_NPOS || desc->method == NPI_METHOD_VOS ||
        desc->method == NPI_METHOD_CLIP)
        NPI_TRY(make_rings(out));
    NPI_TRY(make_heads(out));
    if (out->synth)
        NPI_TRY(rehearse(out));
    if (desc->method == NPI_METHOD_CE)
        return NPOS_OK;
    NPI_TRY(make_group(out));
    if (desc->method == NPI_METHOD_CLIP)
        return NPOS_OK;
    npi_contrast_desc contrast = contrast_desc(out);
    return dev->memory->alloc(dev, dev->losses->contrast_workspace(dev, &contrast),
                              "prototypes' workspace", &out->workspace);
}

void npi_objective_free(npi_objective *o) {
    npi_device *dev = o->dev;
    if (!dev)
        return;
    void *const all[] = {o->ring.rows, o->ring.count, o->picked,  o->rows,        o->drows,
                         o->hidden,    o->dhidden,    o->raw,     o->draw,        o->z,
                         o->dz,        o->norms,      o->mu,      o->phi_hidden,  o->dphi_hidden,
                         o->logit,     o->dlogit,     o->labels,  o->step,        o->losses,
                         o->workspace, o->cosine,     o->dcosine, o->text_columns};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        dev->memory->free(dev, all[i]);
    const npi_pull *p = &o->pull;
    void *const pull[] = {p->hidden, p->dhidden, p->logit,      p->dlogit,
                          p->losses, p->unused,  p->unused_bias};
    for (size_t i = 0; i < sizeof pull / sizeof *pull; i++)
        dev->memory->free(dev, pull[i]);
    void *const group[] = {o->all_z, o->all_dz, o->all_h, o->all_labels};
    for (size_t i = 0; o->comm->size > 1 && i < sizeof group / sizeof *group; i++)
        dev->memory->free(dev, group[i]);
    if (o->synth)
        dev->ood->synth_free(dev, o->synth);
    *o = (npi_objective){0};
}

/* z = normalize(g(h)); what lies between is kept for backward. */
npos_status npi_objective_project(npi_objective *o, int n, const float *h, float *z) {
    const npi_model *m = o->model;
    if (m->has_projection) {
        NPI_TRY(npi_linear_forward(m, &m->projection[0], n, h, true, o->hidden));
        NPI_TRY(npi_linear_forward(m, &m->projection[1], n, o->hidden, false, o->raw));
    }
    return o->dev->rows->normalize_forward(o->dev, n, m->proj, m->has_projection ? o->raw : h, z,
                                           o->norms);
}

/* drows += the gradient through the projection of dz. */
static npos_status project_backward(npi_objective *o) {
    const npi_model *m = o->model;
    int n = o->n;
    if (!m->has_projection)
        return o->dev->rows->normalize_backward(o->dev, n, m->proj, o->z, o->norms, o->dz, o->drows,
                                                false);
    NPI_TRY(o->dev->rows->normalize_backward(o->dev, n, m->proj, o->z, o->norms, o->dz, o->draw,
                                             false));
    NPI_TRY(npi_linear_backward(m, &m->projection[1], n, o->hidden, o->raw, false, o->draw,
                                o->dhidden, n, false));
    return npi_linear_backward(m, &m->projection[0], n, o->rows, o->hidden, true, o->dhidden,
                               o->drows, n, false);
}

static npos_status classify(npi_objective *o) {
    const npi_model *m = o->model;
    int n = o->n;
    NPI_TRY(npi_linear_forward(m, &m->classifier, n, o->rows, false, o->logit));
    NPI_TRY(o->dev->losses->cross_entropy(o->dev, n, o->desc.classes, o->logit, o->labels, 1.0f,
                                          o->losses, o->dlogit));
    return npi_linear_backward(m, &m->classifier, n, o->rows, o->logit, false, o->dlogit, o->drows,
                               n, false);
}

static npos_status gather(npi_objective *o) {
    size_t row = (size_t)o->n * sizeof(float);
    npi_comm *comm = o->comm;
    NPI_TRY(comm->all_gather(comm, o->dev, o->z, o->all_z, row * (size_t)o->model->proj));
    NPI_TRY(comm->all_gather(comm, o->dev, o->rows, o->all_h, row * (size_t)o->model->dim));
    return comm->all_gather(comm, o->dev, o->labels, o->all_labels, row);
}

/* The newest h into the rings, outliers from them, R_open: needs nothing of the losses on z, nor they of it. */
static npos_status learn_outliers(npi_objective *o, bool open, const npi_synth_given *given) {
    NPI_TRY(o->dev->ood->ring_push(o->dev, &o->ring, all_samples(o), o->all_h, o->all_labels));
    if (!open)
        return NPOS_OK;
    NPI_TRY(synthesise(o, given));
    return open_risk(o);
}

/* Gathered z to losses, prototypes and drows. */
static npos_status contrast(npi_objective *o) {
    npi_device *dev = o->dev;
    size_t mine = (size_t)o->n * (size_t)o->model->proj;
    npi_contrast_desc desc = contrast_desc(o);
    NPI_TRY(dev->losses->contrast(dev, &desc, o->all_z, o->all_labels, o->mu, o->losses, o->all_dz,
                                  o->workspace));
    if (o->comm->size > 1) /* this member's rows of the gradient */
        NPI_TRY(dev->memory->copy(dev, o->dz, o->all_dz + (size_t)o->comm->rank * mine,
                                  mine * sizeof(float)));
    return project_backward(o);
}

npos_status npi_objective_set_text(npi_objective *o, const float *text) {
    size_t classes = (size_t)o->desc.classes, dim = (size_t)o->model->proj;
    float *columns;
    NPI_TRY(npi_alloc(&columns, classes * dim, sizeof *columns, "texts"));
    for (size_t c = 0; c < classes; c++)
        for (size_t j = 0; j < dim; j++)
            columns[j * classes + c] = text[c * dim + j];
    const npi_memory_ops *memory = o->dev->memory;
    size_t bytes = classes * dim * sizeof *columns;
    npos_status status = memory->upload(o->dev, o->mu, text, bytes);
    if (status == NPOS_OK)
        status = memory->upload(o->dev, o->text_columns, columns, bytes);
    npi_free(columns);
    return status;
}

/* The closed-set loss over cosines to drows: l = z T^T, dz = dl T, a linear layer whose weight is T's columns. */
static npos_status compare_texts(npi_objective *o) {
    npi_device *dev = o->dev;
    const npi_objective_desc *d = &o->desc;
    int dim = o->model->proj;
    NPI_TRY(
        dev->rows->linear_forward(dev, o->n, dim, d->classes, o->z, o->mu, NULL, false, o->cosine));
    NPI_TRY((d->cosine_loss == NPI_COSINE_PLAIN ? dev->losses->cosine_ce
                                                : dev->losses->logit_norm_ce)(
        dev, o->n, d->classes, d->temperature, o->cosine, o->labels, 1.0f, o->losses, o->dcosine));
    NPI_TRY(dev->rows->linear_forward(dev, o->n, d->classes, dim, o->dcosine, o->text_columns, NULL,
                                      false, o->dz));
    return project_backward(o);
}

enum { OUTLIER_LANE = 1 };

/* All of method ce's, or all but the encoder's.  *beside: outliers are learnt on a lane of their own, to be joined. */
static npos_status heads(npi_objective *o, bool open, const npi_synth_given *given, bool *beside) {
    const npi_graph_ops *lanes = o->dev->graph;
    if (o->desc.method == NPI_METHOD_CE)
        return classify(o);
    NPI_TRY(npi_objective_project(o, o->n, o->rows, o->z));
    NPI_TRY(gather(o));
    *beside = o->synth && lanes;
    if (*beside)
        NPI_TRY(lanes->fork(o->dev, OUTLIER_LANE));
    if (o->synth)
        NPI_TRY(learn_outliers(o, open, given));
    if (*beside)
        NPI_TRY(lanes->leave(o->dev));
    NPI_TRY(o->desc.method == NPI_METHOD_CLIP ? compare_texts(o) : contrast(o));
    return open ? open_pull(o) : NPOS_OK;
}

npos_status npi_objective_gradients(npi_objective *o, bool open, const npi_synth_given *given) {
    npi_params *params = &o->model->params;
    bool beside = false;
    NPI_TRY(o->encoder.pack(o->encoder.plan));
    NPI_TRY(o->encoder.forward(o->encoder.plan, o->n, o->rows));
    NPI_TRY(heads(o, open, given, &beside));
    NPI_TRY(o->encoder.backward(o->encoder.plan, o->rows, o->drows));
    if (beside)
        NPI_TRY(o->dev->graph->join(o->dev, OUTLIER_LANE));
    return o->comm->all_reduce(o->comm, o->dev, params->grads, params->body + params->head);
}

npos_status npi_objective_step(npi_objective *o, bool open, const npi_synth_given *given) {
    NPI_TRY(npi_objective_gradients(o, open, given));
    npi_params *p = &o->model->params;
    npi_device *dev = o->dev;
    /* without R_open the outlier head has no gradient and stays as it is, weight decay included */
    size_t head = open ? p->head : 0;
    NPI_TRY(dev->optim->norm(dev, p->body + head, p->grads, o->losses));
    NPI_TRY(dev->optim->sgd(dev, &o->desc.sgd, p->body, p->values, p->grads, p->velocity, o->step,
                            false, o->losses));
    if (head == 0)
        return NPOS_OK;
    return dev->optim->sgd(dev, &o->desc.sgd, head, p->values + p->body, p->grads + p->body,
                           p->velocity + p->body, o->step, true, o->losses);
}

double npi_objective_total(const npi_objective_desc *d, const float *losses, bool open) {
    if (d->method == NPI_METHOD_CE)
        return (double)losses[NPI_LOSS_CE];
    if (d->method == NPI_METHOD_CLIP)
        return (double)losses[NPI_LOSS_CE] +
               (open ? (double)d->alpha * (double)losses[NPI_LOSS_OPEN] : 0.0);
    return (double)d->w_disp * (double)losses[NPI_LOSS_DISP] +
           (double)d->w_comp * (double)losses[NPI_LOSS_COMP] +
           (open ? (double)d->alpha * (double)losses[NPI_LOSS_OPEN] : 0.0);
}
