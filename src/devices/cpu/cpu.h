/* devices/cpu/cpu.h - what the files of this device share.
 *
 * Kernels live in files named by their instruction set (cpu_conv_avx2.c, cpu_conv_avx512.c, ...),
 * which CMake compiles with that set's flags; nothing else in those files may run before the
 * processor was asked.  On a processor without any of them (or not x86-64) the _generic files, in
 * GCC's vector extensions, serve.
 *
 * Activations: [ceil(n/32)][h][w][32][c], float32 or bfloat16: a pixel is a matrix of 32 images x c
 * channels, so a convolution is, for each output pixel, a sum of matrix products over the taps that
 * exist there, without im2col and without padding; stride 2 and backward-by-data are the same
 * routine. */
#ifndef NPI_DEVICES_CPU_H
#define NPI_DEVICES_CPU_H

#include "devices/host_memory.h"
#include "tensor/device.h"

typedef enum npi_isa {
    NPI_ISA_GENERIC,
    NPI_ISA_AVX2,
    NPI_ISA_AVX512,
    NPI_ISA_AVX512BF16,
    NPI_ISA_AMX
} npi_isa;

typedef struct npi_cpu {  /* npi_device.own */
    npi_host_bytes bytes; /* first: npi_host_memory counts here */
    npi_isa isa;          /* best set that the processor, the kernel and NPOS_ISA allow */
    int threads;
    void *scratch; /* npi_cpu_scratch's (cpu_gemm.c); npi_free'd when the device is closed */
    size_t scratch_bytes;
    const struct npi_kernels *kernels; /* of the units, by isa and precision (cpu_kernels.h) */
    char *workspace; /* shared by all units and blocks within a call (npi_cpu_grow_workspace) */
    size_t workspace_bytes;
} npi_cpu;

static inline npi_cpu *npi_cpu_of(npi_device *dev) {
    return (npi_cpu *)dev->own;
}

/* cpu_device.c, cpu_unit.c, cpu_pool.c */
extern const npi_act_ops npi_cpu_acts;
extern const npi_unit_ops npi_cpu_units;
extern const npi_pool_ops npi_cpu_pools;
/* cpu_rows.c, cpu_losses.c, cpu_ood.c, cpu_augment.c, cpu_optim.c */
extern const npi_rows_ops npi_cpu_rows;
extern const npi_loss_ops npi_cpu_losses;
extern const npi_ood_ops npi_cpu_ood;
extern const npi_augment_ops npi_cpu_augment;
extern const npi_optim_ops npi_cpu_optim;
/* cpu_tokens.c, cpu_block.c */
extern const npi_token_ops npi_cpu_tokens;
extern const npi_block_ops npi_cpu_blocks;

/* Makes the workspace at least so large; a plan calls it when it is created, never later. */
NPOS_MUST_CHECK npos_status npi_cpu_grow_workspace(npi_device *dev, size_t bytes);

/* Detects the processor (CPUID feature bits, XCR0, Linux' permission for AMX) and applies NPOS_ISA.
 */
npi_isa npi_cpu_detect(void);
const char *npi_isa_name(npi_isa isa);

#endif
