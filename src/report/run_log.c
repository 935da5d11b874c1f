#include "report/run_log.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"

const char *const npi_log_names[NPI_LOG_COLUMNS] = {
    "epoch",           "lr",           "loss",
    "loss_disp",       "loss_comp",    "loss_open",
    "loss_ce",         "grad_norm",    "prototype_min_distance",
    "projection_dead", "images_per_s", "seconds"};

void npi_log_clear(npi_log *log) {
    for (int c = 0; c < NPI_LOG_COLUMNS; c++)
        npi_free(log->column[c]);
    *log = (npi_log){0};
}

int npi_log_has(const npi_log *log, npi_log_column column) {
    for (int i = 0; i < log->rows; i++)
        if (isfinite(log->column[column][i]))
            return 1;
    return 0;
}

static npos_status take_line(const char *path, int number, const char *line, size_t length,
                             npi_log *log) {
    json_error_t error;
    json_t *object = json_loadb(line, length, 0, &error);
    json_t *epoch = json_object_get(object, "epoch");
    if (!json_is_number(epoch)) {
        npos_status status =
            npi_fail(NPOS_BAD_DATA, "%s: line %d: expected an object with 'epoch'%s%s", path,
                     number, object ? "" : ": ", object ? "" : error.text);
        json_decref(object);
        return status;
    }
    int row = log->rows;
    while (row > 0 && log->column[NPI_LOG_EPOCH][row - 1] >= json_number_value(epoch))
        row--;
    for (int c = 0; c < NPI_LOG_COLUMNS; c++) {
        json_t *value = json_object_get(object, npi_log_names[c]);
        log->column[c][row] = json_is_number(value) ? json_number_value(value) : NAN;
    }
    log->rows = row + 1;
    json_decref(object);
    return NPOS_OK;
}

npos_status npi_log_read(const char *path, npi_log *out) {
    char *text = NULL;
    size_t size, lines = 0;
    npos_status status;
    NPI_TRY(npi_file_read(path, &text, &size));
    for (size_t i = 0; i < size; i++)
        lines += text[i] == '\n';
    for (int c = 0; c < NPI_LOG_COLUMNS; c++)
        NPI_TRY_GOTO(npi_alloc(&out->column[c], lines, sizeof **out->column, "log"), done);
    int number = 1;
    status = NPOS_OK;
    for (const char *line = text, *end; (end = strchr(line, '\n')) != NULL;
         line = end + 1, number++)
        if (end > line)
            NPI_TRY_GOTO(take_line(path, number, line, (size_t)(end - line), out), done);
done:
    npi_free(text);
    if (status != NPOS_OK)
        npi_log_clear(out);
    return status;
}
