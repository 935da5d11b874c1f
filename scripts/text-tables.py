#!/usr/bin/env python3
"""Writes the tables of src/text/ that Python's libraries know by heart: scripts/text-tables.py CLASSES.tsv

What OpenAI's tokenizer does to a character is decided by Python's str, html and unicodedata, by regex and
by ftfy.  This script asks them about every character, so that the tables agree with them by making:
unicode_tables.inc, html_entities.inc and, from a table with columns index, WordNet id and name,
imagenet_classes.inc.  It is run by hand when they change; needs `pip install ftfy regex`."""
import html
import html.entities
import sys
import unicodedata
from pathlib import Path

import ftfy
import regex
from ftfy import chardata, fixes

ROOM = Path(__file__).resolve().parent.parent / "src" / "text"
ALL = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]

# The classes of ImageNet-100 as the NPOS paper's authors chose them, in their order.
IMAGENET_100 = [int(word) for word in """
125 788 630 535 474 694 146 914 447 208 182 621 271 646 328 119 772 928 610 891 340 890 589 524 172 453 869 556
168 982 942 874 787 320 457 127 814 358 604 634 898 388 618 306 150 508 702 323 822 63 445 927 266 298 255 44 207
151 666 868 992 843 436 131 384 908 278 169 294 428 60 472 778 304 76 289 199 152 584 510 825 236 395 762 917 573
949 696 977 401 583 10 562 738 416 637 973 359 52 708""".split()]


def rows(name, kind, items, out):
    """One array of C, as many items a line as fit."""
    out.append(f"static const {kind} {name}[] = {{")
    line = "   "
    for item in items:
        if len(line) + len(item) + 2 > 100:
            out.append(line)
            line = "   "
        line += " " + item + ","
    out += [line, "};", ""]


def ranges(codes):
    found = []
    for c in sorted(codes):
        if found and found[-1][1] == c - 1:
            found[-1][1] = c
        else:
            found.append([c, c])
    return found


def code(c):
    return f"0x{c:X}"


def range_rows(name, codes, out):
    rows(name, "npi_code_range", [f"{{{code(a)}, {code(b)}}}" for a, b in ranges(codes)], out)


def text(s):
    """A C string of UTF-8 bytes; octal escapes end after three digits."""
    return '"' + "".join(chr(b) if 0x20 <= b < 0x7F and b not in b'"\\?' else f"\\{b:03o}"
                         for b in s.encode("utf-8")) + '"'


def classes_of_characters(out):
    """As the tokenizer's own pattern sees them: letters, then numbers, then what is no white space."""
    sets = {"letter_codes": r"[\p{L}]", "number_codes": r"[\p{N}]", "other_codes": r"[^\s\p{L}\p{N}]"}
    seen = {}
    for name, pattern in sets.items():
        match = regex.compile(pattern, regex.IGNORECASE).fullmatch
        seen[name] = {c for c in ALL if match(chr(c))}
    assert not seen["letter_codes"] & seen["number_codes"]
    assert not (seen["letter_codes"] | seen["number_codes"]) & seen["other_codes"]
    range_rows("letter_codes", seen["letter_codes"], out)
    range_rows("number_codes", seen["number_codes"], out)
    # White space, and U+0345, which the pattern's ignoring of case makes neither a letter nor no letter.
    range_rows("skipped_codes", set(ALL).difference(*seen.values()), out)
    range_rows("digit_codes", [c for c in ALL if chr(c).isdecimal()], out)
    range_rows("space_codes", [c for c in ALL if chr(c).isspace()], out)


def lower_case(out):
    found = []  # first, last, stride, delta
    for c in ALL:
        low = chr(c).lower()
        if low == chr(c):
            continue
        if len(low) != 1:
            assert c == 0x130, hex(c)  # the one that npi_lower knows by itself
            continue
        delta = ord(low) - c
        last = found[-1] if found else None
        if last and last[3] == delta and c - last[1] == (last[2] or c - last[1]) and c - last[1] <= 2:
            last[2] = c - last[1]
            last[1] = c
        else:
            found.append([c, c, 0, delta])
    rows("lower_codes", "npi_code_lower",
         [f"{{{code(a)}, {code(b)}, {max(s, 1)}, {d}}}" for a, b, s, d in found], out)
    # What decides a final sigma; asked of str.lower itself, as unicodedata does not tell.
    cased = {c for c in ALL if "\u0391\u03a3".lower() != ("\u0391\u03a3" + chr(c)).lower()[:2]}
    range_rows("cased_codes", cased, out)
    passed = {c for c in ALL if ("\u0391\u03a3" + chr(c) + "a").lower()[1] == "\u03c3"} - cased
    range_rows("case_ignorable_codes", passed, out)


