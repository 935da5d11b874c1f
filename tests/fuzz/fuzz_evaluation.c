/* eval.json from anyone: what is read must make a table in every notation. */
#include <stdio.h>
#include <stdlib.h>

#include "fuzz/fuzz.h"
#include "report/evaluation_json.h"
#include "report/evaluation_table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    npi_evaluation evaluation = {0};
    char *table = NULL;
    size_t length;
    if (npi_evaluation_read(fuzz_path(data, size), &evaluation) != NPOS_OK)
        return 0;
    for (int format = NPI_FORMAT_TABLE; format <= NPI_FORMAT_JSON; format++) {
        FILE *out = open_memstream(&table, &length);
        if (!out || npi_evaluation_table(&evaluation, (npi_format_kind)format, out) != NPOS_OK)
            abort();
        fclose(out);
        free(table);
    }
    npi_evaluation_clear(&evaluation);
    return 0;
}
