/* tests/devices/cpu_plain.h - a cpu device of a given instruction set and number of threads, with
 * the tables of rows, losses, neighbours, augmentation and optimiser. */
#ifndef NPI_TESTS_CPU_PLAIN_H
#define NPI_TESTS_CPU_PLAIN_H

#include "base/memory.h"
#include "devices/cpu/cpu.h"

typedef struct plain_cpu {
    npi_device dev;
    npi_cpu own;
} plain_cpu;

static inline bool isa_present(npi_isa isa) {
#if defined(__x86_64__)
    switch (isa) {
    case NPI_ISA_GENERIC:
        return true;
    case NPI_ISA_AVX2:
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case NPI_ISA_AVX512:
        return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vl");
    case NPI_ISA_AVX512BF16:
        return isa_present(NPI_ISA_AVX512) && __builtin_cpu_supports("avx512bf16");
    case NPI_ISA_AMX:
        return false;
    }
#endif
    return isa == NPI_ISA_GENERIC;
}

static inline npi_device *plain_cpu_open(plain_cpu *p, npi_isa isa, int threads) {
    *p = (plain_cpu){.own = {.isa = isa, .threads = threads}};
    p->dev.name = "cpu";
    p->dev.compute = NPI_F32;
    p->dev.host = true;
    p->dev.rows = &npi_cpu_rows;
    p->dev.losses = &npi_cpu_losses;
    p->dev.ood = &npi_cpu_ood;
    p->dev.augment = &npi_cpu_augment;
    p->dev.optim = &npi_cpu_optim;
    p->dev.own = &p->own;
    return &p->dev;
}

static inline void plain_cpu_close(plain_cpu *p) {
    npi_free(p->own.scratch);
    p->own.scratch = NULL;
}

#endif
