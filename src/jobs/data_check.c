/* npos_data_check: sets of images looked through before anything is trained or measured with them. */
#include "jobs/data_check.h"

#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "jobs/compute.h"
#include "jobs/ood_sets.h"
#include "jobs/options.h"
#include "jobs/recipe.h"
#include "npos/npos.h"
#include "report/data_page.h"

enum { NEAR = 6, TINY = 16, CONTACT_ROWS = 10, CONTACT_COLUMNS = 12, CELL = 64 };

void npos_data_check_options_init(npos_data_check_options *options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
    options->compute = npi_compute_defaults();
    options->near = NEAR;
}

typedef struct job {
    const npos_data_check_options *options;
    npi_check check;
    npi_recipe recipe;
    bool has_recipe;
    npi_transform transform;
    char phase[160];
} job;

static npos_status tell(void *context, int64_t done, int64_t total) {
    const job *j = context;
    return npi_compute_progress(&j->options->compute, j->phase, done, total, NULL);
}

static npos_status add_set(job *j, npi_part part, const char *group, const char *name,
                           const char *spec) {
    npi_check *check = &j->check;
    if (check->sets == NPI_CHECK_SETS)
        return npi_fail(NPOS_INVALID_ARGUMENT, "more than %d sets to check", NPI_CHECK_SETS);
    npi_check_set *set = &check->set[check->sets++];
    set->part = part;
    NPI_TRY(npi_strdup(&set->group, group));
    NPI_TRY(npi_strdup(&set->name, name));
    return npi_strdup(&set->spec, spec);
}

/* A set with both splits is checked as training and test images, which must not share any. */
static npos_status add_data(job *j, const char *spec) {
    bool whole = !strchr(spec, '#') && npi_dataset_has_split(spec, "train") &&
                 npi_dataset_has_split(spec, "test");
    if (!whole)
        return add_set(j, NPI_PART_DATA, "", "data", spec);
    for (npi_part part = NPI_PART_TRAIN; part <= NPI_PART_TEST; part++) {
        char *split;
        NPI_TRY(npi_format(&split, "%s#%s", spec, npi_part_names[part]));
        npos_status status = add_set(j, part, "", npi_part_names[part], split);
        npi_free(split);
        NPI_TRY(status);
    }
    return NPOS_OK;
}

static npos_status add_sets(job *j) {
    const npos_data_check_options *options = j->options;
    npi_ood_set *ood = NULL;
    int count = 0;
    npos_status status = NPOS_OK;
    if (!options->data && !options->train && !options->test && options->ood_count == 0)
        return npi_fail(NPOS_INVALID_ARGUMENT, "no set to check was named");
    if (options->data)
        NPI_TRY(add_data(j, options->data));
    if (options->train)
        NPI_TRY(add_set(j, NPI_PART_TRAIN, "", "train", options->train));
    if (options->test)
        NPI_TRY(add_set(j, NPI_PART_TEST, "", "test", options->test));
    if (options->ood_count > 0)
        NPI_TRY(npi_ood_specs_parse(options->ood, options->ood_count, &ood, &count));
    for (int i = 0; i < count && status == NPOS_OK; i++)
        status = add_set(j, NPI_PART_OOD, ood[i].group, ood[i].name, ood[i].where);
    npi_ood_sets_free(ood, count);
    for (int a = 0; a < j->check.sets; a++)
        for (int b = 0; b < a && status == NPOS_OK; b++)
            if (strcmp(j->check.set[a].name, j->check.set[b].name) == 0)
                status = npi_fail(NPOS_INVALID_ARGUMENT, "two sets are called '%s': %s, %s",
                                  j->check.set[a].name, j->check.set[b].spec, j->check.set[a].spec);
    return status;
}

static npos_status open_recipe(job *j) {
    npi_check *check = &j->check;
    float mean[3], std[3];
    if (!j->options->recipe)
        return NPOS_OK;
    NPI_TRY(npi_recipe_load(j->options->recipe, &j->recipe));
    j->has_recipe = true;
    check->recipe = j->options->recipe;
    check->wanted.channels = j->recipe.channels;
    NPI_TRY(npi_recipe_numbers("mean", j->recipe.mean, j->recipe.channels, mean));
    NPI_TRY(npi_recipe_numbers("std", j->recipe.std, j->recipe.channels, std));
    for (int c = 0; c < j->recipe.channels; c++) {
        check->wanted.mean[c] = mean[c];
        check->wanted.std[c] = std[c];
    }
    j->transform = (npi_transform){
        j->recipe.image_size, j->recipe.channels,
        strcmp(j->recipe.interpolation, "bicubic") == 0 ? NPI_BICUBIC : NPI_BILINEAR, 0};
    return NPOS_OK;
}

