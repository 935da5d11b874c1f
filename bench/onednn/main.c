/* bench/onednn - every convolution of ResNet-18 (32 x 32 images) beside oneDNN 2.x, layer by layer.
 *
 *     onednn [--batch N] [--precision fp32|bf16] [--threads N] [--runs N] [--cpu-time]
 *
 * oneDNN may choose its own layouts (format "any", no reorders counted), the processor's
 * instruction sets are the same for both.  --cpu-time as in convstep.  Built where oneDNN 2.x is
 * installed; npos itself never uses it. */
#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "devices/cpu/cpu_profile.h"
#include "devices/devices.h"

typedef struct layer {
    int c, out_c, side, kernel, stride, count; /* count: how often ResNet-18 has it */
} layer;

static const layer layers[] = {
    {3, 64, 32, 3, 1, 1},    {64, 64, 32, 3, 1, 4},   {64, 128, 32, 3, 2, 1},
    {64, 128, 32, 1, 2, 1},  {128, 128, 16, 3, 1, 3}, {128, 256, 16, 3, 2, 1},
    {128, 256, 16, 1, 2, 1}, {256, 256, 8, 3, 1, 3},  {256, 512, 8, 3, 2, 1},
    {256, 512, 8, 1, 2, 1},  {512, 512, 4, 3, 1, 3},
};

enum { FORWARD, BY_DATA, BY_WEIGHTS, DIRECTIONS };

static clockid_t clock_used = CLOCK_MONOTONIC;
static dnnl_engine_t engine;
static dnnl_stream_t stream;

