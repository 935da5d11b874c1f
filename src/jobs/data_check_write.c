/* A check as JSON for programs, and as tables for people. */
#include "base/memory.h"
#include "io/json_text.h"
#include "jobs/data_check.h"
#include "report/grid.h"

/* ---- JSON ---- */

static json_t *numbers(const double *values, int count) {
    json_t *list = json_array();
    for (int i = 0; i < count; i++)
        json_array_append_new(list, npi_json_number(values[i]));
    return list;
}

static json_t *set_json(const npi_check_set *set) {
    const npi_survey *s = &set->survey;
    json_t *classes = json_array(), *broken = json_array();
    for (int c = 0; c < s->classes; c++)
        json_array_append_new(classes, json_pack("{s:o, s:I}", "name",
                                                 npi_json_text(npi_dataset_class_name(s->set, c)),
                                                 "images", (json_int_t)s->class_count[c]));
    for (int i = 0; i < s->broken_kept; i++)
        json_array_append_new(broken, json_pack("{s:o, s:o}", "name",
                                                npi_json_text(s->first_broken[i].name), "error",
                                                npi_json_text(s->first_broken[i].error)));
    return json_pack("{s:s, s:o, s:o, s:o, s:I, s:o, s:I, s:I, s:i, s:I, s:I, s:o, s:o, s:o, s:o}",
                     "part", npi_part_names[set->part], "group", npi_json_text(set->group), "name",
                     npi_json_text(set->name), "spec", npi_json_text(set->spec), "images",
                     (json_int_t)s->count, "classes", classes, "grey", (json_int_t)s->grey, "tiny",
                     (json_int_t)s->tiny, "tiny_side", s->tiny_side, "flat", (json_int_t)s->flat,
                     "broken", (json_int_t)s->broken, "first_broken", broken, "shorter_side",
                     json_pack("[i, i, i]", s->side[0], s->side[1], s->side[2]), "mean",
                     numbers(s->mean, s->channels), "std", numbers(s->std, s->channels));
}

static json_t *image_json(const npi_check *check, int64_t image) {
    const npi_check_set *set = npi_check_set_of(check, image);
    char *name = NULL;
    if (npi_dataset_name(set->survey.set, image - set->first, &name) != NPOS_OK)
        return NULL;
    json_t *out =
        json_pack("{s:o, s:o}", "set", npi_json_text(set->name), "name", npi_json_text(name));
    npi_free(name);
    return out;
}

static json_t *shared_json(const npi_check *check, int a, int b) {
    const npi_shared *shared = npi_check_shared(check, a, b),
                     *pairs = a <= b ? shared : npi_check_shared(check, b, a);
    json_t *examples = json_array();
    for (int i = 0; a <= b && i < pairs->examples; i++)
        json_array_append_new(
            examples, json_pack("{s:o, s:o, s:b, s:i}", "a", image_json(check, pairs->example[i].a),
                                "b", image_json(check, pairs->example[i].b), "exact",
                                pairs->example[i].exact, "bits", pairs->example[i].distance));
    return json_pack("{s:o, s:o, s:I, s:o, s:o}", "of", npi_json_text(check->set[b].name), "in",
                     npi_json_text(check->set[a].name), "exact", (json_int_t)shared->exact, "near",
                     check->distance < 0 ? json_null() : json_integer(shared->near), "examples",
                     examples);
}

static json_t *statistics_json(const npi_check *check) {
    static const char *const fits[] = {"good", "doubtful", "wrong"};
    if (!check->recipe)
        return json_null();
    return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:s}", "recipe", check->recipe, "mean",
                     numbers(check->wanted.mean, check->wanted.channels), "std",
                     numbers(check->wanted.std, check->wanted.channels), "measured_mean",
                     numbers(check->measured.mean, check->measured.channels), "measured_std",
                     numbers(check->measured.std, check->measured.channels), "distance",
                     npi_json_number(npi_statistics_distance(&check->wanted, &check->measured)),
                     "fit", fits[check->fit]);
}

npos_status npi_check_json(const npi_check *check, const char *path) {
    json_t *sets = json_array(), *duplicates = json_array(), *overlaps = json_array(),
           *findings = json_array();
    for (int s = 0; s < check->sets; s++)
        json_array_append_new(sets, set_json(&check->set[s]));
    for (int b = 0; b < check->sets; b++)
        for (int a = 0; a < check->sets; a++)
            json_array_append_new(duplicates, shared_json(check, a, b));
    for (int i = 0; i < check->overlaps; i++) {
        const npi_overlap *o = &check->overlap[i];
        json_array_append_new(
            overlaps,
            json_pack(
                "{s:o, s:o, s:o, s:o, s:b, s:I}", "set", npi_json_text(check->set[o->ood].name),
                "class",
                npi_json_text(npi_dataset_class_name(check->set[o->ood].survey.set, o->ood_class)),
                "called", npi_json_text(o->called), "id_class",
                npi_json_text(npi_dataset_class_name(check->set[o->id].survey.set, o->id_class)),
                "same", o->whole, "images", (json_int_t)o->images));
    }
    for (int i = 0; i < check->findings; i++)
        json_array_append_new(findings, json_pack("{s:s, s:o}", "gravity",
                                                  npi_gravity_names[check->finding[i].gravity],
                                                  "text", npi_json_text(check->finding[i].text)));
    return npi_json_write(json_pack("{s:i, s:o, s:o, s:o, s:o, s:o}", "schema", 1, "sets", sets,
                                    "duplicates", duplicates, "overlaps", overlaps, "statistics",
                                    statistics_json(check), "findings", findings),
                          path);
}

