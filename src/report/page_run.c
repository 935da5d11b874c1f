/* Head of the page, and what was run. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "report/report.h"

static void card(npi_page *page, const char *label, const char *format, double value) {
    char text[64];
    snprintf(text, sizeof text, format, value);
    npi_page_add(page, "<div class=\"card\"><span>%s</span><b>%s</b></div>\n", label, text);
}

static void cards(npi_page *page, const npi_report *report) {
    if (report->evaluation_why)
        return;
    const npi_score_result *result = &report->evaluation.result[report->main_score];
    static const struct {
        const char *group, *auroc, *fpr;
    } rows[] = {{"far", "AUROC, far sets", "FPR95, far sets"},
                {"near", "AUROC, near sets", "FPR95, near sets"}};
    int shown = 0;
    npi_measures mean;
    npi_page_add(page, "<div class=\"cards\">\n");
    if (result->accuracy.knn >= 0)
        card(page, "ID accuracy, 50-NN vote", "%.1f %%", 100 * result->accuracy.knn);
    if (result->accuracy.head >= 0)
        card(page, "ID accuracy, classifier", "%.1f %%", 100 * result->accuracy.head);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (npi_mean_measures(result, rows[i].group, &mean) > 0) {
            card(page, rows[i].auroc, "%.1f %%", 100 * mean.auroc);
            card(page, rows[i].fpr, "%.1f %%", 100 * mean.fpr95);
            shown++;
        }
    }
    if (shown == 0 && npi_mean_measures(result, NULL, &mean) > 0) {
        card(page, "AUROC, mean", "%.1f %%", 100 * mean.auroc);
        card(page, "FPR95, mean", "%.1f %%", 100 * mean.fpr95);
    }
    npi_page_add(page, "</div>\n");
}

void npi_page_head(npi_page *page, const npi_report *report) {
    const npi_recipe *recipe = &report->run->recipe;
    npi_page_add(page, "<h1>");
    npi_page_escape(page, npi_path_name(report->run->path));
    npi_page_add(page, ": what the network knows, and what it does not</h1>\n<p class=\"lead\">An "
                       "image classifier trained with <b>");
    npi_page_escape(page, recipe->method);
    npi_page_add(page, "</b> (recipe ");
    npi_page_escape(page, recipe->name);
    npi_page_add(page, ", %d classes, seed %d)", report->run->classes, recipe->seed);
    if (!report->evaluation_why) {
        int sets = report->evaluation.result[report->main_score].sets;
        npi_page_add(page,
                     ", tested on images of its own classes (in-distribution, ID) and on %d "
                     "set%s of images of something else (out-of-distribution, OOD). A score "
                     "says how familiar an image looks: larger means more ID",
                     sets, sets == 1 ? "" : "s");
    }
    npi_page_add(page, ".</p>\n<nav><a href=\"#table\">Table</a><a href=\"#scores\">Scores</a>"
                       "<a href=\"#classes\">Classes</a><a href=\"#images\">Images</a>"
                       "<a href=\"#spread\">Distances</a><a href=\"#map\">Map</a>"
                       "<a href=\"#synthesis\">Synthesis</a><a href=\"#training\">Training</a>"
                       "<a href=\"#run\">Settings</a></nav>\n");
    cards(page, report);
}

/* ---- settings ---- */

static void row(npi_page *page, const char *key, const char *value) {
    npi_page_add(page, "<tr><td>");
    npi_page_escape(page, key);
    npi_page_add(page, "</td><td>");
    npi_page_escape(page, value);
    npi_page_add(page, "</td></tr>\n");
}

/* All leaves of a JSON value, named by their way: "data.train.hash". */
static void flatten(npi_page *page, const char *way, json_t *value, int depth) {
    char key[256], number[64];
    const char *name;
    json_t *inner;
    size_t index;
    if (json_is_object(value) && depth < 8) {
        json_object_foreach(value, name, inner) {
            snprintf(key, sizeof key, "%.120s%s%.120s", way, *way ? "." : "", name);
            flatten(page, key, inner, depth + 1);
        }
    } else if (json_is_array(value) && depth < 8) {
        json_array_foreach(value, index, inner) {
            snprintf(key, sizeof key, "%.120s[%zu]", way, index);
            flatten(page, key, inner, depth + 1);
        }
    } else if (json_is_string(value)) {
        row(page, way, json_string_value(value));
    } else {
        if (json_is_integer(value))
            snprintf(number, sizeof number, "%lld", (long long)json_integer_value(value));
        else if (json_is_real(value))
            snprintf(number, sizeof number, "%.6g", json_real_value(value));
        else
            snprintf(number, sizeof number, "%s",
                     json_is_true(value)    ? "yes"
                     : json_is_false(value) ? "no"
                                            : "-");
        row(page, way, number);
    }
}

