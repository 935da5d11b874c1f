/* npos_bench: how fast this machine does the work of a training step. */
#include "jobs/bench.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "jobs/compute.h"
#include "jobs/options.h"
#include "jobs/recording.h"

enum { MOST_RUNS = 50, TOGETHER = 8 };

static const struct {
    const char *name;
    npos_status (*run)(npi_bench *bench);
    const char *precision; /* NULL: the device's */
    bool heavy;            /* on hosts only where it is named */
} rows[] = {{"step", npi_bench_step, NULL, false},
            {"step-open", npi_bench_step_open, NULL, false},
            {"encoder", npi_bench_encoder, NULL, false},
            {"knn", npi_bench_knn, "fp32", false},
            {"synthesis", npi_bench_synthesis, "fp32", false},
            {"augment", npi_bench_augment, NULL, false},
            {"inference", npi_bench_inference, NULL, false},
            {"decode", npi_bench_decode, "uint8", false},
            {"decode-centre", npi_bench_decode_centre, "uint8", false},
            {"decode-large", npi_bench_decode_large, "uint8", false},
            {"decode-scaled", npi_bench_decode_scaled, "uint8", false},
            {"measure", npi_bench_measure, "fp64", false},
            {"step-cifar100", npi_bench_step_cifar100, NULL, true},
            {"step-imagenet100", npi_bench_step_imagenet100, NULL, true},
            {"clip-encoder", npi_bench_clip_encoder, NULL, true},
            {"clip-features", npi_bench_clip_features, NULL, true},
            {"clip-blocks", npi_bench_clip_blocks, NULL, true},
            {"clip-step", npi_bench_clip_step, NULL, true},
            {"knn-imagenet", npi_bench_knn_imagenet, "fp32", true},
            {"knn-imagenet-2048", npi_bench_knn_imagenet_2048, "fp32", true}};
enum { ROWS = sizeof rows / sizeof *rows };

