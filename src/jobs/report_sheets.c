/* The images of an evaluation, read once more: contact sheets, and embeddings for the map. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "data/stream.h"
#include "jobs/compute.h"
#include "jobs/report_gather.h"

enum { MAP_ID_IMAGES = 600, MAP_SET_IMAGES = 150, MAP_SET_TOTAL = 1000, LARGEST = 96 };

void npi_report_points_clear(npi_report_points *points) {
    npi_features_clear(&points->id);
    for (int i = 0; points->set && i < points->sets; i++)
        npi_features_clear(&points->set[i]);
    npi_free(points->set);
    *points = (npi_report_points){0};
}

typedef struct ranked {
    double score;
    int64_t index;
} ranked;

static int falling(const void *left, const void *right) {
    const ranked *a = left, *b = right;
    if (a->score != b->score)
        return a->score < b->score ? 1 : -1;
    return (a->index > b->index) - (a->index < b->index);
}

/* One image of an opened set at the model's size, made smaller when it is larger than a sheet shows. */
static npos_status make_image(const npi_images *images, const npi_transform *transform,
                              const npi_set_classes *classes, bool own, const ranked *which,
                              npi_sheet_image *out) {
    npi_image stored, sized;
    out->score = which->score;
    out->taken = classes ? classes->taken[which->index] : -1;
    out->is = classes && own ? classes->own[which->index] : -1;
    NPI_TRY(npi_strdup(&out->name, images->names[which->index]));
    NPI_TRY(npi_images_decode(images, which->index, &stored));
    npos_status status = npi_transform_apply(transform, &stored, &sized);
    npi_image_clear(&stored);
    if (status != NPOS_OK || images->size <= LARGEST) {
        out->image = sized;
        return status;
    }
    status = npi_resize(&sized, LARGEST, LARGEST, NPI_BILINEAR, NULL, &out->image);
    npi_image_clear(&sized);
    return status;
}

/* `classes` (may be NULL) says what the images are taken for; `own`: what they are, in the same numbers. */
static npos_status fill_sheet(const npi_images *images, const npi_transform *transform,
                              const double *scores, const npi_set_classes *classes, bool own,
                              npi_sheet *sheet) {
    int64_t n = images->count;
    ranked *order;
    NPI_TRY(npi_alloc(&order, (size_t)n, sizeof *order, "order of scores"));
    for (int64_t i = 0; i < n; i++)
        order[i] = (ranked){isfinite(scores[i]) ? scores[i] : -INFINITY, i};
    qsort(order, (size_t)n, sizeof *order, falling);
    sheet->count = n / 2 < NPI_SHEET_IMAGES ? (int)((n + 1) / 2) : NPI_SHEET_IMAGES;
    npos_status status = NPOS_OK;
    for (int i = 0; i < sheet->count && status == NPOS_OK; i++) {
        status = make_image(images, transform, classes, own, &order[i], &sheet->most[i]);
        if (status == NPOS_OK)
            status =
                make_image(images, transform, classes, own, &order[n - 1 - i], &sheet->least[i]);
    }
    for (int64_t i = 0; i < n && classes && own && status == NPOS_OK; i++) {
        int32_t is = classes->own[order[i].index], taken = classes->taken[order[i].index];
        if (is >= 0 && taken >= 0 && taken != is && sheet->wrong_count < NPI_SHEET_IMAGES)
            status = make_image(images, transform, classes, own, &order[i],
                                &sheet->wrong[sheet->wrong_count++]);
    }
    npi_free(order);
    return status;
}

/* One batch of so many images, evenly spread over a set. */
typedef struct spread {
    int64_t n, of;
} spread;

static npos_status order_of(void *context, int64_t number, int32_t *index, int *count) {
    const spread *s = context;
    (void)number;
    *count = (int)s->n;
    for (int64_t i = 0; i < s->n; i++)
        index[i] = (int32_t)(i * s->of / s->n);
    return NPOS_OK;
}

/* Runs the network over `wanted` images, evenly spread over the set. */
static npos_status embed_some(const npi_report *report, const npos_compute *compute,
                              const char *name, const npi_images *images, int64_t wanted,
                              npi_features *out) {
    char phase[160];
    spread chosen = {images->count < wanted ? images->count : wanted, images->count};
    npi_stream *stream;
    npi_stream_batch batch;
    npi_stream_desc desc = {.images = images,
                            .transform = report->run->transform,
                            .batch = (int)chosen.n,
                            .views = 1,
                            .end = 1,
                            .order = order_of,
                            .context = &chosen,
                            .threads = compute->threads,
                            .slots = 1};
    snprintf(phase, sizeof phase, "embed %.120s", name);
    NPI_TRY(npi_stream_open(&desc, &stream));
    npos_status status = npi_stream_next(stream, &batch);
    if (status == NPOS_OK)
        status = npi_run_features(report->run, batch.pixels, batch.count, compute, phase, out);
    npi_stream_close(stream);
    return status;
}

