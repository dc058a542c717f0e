"""Which text attributes of CVAT's labels are filled, and with what of a description."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dynrefer.model import LIKELY, RegionDescription, Task

NOTHING_LIKELY = ""


@dataclass(frozen=True, slots=True)
class Word:
    """One attribute. source: of `SOURCES`, or a kind of attribute, such as "color". name: the attribute's in CVAT."""

    source: str
    name: str


def _caption(described: RegionDescription) -> str:
    return "" if described.caption is None else described.caption.text


def _category(described: RegionDescription) -> str:
    return described.categories[0].name if described.categories else ""


def _tags(described: RegionDescription) -> str:
    return ", ".join(each.name for each in _likely(described.tags))


def _attributes(described: RegionDescription) -> str:
    return ", ".join(each.name for each in _likely(described.attributes))


def _likely(labels: Iterable[Any] | None) -> list[Any]:
    return [each for each in labels or () if each.probability >= LIKELY]


SOURCES: Mapping[str, tuple[Task, Callable[[RegionDescription], str]]] = {
    "caption": (Task.CAPTION, _caption),
    "category": (Task.CATEGORIES, _category),
    "tags": (Task.TAGS, _tags),
    "attributes": (Task.ATTRIBUTES, _attributes),
}
KIND = "kind:"  # before a kind of attribute


def read_wording(text: str) -> tuple[Word, ...]:
    """`caption, category, tags, attributes`, or `kind:color` for the likely value of one kind of attribute; each with
    `=NAME` behind it where CVAT's attribute has another name. Raises ValueError."""
    words = []
    for part in text.split(","):
        source, given, name = (each.strip() for each in part.partition("="))
        if not source and not given:
            continue
        kind = source.removeprefix(KIND).strip()
        if source not in SOURCES and (not source.startswith(KIND) or not kind):
            known = ", ".join(SOURCES)
            raise ValueError(f"'{source}' is no part of a description; write {known} or {KIND}color.")
        words.append(Word(source, name or kind))
    names = [word.name for word in words]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"The attribute '{twice}' is to be filled twice.")
    return tuple(words)


def tasks_of(words: Sequence[Word]) -> list[Task]:
    """What has to be asked for these attributes."""
    return list(dict.fromkeys(SOURCES[word.source][0] if word.source in SOURCES else Task.ATTRIBUTES for word in words))


def written(words: Sequence[Word], described: RegionDescription) -> dict[str, str]:
    """The attributes' names and values; "" where nothing is likely."""
    return {word.name: _value(word, described) for word in words}


def _value(word: Word, described: RegionDescription) -> str:
    if word.source in SOURCES:
        return SOURCES[word.source][1](described)
    kind = word.source.removeprefix(KIND).strip()
    return next((each.value for each in _likely(described.attributes) if each.type == kind), NOTHING_LIKELY)
