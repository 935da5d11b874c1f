/* ood/spread.h - unit vectors that point as far from each other as they can: where prototypes may start. */
#ifndef NPI_OOD_SPREAD_H
#define NPI_OOD_SPREAD_H

#include <stdint.h>

#include "base/fail.h"

/* out [count][dim], unit rows.  count <= dim: a regular simplex, cosines -1/(count-1), turned at random; more: random
 * directions that repelled each other (L_disp's forces, thirty ever smaller rounds).  A function of count, dim and seed. */
NPOS_MUST_CHECK npos_status npi_spread_directions(int count, int dim, uint64_t seed, float *out);

#endif
