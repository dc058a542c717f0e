"""A vocabulary that a request brings, or names: words of the client's own in place of the model's.

Plain records that pickle and compare by value; no torch, no NumPy. What the words mean to a model is decided elsewhere:
`text_embeddings.py` embeds them, `evidence/word_placement.py` places them among what the embedded model knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dynrefer.model.vocabulary import Attribute


@dataclass(frozen=True, slots=True)
class Word:
    """A category or a tag.

    name: what answers say, the client's own spelling. synonyms: other words for it; the best of all counts.
    translations: (language, word) pairs, sorted; languages as in BCP 47, lower case.
    threshold: only scores strictly above are returned, unless the request sets a threshold; None: the task's default.
    """

    name: str
    synonyms: tuple[str, ...] = ()
    translations: tuple[tuple[str, str], ...] = ()
    threshold: float | None = None


@dataclass(frozen=True, slots=True)
class AttributeWord:
    """An attribute of a request, "type:value/synonym/...", with what `Word` has beside its name.

    attribute: its name, type, synonyms and template. name in answers: "type:value", as the client wrote them.
    """

    attribute: Attribute
    translations: tuple[tuple[str, str], ...] = ()
    threshold: float | None = None


@dataclass(frozen=True, slots=True)
class RequestVocabulary:
    """Words per task; None where the model's own stay. At least one is given.

    calibration: (task, scale, bias): probability = sigmoid or softmax of scale * logit + bias, as fitted for a named
    vocabulary; a task that is not in it keeps the model's calibration.
    """

    categories: tuple[Word, ...] | None = None
    attributes: tuple[AttributeWord, ...] | None = None
    tags: tuple[Word, ...] | None = None
    calibration: tuple[tuple[str, float, float], ...] = ()
