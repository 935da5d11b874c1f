/* npos_finetune: npos_train of the last blocks of CLIP's image tower; its files are settings of the recipe. */
#include "base/memory.h"
#include "jobs/compute.h"
#include "jobs/options.h"
#include "jobs/trainer.h"

void npos_finetune_options_init(npos_finetune_options *options) {
    *options =
        (npos_finetune_options){.struct_size = sizeof *options, .compute = npi_compute_defaults()};
}

enum { FILES = 3 };

npos_status npos_finetune(const npos_finetune_options *o) {
    NPI_CHECK_OPTIONS(o, "npos_finetune");
    const struct {
        const char *key, *path;
    } files[FILES] = {{"clip", o->clip}, {"features", o->features}, {"text", o->text}};
    char *made[FILES] = {0};
    const char **set = NULL;
    int count = 0;
    npos_status status;
    NPI_TRY_GOTO(npi_alloc(&set, (size_t)o->set_count + FILES, sizeof *set, "settings"), done);
    for (int i = 0; i < o->set_count; i++)
        set[count++] = o->set[i];
    for (int i = 0; i < FILES; i++) {
        if (!files[i].path)
            continue;
        NPI_TRY_GOTO(npi_format(&made[i], "%s=%s", files[i].key, files[i].path), done);
        set[count++] = made[i];
    }
    npos_train_options options;
    npos_train_options_init(&options);
    options.compute = o->compute;
    options.recipe = o->recipe;
    options.data = o->data;
    options.out = o->out;
    options.set = set;
    options.set_count = count;
    options.resume = o->resume;
    options.stop_after_epoch = o->stop_after_epoch;
    status = npi_train(&options, NPI_TRAINER_FINETUNE);
done:
    for (int i = 0; i < FILES; i++)
        npi_free(made[i]);
    npi_free(set);
    return status;
}
