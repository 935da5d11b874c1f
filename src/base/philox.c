#include "base/philox.h"

void npi_permutation(uint64_t seed, npi_purpose purpose, uint64_t step, int32_t *order, int32_t n) {
    for (int32_t i = 0; i < n; i++)
        order[i] = i;
    for (int32_t i = n - 1; i > 0; i--) {
        npi_u32x4 r = npi_philox(seed, (uint32_t)purpose, step, 0, (uint32_t)i);
        int32_t j = (int32_t)npi_below(r.v[0], (uint32_t)i + 1), held = order[i];
        order[i] = order[j];
        order[j] = held;
    }
}
