/* ASH-S (Djurisic, Bozanic, Ashok, Liu, "Extremely simple activation shaping for out-of-distribution
 * detection", ICLR 2023, algorithm 3) at the 90th percentile: of an embedding's D numbers the
 * D - round(0.9 D) largest (at least one) are kept and multiplied by exp(s1/s2), s1 the sum of all and s2 that of the
 * kept ones; the others become 0; then the energy of the logits. */
#include <math.h>

#include "ood/detector.h"
#include "ood/head_logits.h"

/* What becomes of one embedding; equal numbers: the lower index is kept. */
static void shape(const void *state, int dim, const float *h, float *to) {
    (void)state;
    int keep = dim - (int)rint(0.9 * dim);
    keep = keep < 1 ? 1 : keep;
    double all = 0, kept = 0;
    for (int d = 0; d < dim; d++) {
        all += (double)h[d];
        to[d] = 0;
    }
    if (isnan(all)) { /* told by the metrics, which name the image */
        to[0] = NAN;
        return;
    }
    for (int k = 0; k < keep; k++) { /* `to` is 1 where a number is kept already */
        int best = -1;
        for (int d = 0; d < dim; d++)
            if (to[d] == 0 && (best < 0 || h[d] > h[best]))
                best = d;
        to[best] = 1;
        kept += (double)h[best];
    }
    double factor = kept == 0 ? 1 : exp(all / kept);
    for (int d = 0; d < dim; d++)
        to[d] = to[d] == 0 ? 0 : (float)(factor * (double)h[d]);
}

static npos_status score(const npi_detector_model *model, const void *state,
                         const npi_outputs *outputs, double *out) {
    return npi_head_energy(model, outputs, shape, state, out);
}

const npi_detector_kind npi_detector_ash = {
    .name = "ash", .needs = NPI_NEEDS_WEIGHTS, .score = score};
