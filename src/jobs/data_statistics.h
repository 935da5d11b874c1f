/* jobs/data_statistics.h - whether a recipe normalises with the statistics of the images that it is given.
 *
 * The distance is the largest difference of a channel's mean or standard deviation:
 *     up to 0.01   they fit
 *     else, where the recipe's are those of a set that is known and the images' those of another: wrong
 *     beyond 0.03  wrong
 *     else         doubtful: a part of a set, or a network that was trained on others before */
#ifndef NPI_JOBS_DATA_STATISTICS_H
#define NPI_JOBS_DATA_STATISTICS_H

#include "base/fail.h"

typedef enum npi_fit { NPI_FIT_GOOD, NPI_FIT_DOUBTFUL, NPI_FIT_WRONG } npi_fit;

typedef struct npi_statistics {
    int channels;
    double mean[3], std[3]; /* of pixels in [0, 1] */
} npi_statistics;

/* The name of the set that has these statistics (each within `tolerance`), or NULL. */
const char *npi_statistics_known(const npi_statistics *s, double tolerance);

double npi_statistics_distance(const npi_statistics *a, const npi_statistics *b);

npi_fit npi_statistics_judge(const npi_statistics *recipe, const npi_statistics *images);

#endif
