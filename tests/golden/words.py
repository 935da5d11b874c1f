"""Writes tests/golden/words/: 5,000 texts with the ids that OpenAI's CLIP tokenizer gives them, and the part of
its vocabulary that it reads (the first 48,894 of 262,144 merges; the rest is never used).

    pip install open_clip_torch ftfy regex; python tests/golden/words.py

open_clip's SimpleTokenizer is OpenAI's with other words for start and end: those are put back here.  Texts that
ftfy takes for wrongly decoded ones and repairs are left out (docs/text.md)."""
import gzip
import html.entities
import json
import random
import unicodedata
from pathlib import Path

import ftfy
import regex
from open_clip import tokenizer as reference
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES

HERE = Path(__file__).parent / "words"
COUNT = 5000


class OpenAI(reference.SimpleTokenizer):
    def __init__(self):
        super().__init__()
        for ours, theirs in (("<start_of_text>", "<|startoftext|>"), ("<end_of_text>", "<|endoftext|>")):
            self.encoder[theirs] = self.encoder.pop(ours)
            del self.cache[ours]
            self.cache[theirs] = theirs
        self.pat = regex.compile(
            r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+""",
            regex.IGNORECASE)


words = """café naïve façade Zürich smörgåsbord piñata crème brûlée jalapeño Ångström İstanbul DİYARBAKIR ΟΔΥΣΣΕΥΣ
Σίσυφος ΣΑΣ. Москва Ёлка привет 東京 北京市 こんにちは カタカナ 한국어 서울 العربية עברית हिन्दी ไทย Việt Nam ﬁsh ﬂower
oﬃce ﬆone aﬀair ĳsberg Ǆungla ŉ ﾊﾛｰ ｶﾞｷﾞ ＣＬＩＰ ＦＵＬＬ\u3000ＷＩＤＴＨ １２３ Ⅷ ½ ² ① 五 ٣٤ don't it's we're I've I'm they'll she'd
DON'T IT'S O'Neill rock'n'roll 'tis ’twas “quoted” ‘single’ „low“ «guillemets» it’s ʼ 's'ſ e-mail 3.14 1,000 2026-11-24
$5 50% #tag @name a_b A/B C++ x² h2o MP3 &amp; &lt;b&gt; &quot; &#39; &eacute; &Eacute; &EACUTE; &nbsp; &copy &notit;
&amp;amp; &amp;lt;3 &#x1F600; &#128512; &#0; &#150; &#x92; &#55296; &#1114112; &bogus; &; & AT&T Q&A &NTILDE; &SZLIG; &hearts; &nGt;
😀 😂🤣 👍🏽 👨\u200d👩\u200d👧\u200d👦 🇩🇪🇯🇵 ❤️ ☃ ✈️ 🏴\U000e0067\U000e0062\U000e0077\U000e006c\U000e0073\U000e007f ™ ® € … — – • → ∑ ∞ ≤ 𝒳 𝐛𝐨𝐥𝐝 ﷺ ＜ ＆ ... !!! ?! :-) <3 <html> </w> <|endoftext|> <|startoftext|>
<|ENDOFTEXT|> <|ſtartoftext|> <end_of_text> a b I""".split()
marks = [chr(c) for c in range(0x300, 0x370)]
spaces = [" "] * 12 + ["  ", "\t", "\n", "\r\n", "\u00a0", "\u2003", "\u3000", "\u200b", "\x0c", ""]
letters = [c for c in range(0x20, 0x30000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]


def texts(vocabulary):
    """Endless; the same in each run."""
    draw = random.Random(20261124)
    yield from ["", " ", "\n\t ", "a", "A", "\u0301", "'", "''s", "&", "<", "\ufeff", "\x00\x1b[0m", "\u3000"]
    yield from ["word " * 100, "a" * 300, "é" * 200, "9" * 120, "!" * 500, "😀" * 90, "don't " * 60,
                "pneumonoultramicroscopicsilicovolcanoconiosis " * 12, "&amp;" * 80, "ΑΣ" * 100]
    yield from words
    for name in IMAGENET_CLASSNAMES:
        yield draw.choice(OPENAI_IMAGENET_TEMPLATES)(name)
    for name in sorted(html.entities.html5)[::9]:
        yield draw.choice(["&%s", "x&%sy", "&%s < 1", "&amp;%s", "%s"]) % draw.choice([name, name.upper()])
    while True:
        kind = draw.randrange(8)
        if kind == 0:  # characters from anywhere
            yield "".join(chr(draw.choice(letters)) for _ in range(draw.randint(1, 12)))
        elif kind == 1:  # marks in any order
            yield "".join(draw.choice("aeioucsnzAEIOU ") + "".join(draw.choices(marks, k=draw.randint(0, 3)))
                          for _ in range(draw.randint(1, 8)))
        elif kind == 2:  # capitals, wide forms
            text = draw.choice(IMAGENET_CLASSNAMES)
            yield draw.choice([text.upper(), text.title(),
                               "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)])
        elif kind == 3:  # numbers
            yield f"{draw.choice(['', '$', '#', 'no. '])}{draw.uniform(-1e4, 1e6):,.{draw.randint(0, 3)}f}" + \
                draw.choice(["", "%", "th", " km/h", "°C"])
        elif kind in (4, 5):  # words and pieces of words that the vocabulary has
            yield "".join(draw.choice(vocabulary) + draw.choice(" " * 9 + "-.,") for _ in range(draw.randint(4, 12)))
        else:
            yield "".join(draw.choice(draw.choice([words, words, IMAGENET_CLASSNAMES])) + draw.choice(spaces)
                          for _ in range(draw.randint(1, 7 if draw.random() < 0.9 else 50)))


def main():
    HERE.mkdir(exist_ok=True)
    openai, plain = OpenAI(), reference.SimpleTokenizer()
    unguessing = ftfy.TextFixerConfig(explain=False, fix_encoding=False)
    rows, seen, guessed = [], set(), 0
    vocabulary = sorted(openai.decode([i]).strip() for i in range(512, 49406))
    for text in texts([word for word in vocabulary if "\ufffd" not in word]):
        if text in seen:
            continue
        seen.add(text)
        if ftfy.fix_text(text) != ftfy.fix_text(text, unguessing):
            guessed += 1
            continue
        ids = openai.encode(text)
        if not any(word in text.lower() for word in ("_text>", "oftext|>")):
            assert ids == plain.encode(text)
            row = plain([text])[0].tolist()
            assert row == (([49406] + ids)[:76] + [49407] + [0] * 77)[:77]
        rows.append([text, ids])
        if len(rows) == COUNT:
            break
    print(f"{guessed} texts left out, {sum(len(i) > 75 for _, i in rows)} over-long, "
          f"{len({i for _, r in rows for i in r})} different ids")

    def pack(name, data):
        with open(HERE / name, "wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
            packed.write(data)

    pack("texts.jsonl.gz", "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows).encode())
    merges = gzip.open(reference.default_bpe()).read().decode("utf-8").split("\n")
    pack("bpe_simple_vocab_16e6.txt.gz", ("\n".join(merges[:49152 - 256 - 2 + 1]) + "\n").encode())


main()
