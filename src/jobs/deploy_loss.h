/* jobs/deploy_loss.h - what a deployed run loses: its score beside the run's own on the same images. */
#ifndef NPI_JOBS_DEPLOY_LOSS_H
#define NPI_JOBS_DEPLOY_LOSS_H

#include <stdio.h>

#include "jobs/fitted.h"
#include "ood/results.h"

typedef struct npi_deploy_loss {
    const char *detector, *own, *score; /* as asked for; the run's score; the deployed run's */
    int64_t rows, of;                   /* training embeddings kept, and of how many */
    int dim, knn_k, own_k;              /* knn_k 0: the deployed score has none */
    /* Two results: own, deployed; results 0: not measured. */
    npi_evaluation evaluation;
    double correlation; /* Spearman's, of the two scores over all images measured */
    int64_t images;
} npi_deploy_loss;
void npi_deploy_loss_clear(npi_deploy_loss *loss);

/* Scores options->id and options->ood with both detectors and measures them (protocol oe, at most 10,000
 * images of an OOD set, drawn with seed 0). */
NPOS_MUST_CHECK npos_status npi_deploy_measure(const npos_export_options *options,
                                               const npi_fitted *fitted, const npi_detector *own,
                                               const npi_detector *deployed, npi_deploy_loss *loss);

/* The lines for people. */
NPOS_MUST_CHECK npos_status npi_deploy_loss_print(const npi_deploy_loss *loss, FILE *out);

/* Writes `path`: RUN/manifest.json with the key "export" (docs/run-directory.md). */
NPOS_MUST_CHECK npos_status npi_deploy_manifest(const npi_deploy_loss *loss, const char *run,
                                                const char *path);

#endif
