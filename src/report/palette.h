/* report/palette.h - the page's colours by number; what they look like is in report/page_style.c.
 *
 * The sets' colours are those of Okabe and Ito (2008), the classes' those of Tol ("muted", 2021):
 * both stay apart for colour-blind readers.  A set has the same number in every plot of a page. */
#ifndef NPI_REPORT_PALETTE_H
#define NPI_REPORT_PALETTE_H

enum {
    NPI_COLOUR_ID = 0,     /* in-distribution images */
    NPI_COLOUR_SET = 1,    /* 1..7: OOD sets, see npi_set_colour */
    NPI_COLOUR_SETS = 7,   /* how many of them */
    NPI_COLOUR_MUTED = 8,  /* grey */
    NPI_COLOUR_TEXT = 9,   /* black on white, white on black */
    NPI_COLOUR_CLASS = 10, /* 10..19: classes, see npi_class_colour */
    NPI_COLOUR_CLASSES = 10
};

static inline int npi_set_colour(int set) {
    return NPI_COLOUR_SET + set % NPI_COLOUR_SETS;
}

static inline int npi_class_colour(int label) {
    return NPI_COLOUR_CLASS + label % NPI_COLOUR_CLASSES;
}

/* The page's style sheet, the content of its <style> element: colours, then layout. */
extern const char *const npi_page_style[3];

#endif
