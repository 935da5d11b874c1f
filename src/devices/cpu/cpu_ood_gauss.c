/* VOS: x = mean + L eps with L L^T = S + 1e-4 I, S the covariance shared by all classes (the mean
 * over all rows of all rings of the centred rows' outer products).  The Mahalanobis distance of
 * such an x is |eps|^2, so the least likely draws are those of the longest eps, and only those are
 * multiplied by L. */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "base/memory.h"
#include "base/philox.h"
#include "devices/cpu/cpu_ood.h"

typedef struct gauss {
    npi_synth head;
    npi_gauss_desc d;
    const npi_math *math;
    float *mean;       /* [classes][dim] */
    float *centred;    /* [classes][ring][dim] */
    float *factor;     /* [dim][dim]: the covariance, then its lower Cholesky factor */
    npi_ranked *drawn; /* [classes][draws]: |eps|^2 */
    float *eps;        /* [threads][dim] */
} gauss;

static size_t lay_out(gauss *s, int threads, char *at) {
    size_t classes = (size_t)s->d.classes, dim = (size_t)s->d.dim, ring = (size_t)s->d.ring;
    struct {
        void *slot;
        size_t bytes;
    } piece[] = {{&s->mean, classes * dim * 4},
                 {&s->centred, classes * ring * dim * 4},
                 {&s->factor, dim * dim * 4},
                 {&s->drawn, classes * (size_t)s->d.draws * sizeof(npi_ranked)},
                 {&s->eps, (size_t)threads * dim * 4}};
    size_t used = npi_cpu_room(sizeof *s, 1);
    for (size_t i = 0; i < sizeof piece / sizeof *piece; i++) {
        if (at) {
            void *place = at + used;
            memcpy(piece[i].slot, &place, sizeof place);
        }
        used += npi_cpu_room(piece[i].bytes, 1);
    }
    return used;
}

npos_status npi_cpu_gauss_create(npi_device *dev, const npi_gauss_desc *desc, npi_synth **out) {
    *out = NULL;
    if (desc->classes < 1 || desc->ring < 1 || desc->dim < 1 || desc->keep < 1 ||
        desc->keep > desc->draws)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "synthesis: %d classes, ring %d, draws %d, keep %d; expected 1 <= keep <= "
                        "draws",
                        desc->classes, desc->ring, desc->draws, desc->keep);
    const npi_cpu *cpu = npi_cpu_of(dev);
    gauss plan = {.head = {dev, true}, .d = *desc, .math = npi_math_of(cpu->isa)};
    size_t bytes = lay_out(&plan, cpu->threads, NULL);
    char *block;
    NPI_TRY(npi_alloc(&block, bytes, 1, "synthesis"));
    lay_out(&plan, cpu->threads, block);
    memcpy(block, &plan, sizeof plan);
    *out = (npi_synth *)(void *)block;
    return NPOS_OK;
}

static void centre(gauss *s, int threads, const npi_ring *ring) {
    int dim = s->d.dim, size = s->d.ring;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int c = 0; c < s->d.classes; c++) {
        const float *rows = ring->rows + (ptrdiff_t)c * size * dim;
        float *mean = s->mean + (ptrdiff_t)c * dim, *to = s->centred + (ptrdiff_t)c * size * dim;
        enum { STRIP = 64 };
        for (int start = 0; start < dim; start += STRIP) {
            int end = start + STRIP < dim ? start + STRIP : dim;
            double sum[STRIP] = {0};
            for (int i = 0; i < size; i++)
                for (int j = start; j < end; j++)
                    sum[j - start] += (double)rows[(ptrdiff_t)i * dim + j];
            for (int j = start; j < end; j++)
                mean[j] = (float)(sum[j - start] / size);
        }
        for (int i = 0; i < size; i++)
            for (int j = 0; j < dim; j++)
                to[(ptrdiff_t)i * dim + j] = rows[(ptrdiff_t)i * dim + j] - mean[j];
    }
}