static double seconds(void) {
    struct timespec now;
    clock_gettime(clock_used, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void check(npos_status status) {
    if (status != NPOS_OK) {
        fprintf(stderr, "onednn: %s\n", npos_error_message());
        exit(1);
    }
}

static void check_dnnl(dnnl_status_t status, const char *what) {
    if (status != dnnl_success) {
        fprintf(stderr, "onednn: %s: status %d\n", what, (int)status);
        exit(1);
    }
}

/* ---- theirs ---- */

typedef struct directions {
    dnnl_primitive_desc_t desc[DIRECTIONS];
} directions;

static dnnl_memory_desc_t describe(int a, int b, int c, int d, dnnl_data_type_t type) {
    dnnl_memory_desc_t desc;
    dnnl_dims_t dims = {a, b, c, d};
    check_dnnl(dnnl_memory_desc_init_by_tag(&desc, 4, dims, type, dnnl_format_tag_any), "layout");
    return desc;
}

static directions plan(const layer *l, int batch, bool half) {
    int pad = l->kernel / 2, out = (l->side + 2 * pad - l->kernel) / l->stride + 1;
    int right = (out - 1) * l->stride + l->kernel - l->side - pad;
    dnnl_data_type_t type = half ? dnnl_bf16 : dnnl_f32;
    dnnl_dims_t strides = {l->stride, l->stride}, before = {pad, pad}, after = {right, right};
    dnnl_memory_desc_t x = describe(batch, l->c, l->side, l->side, type);
    dnnl_memory_desc_t w = describe(l->out_c, l->c, l->kernel, l->kernel, type);
    dnnl_memory_desc_t dw = describe(l->out_c, l->c, l->kernel, l->kernel, dnnl_f32);
    dnnl_memory_desc_t y = describe(batch, l->out_c, out, out, type);
    dnnl_convolution_desc_t forward, data, weights;
    directions all;
    check_dnnl(dnnl_convolution_forward_desc_init(&forward, dnnl_forward_training,
                                                  dnnl_convolution_direct, &x, &w, NULL, &y,
                                                  strides, before, after),
               "forward");
    check_dnnl(dnnl_primitive_desc_create(&all.desc[FORWARD], &forward, NULL, engine, NULL),
               "forward");
    check_dnnl(dnnl_convolution_backward_data_desc_init(&data, dnnl_convolution_direct, &x, &w, &y,
                                                        strides, before, after),
               "by data");
    check_dnnl(
        dnnl_primitive_desc_create(&all.desc[BY_DATA], &data, NULL, engine, all.desc[FORWARD]),
        "by data");
    check_dnnl(dnnl_convolution_backward_weights_desc_init(&weights, dnnl_convolution_direct, &x,
                                                           &dw, NULL, &y, strides, before, after),
               "by weights");
    check_dnnl(dnnl_primitive_desc_create(&all.desc[BY_WEIGHTS], &weights, NULL, engine,
                                          all.desc[FORWARD]),
               "by weights");
    return all;
}

/* Memory of one argument, filled with small numbers that are valid in both precisions. */
static dnnl_exec_arg_t argument(dnnl_primitive_desc_t desc, dnnl_query_t query, int name) {
    const dnnl_memory_desc_t *layout = dnnl_primitive_desc_query_md(desc, query, 0);
    dnnl_memory_t memory;
    void *data;
    check_dnnl(dnnl_memory_create(&memory, layout, engine, DNNL_MEMORY_ALLOCATE), "memory");
    check_dnnl(dnnl_memory_get_data_handle(memory, &data), "memory");
    memset(data, 0x3c, dnnl_memory_desc_get_size(layout));
    return (dnnl_exec_arg_t){name, memory};
}

static double time_theirs(dnnl_primitive_desc_t desc, int direction, int runs) {
    static const int names[DIRECTIONS][3] = {
        {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST},
        {DNNL_ARG_DIFF_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_DST},
        {DNNL_ARG_SRC, DNNL_ARG_DIFF_WEIGHTS, DNNL_ARG_DIFF_DST}};
    static const dnnl_query_t queries[DIRECTIONS][3] = {
        {dnnl_query_src_md, dnnl_query_weights_md, dnnl_query_dst_md},
        {dnnl_query_diff_src_md, dnnl_query_weights_md, dnnl_query_diff_dst_md},
        {dnnl_query_src_md, dnnl_query_diff_weights_md, dnnl_query_diff_dst_md}};
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t arguments[3];
    check_dnnl(dnnl_primitive_create(&primitive, desc), "primitive");
    for (int i = 0; i < 3; i++)
        arguments[i] = argument(desc, queries[direction][i], names[direction][i]);
    double least = 1e9;
    for (int r = 0; r <= runs; r++) {
        double start = seconds();
        check_dnnl(dnnl_primitive_execute(primitive, stream, 3, arguments), "execute");
        dnnl_stream_wait(stream);
        double time = seconds() - start;
        if (r > 0 && time < least)
            least = time;
    }
    for (int i = 0; i < 3; i++)
        dnnl_memory_destroy(arguments[i].memory);
    dnnl_primitive_destroy(primitive);
    return least;
}

/* ---- ours ---- */

static void *device_memory(npi_device *dev, size_t bytes) {
    void *out;
    check(dev->memory->alloc(dev, bytes, "benchmark", &out));
    memset(out, 0x3c, bytes);
    return out;
}

static npi_unit_params floats(npi_device *dev, const layer *l) {
    size_t weights = (size_t)l->out_c * (size_t)l->c * (size_t)(l->kernel * l->kernel) * 4;
    size_t o = (size_t)l->out_c * 4;
    return (npi_unit_params){device_memory(dev, weights), device_memory(dev, o),
                             device_memory(dev, o), device_memory(dev, o), device_memory(dev, o)};
}

static void free_floats(npi_device *dev, npi_unit_params p) {
    float *all[] = {p.weight, p.gamma, p.beta, p.running_mean, p.running_var};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        dev->memory->free(dev, all[i]);
}

static void time_ours(npi_device *dev, const layer *l, int batch, int runs,
                      double out[DIRECTIONS]) {
    int pad = l->kernel / 2, side = (l->side + 2 * pad - l->kernel) / l->stride + 1;
    npi_unit_desc desc = {.name = "benchmark",
                          .n = batch,
                          .c = l->c,
                          .h = l->side,
                          .w = l->side,
                          .out_c = l->out_c,
                          .kernel = l->kernel,
                          .stride = l->stride,
                          .pad = pad,
                          .relu = true,
                          .needs_dx = true,
                          .training = true};
    npi_unit *unit;
    check(dev->units->create(dev, &desc, &unit));
    npi_unit_params params = floats(dev, l), grads = floats(dev, l);
    npi_act x = {batch, l->c, l->side, l->side, NULL}, y = {batch, l->out_c, side, side, NULL};
    x.data = device_memory(dev, dev->acts->bytes(dev, x.n, x.c, x.h, x.w));
    y.data = device_memory(dev, dev->acts->bytes(dev, y.n, y.c, y.h, y.w));
    npi_act dx = x, dy = y;
    dx.data = device_memory(dev, dev->acts->bytes(dev, x.n, x.c, x.h, x.w));
    dy.data = device_memory(dev, dev->acts->bytes(dev, y.n, y.c, y.h, y.w));
    check(dev->units->pack(unit, &params));
    for (int i = 0; i < DIRECTIONS; i++)
        out[i] = 1e9;
    for (int r = 0; r <= runs; r++) {
        double parts[NPI_CPU_PARTS];
        npi_cpu_profile_start(clock_used != CLOCK_MONOTONIC);
        check(dev->units->forward(unit, x, &params, NULL, NULL, NULL, &y));
        check(dev->units->backward(unit, dy, x, &params, &grads, &dx, false, NULL, NULL));
        npi_cpu_profile_stop(parts);
        double times[] = {parts[NPI_CPU_FORWARD], parts[NPI_CPU_BACK_DATA],
                          parts[NPI_CPU_BACK_WEIGHTS]};
        for (int i = 0; r > 0 && i < DIRECTIONS; i++)
            out[i] = times[i] < out[i] ? times[i] : out[i];
    }
    void *memory[] = {x.data, y.data, dx.data, dy.data};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        dev->memory->free(dev, memory[i]);
    free_floats(dev, params);
    free_floats(dev, grads);
    dev->units->free(dev, unit);
}

int main(int argc, char **argv) {
    int batch = 64, threads = npi_cpu_count(), runs = 5;
    bool half = false;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--cpu-time") == 0) {
            clock_used = CLOCK_PROCESS_CPUTIME_ID;
            continue;
        }
        if (strcmp(argv[i], "--batch") == 0)
            batch = atoi(value);
        else if (strcmp(argv[i], "--precision") == 0)
            half = strcmp(value, "bf16") == 0;
        else if (strcmp(argv[i], "--threads") == 0)
            threads = atoi(value);
        else if (strcmp(argv[i], "--runs") == 0)
            runs = atoi(value);
        else {
            fprintf(stderr, "onednn: unknown option %s\n", argv[i]);
            return 2;
        }
        i++;
    }
    if (batch < 1 || runs < 1 || threads < 1) {
        fprintf(stderr, "onednn: --batch, --threads or --runs out of range\n");
        return 2;
    }
    omp_set_num_threads(threads);
    check_dnnl(dnnl_engine_create(&engine, dnnl_cpu, 0), "engine");
    check_dnnl(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags), "stream");
    npi_device *dev;
    check(npi_cpu_open(half ? NPI_PRECISION_BF16 : NPI_PRECISION_FP32, threads, &dev));
    double sums[2][DIRECTIONS] = {{0}};
    printf("%s, oneDNN %d.%d; ms: ours / oneDNN (ratio)\n%-22s %24s %24s %24s\n", dev->description,
           DNNL_VERSION_MAJOR, DNNL_VERSION_MINOR, "", "forward", "by data", "by weights");
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
        const layer *l = &layers[i];
        double ours[DIRECTIONS];
        directions theirs = plan(l, batch, half);
        time_ours(dev, l, batch, runs, ours);
        printf("%3d-%3d@%2d k%d s%d x%d   ", l->c, l->out_c, l->side, l->kernel, l->stride,
               l->count);
        for (int d = 0; d < DIRECTIONS; d++) {
            double time = time_theirs(theirs.desc[d], d, runs);
            dnnl_primitive_desc_destroy(theirs.desc[d]);
            printf(" %8.2f / %7.2f (%4.2f)", 1e3 * ours[d], 1e3 * time, time / ours[d]);
            bool stem = d == BY_DATA && l->c == 3; /* never needed */
            sums[0][d] += stem ? 0.0 : l->count * ours[d];
            sums[1][d] += stem ? 0.0 : l->count * time;
        }
        printf("\n");
        fflush(stdout);
    }
    printf("%-22s", "ResNet-18");
    for (int d = 0; d < DIRECTIONS; d++)
        printf(" %8.1f / %7.1f (%4.2f)", 1e3 * sums[0][d], 1e3 * sums[1][d],
               sums[1][d] / sums[0][d]);
    printf("\n");
    npi_device_close(dev);
    return 0;
}
