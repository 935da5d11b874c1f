#include "text/prompts.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "text/runes.h"

typedef struct npi_known_class {
    const char *folder, *name;
} npi_known_class;

#include "text/imagenet_classes.inc"

enum { CLASSES_1K = sizeof imagenet_classes / sizeof *imagenet_classes };
enum { CLASSES_100 = sizeof imagenet_100 / sizeof *imagenet_100 };

/* ---- lines ------------------------------------------------------------------------------------------ */

/* Calls `take` with each line of a file that is not empty, blanks at both ends dropped.  Its failures get the
 * file and the line in front. */
typedef npos_status npi_take_line(void *into, const char *line, size_t length);

static bool is_blank(char byte) {
    return byte == ' ' || byte == '\r';
}

static npos_status check_utf8(const char *line, size_t length) {
    for (size_t i = 0; i < length;) {
        uint32_t code = 0;
        int bytes = npi_utf8_decode(line + i, length - i, &code);
        if (bytes == 0 || code == 0)
            return npi_fail(NPOS_BAD_DATA, "byte %zu (0x%02x) is not UTF-8 text", i,
                            (unsigned)(unsigned char)line[i]);
        i += (size_t)bytes;
    }
    return NPOS_OK;
}

static npos_status take_lines(const char *path, npi_take_line *take, void *into) {
    static const char mark[] = "\xEF\xBB\xBF"; /* some editors begin UTF-8 with a byte order mark */
    char *text;
    size_t size;
    NPI_TRY(npi_file_read(path, &text, &size));
    npos_status status = NPOS_OK;
    size_t at = size >= 3 && memcmp(text, mark, 3) == 0 ? 3 : 0;
    for (size_t number = 1; at < size && status == NPOS_OK; number++) {
        const char *line = text + at, *stop = memchr(line, '\n', size - at);
        size_t length = stop ? (size_t)(stop - line) : size - at;
        at += length + 1;
        while (length > 0 && is_blank(line[length - 1]))
            length--;
        while (length > 0 && is_blank(*line)) {
            line++;
            length--;
        }
        if (length == 0)
            continue;
        status = check_utf8(line, length);
        if (status == NPOS_OK)
            status = take(into, line, length);
        if (status != NPOS_OK)
            status = npi_fail_in(status, "%s: line %zu", path, number);
    }
    npi_free(text);
    return status;
}

/* Makes room for one more string behind `count`: arrays here have a power of two of places. */
static npos_status one_more(char ***texts, size_t count) {
    if ((count & (count - 1)) != 0)
        return NPOS_OK;
    return npi_grow(texts, count, count ? count * 2 : 1, sizeof **texts, "lines");
}

/* ---- class lists -------------------------------------------------------------------------------------- */

