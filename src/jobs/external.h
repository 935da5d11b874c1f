/* jobs/external.h - embeddings and logits that other programs made, as .npy files.
 *
 * A run of `npos fit` has no network.  Where other runs take images it takes
 *
 *     embeddings:H.npy[#logits=L.npy][#labels=Y.npy]
 *
 * H [n][D] and L [n][C] of float32 or float64, Y [n] of whole numbers.  The word "embeddings:" may be
 * left away where the SPEC starts with a name that ends in .npy. */
#ifndef NPI_JOBS_EXTERNAL_H
#define NPI_JOBS_EXTERNAL_H

#include "data/dataset.h"
#include "jobs/run.h"

/* *out = the rows of such a SPEC as a run's network would have said them: h, z = h normalised, and,
 * where the run has a classifier, logits: those of the SPEC, else the classifier's weights times h.
 * *images lists the rows: names "H.npy[12]", labels (-1 without), the run's class names.  limit and
 * seed draw a subset as npi_images_open does.  Other shapes, numbers that are not finite, labels that
 * are no class of the run, and logits that neither the SPEC nor the run's weights give are errors.
 * Both outputs are to be released, also after a failure. */
NPOS_MUST_CHECK npos_status npi_external_features(const npi_run *run, const char *spec,
                                                  int64_t limit, uint64_t seed, npi_images *images,
                                                  npi_features *out);

/* *out = [rows][columns] finite numbers of a .npy file.  *rows and *columns: 0 takes what the file has
 * and tells it. */
NPOS_MUST_CHECK npos_status npi_matrix_read(const char *path, int64_t *rows, int64_t *columns,
                                            float **out);

/* *out = `rows` labels of a .npy file of whole numbers (u1, i4, i8), each in 0..classes-1, or 0 or
 * more where classes is 0. */
NPOS_MUST_CHECK npos_status npi_label_file_read(const char *path, int64_t rows, int classes,
                                                int32_t **out);

/* logits[n][classes] = W h + b. */
void npi_external_logits(const float *weight, const float *bias, int classes, int dim, int64_t n,
                         const float *h, float *logits);

#endif
