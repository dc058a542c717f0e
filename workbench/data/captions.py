"""Captions: cleaning, the vocabulary's tags in them, and the phrases that serve as control words.

Sources: the released caption processor; paper, section 3.3 (control words).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from dynrefer.model.vocabulary import Vocabulary

MAX_WORDS = 50
_PUNCTUATION = re.compile(r'[.!"()*#:;~]')
_WORD = re.compile(r"[^\W_][\w'-]*")
_NEVER_SINGULAR = ("ss", "us", "is")


class PhraseFinder(Protocol):
    """Chooses the phrases of a caption that may become control words of the language model."""

    def phrases(self, caption: str) -> list[str]:
        """The phrases in the order of the caption, each once."""
        ...


def clean_caption(caption: str) -> str:
    """The caption in lower case, without `.!"()*#:;~` and repeated spaces, at most 50 words."""
    return " ".join(_PUNCTUATION.sub(" ", caption.lower()).split()[:MAX_WORDS])


class VocabularyWords:
    """Tags and control words in captions by a vocabulary alone, without any further library.

    A word is descriptive if it is in a value or synonym of an attribute; it is a noun if it is the last word of a tag
    or a category and not descriptive.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._tags = {_words(tag): index for index, tag in reversed(list(enumerate(vocabulary.tags)))}
        self._longest = max((len(words) for words in self._tags), default=0)
        synonyms = [word for attribute in vocabulary.attributes for word in attribute.synonyms]
        self._descriptive = {word for text in synonyms for word in _words(text)}
        names = [_words(name) for name in (*vocabulary.tags, *vocabulary.categories)]
        self._nouns = {words[-1] for words in names if words} - self._descriptive

    def tags(self, caption: str) -> tuple[int, ...]:
        """Indices of the tags whose words are next to each other in the caption, singular or plural; ascending."""
        words = _words(caption)
        found = set()
        for start in range(len(words)):
            for stop in range(start + 1, min(start + self._longest, len(words)) + 1):
                for last in _singulars(words[stop - 1]):
                    index = self._tags.get((*words[start : stop - 1], last))
                    if index is not None:
                        found.add(index)
        return tuple(sorted(found))

    def tag(self, name: str) -> int | None:
        """Index of one tag by its name, or None."""
        return self._tags.get(_words(name))

    def phrases(self, caption: str) -> list[str]:
        """Nouns and descriptive words, each extended by the nouns that follow it ("brown dog", "dog")."""
        words = _words(caption)
        nouns = [any(each in self._nouns for each in _singulars(word)) for word in words]
        starts = [noun or word in self._descriptive for word, noun in zip(words, nouns, strict=True)]
        return extended_by_nouns(words, starts, nouns)


class PartOfSpeech:
    """Control words by TextBlob's part-of-speech tagger; its lexicon is in the package, so nothing is downloaded."""

    def __init__(self) -> None:
        from textblob.en.taggers import PatternTagger

        self._tagger = PatternTagger()

    def phrases(self, caption: str) -> list[str]:
        """Nouns and adjectives, each extended by the nouns that follow it."""
        tagged = self._tagger.tag(" ".join(_words(caption)), tokenize=False)
        nouns = [kind.startswith("NN") for _, kind in tagged]
        starts = [noun or kind.startswith("JJ") for (_, kind), noun in zip(tagged, nouns, strict=True)]
        return extended_by_nouns([word for word, _ in tagged], starts, nouns)


def extended_by_nouns(words: Sequence[str], starts: Sequence[bool], nouns: Sequence[bool]) -> list[str]:
    """Each word marked in `starts` with the run of words marked in `nouns` after it; each phrase once."""
    found = []
    for index, word in enumerate(words):
        if not word or not starts[index]:
            continue
        stop = index + 1
        while stop < len(words) and nouns[stop]:
            stop += 1
        found.append(" ".join([word, *words[index + 1 : stop]]))
    return list(dict.fromkeys(found))


def _words(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(text.lower()))


def _singulars(word: str) -> tuple[str, ...]:
    """The word, and the words that it may be the plural of."""
    if not word.endswith("s") or word.endswith(_NEVER_SINGULAR) or len(word) < 4:
        return (word,)
    if word.endswith("ies"):
        return (word, word[:-3] + "y")
    return (word, word[:-1], word[:-2]) if word.endswith("es") else (word, word[:-1])
