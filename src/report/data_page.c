#include "report/data_page.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "npos/npos.h"
#include "report/palette.h"
#include "report/picture.h"
#include "report/report.h"

enum { CLASS_BARS = 40, CELL = 64 };

static void text_cell(npi_page *page, const char *text) {
    npi_page_add(page, "<td class=\"l\">");
    npi_page_escape(page, text);
    npi_page_add(page, "</td>");
}

static void count_cell(npi_page *page, int64_t n) {
    npi_page_add(page, "<td>%lld</td>", (long long)n);
}

static void numbers_cell(npi_page *page, const double *values, int count) {
    npi_page_add(page, "<td>");
    for (int i = 0; i < count; i++)
        npi_page_add(page, "%s%.4f", i ? " " : "", values[i]);
    npi_page_add(page, "</td>");
}

static void picture(npi_page *page, const npi_image *image, const char *name) {
    npi_page_add(page, "<img src=\"");
    npi_picture_url(page, image);
    npi_page_add(page, "\" alt=\"");
    npi_page_escape(page, name);
    npi_page_add(page, "\" title=\"");
    npi_page_escape(page, name);
    npi_page_add(page, "\"/>");
}

static void findings(npi_page *page, const npi_check *check) {
    static const int colours[] = {[NPI_NOTE] = 0, [NPI_WARNING] = 4, [NPI_ERROR] = 1};
    npi_page_section(page, "findings", "Findings");
    if (check->findings == 0)
        npi_page_add(page, "<p>Nothing to object to.</p>\n");
    for (int i = 0; i < check->findings; i++) {
        const npi_finding *f = &check->finding[i];
        npi_page_add(page, "<p class=\"missing\" style=\"border-left-color:var(--k%d)\"><b>%s</b> ",
                     colours[f->gravity], npi_gravity_names[f->gravity]);
        npi_page_escape(page, f->text);
        npi_page_add(page, "</p>\n");
    }
}

static void sets(npi_page *page, const npi_check *check) {
    npi_page_section(page, "sets", "Sets");
    npi_page_add(
        page,
        "<div class=\"scroll\"><table>\n<tr><th>set</th><th class=\"l\">group</th><th>images</th>"
        "<th>classes</th><th>shorter "
        "side</th><th>grey</th><th>tiny</th><th>flat</th><th>broken</th>"
        "<th>mean</th><th>std</th><th class=\"l\">SPEC</th></tr>\n");
    for (int i = 0; i < check->sets; i++) {
        const npi_check_set *set = &check->set[i];
        const npi_survey *s = &set->survey;
        npi_page_add(page, "<tr>");
        text_cell(page, set->name);
        text_cell(page, set->part == NPI_PART_OOD && *set->group ? set->group
                                                                 : npi_part_names[set->part]);
        count_cell(page, s->count);
        count_cell(page, s->classes);
        if (s->side[0] == s->side[2])
            npi_page_add(page, "<td>%d</td>", s->side[0]);
        else
            npi_page_add(page, "<td>%d&ndash;%d, median %d</td>", s->side[0], s->side[2],
                         s->side[1]);
        count_cell(page, s->grey);
        count_cell(page, s->tiny);
        count_cell(page, s->flat);
        count_cell(page, s->broken);
        numbers_cell(page, s->mean, s->channels);
        numbers_cell(page, s->std, s->channels);
        text_cell(page, set->spec);
        npi_page_add(page, "</tr>\n");
    }
    npi_page_add(page, "</table></div>\n");
    if (check->recipe) {
        npi_page_add(page, "<p>Statistics are of the images as recipe <code>");
        npi_page_escape(page, check->recipe);
        npi_page_add(page, "</code> brings them to its size. It normalises with mean");
        for (int c = 0; c < check->wanted.channels; c++)
            npi_page_add(page, " %.4f", check->wanted.mean[c]);
        npi_page_add(page, ", std");
        for (int c = 0; c < check->wanted.channels; c++)
            npi_page_add(page, " %.4f", check->wanted.std[c]);
        npi_page_add(page, ": the largest difference is %.4f.</p>\n",
                     npi_statistics_distance(&check->wanted, &check->measured));
    }
}

