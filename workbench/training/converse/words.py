"""The lexicon that a training uses: nouns of the drawn world with what they mean, and the words of its questions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.networks.converse.embedded.lexicon import Lexicon
from dynrefer.model.vocabulary import Vocabulary
from dynrefer.workbench.scenes.questions.names import GROUPS, answer_words, spoken_name
from dynrefer.workbench.scenes.world import World

_LEAST = 3  # times that a word is asked with, to be one of the lexicon's
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*|[^\w\s]")


def build_lexicon(world: World, vocabulary: Vocabulary, texts: Iterable[str]) -> Lexicon:
    """texts: questions and answers of training. vocabulary: the describer's."""
    places = {name: place for place, name in enumerate(vocabulary.categories)}
    nouns: dict[str, tuple[int, bool]] = {}
    meanings: list[NDArray[np.float32]] = []
    for category in world.categories:
        row = np.zeros(len(places), np.float32)
        row[places[category.name]] = 1.0
        for text in (category.name, spoken_name(category), *category.synonyms):
            nouns.setdefault(text, (len(meanings), False))
        if category.article == "a pair of":
            nouns |= {f"pair of {text}": (len(meanings), False) for text in (category.name, *category.synonyms)}
        meanings.append(row)
    for group in GROUPS:
        row = np.zeros(len(places), np.float32)
        row[[places[name] for name in group.members if name in places]] = 1.0
        nouns |= {group.word: (len(meanings), False), group.plural: (len(meanings), True)}
        meanings.append(row)
    properties = _properties(vocabulary)
    counts = Counter(word for text in texts for word in _words(text))
    frequent = {word for word, count in counts.items() if count >= _LEAST}
    words = sorted((frequent | set(answer_words(world)) | set(properties)) - set(nouns) | set(properties))
    spoken = {each.name: spoken_name(each) for each in world.categories if spoken_name(each) != each.name}
    return Lexicon(tuple(words), nouns, np.stack(meanings), properties, spoken)


def _properties(vocabulary: Vocabulary) -> dict[str, tuple[int, ...]]:
    """Single words for the describer's attributes -> their places."""
    found: dict[str, list[int]] = {}
    for place, attribute in enumerate(vocabulary.attributes):
        for word in {attribute.value, *attribute.synonyms}:
            if " " not in word:
                found.setdefault(word, []).append(place)
    return {word: tuple(places) for word, places in sorted(found.items())}


def _words(text: str) -> Sequence[str]:
    return [word.lower().replace("’", "'") for word in _WORD.findall(re.sub(r"<region:[^<>]*>", " ", text))]
