"""The Penn Treebank tokenizer of COCO caption evaluation, without Java.

Published metrics lower-case a caption, split it with Stanford's PTBTokenizer and drop punctuation (pycocoevalcap).
`tokenise` follows those rules for what occurs in captions: contractions, possessives, hyphens, abbreviations, numbers,
times, quotes, brackets. Emoticons, addresses and mark-up may be split differently. With Java installed,
`metrics.java.ptb_tokens` runs the original.
"""

from __future__ import annotations

import re

# What pycocoevalcap drops after splitting. Brackets stay, as "-lrb-": it drops only upper-case ones.
_DROPPED = frozenset(["'", '"', "`", ".", "?", "!", ",", ":", ";", "-"])
_RENAMED = {
    **{"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"},
    **{"&amp;": "&", "½": "1/2", "¼": "1/4", "¾": "3/4", "€": "$", "£": "#"},
}
_SPLIT = {
    **{"cannot": "can not", "gonna": "gon na", "gotta": "got ta", "wanna": "wan na"},
    **{"lemme": "lem me", "gimme": "gim me", "'tis": "'t is", "'twas": "'t was"},
}
_ABBREVIATIONS = (
    "mr|mrs|ms|dr|prof|rev|gen|sen|gov|lt|sgt|capt|st|ave|blvd|rd|mt|dept|assn|inc|corp|ltd|co|jr|sr|bros|"
    "vs|etc|ft|sq|fig|jan|feb|mar|apr|aug|sept?|oct|nov|dec"
)
_STRAIGHT = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "«": '"', "»": '"', "–": "-", "—": "-", "…": " "})

_WORD = r"[^\W_]+(?:_+[^\W_]+)*"
_TOKEN = re.compile(
    "|".join(
        (
            r"(?:https?://|www\.)\S*\w",
            r"</?[a-z][^<>\s]*>",
            r"&amp;",
            rf"(?:{'|'.join(map(re.escape, _SPLIT))})(?!\w)",
            r"\d+:\d+",
            r"[^\W\d_](?:\.[^\W\d_])+\.?(?!\w)",  # u.s., p.m.
            rf"(?:{_ABBREVIATIONS})\.(?!\w)|no\.(?=\s*\d)",
            r"\d*[.,]?\d+(?:[.,]\d+)+(?![^\W_])|\.\d+",  # 3.5, 10,000, .5
            r"(?:[a-xz]'(?!(?:re|ve|ll)\b)[^\W\d_]{2,}|ma'am)(?!\w)",  # o'clock
            r"y'(?=all)",
            r"(?-i:[A-Z]+(?:&[A-Z]+)+)",  # AT&T, not r&b
            rf"{_WORD}(?:[-/]{_WORD})*?(?=n't(?!\w))|n't(?!\w)",
            rf"{_WORD}(?:(?:[-/]|\.(?=[^\W\d_])){_WORD})*",
            r"'(?:s|m|re|ve|ll|d|em|cause|n'?)(?!\w)|(?<!\w)'\d\ds?(?!\w)",
            r"[@#][^\W\d_]\w*",
            r"[!?]{2,}|\.{2,}|-{2,}|''|``",
            r"\S",
        )
    ),
    re.IGNORECASE,
)


def tokenise(text: str) -> str:
    """Lower-case tokens joined by single spaces, without punctuation."""
    words: list[str] = []
    for word in _TOKEN.findall(text.translate(_STRAIGHT)):
        lower = word.lower()
        if word in _DROPPED or (len(word) > 1 and set(word) <= {".", "-", "'", "`"}):
            continue
        words.append(_SPLIT.get(lower) or _RENAMED.get(lower) or lower)
    return " ".join(words)
