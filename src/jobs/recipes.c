/* npos_recipes: the recipes of this installation, or all settings of one. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "jobs/recipe.h"
#include "npos/npos.h"

/* The first sentence of the comment that a recipe starts with, without its full stop; "" without a
 * comment. */
static void first_sentence(const char *from, char *text, size_t size) {
    size_t length = 0;
    while (*from == '#') {
        from += 1 + strspn(from + 1, " ");
        for (; *from && *from != '\n'; from++) {
            bool stop = *from == '.' && (from[1] == ' ' || from[1] == '\n' || from[1] == '\0');
            if (stop || length + 2 >= size) {
                text[length] = '\0';
                return;
            }
            text[length++] = *from;
        }
        from += *from == '\n';
        text[length++] = ' ';
    }
    while (length > 0 && text[length - 1] == ' ')
        length--;
    text[length] = '\0';
}

static npos_status summary(const char *name, char *text, size_t size) {
    char *path = NULL, *bytes = NULL, *file = NULL;
    size_t length;
    npos_status status = npi_format(&file, "%s.yaml", name);
    if (status == NPOS_OK)
        status = npi_path_join(&path, npi_recipe_folder(), file);
    if (status == NPOS_OK)
        status = npi_file_read(path, &bytes, &length);
    if (status == NPOS_OK)
        first_sentence(bytes, text, size);
    npi_free(file);
    npi_free(path);
    npi_free(bytes);
    return status;
}

static npos_status list(FILE *out) {
    char **names, text[256];
    npos_status status;
    NPI_TRY(npi_recipe_names(&names));
    for (int i = 0; names[i]; i++) {
        NPI_TRY_GOTO(summary(names[i], text, sizeof text), done);
        if (*text)
            fprintf(out, "%-18s %s\n", names[i], text);
        else
            fprintf(out, "%s\n", names[i]);
    }
    status = NPOS_OK;
done:
    npi_names_free(names);
    return status;
}

npos_status npos_recipes(const char *name, FILE *out) {
    if (!name)
        return list(out);
    npi_recipe recipe = {0};
    char *text = NULL;
    npos_status status;
    NPI_TRY(npi_recipe_load(name, &recipe));
    status = npi_recipe_format(&recipe, true, &text);
    if (status == NPOS_OK)
        fputs(text, out);
    npi_free(text);
    npi_recipe_clear(&recipe);
    return status;
}
