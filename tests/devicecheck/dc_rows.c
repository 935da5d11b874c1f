#include <math.h>
#include <string.h>

#include "dc.h"

typedef struct linear_shape {
    int n, in, out, dx_rows;
    bool relu, bias, accumulate;
} linear_shape;

static void run_linear(dc *d, const linear_shape *s, bool with_nan) {
    size_t n = (size_t)s->n, in = (size_t)s->in, out = (size_t)s->out;
    dc_case(d, "%d x %d -> %d%s%s%s, dx of %d rows%s", s->n, s->in, s->out, s->relu ? ", relu" : "",
            s->bias ? ", bias" : "", s->accumulate ? ", accumulate" : "", s->dx_rows,
            with_nan ? ", a NaN in row 0" : "");
    float *values = dc_normals(d, n * in, 1.0);
    if (with_nan)
        values[in / 2] = NAN;
    dc_buf *x = dc_input(d, "x", values, n * in * 4);
    dc_buf *w =
        dc_input(d, "weight", dc_normals(d, out * in, 1.0 / sqrt((double)in)), out * in * 4);
    dc_buf *b = dc_input(d, "bias", dc_normals(d, out, 0.3), out * 4);
    dc_buf *y = dc_output(d, "y", n * out * 4);
    dc_buf *dy = dc_input(d, "dy", dc_normals(d, n * out, 1.0), n * out * 4);
    dc_buf *dw = dc_output(d, "dweight", out * in * 4), *db = dc_output(d, "dbias", out * 4);
    size_t dx_count = (size_t)s->dx_rows * in;
    dc_buf *dx = s->accumulate ? dc_input(d, "dx", dc_normals(d, dx_count, 1.0), dx_count * 4)
                               : dc_output(d, "dx", dx_count * 4);
    for (int i = 0; i < 2; i++) {
        npi_device *dev = d->side[i];
        DC_RUN(dev->rows->linear_forward(dev, s->n, s->in, s->out, dc_at(x, i), dc_at(w, i),
                                         s->bias ? dc_at(b, i) : NULL, s->relu, dc_at(y, i)));
        DC_RUN(dev->memory->sync(dev));
    }
    dc_floats(d, y, DC_ROWS);
    if (with_nan)
        return;
    /* both sides mask by the reference's y, so that a sign at zero is not compared */
    void *mask = dc_read(d, y, 0);
    for (int i = 0; i < 2; i++) {
        npi_device *dev = d->side[i];
        DC_RUN(dev->memory->upload(dev, dc_at(y, i), mask, n * out * 4));
        DC_RUN(dev->rows->linear_backward(
            dev, s->n, s->in, s->out, dc_at(x, i), dc_at(w, i), dc_at(y, i), s->relu, dc_at(dy, i),
            dc_at(dw, i), s->bias ? dc_at(db, i) : NULL, s->dx_rows ? dc_at(dx, i) : NULL,
            s->dx_rows, s->accumulate));
    }
    dc_floats(d, dw, DC_ROWS_GRAD);
    if (s->bias)
        dc_floats(d, db, DC_ROWS_GRAD);
    if (s->dx_rows)
        dc_floats(d, dx, DC_ROWS_GRAD);
}

void dc_check_linear(dc *d) {
    static const linear_shape shapes[] = {
        {1, 1, 1, 1, false, true, false},       {1, 512, 128, 1, true, true, false},
        {31, 16, 24, 31, true, true, true},     {33, 3, 10, 20, false, false, false},
        {64, 128, 128, 64, true, true, false},  {65, 129, 127, 33, true, true, true},
        {7, 512, 1, 7, false, true, true},      {48, 33, 100, 0, false, true, false},
        {200, 512, 512, 90, true, true, false},
    };
    if (!d->side[1]->host && d->side[1]->compute == NPI_BF16)
        d->loosen = 500.0; /* GPUs that compute in bf16 multiply rows in TF32, of 11 bits */
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        run_linear(d, &shapes[i], false);
        dc_release(d);
    }
    static const linear_shape plain = {5, 40, 17, 0, false, true, false};
    run_linear(d, &plain, true);
    dc_release(d);
}

void dc_check_normalize(dc *d) {
    static const struct {
        int n, dim;
        double scale;
        bool accumulate;
    } shapes[] = {{1, 1, 1.0, false},    {31, 3, 1.0, true},    {33, 128, 1.0, false},
                  {64, 512, 1e3, true},  {3, 129, 1e-6, false}, {512, 16, 1.0, false},
                  {5, 100, 1e15, false}, {4, 64, 1e-14, false}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        size_t n = (size_t)shapes[i].n, dim = (size_t)shapes[i].dim, bytes = n * dim * 4;
        dc_case(d, "%zu x %zu, scale %g%s", n, dim, shapes[i].scale,
                shapes[i].accumulate ? ", accumulate" : "");
        float *values = dc_normals(d, n * dim, shapes[i].scale);
        if (n > 2)
            memset(values + dim, 0, dim * sizeof *values); /* a row of zeros stays one */
        dc_buf *x = dc_input(d, "x", values, bytes), *z = dc_output(d, "z", bytes);
        dc_buf *norms = dc_output(d, "norms", n * 4);
        dc_buf *dz = dc_input(d, "dz", dc_normals(d, n * dim, 1.0), bytes);
        dc_buf *dx = shapes[i].accumulate ? dc_input(d, "dx", dc_normals(d, n * dim, 1e3), bytes)
                                          : dc_output(d, "dx", bytes);
        for (int s = 0; s < 2; s++) {
            npi_device *dev = d->side[s];
            DC_RUN(dev->rows->normalize_forward(dev, (int)n, (int)dim, dc_at(x, s), dc_at(z, s),
                                                NULL));
            DC_RUN(dev->rows->normalize_forward(dev, (int)n, (int)dim, dc_at(x, s), dc_at(z, s),
                                                dc_at(norms, s)));
            DC_RUN(dev->rows->normalize_backward(dev, (int)n, (int)dim, dc_at(z, s),
                                                 dc_at(norms, s), dc_at(dz, s), dc_at(dx, s),
                                                 shapes[i].accumulate));
        }
        dc_floats(d, z, DC_ROWS);
        dc_floats(d, norms, DC_ROWS);
        if (dim > 1) /* the gradient of x / |x| of one number is 0 but for rounding */
            dc_floats(d, dx, DC_ROWS_GRAD);
        dc_release(d);
    }
}
