#include <math.h>

#include "dc.h"

static void run_contrast(dc *d, const npi_contrast_desc *c, bool with_none, bool one_label) {
    size_t n = (size_t)c->n, classes = (size_t)c->classes, dim = (size_t)c->dim;
    dc_case(d, "n %d, %d classes, dim %d, m %g%s%s", c->n, c->classes, c->dim, (double)c->momentum,
            with_none ? ", labels of -1" : "", one_label ? ", one label" : "");
    float *z = dc_normals(d, n * dim, 1.0), *mu = dc_normals(d, classes * dim, 1.0);
    for (size_t i = 0; i < n + classes; i++) {
        float *row = i < n ? z + i * dim : mu + (i - n) * dim;
        double square = 0.0;
        for (size_t j = 0; j < dim; j++)
            square += (double)row[j] * (double)row[j];
        for (size_t j = 0; j < dim; j++)
            row[j] = (float)((double)row[j] / sqrt(square));
    }
    int32_t *of = dc_labels(d, c->n, one_label ? 1 : c->classes, with_none);
    dc_buf *rows = dc_input(d, "z", z, n * dim * 4), *labels = dc_input(d, "labels", of, n * 4);
    dc_buf *prototypes = dc_input(d, "mu", mu, classes * dim * 4);
    float zero[NPI_LOSS_COUNT] = {0};
    dc_buf *losses = dc_input(d, "losses", zero, sizeof zero),
           *dz = dc_output(d, "dz", n * dim * 4);
    for (int s = 0; s < 2; s++) {
        npi_device *dev = d->side[s];
        dc_buf *workspace = dc_output(d, "workspace", dev->losses->contrast_workspace(dev, c));
        DC_RUN(dev->losses->contrast(dev, c, dc_at(rows, s), dc_at(labels, s), dc_at(prototypes, s),
                                     dc_at(losses, s), dc_at(dz, s), dc_at(workspace, s)));
        dc_guards(d, workspace);
    }
    dc_floats(d, losses, DC_ROWS);
    dc_floats(d, prototypes, DC_ROWS);
    dc_floats(d, dz, DC_ROWS_GRAD);
}

void dc_check_contrast(dc *d) {
    static const struct {
        npi_contrast_desc desc;
        bool none, one;
    } shapes[] = {{{1, 1, 3, 0.95f, 0.1f, 0.5f, 1.0f}, false, false},
                  {{31, 2, 16, 0.95f, 0.1f, 0.5f, 1.0f}, true, false},
                  {{64, 10, 128, 0.95f, 0.1f, 0.5f, 1.0f}, false, false},
                  {{33, 10, 128, 0.5f, 0.1f, 0.5f, 1.0f}, true, true},
                  {{200, 100, 128, 0.5f, 0.1f, 0.5f, 1.0f}, false, false},
                  {{129, 7, 33, 0.95f, 0.1f, 2.0f, 0.0f}, true, false},
                  {{512, 10, 128, 0.95f, 0.1f, 0.0f, 1.0f}, false, false}};
    d->loosen = 5.0; /* exp(x / 0.1) of float32 cosines */
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        run_contrast(d, &shapes[i].desc, shapes[i].none, shapes[i].one);
        dc_release(d);
    }
}

void dc_check_cross_entropy(dc *d) {
    static const struct {
        int n, classes;
        double scale;
    } shapes[] = {{1, 2, 1.0}, {31, 10, 1.0}, {33, 100, 10.0}, {64, 1, 1.0}, {5, 1000, 1e4}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        size_t n = (size_t)shapes[i].n, classes = (size_t)shapes[i].classes;
        dc_case(d, "%zu x %zu, scale %g", n, classes, shapes[i].scale);
        dc_buf *x =
            dc_input(d, "logits", dc_normals(d, n * classes, shapes[i].scale), n * classes * 4);
        dc_buf *labels = dc_input(d, "labels", dc_labels(d, (int)n, (int)classes, false), n * 4);
        float zero[NPI_LOSS_COUNT] = {0};
        dc_buf *losses = dc_input(d, "losses", zero, sizeof zero);
        dc_buf *dx = dc_output(d, "dlogits", n * classes * 4);
        for (int s = 0; s < 2; s++) {
            npi_device *dev = d->side[s];
            DC_RUN(dev->losses->cross_entropy(dev, (int)n, (int)classes, dc_at(x, s),
                                              dc_at(labels, s), 0.7f, dc_at(losses, s),
                                              dc_at(dx, s)));
        }
        dc_floats(d, losses, DC_ROWS);
        dc_floats(d, dx, DC_ROWS_GRAD);
        dc_release(d);
    }
}

void dc_check_outlier_bce(dc *d) {
    static const struct {
        int in, out;
        double scale;
    } shapes[] = {{1, 1, 1.0}, {31, 33, 1.0}, {64, 4000, 3.0}, {512, 0, 1.0}, {3, 5, 300.0}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        size_t n = (size_t)(shapes[i].in + shapes[i].out);
        dc_case(d, "%d in, %d out, scale %g", shapes[i].in, shapes[i].out, shapes[i].scale);
        dc_buf *x = dc_input(d, "logits", dc_normals(d, n, shapes[i].scale), n * 4);
        float zero[NPI_LOSS_COUNT] = {0};
        dc_buf *losses = dc_input(d, "losses", zero, sizeof zero);
        dc_buf *dx = dc_output(d, "dlogits", n * 4);
        for (int s = 0; s < 2; s++) {
            npi_device *dev = d->side[s];
            DC_RUN(dev->losses->outlier_bce(dev, shapes[i].in, shapes[i].out, dc_at(x, s), 0.1f,
                                            dc_at(losses, s), dc_at(dx, s)));
        }
        dc_floats(d, losses, DC_ROWS);
        dc_floats(d, dx, DC_ROWS_GRAD);
        dc_release(d);
    }
}
