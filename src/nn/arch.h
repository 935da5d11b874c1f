/* nn/arch.h - what an encoder is made of: layers (convolution + batch norm) and how blocks connect them.
 *
 * ResNet (He et al., CVPR 2016) with basic blocks [2,2,2,2] (18) and [3,4,6,3] (34), bottlenecks [3,4,6,3] (50) and
 * [3,4,23,3] (101), and resnet-small: one basic block at each of width, 2 width, 4 width, for 28x28 images.
 * Names are torchvision's: conv1, bn1, layer1.0.conv1, layer2.0.downsample.0 (convolution), .1 (batch norm). */
#ifndef NPI_NN_ARCH_H
#define NPI_NN_ARCH_H

#include <stdbool.h>

#include "base/fail.h"

enum { NPI_ARCH_LAYERS = 112, NPI_ARCH_BLOCKS = 36 };

typedef struct npi_layer {
    char conv[48], norm[48]; /* parameter names without ".weight" */
    int c, side;             /* input */
    int out_c, kernel, stride, pad;
    bool relu, residual; /* residual: a block's last, which adds what went around the block */
} npi_layer;

typedef struct npi_stage_block {
    int layer[3], count; /* in order; the last one adds the residual and applies ReLU */
    int shortcut;        /* layer on the residual's way, or -1: the block's input itself */
} npi_stage_block;

typedef struct npi_arch {
    int channels, side; /* images */
    bool max_pool;      /* after the stem: 3x3 stride 2 */
    npi_layer layers[NPI_ARCH_LAYERS];
    int layer_count; /* layer 0 is the stem */
    npi_stage_block blocks[NPI_ARCH_BLOCKS];
    int block_count;
    int width; /* channels of the last block: size of the averaged feature */
} npi_arch;

typedef struct npi_arch_desc {
    const char *encoder; /* "resnet18", "resnet34", "resnet50", "resnet101", "resnet-small" */
    const char *stem;    /* "3x3", "3x3s2", "7x7" */
    int width, channels, side;
} npi_arch_desc;

/* Fills *out.  Errors: unknown names, images that would shrink below one pixel. */
NPOS_MUST_CHECK npos_status npi_arch_build(const npi_arch_desc *desc, npi_arch *out);

#endif
