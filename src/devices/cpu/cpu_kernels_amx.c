/* devices/cpu/cpu_kernels_amx.c - bfloat16 kernels for AMX.
 *
 * A block of sums is 2 x 2 tiles of 16 x 16 float32; a step of k = 32 loads 2 tiles of A (16 rows
 * of 32 bfloat16) and 2 of B (16 pairs x 16 columns, a panel's order) for 4 products.  Blocks with
 * fewer rows or another k go to vdpbf16ps, which every processor with AMX has. */
#include "devices/cpu/cpu_kernels.h"

#if defined(__AMX_BF16__) || defined(__AMXBF16__) /* gcc; clang before 17 */
#include "devices/cpu/cpu_amx.h"

static void multiply_tiles(const npi_multiply *job);

#define KERNELS npi_kernels_amx
#define KERNELS_NAME "amx"
#define KERNELS_ROWS 8
#define KERNELS_VECS 2
#define KERNELS_BF16 1
#define KERNELS_MULTIPLY multiply_tiles
#define KERNELS_BEGIN npi_amx_enter
#define KERNELS_END npi_amx_leave
#include "devices/cpu/cpu_kernels.inc"

static void multiply_tiles(const npi_multiply *job) {
    enum { WORDS = 16 }; /* of k a step */
    if (job->rows != NPI_IMAGES || job->words % WORDS != 0 || job->a_word != 4 ||
        job->b_word != 64) {
        multiply(job);
        return;
    }
    float *out = job->out, *lower = out + 16 * job->out_row;
    const size_t out_row = job->out_row * sizeof *out;
    /* The tiles read what was stored in `out` by ordinary instructions, and the other way round:
     * the compiler is told so. */
    __asm__ volatile("" : : : "memory");
    if (job->accumulate) {
        _tile_loadd(0, out, out_row);
        _tile_loadd(1, out + 16, out_row);
        _tile_loadd(2, lower, out_row);
        _tile_loadd(3, lower + 16, out_row);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int i = 0; i < job->count; i++) {
        const char *a = job->a[i] + job->a_offset, *a_lower = a + 16 * job->a_row;
        const char *b = job->b[i] + job->b_offset, *b_right = b + job->b_panel;
        for (int w = 0; w < job->words; w += WORDS) {
            _tile_loadd(4, a, job->a_row);
            _tile_loadd(6, b, 64);
            _tile_loadd(7, b_right, 64);
            _tile_loadd(5, a_lower, job->a_row);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
            a += 64;
            a_lower += 64;
            b += 1024;
            b_right += 1024;
        }
    }
    _tile_stored(0, out, out_row);
    _tile_stored(1, out + 16, out_row);
    _tile_stored(2, lower, out_row);
    _tile_stored(3, lower + 16, out_row);
    __asm__ volatile("" : : : "memory");
}
#endif