/* What makes a set's images unusable, as opposed to what stops the report. */
static bool about_data(npos_status status) {
    return status == NPOS_NOT_FOUND || status == NPOS_IO || status == NPOS_BAD_DATA ||
           status == NPOS_INVALID_ARGUMENT || status == NPOS_SHAPE_MISMATCH ||
           status == NPOS_UNSUPPORTED;
}

/* The images that the evaluation left out as broken: both lists are in the set's order. */
static npos_status leave_out(npi_images *images, const npi_skipped *skipped) {
    bool *out;
    int64_t next = 0;
    NPI_TRY(npi_alloc(&out, (size_t)images->count, sizeof *out, "broken images"));
    for (int64_t i = 0; i < images->count && next < skipped->count; i++) {
        out[i] = strcmp(images->names[i], skipped->names[next]) == 0;
        next += out[i];
    }
    npos_status status = npi_images_drop(images, out);
    npi_free(out);
    return status;
}

static npos_status one_set(npi_report *report, const npos_compute *compute, int set,
                           npi_report_points *points) {
    const npi_evaluation *evaluation = &report->evaluation;
    const npi_score_result *result = &evaluation->result[report->main_score];
    const npi_set_result *ood = set < 0 ? NULL : &result->set[set];
    npi_sheet *sheet = &report->sheets[set + 1];
    const char *spec = ood ? ood->spec : evaluation->id_spec, *name = ood ? ood->name : "ID";
    const double *scores = ood ? ood->scores : result->id_scores;
    int64_t n = ood ? ood->n : npi_evaluation_id_own(evaluation, result);
    npi_images images = {0};
    if (!scores)
        return npi_strdup(&sheet->why, "the scores of its images are not there.");
    const npi_skipped *skipped = npi_evaluation_skipped(evaluation, set);
    int64_t drawn = n + (skipped ? skipped->count : 0); /* of an OOD set */
    npos_status status =
        npi_images_open(spec, &report->run->transform, ood && ood->available > drawn ? drawn : 0,
                        evaluation->seed, &images);
    if (status == NPOS_OK && skipped)
        status = leave_out(&images, skipped);
    if (status != NPOS_OK && about_data(status))
        return npi_strdup(&sheet->why, npos_error_message());
    if (status != NPOS_OK)
        return status;
    if (images.count != n) {
        status = npi_format(&sheet->why, "%s now has %lld images, %lld were evaluated", spec,
                            (long long)images.count, (long long)n);
    } else if (n > 0) {
        int64_t share = result->sets > 0 ? MAP_SET_TOTAL / result->sets : 0;
        int64_t wanted = !ood ? MAP_ID_IMAGES : share < MAP_SET_IMAGES ? share : MAP_SET_IMAGES;
        const npi_set_classes *classes = npi_classes_list_find(&report->classes, ood ? name : "id");
        status = fill_sheet(&images, &report->run->transform, scores,
                            classes && classes->n == (ood ? n : result->id_n) ? classes : NULL,
                            !ood, sheet);
        if (status == NPOS_OK)
            status = embed_some(report, compute, name, &images, wanted > 0 ? wanted : 1,
                                ood ? &points->set[set] : &points->id);
    }
    npi_images_clear(&images);
    if (status != NPOS_OK && about_data(status)) /* an image that is gone or broken now */
        return npi_strdup(&sheet->why, npos_error_message());
    return status;
}

npos_status npi_report_sheets(npi_report *report, const npos_compute *compute,
                              npi_report_points *points) {
    if (report->evaluation_why)
        return NPOS_OK;
    int sets = report->evaluation.result[report->main_score].sets;
    NPI_TRY(npi_alloc(&report->sheets, (size_t)sets + 1, sizeof *report->sheets, "sheets"));
    report->sheet_count = sets + 1;
    NPI_TRY(npi_alloc(&points->set, (size_t)sets, sizeof *points->set, "points of the map"));
    points->sets = sets;
    for (int set = -1; set < sets; set++)
        NPI_TRY(one_set(report, compute, set, points));
    return NPOS_OK;
}
