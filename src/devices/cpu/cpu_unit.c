#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "devices/cpu/cpu.h"
#include "devices/cpu/cpu_conv.h"
#include "devices/cpu/cpu_conv_parts.h"
#include "devices/cpu/cpu_profile.h"

#define EPSILON 1e-5
#define MOMENTUM 0.1

struct npi_unit {
    npi_device *dev;
    char name[64];
    npi_unit_desc desc;
    npi_conv forward, backward; /* backward: by data, when desc.needs_dx */
    npi_conv_weights by_weights;
    void *packed, *packed_back;
    /* Training: the convolution's output and ReLU's mask (npi_mask_row bytes a row) of the newest
     * forward; both belong to the unit. */
    void *conv;
    uint8_t *mask;
    /* [channels] each.  scale: gamma / sqrt(variance + epsilon) of the newest forward. */
    float *mean, *inverse, *scale, *a, *b, *d;
    /* Where the parts of the device's workspace begin: shards of sums or the strip, then scratch.
     */
    size_t scratch_at, workspace_bytes;
    char variant[96];
};

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

static size_t shards(const npi_unit *unit) {
    return (size_t)unit->forward.blocks * (size_t)unit->forward.ho;
}

static size_t channels(const npi_unit *unit) {
    return (size_t)unit->desc.out_c;
}

static float *workspace(const npi_unit *unit) {
    return (float *)(void *)npi_cpu_of(unit->dev)->workspace;
}

static char *scratch(const npi_unit *unit) {
    return npi_cpu_of(unit->dev)->workspace + unit->scratch_at;
}

/* ---- create ---- */

static npos_status check_desc(const npi_unit_desc *desc) {
    if (desc->n < 1 || desc->c < 1 || desc->h < 1 || desc->w < 1 || desc->out_c < 1 ||
        desc->kernel < 1 || desc->stride < 1 || desc->pad < 0)
        return npi_fail(
            NPOS_INVALID_ARGUMENT,
            "unit '%s': n %d, c %d, h %d, w %d, out_c %d, kernel %d, stride %d, pad %d: "
            "expected sizes of at least 1",
            desc->name, desc->n, desc->c, desc->h, desc->w, desc->out_c, desc->kernel, desc->stride,
            desc->pad);
    if (desc->h + 2 * desc->pad < desc->kernel || desc->w + 2 * desc->pad < desc->kernel)
        return npi_fail(NPOS_SHAPE_MISMATCH,
                        "unit '%s': kernel %d does not fit a %d x %d image with padding %d",
                        desc->name, desc->kernel, desc->h, desc->w, desc->pad);
    return NPOS_OK;
}

static void plan_workspace(npi_unit *unit) {
    size_t padded = npi_round_up(channels(unit), NPI_IMAGES);
    size_t sums = shards(unit) * 3 * padded * sizeof(float);
    size_t a_thread = unit->forward.scratch;
    if (unit->desc.training) {
        sums = larger(sums, unit->by_weights.x_bytes + unit->by_weights.dy_bytes);
        a_thread = larger(a_thread, unit->by_weights.scratch);
        if (unit->desc.needs_dx)
            a_thread = larger(a_thread, unit->backward.scratch);
    }
    unit->scratch_at = npi_round_up(sums, 64);
    unit->workspace_bytes = unit->scratch_at + a_thread * (size_t)npi_cpu_of(unit->dev)->threads;
}

npos_status npi_cpu_grow_workspace(npi_device *dev, size_t bytes) {
    npi_cpu *cpu = npi_cpu_of(dev);
    if (bytes <= cpu->workspace_bytes)
        return NPOS_OK;
    char *grown;
    NPI_TRY(npi_host_memory.alloc(dev, bytes, "workspace", &grown));
    npi_host_memory.free(dev, cpu->workspace);
    cpu->workspace = grown;
    cpu->workspace_bytes = bytes;
    return NPOS_OK;
}

