/* What a check found, in sentences. */
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "jobs/data_check.h"

const char *const npi_part_names[] = {"data", "train", "test", "ood"};
const char *const npi_gravity_names[] = {"note", "warning", "error"};

__attribute__((format(printf, 3, 4))) static npos_status say(npi_check *check, npi_gravity gravity,
                                                             const char *format, ...) {
    char text[1024];
    size_t count = (size_t)check->findings;
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    NPI_TRY(npi_grow(&check->finding, count, count + 1, sizeof *check->finding, "findings"));
    NPI_TRY(npi_strdup(&check->finding[count].text, text));
    check->finding[count].gravity = gravity;
    check->findings++;
    return NPOS_OK;
}

static const char *plural(int64_t n) {
    return n == 1 ? "" : "s";
}

static npos_status about_set(npi_check *check, const npi_check_set *set) {
    const npi_survey *s = &set->survey;
    int empty = 0, fewest = -1, most = -1;
    for (int c = 0; c < s->classes; c++) {
        empty += s->class_count[c] == 0;
        if (fewest < 0 || s->class_count[c] < s->class_count[fewest])
            fewest = c;
        if (most < 0 || s->class_count[c] > s->class_count[most])
            most = c;
    }
    if (s->broken > 0)
        NPI_TRY(say(check, NPI_ERROR, "%s: %lld image%s cannot be read, the first is %s", set->name,
                    (long long)s->broken, plural(s->broken), s->first_broken[0].error));
    if (s->tiny > 0)
        NPI_TRY(say(check, NPI_WARNING,
                    "%s: %lld image%s smaller than %d pixels (the shorter side)", set->name,
                    (long long)s->tiny, plural(s->tiny), s->tiny_side));
    if (s->grey > 0 && s->channels == 3)
        NPI_TRY(say(check, NPI_NOTE, "%s: %lld of %lld images are grey", set->name,
                    (long long)s->grey, (long long)s->count));
    if (s->flat > 0)
        NPI_TRY(say(check, NPI_WARNING, "%s: %lld image%s of one brightness", set->name,
                    (long long)s->flat, plural(s->flat)));
    if (set->part == NPI_PART_OOD || s->classes < 2)
        return NPOS_OK;
    if (empty > 0)
        NPI_TRY(say(check, NPI_WARNING, "%s: %d of %d classes have no image", set->name, empty,
                    s->classes));
    if (s->class_count[most] > 2 * s->class_count[fewest])
        NPI_TRY(say(check, NPI_NOTE,
                    "%s: classes differ in size, from %lld images ('%s') to %lld ('%s')", set->name,
                    (long long)s->class_count[fewest], npi_dataset_class_name(s->set, fewest),
                    (long long)s->class_count[most], npi_dataset_class_name(s->set, most)));
    return NPOS_OK;
}

/* Whether a set's pictures are so simple and so much alike that near ones are mostly different things: more than a
 * twentieth of them has a near one in the set, as of Fashion-MNIST's trousers. */
static bool much_alike(const npi_check *check, int set) {
    return npi_check_shared(check, set, set)->near > check->set[set].survey.count / 20;
}

static npos_status about_near(npi_check *check, int a, int b) {
    const npi_shared *shared = npi_check_shared(check, a, b);
    const npi_check_set *from = &check->set[a], *to = &check->set[b];
    bool alike = much_alike(check, a) || much_alike(check, b);
    if (shared->near == 0)
        return NPOS_OK;
    return say(
        check, a == b || alike ? NPI_NOTE : NPI_WARNING,
        "%s: %lld of %lld images %s nearly equal to %s%s%s", to->name, (long long)shared->near,
        (long long)to->survey.count, shared->near == 1 ? "is" : "are",
        a == b ? "another one of the set" : "one of ", a == b ? "" : from->name,
        alike ? "; so many that these pictures are simple and look alike rather than copies" : "");
}

