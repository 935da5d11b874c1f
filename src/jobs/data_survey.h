/* jobs/data_survey.h - one pass over all images of a set: counts, sizes, statistics, fingerprints, what cannot be read. */
#ifndef NPI_JOBS_DATA_SURVEY_H
#define NPI_JOBS_DATA_SURVEY_H

#include "data/fingerprint.h"

enum { NPI_BROKEN_KEPT = 100 };

/* An image that could not be decoded. */
typedef struct npi_unreadable {
    int64_t image;
    char *name, *error;
} npi_unreadable;

typedef struct npi_survey {
    npi_dataset *set;
    int64_t count;
    int classes;
    int64_t *class_count; /* [classes] */
    int64_t grey;         /* of one channel, or of three equal ones */
    int64_t tiny, flat;   /* shorter side below `tiny_side`; of one brightness */
    int64_t broken;
    npi_unreadable first_broken[NPI_BROKEN_KEPT];
    int broken_kept;
    int side[3], tiny_side; /* least, median and largest of the shorter sides */
    int channels;           /* 1 where all images are of one, else 3; those of `mean` and `std` */
    double mean[3], std[3]; /* over all pixels, in [0, 1] */
} npi_survey;

typedef struct npi_survey_desc {
    const char *spec;
    const npi_transform
        *transform; /* statistics are of what it makes; NULL: of the images as they are stored */
    int tiny_side;
    int number;                /* of the set, for the fingerprints */
    int threads;               /* 0: as many as processors */
    npi_progress_fn *progress; /* may be NULL */
    void *context;
} npi_survey_desc;

/* Opens the set; count, classes and class_count are filled.  Release with npi_survey_clear, also after a failure. */
NPOS_MUST_CHECK npos_status npi_survey_open(const npi_survey_desc *desc, npi_survey *out);

/* Reads all images; prints[count].  An image that cannot be decoded is counted, and its fingerprint's set is -1.  The
 * result does not depend on the number of threads. */
NPOS_MUST_CHECK npos_status npi_survey_run(const npi_survey_desc *desc, npi_survey *survey,
                                           npi_fingerprint *prints);
void npi_survey_clear(npi_survey *survey);

#endif