static npos_status allocate(npi_unit *unit) {
    npi_device *dev = unit->dev;
    const npi_conv *forward = &unit->forward;
    size_t rows = shards(unit) * (size_t)forward->wo * NPI_IMAGES, floats = channels(unit) * 4;
    NPI_TRY(npi_host_memory.alloc(dev, forward->packed_bytes, unit->name, &unit->packed));
    float **arrays[] = {&unit->mean, &unit->inverse, &unit->scale, &unit->a, &unit->b, &unit->d};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        NPI_TRY(npi_host_memory.alloc(dev, floats, unit->name, arrays[i]));
    if (unit->desc.training) {
        NPI_TRY(npi_host_memory.alloc(dev, rows * channels(unit) * forward->element, unit->name,
                                      &unit->conv));
        if (unit->desc.relu)
            NPI_TRY(npi_host_memory.alloc(dev, rows * npi_mask_row(unit->desc.out_c), unit->name,
                                          &unit->mask));
        if (unit->desc.needs_dx)
            NPI_TRY(npi_host_memory.alloc(dev, unit->backward.packed_bytes, unit->name,
                                          &unit->packed_back));
    }
    return npi_cpu_grow_workspace(dev, unit->workspace_bytes);
}

static void unit_free(npi_device *dev, npi_unit *unit) {
    if (!unit)
        return;
    void *owned[] = {unit->packed,  unit->packed_back, unit->conv, unit->mask, unit->mean,
                     unit->inverse, unit->scale,       unit->a,    unit->b,    unit->d};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        npi_host_memory.free(dev, owned[i]);
    npi_free(unit);
}

static const char *way_of(const npi_conv *conv) {
    return conv->winograd ? "winograd" : conv->gather ? "gathered" : "taps";
}

static npos_status unit_create(npi_device *dev, const npi_unit_desc *desc, npi_unit **out) {
    *out = NULL;
    NPI_TRY(check_desc(desc));
    const npi_cpu *cpu = npi_cpu_of(dev);
    npi_unit *unit;
    NPI_TRY(npi_alloc(&unit, 1, sizeof *unit, desc->name));
    unit->dev = dev;
    unit->desc = *desc;
    snprintf(unit->name, sizeof unit->name, "%s", desc->name);
    unit->desc.name = unit->name;
    unit->forward = npi_conv_plan(cpu, cpu->kernels, desc->n, desc->c, desc->h, desc->w,
                                  desc->out_c, desc->kernel, desc->stride, desc->pad, false);
    unit->backward = npi_conv_plan(cpu, cpu->kernels, desc->n, desc->c, desc->h, desc->w,
                                   desc->out_c, desc->kernel, desc->stride, desc->pad, true);
    unit->by_weights = npi_conv_weights_plan(&unit->forward);
    plan_workspace(unit);
    npos_status status = allocate(unit);
    if (status != NPOS_OK) {
        unit_free(dev, unit);
        return npi_fail_in(status, "unit '%s'", desc->name);
    }
    snprintf(unit->variant, sizeof unit->variant, "%s: fwd %s g%d, bwd_x %s g%d, bwd_w %s r%d",
             cpu->kernels->name, way_of(&unit->forward), unit->forward.group,
             way_of(&unit->backward), unit->backward.group,
             unit->by_weights.packed ? "packed" : "direct", unit->by_weights.rows);
    *out = unit;
    return NPOS_OK;
}

/* ---- weights ---- */

static void reorder(const npi_unit *unit, const float *from, float *to, bool import) {
    int taps = unit->desc.kernel * unit->desc.kernel, c = unit->desc.c, out_c = unit->desc.out_c;
    for (int o = 0; o < out_c; o++)
        for (int i = 0; i < c; i++)
            for (int tap = 0; tap < taps; tap++) {
                size_t oihw = ((size_t)o * (size_t)c + (size_t)i) * (size_t)taps + (size_t)tap;
                size_t ours = ((size_t)tap * (size_t)c + (size_t)i) * (size_t)out_c + (size_t)o;
                to[import ? ours : oihw] = from[import ? oihw : ours];
            }
}

static npos_status weight_import(npi_unit *unit, const float *host_oihw, float *weight) {
    reorder(unit, host_oihw, weight, true);
    return NPOS_OK;
}

static npos_status weight_export(npi_unit *unit, const float *weight, float *host_oihw) {
    reorder(unit, weight, host_oihw, false);
    return NPOS_OK;
}

