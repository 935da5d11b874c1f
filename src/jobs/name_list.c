#include "jobs/name_list.h"

#include <stdio.h>

void npi_name_list_add(npi_name_list *list, const char *name) {
    size_t room = sizeof list->text - list->used;
    if (list->count++ < 3) {
        int n = snprintf(list->text + list->used, room, "%s'%.100s'", list->used ? ", " : "", name);
        list->used += (size_t)n < room ? (size_t)n : room - 1;
    }
}

const char *npi_name_list_text(npi_name_list *list) {
    if (list->count > 3)
        snprintf(list->text + list->used, sizeof list->text - list->used, " and %d more",
                 list->count - 3);
    return list->text;
}

npos_status npi_name_lists_fail(const char *path, npi_name_list *missing, npi_name_list *extra) {
    if (missing->count == 0 && extra->count == 0)
        return NPOS_OK;
    return npi_hint(
        npi_fail(NPOS_BAD_DATA, "%s: weights of another network: %s%s%s%s%s", path,
                 missing->count ? "it lacks " : "", npi_name_list_text(missing),
                 missing->count && extra->count ? "; " : "",
                 extra->count ? "this model has no " : "", npi_name_list_text(extra)),
        "method, encoder, projection_dim, head_dim and feature_dim decide which weights there are");
}
