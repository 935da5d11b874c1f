/* Class lists and templates: lines from anyone, put together. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "fuzz/fuzz.h"
#include "text/prompts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *path = fuzz_path(data, size);
    npi_class_list list;
    npi_templates templates;
    char *prompt = NULL;
    npos_status listed = npi_class_list_open(path, &list);
    npos_status read = npi_templates_open(path, &templates);
    if ((listed == NPOS_OK) != (list.count > 0) || (read == NPOS_OK) != (templates.count > 0))
        abort();
    for (int c = 0; c < list.count; c++)
        if (strlen(list.names[c]) == 0 || (list.folders && strlen(list.folders[c]) == 0))
            abort();
    if (listed == NPOS_OK && read == NPOS_OK) {
        if (npi_prompt(templates.text[0], list.names[0], &prompt) != NPOS_OK ||
            !strstr(prompt, list.names[0]))
            abort();
    }
    npi_free(prompt);
    npi_class_list_clear(&list);
    npi_templates_clear(&templates);
    return 0;
}