static npos_status unit_pack(npi_unit *unit, const npi_unit_params *params) {
    npi_cpu_profile_begin();
    npi_conv_pack(&unit->forward, params->weight, unit->packed, scratch(unit));
    if (unit->packed_back)
        npi_conv_pack(&unit->backward, params->weight, unit->packed_back, scratch(unit));
    npi_cpu_profile_mark(NPI_CPU_PACK);
    return NPOS_OK;
}

/* ---- forward ---- */

static npos_status check_act(const npi_unit *unit, const char *what, npi_act act, int c, int h,
                             int w) {
    if (act.n != unit->desc.n || act.c != c || act.h != h || act.w != w || !act.data)
        return npi_fail(NPOS_SHAPE_MISMATCH,
                        "unit '%s': %s is %d x %d x %d x %d, expected %d x %d x %d x %d",
                        unit->name, what, act.n, act.c, act.h, act.w, unit->desc.n, c, h, w);
    return NPOS_OK;
}

static npos_status check_input(const npi_unit *unit, const char *what, npi_act act) {
    return check_act(unit, what, act, unit->desc.c, unit->desc.h, unit->desc.w);
}

static npos_status check_output(const npi_unit *unit, const char *what, npi_act act) {
    return check_act(unit, what, act, unit->desc.out_c, unit->forward.ho, unit->forward.wo);
}

static npos_status check_training(const npi_unit *unit, const char *what) {
    if (!unit->desc.training)
        return npi_fail(NPOS_INVALID_ARGUMENT, "unit '%s': %s, but it was planned for inference",
                        unit->name, what);
    return NPOS_OK;
}

/* Rows that a shard counts. */
static double shard_rows(const npi_unit *unit, size_t shard) {
    size_t block = shard / (size_t)unit->forward.ho;
    int left = unit->desc.n - (int)block * NPI_IMAGES;
    return (double)(left < NPI_IMAGES ? left : NPI_IMAGES) * unit->forward.wo;
}

static double all_rows(const npi_unit *unit) {
    return (double)unit->desc.n * unit->forward.ho * unit->forward.wo;
}

/* Mean and variance of channel c from the shards, in their order. */
static void channel_stats(const npi_unit *unit, const float *stats, size_t stats_row, size_t c,
                          double *mean, double *variance) {
    double sum = 0.0, squares = 0.0, rows = all_rows(unit);
    for (size_t s = 0; s < shards(unit); s++) {
        const float *shard = stats + s * 3 * stats_row + c;
        sum += shard_rows(unit, s) * (double)shard[0] + (double)shard[stats_row];
    }
    *mean = sum / rows;
    for (size_t s = 0; s < shards(unit); s++) {
        const float *shard = stats + s * 3 * stats_row + c;
        double shift = (double)shard[0] - *mean;
        squares += (double)shard[2 * stats_row] + 2.0 * shift * (double)shard[stats_row] +
                   shard_rows(unit, s) * shift * shift;
    }
    *variance = squares > 0.0 ? squares / rows : 0.0;
    if (squares != squares)
        *variance = squares;
}

static void finish_stats(npi_unit *unit, const float *stats, size_t stats_row,
                         const npi_unit_params *params) {
    double rows = all_rows(unit);
    int count = unit->desc.out_c;
#pragma omp parallel for num_threads(unit->forward.threads) schedule(static, 16)
    for (int c = 0; c < count; c++) {
        double mean, variance;
        channel_stats(unit, stats, stats_row, (size_t)c, &mean, &variance);
        double inverse = 1.0 / sqrt(variance + EPSILON);
        unit->mean[c] = (float)mean;
        unit->inverse[c] = (float)inverse;
        unit->scale[c] = (float)(inverse * (double)params->gamma[c]);
        double unbiased = rows > 1.0 ? variance * rows / (rows - 1.0) : variance;
        params->running_mean[c] += (float)(MOMENTUM * (mean - (double)params->running_mean[c]));
        params->running_var[c] += (float)(MOMENTUM * (unbiased - (double)params->running_var[c]));
    }
}

static void take_running(npi_unit *unit, const npi_unit_params *params) {
    for (size_t c = 0; c < channels(unit); c++) {
        double inverse = 1.0 / sqrt((double)params->running_var[c] + EPSILON);
        unit->mean[c] = params->running_mean[c];
        unit->scale[c] = (float)(inverse * (double)params->gamma[c]);
    }
}

