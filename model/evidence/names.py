"""Everyday names for what the tower knows of photographs: ImageNet's classes folded to names, and broader words.

The data, `embedded/evidence/names.json`, is made by workbench/evidence/names.py from WordNet and lists mended by hand.
Shapes: N = regions, K = names, P = parents, in the file's order; probabilities are float64.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.errors import ConfigError
from dynrefer.model.evidence.noun_phrases import Noun, is_article, noun_phrase, put_noun
from dynrefer.model.model_files import read_json_object

NAMES_FILE = "names.json"
IMAGENET_CLASSES = 1000
ROOT = "object"
_SMALLEST = 1e-12  # of a probability, so that none is divided by 0


@dataclass(frozen=True)
class EvidenceName:
    """A thing, as a person in the street would call it.

    article: "a" (also for "an"), "a pair of", "a glass of" and the like, or "" for plurals and mass nouns.
    parents: broader words, the most specific first, "object" last.
    classes: the ImageNet classes that are folded into it, counted from 0; none for what ImageNet lacks.
    synset: of WordNet 3.0, "n" and eight digits.
    coco, drawn: the category of COCO and of the drawn world that the thing is or falls under.
    synonyms: other names for it, or for what is folded into it ("mountain bike" of a bicycle).
    holds_colour: the name holds a colour ("red panda"), so that none is said in front of it.
    """

    name: str
    article: str
    plural: str
    parents: tuple[str, ...]
    classes: tuple[int, ...]
    synset: str
    coco: str | None
    drawn: str | None
    synonyms: tuple[str, ...]
    holds_colour: bool


@dataclass(frozen=True)
class EvidenceParent:
    """A broader word for several names, such as "bird"; it may be a name as well. parents: those above it."""

    name: str
    article: str
    parents: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class EvidenceNames:
    """All names and parents. A parent has below it the names that list it, and the name that is spelled as it is."""

    names: tuple[EvidenceName, ...]
    parents: tuple[EvidenceParent, ...]

    @classmethod
    def load(cls, path: str | Path) -> EvidenceNames:
        """Read names.json. Raises `ModelNotFoundError` if missing, `ConfigError` naming the entry if malformed."""
        path = Path(path)
        data = read_json_object(path, "names of the evidence")
        if set(data) != {"names", "parents"}:
            raise ConfigError(f"{path} must hold names and parents, and nothing else.")
        names = tuple(
            _name(item, f"names[{i}] in {path}") for i, item in enumerate(_list(data["names"], "names", path))
        )
        parents = tuple(
            _parent(item, f"parents[{i}] in {path}") for i, item in enumerate(_list(data["parents"], "parents", path))
        )
        found = cls(names, parents)
        _check(found, path)
        return found

    def index(self, name: str) -> int:
        """The place of a name; raises `KeyError` if there is none."""
        return self._places[name]

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def leaves_under(self, parent: str) -> tuple[str, ...]:
        """The names below a parent, in order; raises `KeyError` if there is no such parent."""
        return tuple(self.names[place].name for place in self._members[self._parent_places[parent]])

    def parents_of(self, name: str) -> tuple[str, ...]:
        """The broader words for a name, or for a category of drawings, nearest first, without "object"."""
        place = self._places.get(name)
        if place is None:
            place = next((index for index, entry in enumerate(self.names) if entry.drawn == name), None)
        parents = () if place is None else self.names[place].parents
        return tuple(parent for parent in parents if parent not in (ROOT, name))

    def fold(self, class_probabilities: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Probabilities of ImageNet's classes (N, 1000) to those of the names (N, K); names without a class get 0.

        A row's numbers depend on that row alone.
        """
        ordered = np.take(np.asarray(class_probabilities, dtype=np.float64), self._class_order, axis=1)
        folded = np.zeros((len(ordered), len(self.names)))
        folded[:, self._named] = np.add.reduceat(ordered, self._class_starts, axis=1)
        return folded

    def shares(self, class_probabilities: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Of ImageNet's classes (1000,): the part that each has of its name's probability."""
        ordered = np.asarray(class_probabilities, dtype=np.float64)[self._class_order] + _SMALLEST
        sums = np.add.reduceat(ordered, self._class_starts)
        lengths = np.diff([*self._class_starts, len(ordered)])
        found = np.empty(len(ordered), np.float32)
        found[self._class_order] = ordered / np.repeat(sums, lengths)
        return found

    def parent_probability(self, name_probabilities: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Probabilities of the names (K,) to those of the parents (P,): sums over the names below, at most 1."""
        ordered = np.asarray(name_probabilities, dtype=np.float64)[self._member_order]
        return np.minimum(np.add.reduceat(ordered, self._member_starts), 1.0)

    def best_parent(
        self, name_probabilities: NDArray[np.floating[Any]], at_least: float = 0.5
    ) -> tuple[EvidenceParent, float]:
        """The most specific parent with at least this probability, and its probability.

        The most specific is the one with the fewest names below it; of two with equally many, the more probable.
        "object" where no other reaches it.
        """
        probabilities = self.parent_probability(name_probabilities)
        reaching = [place for place in range(len(self.parents)) if probabilities[place] >= at_least]
        reaching = reaching or [self._parent_places[ROOT]]
        best = min(reaching, key=lambda place: (len(self._members[place]), -probabilities[place]))
        return self.parents[best], float(probabilities[best])

    def noun(self, name: str) -> Noun:
        """How a word is used in a sentence: a name, else a parent, else any word of a request, with the article "a"."""
        if name in self._places:
            entry = self.names[self._places[name]]
            return Noun(name, entry.article, entry.holds_colour)
        if name in self._parent_places:
            return Noun(name, self.parents[self._parent_places[name]].article)
        return Noun(name)

    def with_article(self, name: str, adjectives: Sequence[str] = ()) -> str:
        """ "an owl", "a brown owl", "a pair of red scissors", "a piece of furniture", "broccoli". Any word is taken."""
        return noun_phrase(self.noun(name), adjectives)

    def put_noun(self, text: str, name: str, placeholder: str = "~") -> str:
        """The text with the name in place of the placeholder, and its article mended; see `noun_phrases.put_noun`."""
        return put_noun(text, self.noun(name), placeholder)

    @cached_property
    def _places(self) -> Mapping[str, int]:
        return {entry.name: place for place, entry in enumerate(self.names)}

    @cached_property
    def _parent_places(self) -> Mapping[str, int]:
        return {parent.name: place for place, parent in enumerate(self.parents)}

    @cached_property
    def _members(self) -> tuple[tuple[int, ...], ...]:
        """The places of the names below each parent, ascending."""
        return tuple(
            tuple(i for i, entry in enumerate(self.names) if parent.name in entry.parents or parent.name == entry.name)
            for parent in self.parents
        )

    @cached_property
    def _member_order(self) -> NDArray[np.intp]:
        return np.concatenate([np.array(members, dtype=np.intp) for members in self._members])

    @cached_property
    def _member_starts(self) -> NDArray[np.intp]:
        return _starts([len(members) for members in self._members])

    @cached_property
    def _named(self) -> NDArray[np.intp]:
        """The places of the names that have classes."""
        return np.array([place for place, entry in enumerate(self.names) if entry.classes], dtype=np.intp)

    @cached_property
    def _class_order(self) -> NDArray[np.intp]:
        return np.array([index for entry in self.names for index in entry.classes], dtype=np.intp)

    @cached_property
    def _class_starts(self) -> NDArray[np.intp]:
        return _starts([len(entry.classes) for entry in self.names if entry.classes])


def _starts(lengths: Sequence[int]) -> NDArray[np.intp]:
    """Where each of these segments begins, for `reduceat`; none may be empty."""
    return np.cumsum([0, *lengths[:-1]], dtype=np.intp)


def _check(names: EvidenceNames, path: Path) -> None:
    """What holds between entries."""
    for kind, words in (("name", [n.name for n in names.names]), ("parent", [p.name for p in names.parents])):
        repeated = next((word for word, count in Counter(words).items() if count > 1), None)
        if repeated is not None:
            raise ConfigError(f"the {kind} {repeated!r} stands in {path} twice.")
    known = {parent.name for parent in names.parents}
    if ROOT not in known:
        raise ConfigError(f"{path} lacks the parent {ROOT!r}.")
    entries: list[EvidenceName | EvidenceParent] = [*names.names, *names.parents]
    for entry in entries:
        unknown = next((parent for parent in entry.parents if parent not in known), None)
        if unknown is not None:
            raise ConfigError(f"{entry.name!r} in {path} has the unknown parent {unknown!r}.")
        if entry.parents[-1:] != (() if entry.name == ROOT else (ROOT,)):
            raise ConfigError(f"the parents of {entry.name!r} in {path} must end in {ROOT!r}.")
    for parent, members in zip(names.parents, names._members, strict=True):
        if not members:
            raise ConfigError(f"the parent {parent.name!r} in {path} has no name below it.")
    counts = Counter(index for entry in names.names for index in entry.classes)
    for index in (*range(IMAGENET_CLASSES), *counts):
        if counts[index] != 1 or not 0 <= index < IMAGENET_CLASSES:
            raise ConfigError(
                f"class {index} in {path}: each of 0 to {IMAGENET_CLASSES - 1} must stand with one name, and no other."
            )


def _name(item: Any, where: str) -> EvidenceName:
    record = _record(item, EvidenceName, where)
    for key in ("name", "plural", "synset"):
        _expect(isinstance(record[key], str) and record[key] != "", key, "a text", where)
    for key in ("coco", "drawn"):
        _expect(record[key] is None or isinstance(record[key], str), key, "a text or null", where)
    _expect(isinstance(record["article"], str) and is_article(record["article"]), "article", "an article", where)
    _expect(isinstance(record["holds_colour"], bool), "holds_colour", "true or false", where)
    for key in ("parents", "synonyms"):
        _expect(_all(record[key], str), key, "a list of texts", where)
    _expect(_all(record["classes"], int), "classes", "a list of integers", where)
    lists = {key: tuple(record[key]) for key in ("parents", "classes", "synonyms")}
    return EvidenceName(**(record | lists))


def _parent(item: Any, where: str) -> EvidenceParent:
    record = _record(item, EvidenceParent, where)
    _expect(isinstance(record["name"], str) and record["name"] != "", "name", "a text", where)
    _expect(isinstance(record["article"], str) and is_article(record["article"]), "article", "an article", where)
    _expect(_all(record["parents"], str), "parents", "a list of texts", where)
    return EvidenceParent(record["name"], record["article"], tuple(record["parents"]))


def _record(item: Any, kind: type[EvidenceName] | type[EvidenceParent], where: str) -> dict[str, Any]:
    expected = {field.name for field in fields(kind)}
    if not isinstance(item, dict) or set(item) != expected:
        raise ConfigError(f"{where} must be an object with {', '.join(sorted(expected))}, and nothing else.")
    return item


def _all(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) and not isinstance(item, bool) for item in value)


def _expect(holds: bool, key: str, what: str, where: str) -> None:
    if not holds:
        raise ConfigError(f"{key} of {where} must be {what}.")


def _list(value: Any, key: str, path: Path) -> list[Any]:
    if not isinstance(value, list):
        raise ConfigError(f"{key} in {path} must be a list.")
    return value