def normalisation(out):
    marks = []
    for c in ALL:
        ccc = unicodedata.combining(chr(c))
        if ccc == 0:
            continue
        if marks and marks[-1][1] == c - 1 and marks[-1][2] == ccc:
            marks[-1][1] = c
        else:
            marks.append([c, c, ccc])
    rows("mark_codes", "npi_code_mark", [f"{{{code(a)}, {code(b)}, {k}}}" for a, b, k in marks], out)
    pairs = []
    for c in ALL:
        parts = unicodedata.decomposition(chr(c))
        if not parts or parts.startswith("<"):
            continue
        parts = [int(p, 16) for p in parts.split()]
        composes = len(parts) == 2 and unicodedata.normalize("NFC", "".join(map(chr, parts))) == chr(c)
        pairs.append((c, parts[0], parts[1] if len(parts) == 2 else 0, int(composes)))
    rows("decomposed_codes", "npi_code_pair", [f"{{{code(c)}, {code(a)}, {code(b)}}}" for c, a, b, _ in pairs], out)
    order = sorted((a, b, i) for i, (_, a, b, composes) in enumerate(pairs) if composes)
    rows("composing_pairs", "uint16_t", [str(i) for _, _, i in order], out)


def repairs(out):
    """What ftfy makes of single characters, all its steps up to the line breaks in one."""
    found = []
    for c in ALL:
        after = chr(c)
        for step in (fixes.fix_c1_controls, fixes.fix_latin_ligatures, fixes.fix_character_width,
                     fixes.uncurl_quotes, fixes.fix_line_breaks):
            after = step(after)
        if after != chr(c):
            assert len(after) <= 3
            found.append(f"{{{code(c)}, {{{', '.join(code(ord(x)) for x in after)}}}}}")
    rows("repaired_codes", "npi_code_repair", found, out)
    range_rows("removed_codes", chardata.CONTROL_CHARS, out)


def entities(out):
    names = html.entities.html5
    rows("html_entities", "npi_entity", [f"{{{text(n)}, {text(names[n])}}}" for n in sorted(names)], out)
    more = {n[1:]: v for n, v in chardata.HTML_ENTITIES.items() if n[1:] not in names}
    assert all(names[n[1:]] == v for n, v in chardata.HTML_ENTITIES.items() if n[1:] in names)
    rows("capital_entities", "npi_entity", [f"{{{text(n)}, {text(more[n])}}}" for n in sorted(more)], out)
    told = {n: ord(v) for n, v in html._invalid_charrefs.items() if ord(v) != n}
    kept = {n for n, v in html._invalid_charrefs.items() if ord(v) == n}
    rows("numbered_exceptions", "npi_code_pair", [f"{{{code(n)}, {code(told[n])}, 0}}" for n in sorted(told)], out)
    range_rows("numbered_nothings", html._invalid_codepoints - set(told) - kept, out)


def class_names(path, out):
    lines = [line.rstrip("\n").split("\t") for line in open(path, encoding="utf-8")][1:]
    assert [int(index) for index, _, _ in lines] == list(range(1000))
    assert len(set(IMAGENET_100)) == 100
    rows("imagenet_classes", "npi_known_class", [f"{{{text(w)}, {text(n)}}}" for _, w, n in lines], out)
    rows("imagenet_100", "int16_t", [str(i) for i in sorted(IMAGENET_100)], out)


def write(name, about, parts):
    out = [f"/* text/{name} - {about}", " * Written by scripts/text-tables.py: change that, not this. */", ""]
    for part in parts:
        part(out)
    (ROOM / name).write_text("\n".join(out).rstrip("\n") + "\n", encoding="ascii")


versions = (f"Python {sys.version_info.major}.{sys.version_info.minor} (Unicode {unicodedata.unidata_version}), "
            f"regex {regex.__version__}, ftfy {ftfy.__version__}.")
write("unicode_tables.inc", "characters, as seen by\n * " + versions,
      [classes_of_characters, lower_case, normalisation, repairs])
write("html_entities.inc", "HTML's character references, as Python's html and ftfy decode them.", [entities])
write("imagenet_classes.inc", "ImageNet-1k's classes (WordNet id, the name CLIP's authors prompt with)\n"
      " * in the order of their ids, and which of them ImageNet-100 has.", [lambda out: class_names(sys.argv[1], out)])