/* Calls the kernel for the pixels of each shard. */
static void run_norm(const npi_unit *unit, const npi_norm *job) {
    size_t wo = (size_t)unit->forward.wo;
    int count = (int)shards(unit), ho = unit->forward.ho;
#pragma omp parallel for num_threads(unit->forward.threads) schedule(static)
    for (int s = 0; s < count; s++) {
        int left = unit->desc.n - s / ho * NPI_IMAGES;
        unit->forward.kernels->norm(job, (size_t)s * wo, wo, left < NPI_IMAGES ? left : NPI_IMAGES);
    }
}

static npos_status unit_forward(npi_unit *unit, npi_act x, const npi_unit_params *params,
                                const npi_act *residual, npi_unit *shortcut,
                                const npi_unit_params *shortcut_params, npi_act *y) {
    NPI_TRY(check_training(unit, "forward was called"));
    NPI_TRY(check_input(unit, "x", x));
    if (residual && shortcut)
        return npi_fail(NPOS_INVALID_ARGUMENT, "unit '%s': both a residual and a shortcut",
                        unit->name);
    if (residual)
        NPI_TRY(check_output(unit, "the residual", *residual));
    if (y)
        NPI_TRY(check_output(unit, "y", *y));
    size_t stats_row = npi_round_up(channels(unit), NPI_IMAGES);
    npi_conv_out out = {.y = unit->conv,
                        .stats = unit->desc.frozen ? NULL : workspace(unit),
                        .stats_row = stats_row};
    npi_cpu_profile_begin();
    npi_conv_run(&unit->forward, x.data, unit->packed, &out, scratch(unit));
    npi_cpu_profile_mark(NPI_CPU_FORWARD);
    if (unit->desc.frozen)
        take_running(unit, params);
    else
        finish_stats(unit, out.stats, stats_row, params);
    if (!y)
        return NPOS_OK;
    npi_norm job = {.channels = unit->desc.out_c,
                    .conv = unit->conv,
                    .mean = unit->mean,
                    .scale = unit->scale,
                    .beta = params->beta,
                    .residual = residual ? residual->data : NULL,
                    .y = y->data,
                    .mask = unit->mask};
    if (shortcut) {
        job.conv2 = shortcut->conv;
        job.mean2 = shortcut->mean;
        job.scale2 = shortcut->scale;
        job.beta2 = shortcut_params->beta;
    }
    run_norm(unit, &job);
    npi_cpu_profile_mark(NPI_CPU_NORM);
    return NPOS_OK;
}

static npos_status unit_infer(npi_unit *unit, npi_act x, const npi_unit_params *params,
                              const npi_act *residual, npi_act *y) {
    NPI_TRY(check_input(unit, "x", x));
    NPI_TRY(check_output(unit, "y", *y));
    if (residual)
        NPI_TRY(check_output(unit, "the residual", *residual));
    for (size_t c = 0; c < channels(unit); c++)
        unit->scale[c] =
            (float)((double)params->gamma[c] / sqrt((double)params->running_var[c] + EPSILON));
    npi_conv_out out = {.y = y->data,
                        .mean = params->running_mean,
                        .scale = unit->scale,
                        .beta = params->beta,
                        .residual = residual ? residual->data : NULL,
                        .relu = unit->desc.relu};
    npi_conv_run(&unit->forward, x.data, unit->packed, &out, scratch(unit));
    return NPOS_OK;
}

/* ---- backward ---- */

/* Gradients of gamma and beta, and the coefficients a, b, d of the convolution's gradient:
 *   dconv = scale (dy - mean(dy) - (conv - mean) inverse^2 mean(dy (conv - mean))). */
static void finish_sums(npi_unit *unit, const float *sums, const npi_unit_params *grads) {
    double rows = all_rows(unit);
    size_t count = channels(unit);
    for (size_t c = 0; c < count; c++) {
        double sum = 0.0, sum_x = 0.0;
        for (size_t s = 0; s < shards(unit); s++) {
            sum += (double)sums[s * 2 * count + c];
            sum_x += (double)sums[s * 2 * count + count + c];
        }
        double inverse = (double)unit->inverse[c], scale = (double)unit->scale[c];
        grads->beta[c] = (float)sum;
        grads->gamma[c] = (float)(sum_x * inverse);
        unit->a[c] = unit->scale[c];
        unit->b[c] = (float)(-scale * inverse * inverse * sum_x / rows);
        unit->d[c] = (float)(-scale * sum / rows);
    }
}

