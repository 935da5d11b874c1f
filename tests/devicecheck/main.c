/* devicecheck - compares every entry of a device with the reference device.
 *
 * Exit status: 0 all agree, 1 something differs, 77 the device cannot be opened here. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dc.h"
#include "devices/devices.h"

const dc_op dc_ops[] = {{"acts", dc_check_acts},
                        {"unit", dc_check_unit},
                        {"unit_frozen", dc_check_unit_frozen},
                        {"unit_infer", dc_check_unit_infer},
                        {"unit_shortcut", dc_check_unit_shortcut},
                        {"unit_errors", dc_check_unit_errors},
                        {"pool_max", dc_check_pool_max},
                        {"pool_mean", dc_check_pool_mean},
                        {"linear", dc_check_linear},
                        {"normalize", dc_check_normalize},
                        {"contrast", dc_check_contrast},
                        {"cross_entropy", dc_check_cross_entropy},
                        {"outlier_bce", dc_check_outlier_bce},
                        {"ring_push", dc_check_ring_push},
                        {"kth_neighbour", dc_check_kth_neighbour},
                        {"neighbours", dc_check_neighbours},
                        {"synthesise", dc_check_synthesise},
                        {"gauss", dc_check_gauss},
                        {"augment", dc_check_augment},
                        {"normalise", dc_check_normalise},
                        {"norm", dc_check_norm},
                        {"sgd", dc_check_sgd},
                        {"net", dc_check_net},
                        {"layer_norm", dc_check_layer_norm},
                        {"cosine_losses", dc_check_cosine_losses},
                        {"tokens", dc_check_tokens},
                        {"patches", dc_check_patches},
                        {"blocks", dc_check_blocks},
                        {"block_errors", dc_check_block_errors},
                        {NULL, NULL}};

enum { OPS = sizeof dc_ops / sizeof *dc_ops - 1, CANNOT_RUN = 77 };

typedef struct options {
    const char *device, *op;
    npi_precision precision;
    int threads;
    uint64_t seed;
    bool bench, json, grad, self, threads_check, verbose;
} options;

static const char usage[] =
    "usage: devicecheck [--device NAME] [--precision fp32|bf16|auto] [--isa NAME] [--threads N]\n"
    "                   [--seed N] [--op NAME,...] [--list] [--grad] [--threads-check]\n"
    "                   [--self-check]\n"
    "                   [--bench [--json]] [-v]\n";

static bool parse(int count, char **words, options *o) {
    for (int i = 1; i < count; i++) {
        const char *word = words[i], *value = i + 1 < count ? words[i + 1] : NULL;
        if (strcmp(word, "--list") == 0) {
            for (int j = 0; j < OPS; j++)
                puts(dc_ops[j].name);
            exit(0);
        }
        bool *flag = strcmp(word, "--bench") == 0           ? &o->bench
                     : strcmp(word, "--json") == 0          ? &o->json
                     : strcmp(word, "--grad") == 0          ? &o->grad
                     : strcmp(word, "--self-check") == 0    ? &o->self
                     : strcmp(word, "--threads-check") == 0 ? &o->threads_check
                     : strcmp(word, "-v") == 0              ? &o->verbose
                                                            : NULL;
        if (flag) {
            *flag = true;
            continue;
        }
        if (!value)
            return false;
        i++;
        if (strcmp(word, "--device") == 0)
            o->device = value;
        else if (strcmp(word, "--op") == 0)
            o->op = value;
        else if (strcmp(word, "--isa") == 0)
            setenv("NPOS_ISA", value, 1);
        else if (strcmp(word, "--threads") == 0)
            o->threads = atoi(value);
        else if (strcmp(word, "--seed") == 0)
            o->seed = strtoull(value, NULL, 10);
        else if (strcmp(word, "--precision") == 0 && strcmp(value, "fp32") == 0)
            o->precision = NPI_PRECISION_FP32;
        else if (strcmp(word, "--precision") == 0 && strcmp(value, "bf16") == 0)
            o->precision = NPI_PRECISION_BF16;
        else if (strcmp(word, "--precision") != 0 || strcmp(value, "auto") != 0)
            return false;
    }
    return true;
}

/* Whether the list of names parted by commas, NULL for all, holds `name`. */
static bool chosen(const char *list, const char *name) {
    size_t length = strlen(name);
    for (const char *at = list; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (strncmp(at, name, length) == 0 && (at[length] == ',' || at[length] == '\0'))
            return true;
    return !list;
}

/* Every name of the list is that of an operation. */
static bool known(const char *list) {
    int names = 1, found = 0;
    for (const char *at = list; at && *at; at++)
        names += *at == ',';
    for (int i = 0; i < OPS; i++)
        found += chosen(list, dc_ops[i].name);
    return !list || found == names;
}

/* Opens both sides; the reference stands on side 0. */
static bool open_sides(dc *d, const options *o, int threads) {
    *d = (dc){.seed = o->seed, .verbose = o->verbose, .op = "open"};
    if (npi_device_open(o->device, o->precision, threads, &d->side[1]) != NPOS_OK) {
        fprintf(stderr, "devicecheck: %s\n", npos_error_message());
        return false;
    }
    if (npi_reference_open(&d->side[0]) == NPOS_OK)
        return true;
    fprintf(stderr, "devicecheck: %s\n", npos_error_message());
    npi_device_close(d->side[1]);
    return false;
}

static void close_sides(dc *d) {
    for (int s = 0; s < 2; s++)
        npi_device_close(d->side[s]);
}

static void begin(dc *d, const char *op) {
    d->op = op;
    d->draws = 0;
    d->loosen = 1.0;
    d->skipped = false;
    d->digest = 0xcbf29ce484222325u;
    d->worst = 0.0;
    d->shape[0] = '\0';
}

static void run_op(dc *d, int i) {
    begin(d, dc_ops[i].name);
    dc_ops[i].check(d);
    dc_release(d);
}

/* The committed list: "device precision op" by line, # begins a comment. */
static bool listed(const dc *d, const char *op) {
    char line[256], device[32], precision[32], name[64];
    const char *told = getenv("NPOS_SOURCE_DIR"), *name_of = d->side[1]->name;
    char path[1024];
    snprintf(path, sizeof path, "%s/tests/devicecheck/skips.txt", told ? told : NPOS_SOURCE_DIR);
    size_t kind = strcspn(name_of, ":"); /* of "cuda:0" too, "cuda" stands in the list */
    FILE *file = fopen(path, "r");
    bool found = false;
    while (file && fgets(line, sizeof line, file))
        found =
            found ||
            (line[0] != '#' && sscanf(line, "%31s %31s %63s", device, precision, name) == 3 &&
             strlen(device) == kind && strncmp(device, name_of, kind) == 0 &&
             strcmp(precision, npi_dtype_name(d->side[1]->compute)) == 0 && strcmp(name, op) == 0);
    if (file)
        fclose(file);
    return found;
}

static int check_all(dc *d, const options *o) {
    for (int i = 0; i < OPS; i++) {
        if (!chosen(o->op, dc_ops[i].name))
            continue;
        int failed = d->failed, compared = d->compared;
        run_op(d, i);
        if (d->skipped != listed(d, d->op))
            dc_fail(d, "%s, but skips.txt says otherwise", d->skipped ? "skipped" : "not skipped");
        printf("%s %-14s %5d compared, worst error %.2f of its limit\n",
               d->failed > failed ? "FAIL"
               : d->skipped       ? "skip"
                                  : "ok  ",
               d->op, d->compared - compared, d->worst);
    }
    return d->failed > 0;
}

/* The same bits with one, two and three threads. */
static int check_threads(const options *o) {
    uint64_t digest[3][OPS];
    int failed = 0;
    for (int t = 0; t < 3; t++) {
        dc d;
        if (!open_sides(&d, o, t + 1))
            return CANNOT_RUN;
        for (int i = 0; i < OPS; i++) {
            if (chosen(o->op, dc_ops[i].name))
                run_op(&d, i);
            digest[t][i] = d.digest;
            if (digest[t][i] != digest[0][i]) {
                fprintf(stderr, "FAIL %s: other bits with %d threads than with one\n",
                        dc_ops[i].name, t + 1);
                failed++;
            }
        }
        failed += d.failed;
        close_sides(&d);
    }
    if (!failed)
        puts("ok   the same bits with 1, 2 and 3 threads");
    return failed > 0;
}

int main(int count, char **words) {
    options o = {.device = "cpu", .precision = NPI_PRECISION_FP32, .seed = 1};
    if (!parse(count, words, &o) || !(o.bench || known(o.op))) {
        fputs(usage, stderr);
        return 2;
    }
    if (o.threads_check)
        return check_threads(&o);
    dc d;
    if (!open_sides(&d, &o, o.threads))
        return CANNOT_RUN;
    if (!o.json)
        printf("%s: %s\n", d.side[1]->name, d.side[1]->description);
    int result = 0;
    if (o.bench) {
        begin(&d, "bench");
        dc_bench(&d, o.op, o.json);
    } else if (o.self) {
        begin(&d, "self");
        result = !dc_self_check(&d);
    } else if (o.grad) {
        begin(&d, "grad");
        dc_grad(&d);
    } else {
        result = check_all(&d, &o);
    }
    result = result || d.failed > 0;
    dc_release(&d);
    close_sides(&d);
    return result;
}
