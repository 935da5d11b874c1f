#include "jobs/sift.h"

#include <inttypes.h>

#include "io/json_text.h"
#include "jobs/compute.h"

static npos_status tell(void *context, int64_t done, int64_t total) {
    return npi_compute_progress(context, "look for broken images", done, total, NULL);
}

npos_status npi_sift(const npos_compute *compute, npi_images *images) {
    npos_compute told = *compute;
    if (!compute->skip_broken)
        return NPOS_OK;
    NPI_TRY(npi_images_sift(images, compute->threads, tell, &told));
    for (int64_t i = 0; i < images->broken_count; i++)
        NPI_TRY(npi_compute_progress(compute, "skipped", 0, 0, images->broken[i].why));
    if (images->broken_count == 0)
        return NPOS_OK;
    char text[96];
    snprintf(text, sizeof text, "%" PRId64 " broken image%s in all, %" PRId64 " are left",
             images->broken_count, images->broken_count == 1 ? "" : "s", images->count);
    return npi_compute_progress(compute, "skipped", 0, 0, text);
}

json_t *npi_sifted_json(const npi_images *images) {
    json_t *names = json_array();
    for (int64_t i = 0; i < images->broken_count; i++)
        json_array_append_new(names, npi_json_text(images->broken[i].name));
    return names;
}
