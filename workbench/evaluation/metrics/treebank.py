"""Captions -> words, as the Penn Treebank tokenizer of the usual caption evaluation splits them, without Java.

The published figures lower-case a caption, split it with Stanford's PTBTokenizer and drop punctuation
(pycocoevalcap). `tokenise` follows those rules for what captions are made of: contractions, possessives, hyphens,
abbreviations, numbers, times, quotes, brackets. Chat signs, addresses and mark-up may come out otherwise; where
Java is found, `dynrefer.workbench.evaluation.metrics.java.ptb_tokens` asks the original.
"""

from __future__ import annotations

import re

# What the usual evaluation leaves out after splitting. Brackets stay, as "-lrb-": it drops only upper-case ones.
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
    """Lower-case words with single spaces between them; full stops, commas, quotes and the like are left out."""
    words: list[str] = []
    for word in _TOKEN.findall(text.translate(_STRAIGHT)):
        lower = word.lower()
        if word in _DROPPED or (len(word) > 1 and set(word) <= {".", "-", "'", "`"}):
            continue
        words.append(_SPLIT.get(lower) or _RENAMED.get(lower) or lower)
    return " ".join(words)
