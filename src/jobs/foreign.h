/* jobs/foreign.h - weights of ResNets that other programs trained, under our names.
 *
 * torchvision's and timm's ResNets, OpenOOD's ResNets for 32x32 images, and the networks of NPOS's and
 * CIDER's authors name the same layers alike, up to what is in front:
 *
 *     ours                            theirs (P: what stands before "conv1.weight", any wrapper's name
 *                                     included; B: P without a last "encoder." or "backbone.")
 *     encoder.NAME                    P NAME, where NAME may say shortcut instead of downsample
 *     fc                              B fc, B linear or B classifier
 *     head.0, head.2                  B head.0, B head.2
 *     phi.0, phi.2                    B mlp.0, B mlp.2, or B phi.0, B phi.2
 *
 * num_batches_tracked is passed over, and so are heads that this model does not have (a classifier, a
 * projection, an outlier head, prototypes) and everything that does not begin with B.  Every other
 * name must be used, and every parameter found. */
#ifndef NPI_JOBS_FOREIGN_H
#define NPI_JOBS_FOREIGN_H

#include "jobs/name_list.h"
#include "nn/params.h"

/* Whether `path` is to be read by npi_foreign_read: no safetensors file of npos. */
bool npi_foreign_is(const char *path);

/* Sets all parameters from a file or folder that io/weights.h reads; checksums are compared.  Heads that
 * were passed over are added to *left.  Errors: missing,
 * unknown and wrongly shaped tensors, by name; values that are not finite. */
NPOS_MUST_CHECK npos_status npi_foreign_read(npi_params *params, const char *path,
                                             npi_name_list *left);

#endif