void npos_bench_options_init(npos_bench_options *options) {
    *options = (npos_bench_options){
        .struct_size = sizeof *options, .compute = npi_compute_defaults(), .table = stdout};
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Seconds of one run, over as many as are waited for together. */
static npos_status once(npi_bench *bench, npi_recording *recording, int together,
                        npos_status (*work)(void *), void *context, double *seconds) {
    double began = npi_seconds();
    for (int i = 0; i < together; i++)
        NPI_TRY(bench->records ? npi_recording_run(recording, bench->dev, work, context)
                               : work(context));
    NPI_TRY(bench->dev->memory->sync(bench->dev));
    *seconds = (npi_seconds() - began) / together;
    return NPOS_OK;
}

static npos_status time_runs(npi_bench *bench, npi_recording *recording,
                             npos_status (*work)(void *), void *context) {
    double times[MOST_RUNS], total = 0, warming;
    const int together = bench->records && bench->dev->graph ? TOGETHER : 1;
    NPI_TRY(once(bench, recording, 1, work, context, &warming));
    if (together > 1)
        NPI_TRY(once(bench, recording, 1, work, context, &warming)); /* the recording */
    bench->runs = 0;
    if (warming > 5) {
        times[bench->runs++] = warming;
        total = warming;
    }
    while (bench->runs < MOST_RUNS && total < 2 + (bench->runs < 3 ? 3 : 0)) {
        NPI_TRY(once(bench, recording, together, work, context, &times[bench->runs]));
        total += times[bench->runs++] * together;
    }
    qsort(times, (size_t)bench->runs, sizeof *times, compare);
    bench->best = times[0];
    bench->median = times[bench->runs / 2];
    return NPOS_OK;
}

npos_status npi_bench_time(npi_bench *bench, npos_status (*work)(void *context), void *context) {
    npi_recording recording = {0};
    npos_status status = time_runs(bench, &recording, work, context);
    npi_recording_free(&recording, bench->dev);
    return status;
}

void npi_bench_normals(float *to, size_t count, uint32_t item) {
    for (size_t i = 0; i < count; i += 4) {
        npi_u32x4 r = npi_philox(0, NPI_RANDOM_TEST, 0, item, (uint32_t)(i / 4));
        float x[4];
        npi_normal_pair(r.v[0], r.v[1], &x[0], &x[1]);
        npi_normal_pair(r.v[2], r.v[3], &x[2], &x[3]);
        memcpy(to + i, x, (count - i < 4 ? count - i : 4) * sizeof *x);
    }
}

/* Whether a word of `only` names a row; "decode" names the rows behind it as well. */
static bool names_row(const char *word, const char *row) {
    return strcmp(word, row) == 0 ||
           (strcmp(word, "decode") == 0 && strncmp(row, "decode-", 7) == 0);
}

/* Which rows `only` names, as bits; unknown names are errors. */
static npos_status choose(const char *only, unsigned *chosen) {
    *chosen = only ? 0 : (1u << ROWS) - 1;
    for (const char *at = only; at && *at;) {
        char word[32];
        size_t length = strcspn(at, ",");
        bool found = false;
        snprintf(word, sizeof word, "%.*s", (int)length, at);
        for (int i = 0; i < ROWS; i++)
            if (names_row(word, rows[i].name)) {
                found = true;
                *chosen |= 1u << i;
            }
        if (!found)
            return npi_hint(
                npi_fail(NPOS_INVALID_ARGUMENT, "bench '%s' is not known", word),
                "benchmarks: step, step-open, encoder, knn, synthesis, augment, inference, decode, "
                "decode-centre, decode-large, decode-scaled, measure, step-cifar100, "
                "step-imagenet100, "
                "clip-encoder, clip-features, clip-blocks, "
                "clip-step, knn-imagenet, knn-imagenet-2048");
        at += length + (at[length] == ',');
    }
    return NPOS_OK;
}

static const char *precision_name(const npi_device *dev, int row) {
    if (rows[row].precision)
        return rows[row].precision;
    return dev->compute == NPI_BF16 ? "bf16" : "fp32";
}

static json_t *result(const npi_bench *bench, int row) {
    bool rate = bench->images > 0;
    return json_pack("{s:s, s:f, s:f, s:i, s:s, s:s, s:s, s:s}", "name", rows[row].name, "value",
                     rate ? bench->images / bench->best : 1e3 * bench->best, "median",
                     rate ? bench->images / bench->median : 1e3 * bench->median, "runs",
                     bench->runs, "unit", rate ? "images/s" : "ms", "device", bench->dev->name,
                     "precision", precision_name(bench->dev, row), "shape", bench->shape);
}

static void print(const json_t *row, FILE *out) {
    double value = json_real_value(json_object_get(row, "value"));
    fprintf(out, "%-17s %*.*f %-8s  %-5s %s\n", json_string_value(json_object_get(row, "name")), 11,
            value < 100    ? 2
            : value < 1000 ? 1
                           : 0,
            value, json_string_value(json_object_get(row, "unit")),
            json_string_value(json_object_get(row, "precision")),
            json_string_value(json_object_get(row, "shape")));
    fflush(out);
}

static npos_status run_rows(const npos_bench_options *options, npi_device *dev, unsigned chosen,
                            json_t *results) {
    const npos_compute *compute = &options->compute;
    if (options->table)
        fprintf(options->table, "%s: %s\n", dev->name, dev->description);
    for (int i = 0; i < ROWS; i++) {
        if (!(chosen & 1u << i) || (rows[i].heavy && dev->host && !options->only))
            continue;
        NPI_TRY(npi_compute_progress(compute, "bench", i, ROWS, rows[i].name));
        npi_bench bench = {.dev = dev, .compute = compute};
        npos_status status = rows[i].run(&bench);
        if (status == NPOS_UNSUPPORTED && !options->only) {
            if (options->table)
                fprintf(options->table, "%-16s  left out: %s\n", rows[i].name,
                        npos_error_message());
            continue;
        }
        if (status != NPOS_OK)
            return npi_fail_in(status, "bench '%s'", rows[i].name);
        json_t *row = result(&bench, i);
        if (json_array_append_new(results, row) != 0)
            return npi_fail(NPOS_OUT_OF_MEMORY, "bench: no memory for the results");
        if (options->table)
            print(row, options->table);
    }
    return npi_compute_progress(compute, "bench", ROWS, ROWS, NULL);
}

static npos_status write_json(const char *path, json_t *results) {
    npos_status status;
    char *lines = NULL;
    json_t *whole = json_pack("{s:i, s:O}", "schema", 1, "results", results);
    char *text = whole ? json_dumps(whole, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) : NULL;
    if (text)
        status = npi_format(&lines, "%s\n", text);
    else
        status = npi_fail(NPOS_OUT_OF_MEMORY, "bench: no memory for the results");
    if (status == NPOS_OK)
        status = npi_file_write(path, lines, strlen(lines));
    npi_free(lines);
    free(text);
    json_decref(whole);
    return status;
}

npos_status npos_bench(const npos_bench_options *options) {
    npi_device *dev = NULL;
    unsigned chosen;
    npos_status status;
    NPI_CHECK_OPTIONS(options, "npos_bench");
    NPI_TRY(choose(options->only, &chosen));
    NPI_TRY(npi_compute_open(&options->compute, &dev));
    json_t *results = json_array();
    status = run_rows(options, dev, chosen, results);
    if (status == NPOS_OK && options->json)
        status = write_json(options->json, results);
    json_decref(results);
    npi_device_close(dev);
    return status;
}
