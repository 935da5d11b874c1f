#include "dc.h"

static const size_t counts[] = {1, 31, 64, 1000, 40001};

void dc_check_norm(dc *d) {
    static const double scales[] = {1.0, 1e-3, 1e8};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        for (size_t j = 0; j < sizeof scales / sizeof *scales; j++) {
            dc_case(d, "%zu gradients, scale %g", counts[i], scales[j]);
            dc_buf *g = dc_input(d, "grads", dc_normals(d, counts[i], scales[j]), counts[i] * 4);
            float zero[NPI_LOSS_COUNT] = {0};
            dc_buf *losses = dc_input(d, "losses", zero, sizeof zero);
            for (int s = 0; s < 2; s++) {
                npi_device *dev = d->side[s];
                DC_RUN(dev->optim->norm(dev, counts[i], dc_at(g, s), dc_at(losses, s)));
            }
            dc_floats(d, losses, DC_ROWS);
            dc_release(d);
        }
}

void dc_check_sgd(dc *d) {
    static const struct {
        npi_sgd_desc desc;
        bool head;
        float norm;
    } cases[] = {{{0.9f, 1e-4f, true, 0.0f}, false, 0.0f},
                 {{0.9f, 1e-4f, false, 0.0f}, true, 0.0f},
                 {{0.0f, 0.0f, false, 0.0f}, false, 0.0f},
                 {{0.9f, 1e-4f, true, 1.0f}, false, 7.0f},
                 {{0.9f, 1e-4f, true, 1.0f}, false, 0.5f}};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        for (size_t j = 0; j < sizeof cases / sizeof *cases; j++) {
            size_t n = counts[i];
            dc_case(d, "%zu weights, case %zu", n, j);
            dc_buf *w = dc_input(d, "weights", dc_normals(d, n, 1.0), n * 4);
            dc_buf *g = dc_input(d, "grads", dc_normals(d, n, 1.0), n * 4);
            dc_buf *v = dc_input(d, "velocity", dc_normals(d, n, 1.0), n * 4);
            float values[NPI_LOSS_COUNT] = {[NPI_LOSS_GRAD_NORM] = cases[j].norm};
            npi_step now = {.number = 3, .lr = 0.5f, .head_lr = 0.05f};
            dc_buf *losses = dc_input(d, "losses", values, sizeof values);
            dc_buf *step = dc_input(d, "step", &now, sizeof now);
            for (int s = 0; s < 2; s++) {
                npi_device *dev = d->side[s];
                DC_RUN(dev->optim->sgd(dev, &cases[j].desc, n, dc_at(w, s), dc_at(g, s),
                                       dc_at(v, s), dc_at(step, s), cases[j].head,
                                       cases[j].norm > 0.0f ? dc_at(losses, s) : NULL));
            }
            dc_floats(d, w, DC_ROWS);
            dc_floats(d, v, DC_ROWS);
            dc_release(d);
        }
}
