#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "devices/cpu/cpu.h"
#include "devices/cpu/cpu_kernels.h"
#include "devices/devices.h"

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#endif
#endif

/* ---- what the processor can do ---- */

static const char *const isa_names[] = {"generic", "avx2", "avx512", "avx512bf16", "amx"};

const char *npi_isa_name(npi_isa isa) {
    return isa_names[isa];
}

#if defined(__x86_64__)
enum { /* state components that the system must save (XCR0): SSE and AVX, AVX512, AMX */
       XCR0_AVX = 0x6,
       XCR0_AVX512 = 0xe6,
       XCR0_AMX = 0x60000
};

static uint64_t xcr0(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return ((uint64_t)high << 32) | low;
}

/* Linux keeps the tile registers from a process until it asks. */
static bool amx_permitted(void) {
#if defined(__linux__)
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
    return false;
#endif
}

static bool has(uint32_t word, uint32_t mask) {
    return (word & mask) == mask;
}

static npi_isa processor_isa(void) {
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d))
        return NPI_ISA_GENERIC;
    const uint32_t fma_f16c_osxsave_avx = 1u << 12 | 1u << 29 | 1u << 27 | 1u << 28;
    if (!has(c, fma_f16c_osxsave_avx) || (xcr0() & XCR0_AVX) != XCR0_AVX)
        return NPI_ISA_GENERIC;
    uint32_t b7, c7, d7, a71, b71, c71, d71;
    if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d7))
        return NPI_ISA_GENERIC;
    const uint32_t avx2_bmi = 1u << 5 | 1u << 3 | 1u << 8;
    if (!has(b7, avx2_bmi))
        return NPI_ISA_GENERIC;
    const uint32_t avx512_f_dq_bw_vl = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;
    if (!has(b7, avx512_f_dq_bw_vl) || (xcr0() & XCR0_AVX512) != XCR0_AVX512)
        return NPI_ISA_AVX2;
    if (!__get_cpuid_count(7, 1, &a71, &b71, &c71, &d71) || !has(a71, 1u << 5))
        return NPI_ISA_AVX512;
    const uint32_t amx_bf16_tile_int8 = 1u << 22 | 1u << 24 | 1u << 25;
    if (!has(d7, amx_bf16_tile_int8) || (xcr0() & XCR0_AMX) != XCR0_AMX || !amx_permitted())
        return NPI_ISA_AVX512BF16;
    return NPI_ISA_AMX;
}
#else
static npi_isa processor_isa(void) {
    return NPI_ISA_GENERIC;
}
#endif

/* NPOS_ISA's value; false with *cap untouched when it is unset, empty or unknown. */
static bool isa_cap(npi_isa *cap) {
    const char *text = getenv("NPOS_ISA");
    for (size_t i = 0; text && i < sizeof isa_names / sizeof *isa_names; i++)
        if (strcmp(text, isa_names[i]) == 0) {
            *cap = (npi_isa)i;
            return true;
        }
    return false;
}

npi_isa npi_cpu_detect(void) {
    npi_isa isa = processor_isa(), cap;
    return isa_cap(&cap) && cap < isa ? cap : isa;
}

/* The processor's own name, or "" */
static void processor_name(char text[64]) {
    text[0] = '\0';
#if defined(__x86_64__)
    uint32_t words[12];
    for (uint32_t i = 0; i < 3; i++)
        if (!__get_cpuid(0x80000002u + i, &words[4 * i], &words[4 * i + 1], &words[4 * i + 2],
                         &words[4 * i + 3]))
            return;
    memcpy(text, words, sizeof words);
    text[sizeof words] = '\0';
    size_t blanks = strspn(text, " ");
    memmove(text, text + blanks, strlen(text + blanks) + 1);
    for (size_t end = strlen(text); end > 0 && text[end - 1] == ' '; end--)
        text[end - 1] = '\0';
#endif
}

/* ---- open and close ---- */

static const npi_kernels *kernels_of(npi_isa isa, npi_dtype compute) {
#if defined(__x86_64__)
    if (compute == NPI_BF16)
        return isa == NPI_ISA_AMX ? &npi_kernels_amx : &npi_kernels_avx512bf16;
    if (isa >= NPI_ISA_AVX512)
        return &npi_kernels_avx512;
    if (isa == NPI_ISA_AVX2)
        return &npi_kernels_avx2;
#else
    (void)isa;
    (void)compute;
#endif
    return &npi_kernels_generic;
}

static void cpu_close(npi_device *dev) {
    npi_cpu *cpu = npi_cpu_of(dev);
    npi_host_memory.free(dev, cpu->workspace);
    npi_free(cpu->scratch);
    npi_free(cpu);
    npi_free(dev);
}

static npos_status check_isa_name(void) {
    const char *text = getenv("NPOS_ISA");
    npi_isa cap;
    if (!text || !text[0] || isa_cap(&cap))
        return NPOS_OK;
    return npi_hint(npi_fail(NPOS_INVALID_ARGUMENT, "NPOS_ISA: '%s' is no instruction set", text),
                    "use generic, avx2, avx512, avx512bf16 or amx");
}

npos_status npi_cpu_open(npi_precision precision, int threads, npi_device **out) {
    *out = NULL;
    NPI_TRY(check_isa_name());
    npi_isa isa = npi_cpu_detect();
    if (precision == NPI_PRECISION_BF16 && isa < NPI_ISA_AVX512BF16)
        return npi_hint(npi_fail(NPOS_UNSUPPORTED,
                                 "device 'cpu': bf16 needs AVX512-BF16 or AMX, this is %s",
                                 npi_isa_name(isa)),
                        "use --precision fp32");
    bool half = precision == NPI_PRECISION_BF16 ||
                (precision == NPI_PRECISION_AUTO && isa >= NPI_ISA_AVX512BF16);
    npi_device *dev;
    npi_cpu *cpu;
    NPI_TRY(npi_alloc(&dev, 1, sizeof *dev, "device 'cpu'"));
    npos_status status = npi_alloc(&cpu, 1, sizeof *cpu, "device 'cpu'");
    if (status != NPOS_OK) {
        npi_free(dev);
        return status;
    }
    *cpu = (npi_cpu){.isa = isa, .threads = threads};
    *dev = (npi_device){.name = "cpu",
                        .compute = half ? NPI_BF16 : NPI_F32,
                        .host = true,
                        .memory = &npi_host_memory,
                        .acts = &npi_cpu_acts,
                        .units = &npi_cpu_units,
                        .pools = &npi_cpu_pools,
                        .rows = &npi_cpu_rows,
                        .losses = &npi_cpu_losses,
                        .ood = &npi_cpu_ood,
                        .augment = &npi_cpu_augment,
                        .optim = &npi_cpu_optim,
                        .tokens = &npi_cpu_tokens,
                        .blocks = &npi_cpu_blocks,
                        .close = cpu_close,
                        .own = cpu};
    cpu->kernels = kernels_of(isa, dev->compute);
    char processor[64];
    processor_name(processor);
    snprintf(dev->description, sizeof dev->description, "%s, %s, %s, %d thread%s",
             processor[0] ? processor : "processor", npi_isa_name(isa), half ? "bf16" : "fp32",
             threads, threads == 1 ? "" : "s");
    *out = dev;
    return NPOS_OK;
}
