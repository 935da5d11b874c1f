#!/usr/bin/env python3
"""Writes src/text/imagenet_lemmas.inc: scripts/lemmas-table.py CLASSES.tsv LEMMAS.txt

CLASSES.tsv has columns index, WordNet id and name (as scripts/text-tables.py takes it), LEMMAS.txt lines "n01440764<tab>tench,
Tinca tinca", as timm's imagenet_synset_to_lemma.txt has for WordNet's nouns.  It is run by hand when they change."""
import sys
from pathlib import Path

HEAD = '''/* text/imagenet_lemmas.inc - what WordNet calls the synsets of ImageNet-1k's classes, in the order of their ids; parted by ", ".
 * Written by scripts/lemmas-table.py: change that, not this.
 *
 * From WordNet 3.0, Copyright 2006 by Princeton University.  All rights reserved.  Permission to use, copy, modify and distribute
 * this database for any purpose and without fee or royalty is granted; it is provided "as is" and Princeton University makes no
 * representations or warranties, express or implied (wordnet.princeton.edu/license-and-commercial-use). */

'''


def main(classes, lemmas):
    ids = [line.split("\t")[1] for line in Path(classes).read_text().splitlines()[1:]]
    names = dict(line.split("\t") for line in Path(lemmas).read_text().splitlines())
    lines = [f'    "{names[i]}",' for i in ids]
    assert len(lines) == 1000 and ids == sorted(ids) and not any(set('"\\') & set(names[i]) for i in ids)
    text = HEAD + "static const char *const imagenet_lemmas[] = {\n" + "\n".join(lines) + "\n};\n"
    (Path(__file__).resolve().parent.parent / "src" / "text" / "imagenet_lemmas.inc").write_text(text)


main(*sys.argv[1:])
