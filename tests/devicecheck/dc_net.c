#include "dc.h"

/* A small residual network, forward and backward on both sides: a stem, a block with an identity, a
 * block with a shortcut, the mean. */
enum { STEM, A1, A2, B1, SIDE, B2, UNITS, N = 33, SIZE = 8 };

static dc_act act(dc *d, const char *name, const dc_unit *u) {
    return dc_act_output(d, name, u->desc.n, u->desc.out_c, u->oh, u->ow);
}

static void run_net(dc *d, dc_unit *u) {
    dc_act x =
        dc_act_input(d, "x", N, 3, SIZE, SIZE, dc_act_normals(d, (size_t)N * 3 * SIZE * SIZE, 1.0));
    dc_act s = act(d, "stem", &u[STEM]), a1 = act(d, "a1", &u[A1]), a2 = act(d, "a2", &u[A2]);
    dc_act b1 = act(d, "b1", &u[B1]), b2 = act(d, "b2", &u[B2]);
    dc_act ds = act(d, "dstem", &u[STEM]), da1 = act(d, "da1", &u[A1]), da2 = act(d, "da2", &u[A2]);
    dc_act db1 = act(d, "db1", &u[B1]), db2 = act(d, "db2", &u[B2]), dr = act(d, "dr", &u[B2]);
    size_t rows = (size_t)N * (size_t)u[B2].desc.out_c;
    dc_buf *h = dc_output(d, "h", rows * 4),
           *dh = dc_input(d, "dh", dc_normals(d, rows, 1.0), rows * 4);
    for (int i = 0; i < 2; i++) {
        npi_device *dev = d->side[i];
        const npi_unit_ops *f = dev->units;
        npi_unit_params p[UNITS], g[UNITS];
        for (int j = 0; j < UNITS; j++) {
            p[j] = dc_unit_params(&u[j], i);
            g[j] = dc_unit_grads(&u[j], i);
        }
        npi_act vs = dc_act_at(s, i), v1 = dc_act_at(a1, i), v2 = dc_act_at(a2, i),
                w1 = dc_act_at(b1, i), w2 = dc_act_at(b2, i), gs = dc_act_at(ds, i),
                g1 = dc_act_at(da1, i), g2 = dc_act_at(da2, i), k1 = dc_act_at(db1, i),
                k2 = dc_act_at(db2, i), r = dc_act_at(dr, i), in = dc_act_at(x, i);
        DC_RUN(f->forward(u[STEM].unit[i], in, &p[STEM], NULL, NULL, NULL, &vs));
        DC_RUN(f->forward(u[A1].unit[i], vs, &p[A1], NULL, NULL, NULL, &v1));
        DC_RUN(f->forward(u[A2].unit[i], v1, &p[A2], &vs, NULL, NULL, &v2));
        DC_RUN(f->forward(u[B1].unit[i], v2, &p[B1], NULL, NULL, NULL, &w1));
        DC_RUN(f->forward(u[SIDE].unit[i], v2, &p[SIDE], NULL, NULL, NULL, NULL));
        DC_RUN(f->forward(u[B2].unit[i], w1, &p[B2], NULL, u[SIDE].unit[i], &p[SIDE], &w2));
        DC_RUN(dev->pools->mean_forward(dev, w2, dc_at(h, i)));
        DC_RUN(dev->pools->mean_backward(dev, dc_at(dh, i), k2));
        DC_RUN(f->backward(u[B2].unit[i], k2, w1, &p[B2], &g[B2], &k1, false, &r, u[B1].unit[i]));
        DC_RUN(f->backward(u[SIDE].unit[i], r, v2, &p[SIDE], &g[SIDE], &g2, false, NULL, NULL));
        DC_RUN(f->backward(u[B1].unit[i], k1, v2, &p[B1], &g[B1], &g2, true, NULL, u[A2].unit[i]));
        DC_RUN(f->backward(u[A2].unit[i], g2, v1, &p[A2], &g[A2], &g1, false, &gs, u[A1].unit[i]));
        DC_RUN(
            f->backward(u[A1].unit[i], g1, vs, &p[A1], &g[A1], &gs, true, NULL, u[STEM].unit[i]));
        DC_RUN(f->backward(u[STEM].unit[i], gs, in, &p[STEM], &g[STEM], NULL, false, NULL, NULL));
        DC_RUN(dev->memory->sync(dev));
    }
    dc_compare(d, "h", rows, dc_read(d, h, 0), dc_read(d, h, 1), DC_ACT);
    dc_guards(d, h);
    for (int j = 0; j < UNITS; j++) {
        dc_case(d, "gradients of %s", u[j].desc.name);
        dc_unit_check_grads(d, &u[j]);
        dc_unit_check_stats(d, &u[j]);
    }
}

/* c channels in the stem and the first block. */
static void check_net(dc *d, int c) {
    const npi_unit_desc descs[UNITS] = {
        {"stem", N, 3, SIZE, SIZE, c, 3, 1, 1, true, false, true, false, false},
        {"a.conv1", N, c, SIZE, SIZE, c, 3, 1, 1, true, true, true, false, false},
        {"a.conv2", N, c, SIZE, SIZE, c, 3, 1, 1, true, true, true, false, false},
        {"b.conv1", N, c, SIZE, SIZE, 2 * c, 3, 2, 1, true, true, true, false, false},
        {"b.shortcut", N, c, SIZE, SIZE, 2 * c, 1, 2, 0, false, true, true, false, false},
        {"b.conv2", N, 2 * c, SIZE / 2, SIZE / 2, 2 * c, 3, 1, 1, true, true, true, false, false}};
    dc_unit units[UNITS] = {0};
    bool made = true;
    /* rounding moves a few elements across ReLU's edge, and six layers add up */
    d->loosen = d->side[1]->compute == NPI_BF16 ? 8.0 : 4.0;
    dc_case(d, "%d x 3 x %d x %d, %d channels", N, SIZE, SIZE, c);
    for (int i = 0; i < UNITS && made; i++)
        made = dc_unit_make(d, &units[i], descs[i]);
    if (made)
        run_net(d, units);
    for (int i = 0; i < UNITS; i++)
        dc_unit_free(d, &units[i]);
    dc_release(d);
}

void dc_check_net(dc *d) {
    check_net(d, 16);
    check_net(d, 64); /* what GPUs have kernels of their own for */
}
