#include "nn/arch.h"

#include <stdio.h>
#include <string.h>

enum { STAGES = 4 };

static const struct {
    const char *name;
    bool bottleneck;
    int blocks[STAGES]; /* 0: the encoder ends before */
} encoders[] = {
    {"resnet18", false, {2, 2, 2, 2}},     {"resnet34", false, {3, 4, 6, 3}},
    {"resnet50", true, {3, 4, 6, 3}},      {"resnet101", true, {3, 4, 23, 3}},
    {"resnet-small", false, {1, 1, 1, 0}},
};

static int add_layer(npi_arch *arch, const char *conv, const char *norm, int c, int side, int out_c,
                     int kernel, int stride, bool relu) {
    npi_layer *layer = &arch->layers[arch->layer_count];
    *layer = (npi_layer){.c = c,
                         .side = side,
                         .out_c = out_c,
                         .kernel = kernel,
                         .stride = stride,
                         .pad = kernel / 2,
                         .relu = relu};
    snprintf(layer->conv, sizeof layer->conv, "%s", conv);
    snprintf(layer->norm, sizeof layer->norm, "%s", norm);
    return arch->layer_count++;
}

static int shrunk(int side, int stride) {
    return (side - 1) / stride + 1; /* pad = kernel / 2 with odd kernels */
}

/* One block of stage `stage`; *c and *side are its input and become its output. */
static void add_block(npi_arch *arch, int stage, int number, bool bottleneck, int planes,
                      int stride, int *c, int *side) {
    npi_stage_block *block = &arch->blocks[arch->block_count++];
    int out_c = bottleneck ? 4 * planes : planes, out_side = shrunk(*side, stride);
    char conv[48], norm[48];
    block->shortcut = -1;
    if (stride != 1 || *c != out_c) {
        snprintf(conv, sizeof conv, "layer%d.%d.downsample.0", stage + 1, number);
        snprintf(norm, sizeof norm, "layer%d.%d.downsample.1", stage + 1, number);
        block->shortcut = add_layer(arch, conv, norm, *c, *side, out_c, 1, stride, false);
    }
    const int kernels[2][3] = {{3, 3, 0}, {1, 3, 1}};
    block->count = bottleneck ? 3 : 2;
    for (int i = 0; i < block->count; i++) {
        /* torchvision strides a bottleneck at its 3x3 convolution */
        int at = i == (bottleneck ? 1 : 0) ? stride : 1;
        int to = i == block->count - 1 ? out_c : planes;
        snprintf(conv, sizeof conv, "layer%d.%d.conv%d", stage + 1, number, i + 1);
        snprintf(norm, sizeof norm, "layer%d.%d.bn%d", stage + 1, number, i + 1);
        block->layer[i] =
            add_layer(arch, conv, norm, *c, *side, to, kernels[bottleneck][i], at, true);
        *c = to;
        *side = at == 1 ? *side : out_side;
    }
    arch->layers[block->layer[block->count - 1]].residual = true;
}

npos_status npi_arch_build(const npi_arch_desc *desc, npi_arch *out) {
    *out = (npi_arch){.channels = desc->channels, .side = desc->side};
    int found = -1, side = desc->side, c = desc->width;
    for (int i = 0; i < (int)(sizeof encoders / sizeof *encoders); i++)
        if (strcmp(desc->encoder, encoders[i].name) == 0)
            found = i;
    if (found < 0)
        return npi_fail(NPOS_INVALID_ARGUMENT, "encoder '%s' is %s", desc->encoder,
                        strcmp(desc->encoder, "none") == 0 ? "no network"
                        : strcmp(desc->encoder, "clip") == 0
                            ? "no ResNet: npos train cannot train it"
                            : "not known");
    bool large = strcmp(desc->stem, "7x7") == 0, half = strcmp(desc->stem, "3x3s2") == 0;
    if (!large && !half && strcmp(desc->stem, "3x3") != 0)
        return npi_fail(NPOS_INVALID_ARGUMENT, "stem '%s' is not known", desc->stem);
    add_layer(out, "conv1", "bn1", desc->channels, side, c, large ? 7 : 3, large || half ? 2 : 1,
              true);
    side = shrunk(side, large || half ? 2 : 1);
    out->max_pool = large;
    if (large)
        side = shrunk(side, 2);
    for (int stage = 0; stage < STAGES; stage++)
        for (int i = 0; i < encoders[found].blocks[stage]; i++)
            add_block(out, stage, i, encoders[found].bottleneck, desc->width << stage,
                      stage > 0 && i == 0 ? 2 : 1, &c, &side);
    out->width = c;
    return NPOS_OK;
}