/* Copies inside one set, and those that leak from one into another. */
static npos_status about_copies(npi_check *check, int a, int b) {
    const npi_shared *shared = npi_check_shared(check, a, b);
    const npi_check_set *from = &check->set[a], *to = &check->set[b];
    if (a == b && shared->exact > 0)
        NPI_TRY(say(check, NPI_WARNING, "%s: %lld image%s repeat%s another one of the set",
                    to->name, (long long)shared->exact, plural(shared->exact),
                    shared->exact == 1 ? "s" : ""));
    if (a != b && shared->exact > 0)
        NPI_TRY(say(check, NPI_WARNING, "%s: %lld of %lld images ha%s a copy in %s", to->name,
                    (long long)shared->exact, (long long)to->survey.count,
                    shared->exact == 1 ? "s" : "ve", from->name));
    return about_near(check, a, b);
}

static npos_status about_overlaps(npi_check *check, int ood) {
    int64_t images = 0, classes = 0;
    int last = -1;
    char names[400] = "";
    size_t used = 0;
    for (int i = 0; i < check->overlaps; i++) {
        const npi_overlap *o = &check->overlap[i];
        if (o->ood != ood)
            continue;
        if (o->ood_class != last) {
            images += o->images;
            classes++;
            if (used < 200)
                used += (size_t)snprintf(
                    names + used, sizeof names - used, "%s%.60s (ID: %.60s)", used ? ", " : "",
                    o->called, npi_dataset_class_name(check->set[o->id].survey.set, o->id_class));
        }
        last = o->ood_class;
    }
    if (classes == 0)
        return NPOS_OK;
    return say(check, NPI_WARNING,
               "%s: %lld class%s with %lld images %s called like ID classes: %s%s",
               check->set[ood].name, (long long)classes, classes == 1 ? "" : "es",
               (long long)images, classes == 1 ? "is" : "are", names, used >= 200 ? ", ..." : "");
}

static npos_status about_statistics(npi_check *check, bool any) {
    const npi_statistics *w = &check->wanted, *m = &check->measured;
    const char *said = npi_statistics_known(w, 0.0011), *seen = npi_statistics_known(m, 0.01);
    char have[200];
    if (!check->recipe || check->fit == NPI_FIT_GOOD)
        return NPOS_OK;
    if (m->channels == 3)
        snprintf(have, sizeof have, "mean %.4f %.4f %.4f, std %.4f %.4f %.4f", m->mean[0],
                 m->mean[1], m->mean[2], m->std[0], m->std[1], m->std[2]);
    else
        snprintf(have, sizeof have, "mean %.4f, std %.4f", m->mean[0], m->std[0]);
    return say(
        check, check->fit == NPI_FIT_WRONG && !any ? NPI_ERROR : NPI_WARNING,
        "recipe %s normalises with statistics%s%s that differ by %.3f from the images' (%s%s%s)",
        check->recipe, said ? " of " : "", said ? said : "", npi_statistics_distance(w, m), have,
        seen ? ": " : "", seen ? seen : "");
}

npos_status npi_check_findings(npi_check *check, bool any_statistics) {
    NPI_TRY(about_statistics(check, any_statistics));
    for (int s = 0; s < check->sets; s++)
        NPI_TRY(about_set(check, &check->set[s]));
    for (int b = 0; b < check->sets; b++)
        for (int a = 0; a <= b; a++)
            NPI_TRY(about_copies(check, a, b));
    for (int s = 0; s < check->sets; s++)
        NPI_TRY(about_overlaps(check, s));
    for (int g = NPI_ERROR, at = 0; g >= NPI_NOTE; g--)
        for (int i = at; i < check->findings; i++)
            if ((int)check->finding[i].gravity == g) {
                npi_finding held = check->finding[i];
                memmove(&check->finding[at + 1], &check->finding[at],
                        (size_t)(i - at) * sizeof held);
                check->finding[at++] = held;
            }
    return NPOS_OK;
}
