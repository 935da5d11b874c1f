/* bench/clipstep - one fine-tuning step of a CLIP model of any size, from a file to a file: losses, embeddings and every
 * gradient, to be laid beside another program's (bench/peers/clip_parity.py).
 *
 *     clipstep --clip DIR|FILE --in FILE --out FILE [--device NAME] [--precision NAME] [--first BLOCK] [--open]
 *
 * FILE in: tokens [n][rows][width] F16, labels [n] I32, text [C][D] F32, phi.{0,2}.{weight,bias} F32; with --open also
 * ring [C][ring][D] F32 (all full), noise [noise][D] F32, picks [C][pick] I32 and the numbers k, select, keep as I32 [1].
 * FILE out: losses [5], h [n][D] (of the embeddings' ring rows), grad.NAME. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "devices/devices.h"
#include "io/safetensors.h"
#include "jobs/clip_file.h"
#include "jobs/model_file.h"
#include "ood/objective.h"

static void check(npos_status status) {
    if (status != NPOS_OK) {
        fprintf(stderr, "clipstep: %s\n", npos_error_message());
        exit(1);
    }
}

static const npi_named_tensor *find(const npi_safetensors *file, const char *name) {
    const npi_named_tensor *t = npi_safetensors_find(file, name);
    if (!t) {
        fprintf(stderr, "clipstep: the file in has no '%s'\n", name);
        exit(2);
    }
    return t;
}

static int number(const npi_safetensors *file, const char *name) {
    return *(const int32_t *)find(file, name)->data;
}

static void *to_device(npi_device *dev, const npi_named_tensor *t, size_t bytes) {
    void *memory;
    check(dev->memory->alloc(dev, bytes, t->name, &memory));
    check(dev->memory->upload(dev, memory, t->data, bytes));
    return memory;
}

static size_t elements(const npi_named_tensor *t) {
    size_t count = 1;
    for (int i = 0; i < t->ndim; i++)
        count *= (size_t)t->shape[i];
    return count;
}

typedef struct arguments {
    const char *clip, *in, *out, *device, *precision;
    int first;
    bool open;
} arguments;

static arguments parse(int argc, char **argv) {
    arguments a = {.device = "cpu", .precision = "fp32", .first = 10};
    const char **const texts[] = {&a.clip, &a.in, &a.out, &a.device, &a.precision};
    static const char *const names[] = {"--clip", "--in", "--out", "--device", "--precision"};
    for (int i = 1; i < argc; i++) {
        bool known = strcmp(argv[i], "--open") == 0;
        a.open |= known;
        for (size_t k = 0; k < sizeof names / sizeof *names && i + 1 < argc && !known; k++)
            if (strcmp(argv[i], names[k]) == 0) {
                *texts[k] = argv[++i];
                known = true;
            }
        if (!known && strcmp(argv[i], "--first") == 0 && i + 1 < argc) {
            a.first = atoi(argv[++i]);
            known = true;
        }
        if (!known) {
            fprintf(stderr, "clipstep: '%s' is not known, or lacks its value\n", argv[i]);
            exit(2);
        }
    }
    if (!a.clip || !a.in || !a.out) {
        fprintf(stderr, "clipstep: --clip, --in and --out are needed\n");
        exit(2);
    }
    return a;
}

static npi_objective_desc describe(const npi_safetensors *in, bool open, int n, int classes,
                                   int dim) {
    npi_objective_desc desc = {.method = NPI_METHOD_CLIP,
                               .samples = n,
                               .classes = classes,
                               .alpha = 0.1f,
                               .temperature = 8.0f,
                               .synth = {classes, 1, dim, 1, 1, 1, 1, 1, 0.1f, false, 1},
                               .sgd = {.momentum = 0.9f, .weight_decay = 1e-4f, .nesterov = true}};
    if (open) {
        desc.synth.ring = (int)find(in, "ring")->shape[1];
        desc.synth.noise = (int)find(in, "noise")->shape[0];
        desc.synth.pick = (int)find(in, "picks")->shape[1];
        desc.synth.k = number(in, "k");
        desc.synth.select = number(in, "select");
        desc.synth.keep = number(in, "keep");
    }
    return desc;
}

static void set_head(const npi_safetensors *in, npi_params *params) {
    static const char *const names[] = {"phi.0.weight", "phi.0.bias", "phi.2.weight", "phi.2.bias"};
    for (int i = 0; i < 4; i++)
        check(npi_param_set(params, NPI_ARENA_VALUES, npi_params_find(params, names[i]),
                            find(in, names[i])->data));
}

static void set_rings(const npi_safetensors *in, npi_objective *o) {
    const npi_named_tensor *ring = find(in, "ring");
    npi_device *dev = o->dev;
    uint64_t *counts;
    check(npi_alloc(&counts, (size_t)o->ring.classes, sizeof *counts, "counts"));
    for (int c = 0; c < o->ring.classes; c++)
        counts[c] = (uint64_t)o->ring.size;
    check(dev->memory->upload(dev, o->ring.rows, ring->data, elements(ring) * sizeof(float)));
    check(
        dev->memory->upload(dev, o->ring.count, counts, (size_t)o->ring.classes * sizeof *counts));
    npi_free(counts);
}

static void write(const npi_objective *o, int n, const char *path) {
    npi_tensor_list list = {0};
    npi_device *dev = o->dev;
    float losses[NPI_LOSS_COUNT];
    check(dev->memory->download(dev, losses, o->losses, sizeof losses));
    check(
        npi_tensor_list_add(&list, "", "losses", NPI_F32, 1, (int64_t[]){NPI_LOSS_COUNT}, losses));
    check(npi_tensor_list_add(&list, "", "h", NPI_F32, 2, (int64_t[]){n, o->model->dim}, NULL));
    check(dev->memory->download(dev, (void *)(uintptr_t)list.tensors[1].data, o->rows,
                                (size_t)n * (size_t)o->model->dim * sizeof(float)));
    check(npi_tensor_list_add_params(&list, "grad.", &o->model->params, NPI_ARENA_GRADS));
    check(npi_safetensors_write(path, list.tensors, list.count, NULL));
    npi_tensor_list_clear(&list);
}

int main(int argc, char **argv) {
    arguments a = parse(argc, argv);
    npi_device *dev;
    npi_safetensors *in;
    npi_clip clip;
    npi_model model;
    npi_clip_tuning *plan;
    npi_objective o;
    npi_precision precision =
        strcmp(a.precision, "bf16") == 0 ? NPI_PRECISION_BF16 : NPI_PRECISION_FP32;
    check(npi_device_open(a.device, precision, 0, &dev));
    check(npi_safetensors_open(a.in, &in));
    const npi_named_tensor *tokens = find(in, "tokens"), *text = find(in, "text");
    int n = (int)tokens->shape[0], classes = (int)text->shape[0], dim = (int)text->shape[1];
    check(npi_clip_load(dev, a.clip, NPI_CLIP_VISION, NPI_CLIP_ACT_AUTO, &clip));
    check(npi_clip_tuned_create(&clip, a.first, (int)find(in, "phi.0.bias")->shape[0], &model));
    set_head(in, &model.params);
    check(npi_clip_tuning_create(&model, &clip.config, a.first, n, &plan));
    npi_objective_desc desc = describe(in, a.open, n, classes, dim);
    check(npi_objective_create(npi_comm_self(), &model, npi_clip_tuning_encoder(plan), &desc, &o));
    check(npi_objective_set_text(&o, text->data));
    uint16_t *halves = to_device(dev, tokens, elements(tokens) * sizeof *halves);
    check(dev->tokens->import_halves(dev, halves, NULL, npi_clip_tuning_input(plan)));
    npi_step step = {0, 0.1f, 0.01f};
    check(dev->memory->upload(dev, o.step, &step, sizeof step));
    check(
        dev->memory->upload(dev, o.labels, find(in, "labels")->data, (size_t)n * sizeof(int32_t)));
    npi_synth_given given = {NULL, NULL};
    if (a.open) {
        set_rings(in, &o);
        given.noise = to_device(dev, find(in, "noise"), elements(find(in, "noise")) * 4);
        given.picks = to_device(dev, find(in, "picks"), elements(find(in, "picks")) * 4);
    }
    check(npi_objective_gradients(&o, a.open, a.open ? &given : NULL));
    check(dev->optim->norm(dev, model.params.body + (a.open ? model.params.head : 0),
                           model.params.grads, o.losses));
    write(&o, n, a.out);
    dev->memory->free(dev, halves);
    dev->memory->free(dev, (void *)(uintptr_t)given.noise);
    dev->memory->free(dev, (void *)(uintptr_t)given.picks);
    npi_objective_free(&o);
    npi_clip_tuning_free(plan);
    npi_model_free(&model);
    npi_clip_free(&clip);
    npi_safetensors_close(in);
    npi_device_close(dev);
    return 0;
}
