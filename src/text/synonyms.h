/* text/synonyms.h - one thing under several names: what tells that "cock" is a rooster, and a lorry a truck.
 *
 * Known are WordNet's names of ImageNet-1k's classes beside those that CLIP's authors prompt with, and a few words of the sets
 * that papers use. */
#ifndef NPI_TEXT_SYNONYMS_H
#define NPI_TEXT_SYNONYMS_H

#include "text/prompts.h"

/* Names of one thing, each as a text to compare: its words in small letters without plural endings, a blank before, between and
 * behind them (" tree frog "). */
typedef struct npi_readings {
    int count;
    char **
        text; /* [count], no two alike; none of them is digits alone ("hors": ends of words are cut alike) */
    int own; /* the first `own` are the name itself; what follows are synonyms */
} npi_readings;

/* The names that are known; npi_synonyms_open makes them ready. */
typedef struct npi_synonyms {
    int count;              /* the first classes.count are ImageNet-1k's classes */
    npi_readings *thing;    /* [count] its names */
    npi_class_list classes; /* ImageNet-1k's: folders are WordNet ids */
} npi_synonyms;
NPOS_MUST_CHECK npos_status npi_synonyms_open(npi_synonyms *out);
void npi_synonyms_close(npi_synonyms *synonyms);

/* How a class called `name` may be read:
 *
 *     "White_Sharks"                 " white shark ", and as synonyms " great white shark ", " man eater ", ...
 *     "n01484850", "n01484850_x"     the class of ImageNet-1k of that WordNet id
 *     "tench, Tinca tinca"           each name between commas
 *     "kite (bird of prey)"          with the words in parentheses, and without
 *
 * Of a name that several classes share all synonyms count.  Release with npi_readings_clear, also after a failure. */
NPOS_MUST_CHECK npos_status npi_readings_of(const npi_synonyms *synonyms, const char *name,
                                            npi_readings *out);
void npi_readings_clear(npi_readings *readings);

#endif