static void manifest(npi_page *page, const npi_report *report) {
    json_t *root = report->manifest_text ? json_loads(report->manifest_text, 0, NULL) : NULL;
    if (!json_is_object(root)) {
        npi_page_missing(page, "manifest.json is missing or is no JSON object:",
                         "device, versions and data hashes of this run are not known.");
    } else {
        npi_page_add(page, "<div class=\"scroll\"><table class=\"wrap\">\n");
        flatten(page, "", root, 0);
        npi_page_add(page, "</table></div>\n");
    }
    json_decref(root);
}

/* What the figures were taken on. */
static void evaluated(npi_page *page, const npi_report *report) {
    const npi_evaluation *evaluation = &report->evaluation;
    char number[64];
    if (report->evaluation_why)
        return;
    const npi_score_result *result = &evaluation->result[report->main_score];
    npi_page_add(page, "<h3>Evaluated on</h3>\n<div class=\"scroll\"><table class=\"wrap\">\n");
    row(page, "protocol", npi_protocol_name(evaluation->protocol));
    snprintf(number, sizeof number, "%llu", (unsigned long long)evaluation->seed);
    row(page, "seed of draws", number);
    row(page, "ID", evaluation->id_spec);
    for (int i = 1; i < evaluation->id_parts; i++) {
        char name[160];
        snprintf(name, sizeof name, "counts as ID: %.120s", evaluation->id_part[i].name);
        row(page, name, evaluation->id_part[i].spec);
    }
    for (int i = 0; i < result->sets; i++)
        row(page, result->set[i].name, result->set[i].spec);
    if (report->model_hash)
        row(page, "model.safetensors, XXH3", report->model_hash);
    npi_page_add(page, "</table></div>\n");
}

static void key_settings(npi_page *page, const npi_run *run) {
    const npi_recipe *r = &run->recipe;
    bool clip = strcmp(r->encoder, "clip") == 0, tuned = clip && run->has_head;
    npi_page_add(page, "<p>");
    if (clip) {
        npi_page_add(page, "CLIP's image tower on %d x %d images, ", r->image_size, r->image_size);
        if (tuned)
            npi_page_add(page, "its blocks from %d on fine-tuned: ", r->first_block);
        else
            npi_page_add(page, "as it came. ");
    } else {
        npi_page_escape(page, r->encoder);
        npi_page_add(page, " (stem ");
        npi_page_escape(page, r->stem);
        npi_page_add(page, ", width %d) on %d x %d images, ", r->width, r->image_size,
                     r->image_size);
    }
    if (!clip || tuned)
        npi_page_add(page, "%d epochs of batches of %d images in %d view%s, learning rate %g. ",
                     r->epochs, r->batch, r->views, r->views > 1 ? "s" : "", r->lr);
    if (strcmp(r->method, "npos") == 0 || tuned)
        npi_page_add(page,
                     "Outliers from epoch %d on: ring of %d embeddings a class, k = %d, %d of %d "
                     "boundary candidates, %d noise vectors of &sigma; %g, %d kept, weight "
                     "&alpha; = %g. ",
                     r->start_epoch, r->ring, r->k, r->pick, r->select, r->noise, r->sigma, r->keep,
                     r->alpha);
    npi_page_add(page, "</p>\n");
}

void npi_page_settings(npi_page *page, const npi_report *report) {
    npi_page_section(page, "run", "What was run");
    key_settings(page, report->run);
    manifest(page, report);
    evaluated(page, report);
    if (report->recipe_text) {
        npi_page_add(page, "<details><summary>recipe.yaml, every setting as run</summary><pre>");
        npi_page_escape(page, report->recipe_text);
        npi_page_add(page, "</pre></details>\n");
    }
    npi_page_add(page, "<p class=\"mute\">Written by npos %s on %s. Trained: ", NPOS_VERSION,
                 report->written);
    npi_page_escape(page, report->run->path);
    npi_page_add(page, "</p>\n");
}
