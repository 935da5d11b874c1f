/* How far apart a model's classes lie, for the report. */
#include <math.h>

#include "base/memory.h"
#include "jobs/report_gather.h"
#include "ood/neighbours.h"

static const double degrees = 57.29577951308232;

/* Sums of the normalised rows of each class, [classes][dim]. */
static npos_status class_sums(const npi_run *run, float **out) {
    const npi_bank *bank = &run->bank;
    size_t dim = (size_t)bank->dim;
    float *unit = NULL;
    npos_status status;
    NPI_TRY_GOTO(npi_alloc(&unit, dim, sizeof *unit, "embedding"), done);
    NPI_TRY_GOTO(npi_alloc(out, (size_t)run->classes * dim, sizeof **out, "class means"), done);
    for (int64_t i = 0; i < bank->n; i++) {
        int32_t label = bank->labels[i];
        if (label < 0 || label >= run->classes)
            continue;
        npi_normalise_rows(1, bank->dim, bank->h + i * bank->dim, unit);
        for (size_t d = 0; d < dim; d++)
            (*out)[(size_t)label * dim + d] += unit[d];
    }
done:
    npi_free(unit);
    return status;
}

static npos_status fill(npi_spread *spread, int classes, int dim, float *directions) {
    npi_normalise_rows(classes, dim, directions, directions);
    NPI_TRY(npi_alloc(&spread->angle, (size_t)classes * (size_t)classes, sizeof *spread->angle,
                      "distances of classes"));
    spread->classes = classes;
    for (int a = 0; a < classes; a++)
        for (int b = 0; b < classes; b++) {
            double dot = 0;
            for (int d = 0; d < dim; d++)
                dot += (double)directions[(int64_t)a * dim + d] *
                       (double)directions[(int64_t)b * dim + d];
            spread->angle[(int64_t)a * classes + b] =
                a == b ? 0 : degrees * acos(fmax(-1, fmin(1, dot)));
        }
    return NPOS_OK;
}

npos_status npi_report_spread(npi_report *report) {
    npi_run *run = report->run;
    npi_spread *spread = &report->spread;
    float *directions = NULL;
    npos_status status = NPOS_OK;
    if (run->classes < 2)
        return npi_strdup(&spread->why, "the model has a single class.");
    spread->means = !run->prototypes;
    if (spread->means) {
        status = npi_run_bank(run);
        if (status == NPOS_OUT_OF_MEMORY)
            return status;
        if (status != NPOS_OK)
            return npi_strdup(&spread->why, npos_error_message());
        if (run->bank.n == 0)
            return npi_strdup(&spread->why,
                              "the model has no prototypes and the run kept no embeddings.");
        status = class_sums(run, &directions);
    } else {
        size_t count = (size_t)run->classes * (size_t)run->proj;
        status = npi_alloc(&directions, count, sizeof *directions, "prototypes");
        for (size_t i = 0; status == NPOS_OK && i < count; i++)
            directions[i] = run->prototypes[i];
    }
    if (status == NPOS_OK)
        status = fill(spread, run->classes, spread->means ? run->dim : run->proj, directions);
    npi_free(directions);
    return status;
}