static void backward_norm(npi_unit *unit, npi_act dy, const npi_unit_params *grads,
                          npi_act *dresidual) {
    npi_norm_back job = {.channels = unit->desc.out_c,
                         .conv = unit->conv,
                         .mean = unit->mean,
                         .dy = dy.data,
                         .mask = unit->mask,
                         .dresidual = dresidual ? dresidual->data : NULL,
                         .a = unit->a,
                         .b = unit->b,
                         .d = unit->d};
    const npi_kernels *kernels = unit->forward.kernels;
    size_t wo = (size_t)unit->forward.wo, row = channels(unit);
    int count = (int)shards(unit), ho = unit->forward.ho;
    float *sums = workspace(unit);
    bool frozen = unit->desc.frozen;
    if (!frozen || dresidual) { /* the pass of the sums writes dresidual */
#pragma omp parallel for num_threads(unit->forward.threads) schedule(static)
        for (int s = 0; s < count; s++) {
            int left = unit->desc.n - s / ho * NPI_IMAGES;
            kernels->norm_sums(&job, (size_t)s * wo, wo, left < NPI_IMAGES ? left : NPI_IMAGES,
                               sums + (size_t)s * 2 * row, row);
        }
    }
    if (frozen) /* b and d stay 0: the statistics are constants */
        memcpy(unit->a, unit->scale, row * sizeof *unit->a);
    else
        finish_sums(unit, sums, grads);
#pragma omp parallel for num_threads(unit->forward.threads) schedule(static)
    for (int s = 0; s < count; s++) {
        int left = unit->desc.n - s / ho * NPI_IMAGES;
        kernels->norm_back(&job, (size_t)s * wo, wo, left < NPI_IMAGES ? left : NPI_IMAGES);
    }
}

static npos_status unit_backward(npi_unit *unit, npi_act dy, npi_act x,
                                 const npi_unit_params *params, const npi_unit_params *grads,
                                 npi_act *dx, bool accumulate, npi_act *dresidual,
                                 npi_unit *before) {
    (void)before;
    (void)params; /* gamma went into the forward's scale, the weights into the packed copy */
    NPI_TRY(check_training(unit, "backward was called"));
    NPI_TRY(check_output(unit, "dy", dy));
    NPI_TRY(check_input(unit, "x", x));
    if (dresidual)
        NPI_TRY(check_output(unit, "dresidual", *dresidual));
    if (dx)
        NPI_TRY(check_input(unit, "dx", *dx));
    if (!dx && unit->desc.needs_dx)
        return npi_fail(NPOS_INVALID_ARGUMENT, "unit '%s': dx is missing", unit->name);
    if (dx && !unit->desc.needs_dx)
        return npi_fail(NPOS_INVALID_ARGUMENT, "unit '%s': dx, but it was planned without",
                        unit->name);
    npi_cpu_profile_begin();
    backward_norm(unit, dy, grads, dresidual);
    npi_cpu_profile_mark(NPI_CPU_NORM_BACK);
    if (!unit->desc.frozen)
        npi_conv_weights_run(&unit->by_weights, x.data, dy.data, grads->weight,
                             npi_cpu_of(unit->dev)->workspace, scratch(unit));
    npi_cpu_profile_mark(NPI_CPU_BACK_WEIGHTS);
    if (dx) {
        npi_conv_out out = {.y = dx->data, .add = accumulate};
        npi_conv_run(&unit->backward, dy.data, unit->packed_back, &out, scratch(unit));
        npi_cpu_profile_mark(NPI_CPU_BACK_DATA);
    }
    return NPOS_OK;
}

static const char *unit_variant(npi_unit *unit) {
    return unit->variant;
}

const npi_unit_ops npi_cpu_units = {.create = unit_create,
                                    .free = unit_free,
                                    .weight_import = weight_import,
                                    .weight_export = weight_export,
                                    .pack = unit_pack,
                                    .forward = unit_forward,
                                    .infer = unit_infer,
                                    .backward = unit_backward,
                                    .variant = unit_variant};