/* A bar a class, at most CLASS_BARS of them. */
static void classes(npi_page *page, const npi_check_set *set) {
    const npi_survey *s = &set->survey;
    int shown = s->classes < CLASS_BARS ? s->classes : CLASS_BARS;
    int64_t most = 1;
    for (int c = 0; c < s->classes; c++)
        most = s->class_count[c] > most ? s->class_count[c] : most;
    npi_page_add(
        page, "<details%s><summary>images of each class</summary>\n<div class=\"scroll\"><table>\n",
        s->classes <= 20 ? " open" : "");
    for (int c = 0; c < shown; c++) {
        npi_page_add(page, "<tr>");
        text_cell(page, npi_dataset_class_name(s->set, c));
        count_cell(page, s->class_count[c]);
        npi_page_add(
            page,
            "<td class=\"l\"><span style=\"display:inline-block;height:.7em;background:var(--k0);"
            "width:%.1fpx\"></span></td></tr>\n",
            240.0 * (double)s->class_count[c] / (double)most);
    }
    npi_page_add(page, "</table></div>\n");
    if (shown < s->classes)
        npi_page_add(page, "<p class=\"mute\">%d more classes; --json has them all.</p>\n",
                     s->classes - shown);
    npi_page_add(page, "</details>\n");
}

static void broken(npi_page *page, const npi_survey *s) {
    if (s->broken == 0)
        return;
    npi_page_add(page, "<p class=\"missing\">%lld images cannot be read:</p>\n<ul>\n",
                 (long long)s->broken);
    for (int i = 0; i < s->broken_kept; i++) {
        npi_page_add(page, "<li><code>");
        npi_page_escape(page, s->first_broken[i].error);
        npi_page_add(page, "</code></li>\n");
    }
    npi_page_add(page, "</ul>\n");
    if (s->broken > s->broken_kept)
        npi_page_add(page, "<p class=\"mute\">and %lld more.</p>\n",
                     (long long)(s->broken - s->broken_kept));
}

static void contact(npi_page *page, const npi_check_set *set) {
    const npi_contact *c = &set->contact;
    for (int r = 0; r < c->rows; r++) {
        const npi_contact_row *row = &c->row[r];
        if (row->label >= 0) {
            npi_page_add(page, "<p class=\"mute\">");
            npi_page_escape(page, npi_dataset_class_name(set->survey.set, row->label));
            npi_page_add(page, "</p>\n");
        }
        npi_page_add(page, "<div class=\"sheet\">\n");
        for (int i = row->first; i < row->first + row->count; i++) {
            npi_page_add(page, "<div>");
            picture(page, &c->image[i].image, c->image[i].name);
            npi_page_add(page, "</div>\n");
        }
        npi_page_add(page, "</div>\n");
    }
    if (c->classes > c->rows)
        npi_page_add(page, "<p class=\"mute\">%d of %d classes.</p>\n", c->rows, c->classes);
}

/* One image of a pair, with the name of its set and its own. */
static npos_status pair_image(npi_page *page, const npi_check *check, int64_t number) {
    const npi_check_set *set = npi_check_set_of(check, number);
    npi_image image = {0}, cell = {0};
    char *name = NULL;
    npos_status status;
    NPI_TRY_GOTO(npi_dataset_name(set->survey.set, number - set->first, &name), done);
    NPI_TRY_GOTO(npi_dataset_decode(set->survey.set, number - set->first, &image), done);
    NPI_TRY_GOTO(npi_contact_cell(&image, CELL, 255, &cell), done);
    npi_page_add(page, "<td>");
    picture(page, &cell, name);
    npi_page_add(page, "</td><td class=\"l\">");
    npi_page_escape(page, set->name);
    npi_page_add(page, ": ");
    npi_page_escape(page, name);
    npi_page_add(page, "</td>");
done:
    npi_image_clear(&image);
    npi_image_clear(&cell);
    npi_free(name);
    return status;
}

static npos_status pairs(npi_page *page, const npi_check *check, int a, int b) {
    const npi_shared *shared = npi_check_shared(check, a, b);
    if (shared->examples == 0)
        return NPOS_OK;
    npi_page_add(page, "<details%s><summary>", a != b ? " open" : "");
    npi_page_escape(page, check->set[a].name);
    npi_page_add(page, " and ");
    npi_page_escape(page, a == b ? "itself" : check->set[b].name);
    npi_page_add(page,
                 ": the first %d pairs</summary>\n<div class=\"scroll\"><table class=\"pairs\">\n",
                 shared->examples);
    for (int i = 0; i < shared->examples; i++) {
        const npi_duplicate *d = &shared->example[i];
        npi_page_add(page, "<tr>");
        NPI_TRY(pair_image(page, check, d->a));
        NPI_TRY(pair_image(page, check, d->b));
        if (d->exact)
            npi_page_add(page, "<td class=\"l\">the same pixels</td></tr>\n");
        else
            npi_page_add(page, "<td class=\"l\">%d of 64 bits differ</td></tr>\n", d->distance);
    }
    npi_page_add(page, "</table></div></details>\n");
    return NPOS_OK;
}

