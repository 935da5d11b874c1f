/* text/html.h - HTML's character references ("&eacute;", "&#233;", "&#xE9;") as characters. */
#ifndef NPI_TEXT_HTML_H
#define NPI_TEXT_HTML_H

#include "text/runes.h"

/* Python's html.unescape, in place: the rules of HTML5 for text, old names without a semicolon and the
 * longest name that a word begins with included ("&notit;" is "¬it;"). */
void npi_html_unescape(npi_runes *text);

/* ftfy's careful form, in place: whole references with their semicolon only, and the names of lower-case
 * letters also in capitals ("&EACUTE;" is "É"). */
void npi_html_unescape_whole(npi_runes *text);

#endif