/* In place: the lower factor, column by column; sums in float64. */
static npos_status cholesky(gauss *s, int threads) {
    int dim = s->d.dim;
    float *a = s->factor;
    for (int j = 0; j < dim; j++) {
        float *row = a + (ptrdiff_t)j * dim;
        double left = (double)row[j] - s->math->dot((size_t)j, row, row);
        if (!(left > 0.0))
            return npi_fail(NPOS_INVALID_ARGUMENT,
                            "synthesis: the shared covariance is not positive definite (pivot %d "
                            "is %g)",
                            j, left);
        float pivot = (float)sqrt(left);
        row[j] = pivot;
#pragma omp parallel for num_threads((dim - j) * j > 20000 ? threads : 1) schedule(static)
        for (int i = j + 1; i < dim; i++) {
            float *below = a + (ptrdiff_t)i * dim;
            below[j] =
                (float)(((double)below[j] - s->math->dot((size_t)j, below, row)) / (double)pivot);
        }
    }
    return NPOS_OK;
}

static npos_status covariance(gauss *s) {
    int dim = s->d.dim, rows = s->d.classes * s->d.ring;
    npi_gemm product = {.m = dim,
                        .n = dim,
                        .k = rows,
                        .a = s->centred,
                        .a_row = 1,
                        .a_col = dim,
                        .b = s->centred,
                        .b_row = dim,
                        .b_col = 1,
                        .c = s->factor,
                        .ldc = dim};
    NPI_TRY(npi_cpu_gemm(s->head.dev, &product));
    for (int i = 0; i < dim; i++)
        for (int j = 0; j < dim; j++) {
            float *at = s->factor + (ptrdiff_t)i * dim + j;
            *at = *at / (float)rows + (i == j ? 1e-4f : 0.0f);
        }
    return NPOS_OK;
}

static void draw(const gauss *s, const npi_step *step, int number, float *eps) {
    s->math->normals(s->d.seed, NPI_RANDOM_GAUSS, step->number, (uint32_t)number, s->d.dim, eps);
}

npos_status npi_cpu_gauss_synthesise(npi_synth *plan, const npi_ring *ring, const npi_step *step,
                                     float *outliers) {
    gauss *s = (gauss *)(void *)plan;
    if (ring->classes != s->d.classes || ring->size != s->d.ring || ring->dim != s->d.dim)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "synthesis: ring of %d x %d x %d, planned for %d x %d x %d", ring->classes,
                        ring->size, ring->dim, s->d.classes, s->d.ring, s->d.dim);
    int threads = npi_cpu_of(plan->dev)->threads, draws = s->d.draws, keep = s->d.keep;
    size_t dim = (size_t)s->d.dim;
    centre(s, threads, ring);
    NPI_TRY(covariance(s));
    NPI_TRY(cholesky(s, threads));
#pragma omp parallel num_threads(threads)
    {
        float *eps = s->eps + (size_t)omp_get_thread_num() * dim;
#pragma omp for schedule(static)
        for (int n = 0; n < s->d.classes * draws; n++) {
            draw(s, step, n, eps);
            s->drawn[n] = (npi_ranked){(float)s->math->dot(dim, eps, eps), n % draws};
        }
#pragma omp for schedule(static)
        for (int c = 0; c < s->d.classes; c++)
            npi_rank_falling(s->drawn + (ptrdiff_t)c * draws, draws);
#pragma omp for schedule(static)
        for (int n = 0; n < s->d.classes * keep; n++) {
            int c = n / keep;
            draw(s, step, c * draws + s->drawn[(ptrdiff_t)c * draws + n % keep].index, eps);
            for (size_t j = 0; j < dim; j++)
                outliers[(size_t)n * dim + j] =
                    (float)((double)s->mean[(size_t)c * dim + j] +
                            s->math->dot(j + 1, s->factor + j * dim, eps));
        }
    }
    return NPOS_OK;
}
