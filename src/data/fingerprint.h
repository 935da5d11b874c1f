/* data/fingerprint.h - what tells an image again: the same pixels, or nearly the same picture.
 *
 * exact:       XXH3 (128 bits) of height, width, channels and the decoded pixels
 * perceptual:  the image made grey 32 x 32 (antialiased), its two-dimensional DCT, the 8 x 8 lowest frequencies: bit i says
 *              whether coefficient i is above their median.  Copies that were compressed anew, scaled or changed a little in
 *              brightness differ in few bits.
 * small:       the same grey image at 16 x 16: two images whose bits are near are compared by it, because 64 bits alone
 *              find too much alike among simple pictures. */
#ifndef NPI_DATA_FINGERPRINT_H
#define NPI_DATA_FINGERPRINT_H

#include "data/dataset.h"

enum { NPI_SMALL_SIDE = 16, NPI_SMALL = NPI_SMALL_SIDE * NPI_SMALL_SIDE };

typedef struct npi_fingerprint {
    uint64_t exact[2], perceptual;
    int32_t set; /* number of the set that the image is of; -1: it could not be read */
    bool flat;   /* of one brightness at 16 x 16: nothing to compare by */
    uint8_t small[NPI_SMALL];
} npi_fingerprint;

/* Fills all of *out but `set`. */
NPOS_MUST_CHECK npos_status npi_fingerprint_take(const npi_image *image, npi_fingerprint *out);

/* Bits in which two differ. */
int npi_fingerprint_distance(const npi_fingerprint *a, const npi_fingerprint *b);

/* Pearson's correlation of the small images, in [-1, 1]; 0 where one is flat. */
double npi_fingerprint_likeness(const npi_fingerprint *a, const npi_fingerprint *b);

#endif
