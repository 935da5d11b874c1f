#include "devices/reference/ref.h"

/* Input coordinate of tap 0..2 of output o of the 3-wide, stride 2, padding 1 window. */
static int tap_input(int o, int tap) {
    return 2 * o - 1 + tap;
}

static npos_status check_max(npi_act x, npi_act y) {
    return npi_ref_check_act("max pooling", y, x.n, x.c, (x.h - 1) / 2 + 1, (x.w - 1) / 2 + 1);
}

static npos_status max_forward(npi_device *dev, npi_act x, npi_act y, uint8_t *index) {
    (void)dev;
    NPI_TRY(check_max(x, y));
    for (int n = 0; n < y.n; n++)
        for (int c = 0; c < y.c; c++) {
            const float *from = npi_ref_plane(x, n, c);
            float *to = npi_ref_plane(y, n, c);
            for (int oy = 0; oy < y.h; oy++)
                for (int ox = 0; ox < y.w; ox++) {
                    int winner = -1;
                    float best = 0.0f;
                    for (int k = 0; k < 9; k++) {
                        int iy = tap_input(oy, k / 3), ix = tap_input(ox, k % 3);
                        if (iy < 0 || iy >= x.h || ix < 0 || ix >= x.w)
                            continue;
                        if (winner < 0 || from[iy * x.w + ix] > best) {
                            winner = k;
                            best = from[iy * x.w + ix];
                        }
                    }
                    to[oy * y.w + ox] = best;
                    *index++ = (uint8_t)winner;
                }
        }
    return NPOS_OK;
}

/* Each dy goes to its window's winner; windows overlap, so a pixel may receive up to four. */
static npos_status max_backward(npi_device *dev, npi_act dy, const uint8_t *index, npi_act dx) {
    NPI_TRY(check_max(dx, dy));
    size_t count = (size_t)dx.h * (size_t)dx.w;
    double *sum;
    NPI_TRY(npi_ref_scratch(dev, count * sizeof *sum, &sum));
    for (int n = 0; n < dy.n; n++)
        for (int c = 0; c < dy.c; c++) {
            const float *from = npi_ref_plane(dy, n, c);
            for (size_t i = 0; i < count; i++)
                sum[i] = 0.0;
            for (int oy = 0; oy < dy.h; oy++)
                for (int ox = 0; ox < dy.w; ox++) {
                    int k = *index++;
                    sum[tap_input(oy, k / 3) * dx.w + tap_input(ox, k % 3)] +=
                        (double)from[oy * dy.w + ox];
                }
            float *to = npi_ref_plane(dx, n, c);
            for (size_t i = 0; i < count; i++)
                to[i] = (float)sum[i];
        }
    return NPOS_OK;
}

static npos_status mean_forward(npi_device *dev, npi_act x, float *rows) {
    (void)dev;
    int count = x.h * x.w;
    for (int n = 0; n < x.n; n++)
        for (int c = 0; c < x.c; c++) {
            const float *from = npi_ref_plane(x, n, c);
            double sum = 0.0;
            for (int i = 0; i < count; i++)
                sum += (double)from[i];
            *rows++ = (float)(sum / count);
        }
    return NPOS_OK;
}

static npos_status mean_backward(npi_device *dev, const float *drows, npi_act dx) {
    (void)dev;
    int count = dx.h * dx.w;
    for (int n = 0; n < dx.n; n++)
        for (int c = 0; c < dx.c; c++) {
            float *to = npi_ref_plane(dx, n, c);
            float share = (float)((double)*drows++ / count);
            for (int i = 0; i < count; i++)
                to[i] = share;
        }
    return NPOS_OK;
}

const npi_pool_ops npi_ref_pools = {.max_forward = max_forward,
                                    .max_backward = max_backward,
                                    .mean_forward = mean_forward,
                                    .mean_backward = mean_backward};
