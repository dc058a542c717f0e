"""Captions before they become tokens, and what the model's own vocabulary finds in them.

Source: the released caption processor, and the paper's section 3.3 (control words).
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
    """Picks the words of a caption that may steer the language model."""

    def phrases(self, caption: str) -> list[str]:
        """In the order of the caption, each once."""
        ...


def clean_caption(caption: str) -> str:
    """Lower case, `.!"()*#:;~` and repeated spaces gone, at most 50 words."""
    return " ".join(_PUNCTUATION.sub(" ", caption.lower()).split()[:MAX_WORDS])


class VocabularyWords:
    """What a vocabulary knows of the words of a caption: tags, and control words without any further library.

    A word describes if it is a value or synonym of an attribute; it names if it ends a tag or a category and does not
    describe.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._tags = {_words(tag): index for index, tag in reversed(list(enumerate(vocabulary.tags)))}
        self._longest = max((len(words) for words in self._tags), default=0)
        synonyms = [word for attribute in vocabulary.attributes for word in attribute.synonyms]
        self._describing = {word for text in synonyms for word in _words(text)}
        names = [_words(name) for name in (*vocabulary.tags, *vocabulary.categories)]
        self._naming = {words[-1] for words in names if words} - self._describing

    def tags(self, caption: str) -> tuple[int, ...]:
        """Indices of the tags whose words stand in the caption side by side, singular or plural; ascending."""
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
        """Naming and describing words, each extended by the naming words that follow it ("brown dog", "dog")."""
        words = _words(caption)
        names = [any(each in self._naming for each in _singulars(word)) for word in words]
        starts = [named or word in self._describing for word, named in zip(words, names, strict=True)]
        return extended(words, starts, names)


class PartOfSpeech:
    """Nouns and adjectives by TextBlob's tagger, whose lexicon comes with the package: nothing is downloaded."""

    def __init__(self) -> None:
        from textblob.en.taggers import PatternTagger

        self._tagger = PatternTagger()

    def phrases(self, caption: str) -> list[str]:
        """Nouns and adjectives, each extended by the nouns that follow it."""
        tagged = self._tagger.tag(" ".join(_words(caption)), tokenize=False)
        names = [kind.startswith("NN") for _, kind in tagged]
        starts = [named or kind.startswith("JJ") for (_, kind), named in zip(tagged, names, strict=True)]
        return extended([word for word, _ in tagged], starts, names)


def extended(words: Sequence[str], starts: Sequence[bool], names: Sequence[bool]) -> list[str]:
    """Each word of `starts` with the run of `names` after it; each phrase once."""
    found = []
    for index, word in enumerate(words):
        if not word or not starts[index]:
            continue
        stop = index + 1
        while stop < len(words) and names[stop]:
            stop += 1
        found.append(" ".join([word, *words[index + 1 : stop]]))
    return list(dict.fromkeys(found))


def _words(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(text.lower()))


def _singulars(word: str) -> tuple[str, ...]:
    """The word, and what it may be the plural of."""
    if not word.endswith("s") or word.endswith(_NEVER_SINGULAR) or len(word) < 4:
        return (word,)
    if word.endswith("ies"):
        return (word, word[:-3] + "y")
    return (word, word[:-1], word[:-2]) if word.endswith("es") else (word, word[:-1])
