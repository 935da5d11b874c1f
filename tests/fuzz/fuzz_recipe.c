/* Recipes: YAML text from anyone; what is read must be written and read back the same. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "fuzz/fuzz.h"
#include "jobs/recipe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    npi_recipe recipe = {0}, again = {0};
    char *text = NULL, *second = NULL;
    if (npi_recipe_parse((const char *)data, size, "fuzz", &recipe) == NPOS_OK) {
        if (npi_recipe_format(&recipe, true, &text) != NPOS_OK ||
            npi_recipe_parse(text, strlen(text), "again", &again) != NPOS_OK ||
            npi_recipe_format(&again, true, &second) != NPOS_OK || strcmp(text, second) != 0)
            abort();
        npi_recipe_clear(&again);
        npi_recipe_clear(&recipe);
    }
    npi_free(text);
    npi_free(second);
    return 0;
}
