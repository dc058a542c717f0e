"""What is asked to be found: from Python arguments to a query, and from a query to the texts that a finder scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dynrefer.model.finding import AskedName, FindQuery
from dynrefer.model.grounding.sentence import read_sentence


def find_query(
    names: Iterable[AskedName | Mapping[str, Any] | str],
    phrase: str | None,
    threshold: float | None,
    nms: float,
    max_regions: int,
    *,
    masks: bool,
) -> FindQuery:
    """A query of Python arguments. Raises ValueError, in a sentence, for what cannot be asked."""
    asked = tuple(_asked(each) for each in ([names] if isinstance(names, str | Mapping | AskedName) else names))
    if phrase is not None and not (isinstance(phrase, str) and phrase.strip()):
        raise ValueError("'phrase' is a sentence, and not empty; leave it out to find names or everything.")
    if asked and phrase is not None:
        raise ValueError("'names' and 'phrase' cannot be asked together; leave one of the two out.")
    spelled = [text.casefold() for each in asked for text in (each.name, *each.synonyms)]
    if twice := next((text for text in spelled if spelled.count(text) > 1), None):
        raise ValueError(f"{twice!r} is asked twice; every name and synonym may stand once.")
    for name, value in (("threshold", threshold), ("nms", nms)):
        if value is not None and not (_is_number(value) and 0 <= value <= 1):
            raise ValueError(f"{name} is {value!r:.40}; it is a number from 0 to 1.")
    if not isinstance(max_regions, int) or isinstance(max_regions, bool) or max_regions < 1:
        raise ValueError(f"max_regions is {max_regions!r:.40}; it is a whole number, at least 1.")
    return FindQuery(asked, phrase, threshold, nms, max_regions, masks)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _asked(given: AskedName | Mapping[str, Any] | str) -> AskedName:
    if isinstance(given, str):
        given = AskedName(given)
    elif not isinstance(given, AskedName):
        if not isinstance(given, Mapping) or "name" not in given:
            raise ValueError("a name is a text, or has 'name' and if need be 'synonyms' and 'not'.")
        if odd := set(given) - {"name", "synonyms", "not"}:
            raise ValueError(f"a name has no {sorted(odd)[0]!r}; it has 'name', 'synonyms' and 'not'.")
        given = AskedName(given["name"], tuple(given.get("synonyms", ())), tuple(given.get("not", ())))
    for text in (given.name, *given.synonyms, *given.excluded):
        if not isinstance(text, str) or not text.strip():
            raise ValueError("every name is a word or several, and not empty.")
    return given


def texts_of(query: FindQuery) -> tuple[str, ...]:
    """Names, synonyms and excluded words in the order in which they are asked, or a sentence's nouns; each once."""
    if query.phrase is not None:
        return tuple(dict.fromkeys(each.noun for each in read_sentence(query.phrase) if each.noun))
    found = (text for each in query.names for text in (each.name, *each.synonyms, *each.excluded))
    return tuple(dict.fromkeys(found))