static npos_status take_class(void *into, const char *line, size_t length) {
    npi_class_list *list = into;
    size_t count = (size_t)list->count;
    const char *tab = memchr(line, '\t', length), *name = tab ? tab + 1 : line;
    size_t name_length = length - (size_t)(name - line);
    if (tab == line || name_length == 0 || (tab && memchr(name, '\t', name_length)))
        return npi_hint(npi_fail(NPOS_BAD_DATA, "expected a name, or a folder, one tab and a name"),
                        "a list has one class a line");
    if (list->count > 0 && (list->folders[0] != NULL) != (tab != NULL))
        return npi_fail(NPOS_BAD_DATA, "%s, unlike the lines before",
                        tab ? "a folder and a name" : "a name without a folder");
    NPI_TRY(one_more(&list->names, count));
    NPI_TRY(one_more(&list->folders, count));
    list->count++;
    NPI_TRY(npi_format(&list->names[count], "%.*s", (int)name_length, name));
    return tab ? npi_format(&list->folders[count], "%.*s", (int)(tab - line), line) : NPOS_OK;
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* No text of the array may stand there twice. */
static npos_status check_once(char *const *texts, int count, const char *what) {
    char **sorted;
    NPI_TRY(npi_alloc(&sorted, (size_t)count, sizeof *sorted, "class names"));
    memcpy(sorted, texts, (size_t)count * sizeof *sorted);
    qsort(sorted, (size_t)count, sizeof *sorted, by_text);
    npos_status status = NPOS_OK;
    for (int i = 1; i < count && status == NPOS_OK; i++)
        if (strcmp(sorted[i - 1], sorted[i]) == 0)
            status = npi_fail(NPOS_BAD_DATA, "two classes have the %s '%s'", what, sorted[i]);
    npi_free(sorted);
    return status;
}

static npos_status read_classes(const char *path, npi_class_list *list) {
    npos_status status = take_lines(path, take_class, list);
    if (status == NPOS_OK && list->count == 0)
        status = npi_fail(NPOS_BAD_DATA, "%s: no class names, expected one a line", path);
    if (status == NPOS_OK && !list->folders[0]) {
        npi_free(list->folders);
        list->folders = NULL;
    }
    if (status == NPOS_OK) {
        status = check_once(list->folders ? list->folders : list->names, list->count,
                            list->folders ? "folder" : "name");
        if (status != NPOS_OK)
            status = npi_fail_in(status, "%s", path);
    }
    if (status != NPOS_OK)
        npi_class_list_clear(list);
    return status;
}

/* The classes at `indices`, or the first `count` where it is NULL. */
static npos_status known_classes(const int16_t *indices, int count, npi_class_list *out) {
    npos_status status = NPOS_OK;
    *out = (npi_class_list){.count = count};
    NPI_TRY_GOTO(npi_alloc(&out->names, (size_t)count, sizeof *out->names, "class names"), done);
    NPI_TRY_GOTO(npi_alloc(&out->folders, (size_t)count, sizeof *out->folders, "class names"),
                 done);
    for (int i = 0; i < count; i++) {
        const npi_known_class *class = &imagenet_classes[indices ? indices[i] : i];
        NPI_TRY_GOTO(npi_strdup(&out->names[i], class->name), done);
        NPI_TRY_GOTO(npi_strdup(&out->folders[i], class->folder), done);
    }
done:
    if (status != NPOS_OK)
        npi_class_list_clear(out);
    return status;
}

static const char *const known_lists[] = {"imagenet-1k", "imagenet-100", NULL};

const char *const *npi_class_lists(void) {
    return known_lists;
}

npos_status npi_class_list_open(const char *list, npi_class_list *out) {
    *out = (npi_class_list){0};
    if (strcmp(list, known_lists[0]) == 0)
        return known_classes(NULL, CLASSES_1K, out);
    if (strcmp(list, known_lists[1]) == 0)
        return known_classes(imagenet_100, CLASSES_100, out);
    if (!npi_is_file(list) && !strchr(list, '/'))
        return npi_hint(npi_fail(NPOS_NOT_FOUND, "%s: no such file or list of classes", list),
                        "built in are imagenet-1k and imagenet-100");
    return read_classes(list, out);
}

/* What a text tower is told of a class that a data set calls `folder`. */
static npos_status name_of(const char *folder, char **out) {
    const size_t digits = strspn(folder, "0123456789"),
                 id = folder[0] == 'n' ? strspn(folder + 1, "0123456789") : 0;
    for (int i = 0; i < CLASSES_1K; i++)
        if (strcmp(folder, imagenet_classes[i].folder) == 0)
            return npi_strdup(out, imagenet_classes[i].name);
    if (folder[digits] == '\0' || (id == 8 && folder[9] == '\0'))
        return npi_hint(npi_fail(NPOS_UNSUPPORTED, "class '%s' is %s: what it means has to be told",
                                 folder, id ? "a WordNet id that ImageNet-1k lacks" : "a number"),
                        "npos text --classes FILE makes the classes' directions from lines of "
                        "\"FOLDER<tab>NAME\"; --text takes them");
    NPI_TRY(npi_strdup(out, folder));
    for (char *at = *out; *at; at++)
        *at = *at == '_' ? ' ' : *at;
    return NPOS_OK;
}

npos_status npi_class_list_of(char *const *folders, int count, npi_class_list *out) {
    npos_status status = NPOS_OK;
    *out = (npi_class_list){.count = count};
    NPI_TRY_GOTO(npi_alloc(&out->names, (size_t)count, sizeof *out->names, "class names"), done);
    NPI_TRY_GOTO(npi_alloc(&out->folders, (size_t)count, sizeof *out->folders, "class names"),
                 done);
    for (int i = 0; i < count; i++) {
        NPI_TRY_GOTO(npi_strdup(&out->folders[i], folders[i]), done);
        NPI_TRY_GOTO(name_of(folders[i], &out->names[i]), done);
    }
done:
    if (status != NPOS_OK)
        npi_class_list_clear(out);
    return status;
}

void npi_class_list_clear(npi_class_list *list) {
    for (int i = 0; i < list->count; i++) {
        if (list->names)
            npi_free(list->names[i]);
        if (list->folders)
            npi_free(list->folders[i]);
    }
    npi_free(list->names);
    npi_free(list->folders);
    *list = (npi_class_list){0};
}

/* ---- templates ------------------------------------------------------------------------------------------ */

static npos_status take_template(void *into, const char *line, size_t length) {
    npi_templates *templates = into;
    if (!memmem(line, length, "{}", 2))
        return npi_hint(
            npi_fail(NPOS_BAD_DATA, "no {} in '%.*s'", length < 64 ? (int)length : 64, line),
            "a template says where the name goes: a photo of a {}.");
    size_t count = (size_t)templates->count;
    NPI_TRY(one_more(&templates->text, count));
    templates->count++;
    return npi_format(&templates->text[count], "%.*s", (int)length, line);
}

static npos_status known_templates(npi_templates *out) {
    static const char *const known[] = {
        "a photo of a {}.",
        "a blurry photo of a {}.",
        "a black and white photo of a {}.",
        "a low contrast photo of a {}.",
        "a high contrast photo of a {}.",
        "a bad photo of a {}.",
        "a good photo of a {}.",
        "a photo of a small {}.",
        "a photo of a big {}.",
        "a photo of the {}.",
        "a blurry photo of the {}.",
        "a black and white photo of the {}.",
        "a low contrast photo of the {}.",
        "a high contrast photo of the {}.",
        "a bad photo of the {}.",
        "a good photo of the {}.",
        "a photo of the small {}.",
        "a photo of the big {}.",
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        NPI_TRY(take_template(out, known[i], strlen(known[i])));
    return NPOS_OK;
}

npos_status npi_templates_open(const char *path, npi_templates *out) {
    *out = (npi_templates){0};
    npos_status status = path ? take_lines(path, take_template, out) : known_templates(out);
    if (status == NPOS_OK && out->count == 0)
        status = npi_fail(NPOS_BAD_DATA, "%s: no templates, expected one a line", path);
    if (status != NPOS_OK)
        npi_templates_clear(out);
    return status;
}

void npi_templates_clear(npi_templates *templates) {
    for (int i = 0; i < templates->count; i++)
        npi_free(templates->text[i]);
    npi_free(templates->text);
    *templates = (npi_templates){0};
}

npos_status npi_prompt(const char *template, const char *name, char **out) {
    size_t holes = 0, length = strlen(name);
    for (const char *at = template; (at = strstr(at, "{}")); at += 2)
        holes++;
    NPI_TRY(npi_alloc(out, strlen(template) + holes * length + 1, 1, "prompt"));
    char *to = *out;
    for (const char *at = template; *at;) {
        if (at[0] == '{' && at[1] == '}') {
            memcpy(to, name, length);
            to += length;
            at += 2;
        } else {
            *to++ = *at++;
        }
    }
    *to = '\0';
    return NPOS_OK;
}
