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
npi_objective_desc npi_settings_objective(const npi_recipe *recipe, int classes, int dim);
npi_schedule npi_settings_schedule(const npi_recipe *recipe, int steps);
npi_method npi_settings_method(const npi_recipe *recipe);
bool npi_settings_authors(const npi_recipe *recipe); /* compat: authors */

#endif