static npi_survey_desc describe(job *j, int s) {
    return (npi_survey_desc){.spec = j->check.set[s].spec,
                             .transform = j->has_recipe ? &j->transform : NULL,
                             .tiny_side = j->has_recipe ? j->transform.size : TINY,
                             .number = s,
                             .threads = j->options->compute.threads,
                             .progress = tell,
                             .context = j};
}

static npos_status survey(job *j) {
    npi_check *check = &j->check;
    for (int s = 0; s < check->sets; s++) {
        npi_survey_desc desc = describe(j, s);
        NPI_TRY(npi_survey_open(&desc, &check->set[s].survey));
        check->set[s].first = check->images;
        check->images += check->set[s].survey.count;
    }
    NPI_TRY(
        npi_alloc(&check->prints, (size_t)check->images, sizeof *check->prints, "fingerprints"));
    for (int s = 0; s < check->sets; s++) {
        npi_check_set *set = &check->set[s];
        npi_survey_desc desc = describe(j, s);
        snprintf(j->phase, sizeof j->phase, "read %.120s", set->name);
        NPI_TRY(npi_survey_run(&desc, &set->survey, check->prints + set->first));
    }
    snprintf(j->phase, sizeof j->phase, "compare");
    check->distance = j->options->near;
    return npi_duplicates_find(check->prints, check->images, check->sets, check->distance, tell, j,
                               &check->shared);
}

/* The statistics that the recipe should have: of the training images where they are told apart, else of the first set. */
static void judge(job *j) {
    npi_check *check = &j->check;
    const npi_check_set *of = NULL;
    if (!check->recipe)
        return;
    for (int s = check->sets - 1; s >= 0; s--)
        if (check->set[s].part == NPI_PART_TRAIN || (!of && check->set[s].part != NPI_PART_OOD))
            of = &check->set[s];
    if (!of || of->survey.count == of->survey.broken) {
        check->recipe = NULL; /* nothing that it should fit */
        return;
    }
    check->measured.channels = of->survey.channels;
    memcpy(check->measured.mean, of->survey.mean, sizeof check->measured.mean);
    memcpy(check->measured.std, of->survey.std, sizeof check->measured.std);
    check->fit = npi_statistics_judge(&check->wanted, &check->measured);
}

static npos_status write_all(job *j) {
    const npos_data_check_options *options = j->options;
    npi_check *check = &j->check;
    for (int s = 0; options->html && s < check->sets; s++)
        NPI_TRY(npi_contact_make(check->set[s].survey.set, CONTACT_ROWS, CONTACT_COLUMNS, CELL, 255,
                                 &check->set[s].contact));
    if (options->html)
        NPI_TRY(npi_data_page_write(check, options->html));
    if (options->json)
        NPI_TRY(npi_check_json(check, options->json));
    return options->table ? npi_check_table(check, options->table) : NPOS_OK;
}

static npos_status run(job *j) {
    npi_check *check = &j->check;
    NPI_TRY(add_sets(j));
    NPI_TRY(open_recipe(j));
    NPI_TRY(survey(j));
    judge(j);
    NPI_TRY(npi_check_overlaps(check));
    NPI_TRY(npi_check_findings(check, j->options->any_statistics));
    NPI_TRY(write_all(j));
    if (check->findings == 0 || check->finding[0].gravity != NPI_ERROR)
        return NPOS_OK;
    npi_fail(NPOS_BAD_DATA, "%s", check->finding[0].text);
    return check->recipe && check->fit == NPI_FIT_WRONG && !j->options->any_statistics
               ? npi_hint(NPOS_BAD_DATA, "set the recipe's mean and std; --any-statistics accepts "
                                         "it, as for a network that "
                                         "was trained on other images before")
               : NPOS_BAD_DATA;
}

static void clear(job *j) {
    npi_check *check = &j->check;
    for (int s = 0; s < check->sets; s++) {
        npi_contact_clear(&check->set[s].contact);
        npi_survey_clear(&check->set[s].survey);
        npi_free(check->set[s].group);
        npi_free(check->set[s].name);
        npi_free(check->set[s].spec);
    }
    for (int i = 0; i < check->findings; i++)
        npi_free(check->finding[i].text);
    npi_free(check->finding);
    for (int i = 0; i < check->overlaps; i++)
        npi_free(check->overlap[i].called);
    npi_free(check->overlap);
    npi_free(check->shared);
    npi_free(check->prints);
    if (j->has_recipe)
        npi_recipe_clear(&j->recipe);
}

npos_status npos_data_check(const npos_data_check_options *options) {
    NPI_CHECK_OPTIONS(options, "npos_data_check");
    job j = {.options = options};
    if (options->near > NPI_NEAR_MOST)
        return npi_fail(NPOS_INVALID_ARGUMENT, "near copies: %d bits, at most %d", options->near,
                        NPI_NEAR_MOST);
    npos_status status = run(&j);
    clear(&j);
    return status;
}
