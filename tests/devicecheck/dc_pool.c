#include "dc.h"

/* Values are small whole numbers, so that windows hold ties; the winners' layout is the device's
 * own, so they are seen through the backward pass. */
void dc_check_pool_max(dc *d) {
    static const int shapes[][4] = {
        {1, 3, 5, 7}, {31, 16, 8, 8}, {33, 24, 4, 6}, {64, 32, 2, 2}, {3, 64, 1, 3}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const int *s = shapes[i], oh = (s[2] - 1) / 2 + 1, ow = (s[3] - 1) / 2 + 1;
        size_t in = (size_t)(s[0] * s[1] * s[2] * s[3]), out = (size_t)(s[0] * s[1] * oh * ow);
        dc_case(d, "%d x %d x %d x %d", s[0], s[1], s[2], s[3]);
        float *values = dc_host(d, in * sizeof *values);
        for (size_t j = 0; j < in; j++)
            values[j] = (float)(dc_below(d, 5) - 3);
        dc_act x = dc_act_input(d, "x", s[0], s[1], s[2], s[3], values);
        dc_act y = dc_act_output(d, "y", s[0], s[1], oh, ow);
        dc_buf *index = dc_output(d, "index", out);
        float *g = dc_host(d, out * sizeof *g);
        for (size_t j = 0; j < out; j++)
            g[j] = (float)(dc_below(d, 9) - 4);
        dc_act dy = dc_act_input(d, "dy", s[0], s[1], oh, ow, g);
        dc_act dx = dc_act_output(d, "dx", s[0], s[1], s[2], s[3]);
        for (int side = 0; side < 2; side++) {
            npi_device *dev = d->side[side];
            DC_RUN(dev->pools->max_forward(dev, dc_act_at(x, side), dc_act_at(y, side),
                                           dc_at(index, side)));
            DC_RUN(dev->pools->max_backward(dev, dc_act_at(dy, side), dc_at(index, side),
                                            dc_act_at(dx, side)));
        }
        dc_guards(d, index);
        dc_act_check(d, y, DC_EXACT);
        dc_act_check(d, dx, DC_EXACT); /* sums of small whole numbers are exact in bfloat16 too */
        dc_release(d);
    }
}

void dc_check_pool_mean(dc *d) {
    static const int shapes[][4] = {
        {1, 3, 5, 7}, {31, 16, 4, 4}, {33, 512, 1, 1}, {64, 48, 2, 3}, {2, 24, 14, 14}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const int *s = shapes[i];
        size_t in = (size_t)(s[0] * s[1] * s[2] * s[3]), rows = (size_t)(s[0] * s[1]);
        dc_case(d, "%d x %d x %d x %d", s[0], s[1], s[2], s[3]);
        dc_act x = dc_act_input(d, "x", s[0], s[1], s[2], s[3], dc_act_normals(d, in, 1.0));
        dc_buf *y = dc_output(d, "rows", rows * 4);
        dc_buf *dy = dc_input(d, "drows", dc_normals(d, rows, 1.0), rows * 4);
        dc_act dx = dc_act_output(d, "dx", s[0], s[1], s[2], s[3]);
        for (int side = 0; side < 2; side++) {
            npi_device *dev = d->side[side];
            DC_RUN(dev->pools->mean_forward(dev, dc_act_at(x, side), dc_at(y, side)));
            DC_RUN(dev->pools->mean_backward(dev, dc_at(dy, side), dc_act_at(dx, side)));
        }
        dc_floats(d, y, DC_ROWS);
        dc_act_check(d, dx, DC_ACT);
        dc_release(d);
    }
}
