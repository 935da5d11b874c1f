#include "jobs/data_statistics.h"

#include <math.h>
#include <stddef.h>

#define FITS 0.01
#define WRONG 0.03
#define SAME 0.0011 /* the recipe's numbers are rounded */

/* Those of training images, as papers and programs use them. */
static const struct {
    const char *name;
    npi_statistics is;
} known[] = {
    {"CIFAR-10", {3, {0.4914, 0.4822, 0.4465}, {0.2471, 0.2435, 0.2616}}},
    {"CIFAR-10 (mean of each image's deviations)",
     {3, {0.4914, 0.4822, 0.4465}, {0.2023, 0.1994, 0.2010}}},
    {"CIFAR-100", {3, {0.5071, 0.4865, 0.4409}, {0.2673, 0.2564, 0.2762}}},
    {"ImageNet", {3, {0.485, 0.456, 0.406}, {0.229, 0.224, 0.225}}},
    {"CLIP's training images",
     {3, {0.48145466, 0.4578275, 0.40821073}, {0.26862954, 0.26130258, 0.27577711}}},
    {"SVHN", {3, {0.4377, 0.4438, 0.4728}, {0.1980, 0.2010, 0.1970}}},
    {"MNIST", {1, {0.1307}, {0.3081}}},
    {"Fashion-MNIST", {1, {0.2860}, {0.3530}}},
    {"no set: 0.5 throughout", {3, {0.5, 0.5, 0.5}, {0.5, 0.5, 0.5}}},
    {"no set: 0.5 throughout", {1, {0.5}, {0.5}}},
};
enum { KNOWN = sizeof known / sizeof *known };

double npi_statistics_distance(const npi_statistics *a, const npi_statistics *b) {
    double most = a->channels == b->channels ? 0 : INFINITY;
    for (int c = 0; c < a->channels && c < b->channels; c++) {
        double mean = fabs(a->mean[c] - b->mean[c]), std = fabs(a->std[c] - b->std[c]);
        if (!(mean + std < INFINITY)) /* NaN is as far as can be */
            return INFINITY;
        most = fmax(most, fmax(mean, std));
    }
    return most;
}

static int find(const npi_statistics *s, double tolerance) {
    int best = -1;
    for (int i = 0; i < KNOWN; i++) {
        double distance = npi_statistics_distance(s, &known[i].is);
        if (distance <= tolerance &&
            (best < 0 || distance < npi_statistics_distance(s, &known[best].is)))
            best = i;
    }
    return best;
}

const char *npi_statistics_known(const npi_statistics *s, double tolerance) {
    int i = find(s, tolerance);
    return i < 0 ? NULL : known[i].name;
}

npi_fit npi_statistics_judge(const npi_statistics *recipe, const npi_statistics *images) {
    double distance = npi_statistics_distance(recipe, images);
    int said = find(recipe, SAME), seen = find(images, FITS);
    if (distance <= FITS)
        return NPI_FIT_GOOD;
    return !(distance <= WRONG) || (said >= 0 && seen >= 0 && said != seen) ? NPI_FIT_WRONG
                                                                            : NPI_FIT_DOUBTFUL;
}
