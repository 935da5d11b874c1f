/* devices/cpu/cpu_tokens.h - what the files of transformers share on this device.
 *
 * Tokens are plain float32, row r of sequence i at (i t + r) width, whatever precision activations
 * have; products are float32. */
#ifndef NPI_DEVICES_CPU_TOKENS_H
#define NPI_DEVICES_CPU_TOKENS_H

#include "devices/cpu/cpu_math.h"

/* Entries of the rows table. */
npos_status npi_cpu_layer_norm_forward(npi_device *dev, int n, int d, const float *x,
                                       const float *gamma, const float *beta, float *y,
                                       float *stats);
npos_status npi_cpu_layer_norm_backward(npi_device *dev, int n, int d, const float *x,
                                        const float *stats, const float *gamma, const float *dy,
                                        float *dgamma, float *dbeta, float *dx, bool accumulate);

/* Fails with NPOS_SHAPE_MISMATCH, naming `what`, unless there are 1..most sequences of t x width. */
NPOS_MUST_CHECK npos_status npi_cpu_check_tokens(const char *what, npi_tokens tokens, int most,
                                                 int t, int width);

/* Attention of n sequences of t rows: qkv [n][t][3 width], a [n][rows][width] with rows = t, or 1:
 * row 0's alone.  Each (sequence, head) is one task. */
typedef struct npi_attention {
    int n, t, rows, width, heads;
    bool causal;
} npi_attention;

/* Bytes of room that the calls below need. */
size_t npi_cpu_attention_room(const npi_device *dev, const npi_attention *attention);
/* a = softmax(q k^T / sqrt(width / heads)) v */
void npi_cpu_attend(npi_device *dev, const npi_attention *attention, const float *qkv, float *a,
                    float *room);
/* dqkv [n][t][3 width] of da; with rows = 1, dq is written in row 0 alone. */
void npi_cpu_attend_back(npi_device *dev, const npi_attention *attention, const float *qkv,
                         const float *da, float *dqkv, float *room);

#endif
