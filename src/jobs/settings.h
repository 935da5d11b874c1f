/* jobs/settings.h - from a recipe to the descriptions that the rooms below take. */
#ifndef NPI_JOBS_SETTINGS_H
#define NPI_JOBS_SETTINGS_H

#include "data/dataset.h"
#include "jobs/recipe.h"
#include "nn/model.h"
#include "nn/schedule.h"
#include "ood/objective.h"

/* Strings point into the recipe. */
npi_model_desc npi_settings_model(const npi_recipe *recipe, int classes);
npi_transform npi_settings_transform(const npi_recipe *recipe);
npi_augment_desc npi_settings_augment(const npi_recipe *recipe);
/* Where images are streamed: what crops them, to image_size with crop_filter. */
npi_transform npi_settings_crop_transform(const npi_recipe *recipe);
/* Whether a set of so many images is streamed.  A function of the recipe and the set alone, not of the
 * machine's memory: a crop that is made while streaming is rounded to 8 bits, one on the device is
 * not, and the same seed must give the same weights everywhere. */
bool npi_settings_streams(const npi_recipe *recipe, int64_t images);
npi_objective_desc npi_settings_objective(const npi_recipe *recipe, int classes, int dim);
npi_schedule npi_settings_schedule(const npi_recipe *recipe, int steps);
npi_method npi_settings_method(const npi_recipe *recipe);
bool npi_settings_authors(const npi_recipe *recipe); /* compat: authors */

#endif