static npos_status copies(npi_page *page, const npi_check *check) {
    npi_page_section(page, "copies", "Images that come twice");
    npi_page_add(page, "<p>Exact copies have the same pixels.");
    if (check->distance >= 0)
        npi_page_add(page,
                     " Near ones differ in at most %d of 64 bits of a perceptual hash and look "
                     "alike at 16 x 16 pixels (correlation of at least %.2f): the same picture "
                     "compressed anew, scaled or a little brighter. Look at the pairs before you "
                     "remove any.",
                     check->distance, NPI_NEAR_LIKENESS);
    else
        npi_page_add(page, " Near ones were not looked for.");
    npi_page_add(page, "</p>\n");
    npi_page_add(
        page,
        "<div class=\"scroll\"><table>\n<tr><th>images of</th><th class=\"l\">in</th><th>exact</th>"
        "<th>near</th><th>of</th></tr>\n");
    for (int b = 0; b < check->sets; b++)
        for (int a = 0; a < check->sets; a++) {
            const npi_shared *shared = npi_check_shared(check, a, b);
            npi_page_add(page, "<tr>");
            text_cell(page, check->set[b].name);
            text_cell(page, a == b ? "itself" : check->set[a].name);
            count_cell(page, shared->exact);
            if (check->distance >= 0)
                count_cell(page, shared->near);
            else
                npi_page_add(page, "<td>-</td>");
            count_cell(page, check->set[b].survey.count);
            npi_page_add(page, "</tr>\n");
        }
    npi_page_add(page, "</table></div>\n");
    for (int b = 0; b < check->sets; b++)
        for (int a = 0; a <= b; a++)
            NPI_TRY(pairs(page, check, a, b));
    return NPOS_OK;
}

static void overlaps(npi_page *page, const npi_check *check) {
    if (check->overlaps == 0)
        return;
    npi_page_section(page, "overlaps", "OOD classes that are called like ID classes");
    npi_page_add(page, "<div class=\"scroll\"><table>\n<tr><th>set</th><th "
                       "class=\"l\">class</th><th class=\"l\">ID class"
                       "</th><th class=\"l\">names</th><th>images</th></tr>\n");
    for (int i = 0; i < check->overlaps; i++) {
        const npi_overlap *o = &check->overlap[i];
        npi_page_add(page, "<tr>");
        text_cell(page, check->set[o->ood].name);
        text_cell(page, o->called);
        text_cell(page, npi_dataset_class_name(check->set[o->id].survey.set, o->id_class));
        text_cell(page, o->whole ? "the same" : "one in the other");
        count_cell(page, o->images);
        npi_page_add(page, "</tr>\n");
    }
    npi_page_add(page, "</table></div>\n");
}

npos_status npi_data_page_write(const npi_check *check, const char *path) {
    npi_page page = {0};
    char now[32];
    npi_utc_now(now);
    npi_page_add(
        &page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
        "<title>npos data check</title>\n<style>\n%s%s%s.pairs img{width:64px;height:64px;"
        "image-rendering:pixelated}.pairs td{white-space:normal;overflow-wrap:anywhere}</style>\n"
        "</head>\n<body>\n<main>\n<h1>Data check</h1>\n<p class=\"mute\">npos %s, %s</p>\n",
        npi_page_style[0], npi_page_style[1], npi_page_style[2], NPOS_VERSION, now);
    findings(&page, check);
    sets(&page, check);
    overlaps(&page, check);
    npos_status status = copies(&page, check);
    for (int s = 0; s < check->sets; s++) {
        const npi_check_set *set = &check->set[s];
        npi_page_add(&page, "<h2>");
        npi_page_escape(&page, set->name);
        npi_page_add(&page, "</h2>\n");
        broken(&page, &set->survey);
        contact(&page, set);
        if (set->survey.classes > 0)
            classes(&page, set);
    }
    npi_page_add(&page, "</main>\n</body>\n</html>\n");
    if (status == NPOS_OK)
        status = page.status;
    if (status == NPOS_OK)
        status = npi_file_write(path, page.bytes, page.length);
    npi_page_clear(&page);
    return status;
}
