/* report/report.h - what a report shows, gathered by jobs/report.c, and the page that shows it.
 *
 * Every part may be missing; then a text says why and the page says so in its place. */
#ifndef NPI_REPORT_REPORT_H
#define NPI_REPORT_REPORT_H

#include "data/dataset.h"
#include "jobs/run.h"
#include "ood/results.h"
#include "report/classes_file.h"
#include "report/page_text.h"
#include "report/run_log.h"

/* An image of a contact sheet. */
typedef struct npi_sheet_image {
    npi_image image;
    double score;
    char *name;
    int taken; /* class of the model that it is taken for; -1: not known */
    int is;    /* class of the model that it is of; -1: none, or not known */
} npi_sheet_image;

enum { NPI_SHEET_IMAGES = 12 };

/* The images of one set with the largest and the smallest scores, largest first and smallest first; of
 * the ID images also those with the largest scores among those that are taken for a wrong class. */
typedef struct npi_sheet {
    char *why; /* NULL, or why there are no images */
    int count; /* of each of the first two */
    npi_sheet_image most[NPI_SHEET_IMAGES], least[NPI_SHEET_IMAGES];
    int wrong_count;
    npi_sheet_image wrong[NPI_SHEET_IMAGES];
} npi_sheet;

/* Distances between the classes, as the network places them. */
typedef struct npi_spread {
    char *why;  /* NULL, or why there are none */
    bool means; /* of the classes' mean embeddings: the method has no prototypes */
    int classes;
    double *angle; /* [classes][classes] degrees between two directions */
} npi_spread;

typedef enum npi_map_kind {
    NPI_MAP_ID,       /* training embeddings; `which` is the class */
    NPI_MAP_SET,      /* OOD images; `which` is the set */
    NPI_MAP_OUTLIER,  /* synthesised; `which` is the class */
    NPI_MAP_BOUNDARY, /* boundary rows that they were made from; `which` is the class */
    NPI_MAP_PROTOTYPE /* `which` is the class */
} npi_map_kind;

/* Consecutive points of the map. */
typedef struct npi_map_part {
    npi_map_kind kind;
    int which, first, count;
} npi_map_part;

typedef struct npi_map {
    char *why;  /* NULL, or why there is no map */
    char *note; /* NULL, or what is left out of it */
    int points, parts;
    npi_map_part *part;
    double *at;             /* [points][2], in [-1, 1] */
    int outliers, boundary; /* synthesised in the step shown; the map draws some of the outliers */
} npi_map;

/* Another run to stand beside. */
typedef struct npi_compared {
    char *path;
    npi_evaluation evaluation;
} npi_compared;

enum { NPI_REPORT_PROTOCOLS = 2 }; /* beside the evaluation's own */

typedef struct npi_report {
    npi_run *run;        /* borrowed */
    char *recipe_text;   /* recipe.yaml, or NULL */
    char *manifest_text; /* manifest.json, or NULL */
    char *model_hash;    /* checksum that model.safetensors carries, or NULL */
    npi_log log;
    char *log_why; /* NULL, or why there is no log */
    npi_evaluation evaluation;
    char *evaluation_why;                       /* NULL, or why there is none */
    int main_score;                             /* the result that sheets and first plots show */
    npi_evaluation other[NPI_REPORT_PROTOCOLS]; /* the main score under the other protocols; results
                                                   0: not measured */
    npi_classes_list classes;
    char *classes_why; /* NULL, or why they are not known */
    npi_spread spread;
    npi_sheet *sheets; /* [1 + sets]: ID, then each set of the main score */
    int sheet_count;
    npi_map map;
    npi_compared *compared;
    int compared_count;
    char written[32]; /* UTC */
} npi_report;
void npi_report_clear(npi_report *report);

/* Writes the whole page. */
NPOS_MUST_CHECK npos_status npi_report_write(const npi_report *report, const char *path);

/* ---- the page's parts, one file each ---- */

/* Head, figures at a glance, settings, manifest (page_run.c). */
void npi_page_head(npi_page *page, const npi_report *report);
void npi_page_settings(npi_page *page, const npi_report *report);
/* Losses, rate, prototypes (page_curves.c). */
void npi_page_curves(npi_page *page, const npi_report *report);
/* Tables (page_tables.c). */
void npi_page_tables(npi_page *page, const npi_report *report);
void npi_page_comparison(npi_page *page, const npi_report *report);
/* Histograms, ROC curves, precision by recall (page_scores.c). */
void npi_page_scores(npi_page *page, const npi_report *report);
/* What passes as which class, and which classes of a set pass (page_classes.c). */
void npi_page_classes(npi_page *page, const npi_report *report);
/* How far apart the classes lie (page_spread.c). */
void npi_page_spread(npi_page *page, const npi_report *report);
/* Map (page_map.c), how synthesis works (page_synthesis.c), contact sheets (page_sheets.c). */
void npi_page_map(npi_page *page, const npi_report *report);
void npi_page_synthesis(npi_page *page, const npi_report *report);
void npi_page_sheets(npi_page *page, const npi_report *report);

/* ---- small things that the parts share (page_parts.c) ---- */

void npi_page_section(npi_page *page, const char *id, const char *title);
void npi_page_missing(npi_page *page, const char *what, const char *why);
/* One entry of a legend, with a mark as in the plots: 'l' line, 'd' disc, 'o' ring, 'x' cross,
 * '*' star, 'D' diamond. */
void npi_page_key(npi_page *page, char mark, int colour, int dash, const char *text);
void npi_page_caption(npi_page *page, const char *text);

/* A cell of a table whose ground is the darker the larger `share` is, from 0 to 1, and its text. */
void npi_page_shade(npi_page *page, double share, const char *text);

#endif