/* ---- the table ---- */

static void triple(const double *values, int count, char text[32]) {
    if (count == 3)
        snprintf(text, 32, "%.4f %.4f %.4f", values[0], values[1], values[2]);
    else
        snprintf(text, 32, "%.4f", values[0]);
}

static npos_status print_sets(const npi_check *check, FILE *out) {
    static const npi_grid_column columns[] = {
        {.name = "set"},  {.name = "images"}, {.name = "classes"}, {.name = "shorter side"},
        {.name = "grey"}, {.name = "tiny"},   {.name = "flat"},    {.name = "broken"},
        {.name = "mean"}, {.name = "std"}};
    npi_grid grid = {0};
    npi_grid_make(&grid, columns, sizeof columns / sizeof *columns);
    for (int i = 0; i < check->sets; i++) {
        const npi_survey *s = &check->set[i].survey;
        char sides[48], mean[32], std[32];
        snprintf(sides, sizeof sides, s->side[0] == s->side[2] ? "%d" : "%d to %d", s->side[0],
                 s->side[2]);
        triple(s->mean, s->channels, mean);
        triple(s->std, s->channels, std);
        npi_grid_row(&grid);
        npi_grid_text(&grid, check->set[i].name);
        npi_grid_count(&grid, s->count);
        npi_grid_count(&grid, s->classes);
        npi_grid_text(&grid, sides);
        npi_grid_count(&grid, s->grey);
        npi_grid_count(&grid, s->tiny);
        npi_grid_count(&grid, s->flat);
        npi_grid_count(&grid, s->broken);
        npi_grid_text(&grid, mean);
        npi_grid_text(&grid, std);
    }
    npos_status status = npi_grid_write(&grid, NPI_FORMAT_TABLE, out);
    npi_grid_clear(&grid);
    return status;
}

/* "airplane 5000, automobile 5000, ...", or the range where there are many. */
static void print_classes(const npi_check_set *set, FILE *out) {
    enum { MOST = 20 };
    const npi_survey *s = &set->survey;
    int64_t least = INT64_MAX, most = 0;
    if (s->classes == 0)
        return;
    fprintf(out, "%s:", set->name);
    for (int c = 0; c < s->classes; c++) {
        least = s->class_count[c] < least ? s->class_count[c] : least;
        most = s->class_count[c] > most ? s->class_count[c] : most;
        if (s->classes <= MOST)
            fprintf(out, "%s %s %lld", c ? "," : "", npi_dataset_class_name(s->set, c),
                    (long long)s->class_count[c]);
    }
    if (s->classes > MOST)
        fprintf(out, " %d classes of %lld to %lld images", s->classes, (long long)least,
                (long long)most);
    fputc('\n', out);
}

static npos_status print_copies(const npi_check *check, FILE *out) {
    static const npi_grid_column columns[] = {
        {.name = "images of"}, {.name = "in"}, {.name = "exact copies"}, {.name = "near copies"}};
    npi_grid grid = {0};
    npi_grid_make(&grid, columns, check->distance < 0 ? 3 : 4);
    for (int b = 0; b < check->sets; b++)
        for (int a = 0; a <= b; a++) {
            npi_grid_row(&grid);
            npi_grid_text(&grid, check->set[b].name);
            npi_grid_text(&grid, a == b ? "itself" : check->set[a].name);
            npi_grid_count(&grid, npi_check_shared(check, a, b)->exact);
            if (check->distance >= 0)
                npi_grid_count(&grid, npi_check_shared(check, a, b)->near);
        }
    npos_status status = npi_grid_write(&grid, NPI_FORMAT_TABLE, out);
    npi_grid_clear(&grid);
    return status;
}

npos_status npi_check_table(const npi_check *check, FILE *out) {
    NPI_TRY(print_sets(check, out));
    fputc('\n', out);
    for (int s = 0; s < check->sets; s++)
        print_classes(&check->set[s], out);
    fputc('\n', out);
    NPI_TRY(print_copies(check, out));
    fputc('\n', out);
    for (int s = 0; s < check->sets; s++)
        for (int i = 0; i < check->set[s].survey.broken_kept; i++)
            fprintf(out, "broken: %s: %s\n", check->set[s].name,
                    check->set[s].survey.first_broken[i].error);
    for (int i = 0; i < check->findings; i++)
        fprintf(out, "%s: %s\n", npi_gravity_names[check->finding[i].gravity],
                check->finding[i].text);
    if (check->findings == 0)
        fprintf(out, "nothing to object to\n");
    return ferror(out) ? npi_fail_errno("cannot write the table") : NPOS_OK;
}
