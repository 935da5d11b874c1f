/* jobs/clip_recipe.h - what a CLIP model says about the recipe of its runs. */
#ifndef NPI_JOBS_CLIP_RECIPE_H
#define NPI_JOBS_CLIP_RECIPE_H

#include "jobs/recipe.h"
#include "nn/clip.h"

/* Reads the configuration of the model at `path` (as npi_clip_load's), both towers, and sets method, encoder,
 * image_size, channels, interpolation, mean and std of the recipe as the model has them. */
NPOS_MUST_CHECK npos_status npi_clip_recipe(const char *path, npi_clip_config *config,
                                            npi_recipe *recipe);

#endif
