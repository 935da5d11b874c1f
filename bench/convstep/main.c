/* bench/convstep - the encoder's part of a training step, unit by unit, on the cpu device.
 *
 *     convstep [--net resnet18|demo] [--batch N] [--precision fp32|bf16|auto] [--isa NAME]
 *              [--threads N] [--runs N] [--layers] [--cpu-time]
 *
 * Runs pack, forward and backward of every unit in the network's order and prints the step's median
 * and minimum; --layers adds a line per unit. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "base/philox.h"
#include "devices/cpu/cpu_profile.h"
#include "devices/devices.h"

typedef struct layer {
    char name[32];
    npi_unit_desc desc;
    npi_unit *unit;
    npi_unit_params params, grads;
    npi_act x, y;
    int input;    /* layer whose y is x, -1: the image */
    int residual; /* layer whose y is added, -1: none */
    int shortcut; /* layer, -1: none */
    bool is_shortcut;
    double gflop;
    double pack, forward, backward; /* minima over runs, seconds */
} layer;

enum { MOST_LAYERS = 64, MOST_RUNS = 1000 };

static npi_device *dev;
static layer layers[MOST_LAYERS];
static int layer_count;
static clockid_t clock_used = CLOCK_MONOTONIC;

static double seconds(void) {
    struct timespec now;
    clock_gettime(clock_used, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void check(npos_status status) {
    if (status != NPOS_OK) {
        fprintf(stderr, "convstep: %s\n", npos_error_message());
        exit(1);
    }
}

static float *floats(size_t count, float scale, float offset) {
    float *out;
    check(dev->memory->alloc(dev, count * sizeof *out, "benchmark", &out));
    for (size_t i = 0; i < count; i++)
        out[i] =
            offset +
            scale * (npi_unit_float(npi_philox(1, NPI_RANDOM_TEST, 0, 0, (uint32_t)i).v[0]) - 0.5f);
    return out;
}

static npi_act new_act(int n, int c, int h, int w) {
    npi_act act = {.n = n, .c = c, .h = h, .w = w};
    check(dev->memory->alloc(dev, dev->acts->bytes(dev, n, c, h, w), "activation", &act.data));
    return act;
}

static int side_of(int side, int kernel, int stride, int pad) {
    return (side + 2 * pad - kernel) / stride + 1;
}

static int add_layer(const char *name, int n, int c, int side, int out_c, int kernel, int stride,
                     int input, bool relu) {
    layer *l = &layers[layer_count];
    snprintf(l->name, sizeof l->name, "%s", name);
    int pad = kernel / 2, out = side_of(side, kernel, stride, pad);
    l->desc = (npi_unit_desc){.name = l->name,
                              .n = n,
                              .c = c,
                              .h = side,
                              .w = side,
                              .out_c = out_c,
                              .kernel = kernel,
                              .stride = stride,
                              .pad = pad,
                              .relu = relu,
                              .needs_dx = input >= 0,
                              .training = true};
    check(dev->units->create(dev, &l->desc, &l->unit));
    size_t weights = (size_t)out_c * (size_t)c * (size_t)(kernel * kernel), o = (size_t)out_c;
    l->params = (npi_unit_params){floats(weights, 0.1f, 0), floats(o, 0, 1), floats(o, 0, 0),
                                  floats(o, 0, 0), floats(o, 0, 1)};
    l->grads = (npi_unit_params){
        .weight = floats(weights, 0, 0), .gamma = floats(o, 0, 0), .beta = floats(o, 0, 0)};
    l->y = new_act(n, out_c, out, out);
    l->input = input;
    l->residual = l->shortcut = -1;
    l->is_shortcut = !relu;
    l->gflop = 2e-9 * n * out * out * (double)weights;
    l->pack = l->forward = l->backward = 1e9;
    return layer_count++;
}

static int add_block(int number, int n, int c, int side, int out_c, int stride, int input) {
    char name[32];
    int cut = -1;
    if (stride != 1 || c != out_c) {
        snprintf(name, sizeof name, "block%d.shortcut", number);
        cut = add_layer(name, n, c, side, out_c, 1, stride, input, false);
    }
    snprintf(name, sizeof name, "block%d.conv1", number);
    int first = add_layer(name, n, c, side, out_c, 3, stride, input, true);
    snprintf(name, sizeof name, "block%d.conv2", number);
    int second = add_layer(name, n, out_c, side_of(side, 3, stride, 1), out_c, 3, 1, first, true);
    layers[second].shortcut = cut;
    layers[second].residual = cut < 0 ? input : -1;
    return second;
}

static void build(const char *net, int n) {
    bool demo = strcmp(net, "demo") == 0;
    int side = demo ? 28 : 32, c = demo ? 32 : 64, stages = demo ? 3 : 4;
    int x = add_layer("stem", n, demo ? 1 : 3, side, c, 3, demo ? 2 : 1, -1, true);
    side = layers[x].y.h;
    for (int stage = 0, number = 0; stage < stages; stage++)
        for (int b = 0; b < (demo ? 1 : 2); b++) {
            int stride = b == 0 && stage > 0 ? 2 : 1, out_c = (demo ? 32 : 64) << stage;
            x = add_block(number++, n, c, side, out_c, stride, x);
            side = layers[x].y.h;
            c = out_c;
        }
}

static void best(double *least, double value) {
    if (value < *least)
        *least = value;
}

static npi_act as_shape(npi_act memory, npi_act like) {
    like.data = memory.data;
    return like;
}

static void step(npi_act image, npi_act gradients[3], npi_act kept) {
    for (int i = 0; i < layer_count; i++) {
        double start = seconds();
        check(dev->units->pack(layers[i].unit, &layers[i].params));
        best(&layers[i].pack, seconds() - start);
    }
    for (int i = 0; i < layer_count; i++) {
        layer *l = &layers[i], *cut = l->shortcut < 0 ? NULL : &layers[l->shortcut];
        l->x = l->input < 0 ? image : layers[l->input].y;
        double start = seconds();
        check(dev->units->forward(
            l->unit, l->x, &l->params, l->residual < 0 ? NULL : &layers[l->residual].y,
            cut ? cut->unit : NULL, cut ? &cut->params : NULL, l->is_shortcut ? NULL : &l->y));
        best(&l->forward, seconds() - start);
    }
    /* gradients[0] is dy of the layer at hand; a block's second unit leaves dresidual in [2]. */
    npi_act dy = as_shape(gradients[0], layers[layer_count - 1].y);
    npi_act other = gradients[1], masked = gradients[2];
    dev->memory->copy(dev, dy.data, kept.data, dev->acts->bytes(dev, dy.n, dy.c, dy.h, dy.w));
    for (int i = layer_count - 1; i >= 0; i--) {
        layer *l = &layers[i];
        bool opens = l->residual >= 0 || l->shortcut >= 0, closes = i > 0 && !opens;
        npi_act dx = as_shape(other, l->x), rest = as_shape(masked, l->y);
        double start = seconds();
        if (l->is_shortcut) { /* after its block's units: adds to what conv1 left as dx */
            npi_act sum = as_shape(dy, l->x);
            check(dev->units->backward(l->unit, rest, l->x, &l->params, &l->grads, &sum, true, NULL,
                                       NULL));
            best(&l->backward, seconds() - start);
            dy = sum;
            continue;
        }
        bool identity = closes && i + 1 < layer_count && layers[i + 1].residual == l->input;
        if (identity) /* the residual's gradient is where dx goes, and is added to */
            dx = as_shape(masked, l->x);
        check(dev->units->backward(l->unit, dy, l->x, &l->params, &l->grads, i > 0 ? &dx : NULL,
                                   identity, opens ? &rest : NULL, NULL));
        best(&l->backward, seconds() - start);
        npi_act used = dy;
        dy = dx;
        if (identity)
            masked = used;
        else
            other = used;
    }
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void report_layers(void) {
    printf("%-17s %-22s %7s %16s %16s\n", "unit", "shape", "pack ms", "forward ms (GF/s)",
           "backward ms (GF/s)");
    for (int i = 0; i < layer_count; i++) {
        layer *l = &layers[i];
        char shape[32];
        snprintf(shape, sizeof shape, "%d-%d@%d k%d s%d", l->desc.c, l->desc.out_c, l->desc.h,
                 l->desc.kernel, l->desc.stride);
        double back = l->gflop * (l->desc.needs_dx ? 2 : 1);
        printf("%-17s %-22s %7.2f %9.2f (%5.0f) %9.2f (%5.0f)  %s\n", l->name, shape, 1e3 * l->pack,
               1e3 * l->forward, l->gflop / l->forward, 1e3 * l->backward, back / l->backward,
               dev->units->variant(l->unit));
    }
}

int main(int argc, char **argv) {
    const char *net = "resnet18", *precision = "auto";
    int batch = 64, threads = 0, runs = 5;
    bool by_layer = false;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--layers") == 0) {
            by_layer = true;
            continue;
        }
        if (strcmp(argv[i], "--cpu-time") == 0) {
            clock_used = CLOCK_PROCESS_CPUTIME_ID;
            continue;
        }
        if (strcmp(argv[i], "--net") == 0)
            net = value;
        else if (strcmp(argv[i], "--precision") == 0)
            precision = value;
        else if (strcmp(argv[i], "--isa") == 0)
            setenv("NPOS_ISA", value, 1);
        else if (strcmp(argv[i], "--batch") == 0)
            batch = atoi(value);
        else if (strcmp(argv[i], "--threads") == 0)
            threads = atoi(value);
        else if (strcmp(argv[i], "--runs") == 0)
            runs = atoi(value);
        else {
            fprintf(stderr, "convstep: unknown option %s\n", argv[i]);
            return 2;
        }
        i++;
    }
    if (batch < 1 || runs < 1 || runs > MOST_RUNS || threads < 0) {
        fprintf(stderr, "convstep: --batch, --threads or --runs out of range\n");
        return 2;
    }
    npi_precision wanted = strcmp(precision, "fp32") == 0   ? NPI_PRECISION_FP32
                           : strcmp(precision, "bf16") == 0 ? NPI_PRECISION_BF16
                                                            : NPI_PRECISION_AUTO;
    check(npi_cpu_open(wanted, threads ? threads : npi_cpu_count(), &dev));
    build(net, batch);
    layer *stem = &layers[0], *last = &layers[layer_count - 1];
    npi_act image = new_act(batch, stem->desc.c, stem->desc.h, stem->desc.w), gradients[3], kept;
    size_t pixels = (size_t)batch * (size_t)stem->desc.c * (size_t)(stem->desc.h * stem->desc.w);
    check(dev->acts->import_nchw(dev, floats(pixels, 1, 0), image));
    for (int i = 0; i < 3; i++)
        gradients[i] = new_act(batch, stem->y.c, stem->y.h, stem->y.w);
    kept = new_act(batch, last->y.c, last->y.h, last->y.w);
    size_t outputs = (size_t)batch * (size_t)last->y.c * (size_t)(last->y.h * last->y.w);
    check(dev->acts->import_nchw(dev, floats(outputs, 1, 0), kept));
    double times[MOST_RUNS], parts[NPI_CPU_PARTS];
    step(image, gradients, kept);
    npi_cpu_profile_start(clock_used != CLOCK_MONOTONIC);
    for (int r = 0; r < runs; r++) {
        double start = seconds();
        step(image, gradients, kept);
        times[r] = seconds() - start;
    }
    npi_cpu_profile_stop(parts);
    if (by_layer)
        report_layers();
    qsort(times, (size_t)runs, sizeof *times, by_value);
    printf("%s batch %d, %s: median %.1f ms, minimum %.1f ms, %.0f images/s\n", net, batch,
           dev->description, 1e3 * times[runs / 2], 1e3 * times[0], batch / times[0]);
    printf("mean ms:");
    for (int i = 0; i < NPI_CPU_PARTS; i++)
        printf(" %s %.1f", npi_cpu_part_names[i], 1e3 * parts[i] / runs);
    printf("\n");
    return 0;
}
