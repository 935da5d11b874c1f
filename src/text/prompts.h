/* text/prompts.h - class lists and prompt templates: what CLIP's text tower is asked about.
 *
 *     prompt(c, t) = template t with every "{}" replaced by the name of class c
 *
 *     npi_class_list classes;
 *     npi_templates templates;
 *     NPI_TRY(npi_class_list_open("imagenet-100", &classes));
 *     NPI_TRY_GOTO(npi_templates_open(NULL, &templates), done);
 *     for each class c, for each template t: npi_prompt(templates.text[t], classes.names[c], &prompt);
 *     done: npi_class_list_clear(&classes); npi_templates_clear(&templates); */
#ifndef NPI_TEXT_PROMPTS_H
#define NPI_TEXT_PROMPTS_H

#include <stddef.h>

#include "base/fail.h"

typedef struct npi_class_list {
    int count;
    char **names; /* [count], what prompts say; two classes may share one (ImageNet's "missile") */
    char **
        folders; /* [count], how data sets call the class (ImageNet: its WordNet id); NULL where the
                       list does not tell */
} npi_class_list;

/* Opens `list`: the name of a built-in list, or a file with one name a line.  Built in are
 *     imagenet-1k    the 1,000 classes in the order of their WordNet ids, named as CLIP's authors did
 *     imagenet-100   the 100 of them that the NPOS paper uses, in the same order: as labels of a folder
 *                    of these classes count
 * A line of a file is "NAME" or "FOLDER<tab>NAME", all lines alike; empty lines are skipped, blanks at
 * both ends dropped.  A file of the same name as a built-in list is meant by "./imagenet-1k".  Errors
 * name the line: no name on it, not UTF-8, a folder twice; or, where lines have no folders, a name
 * twice. */
NPOS_MUST_CHECK npos_status npi_class_list_open(const char *list, npi_class_list *out);
/* The classes that a data set calls `folders` [count]: ImageNet's WordNet ids by the built-in names, others by
 * themselves with blanks for '_'.  A WordNet id beyond ImageNet-1k's, and numbers alone, say nothing to a text tower:
 * NPOS_UNSUPPORTED. */
NPOS_MUST_CHECK npos_status npi_class_list_of(char *const *folders, int count, npi_class_list *out);
void npi_class_list_clear(npi_class_list *list);

/* Names of the built-in lists, ended by NULL. */
const char *const *npi_class_lists(void);

typedef struct npi_templates {
    int count;
    char **text; /* [count], each with at least one "{}" */
} npi_templates;

/* Opens a file with one template a line (empty lines skipped), or the 18 built-in ones where `path` is
 * NULL: nine beginnings ("a photo of a {}.", "a blurry photo of a {}.", ...) and the same with "the".
 * Errors name the line: no "{}" on it, not UTF-8. */
NPOS_MUST_CHECK npos_status npi_templates_open(const char *path, npi_templates *out);
void npi_templates_clear(npi_templates *templates);

/* *out = the template with every "{}" replaced, to be freed with npi_free. */
NPOS_MUST_CHECK npos_status npi_prompt(const char *template, const char *name, char **out);

#endif
