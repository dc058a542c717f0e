"""Make names.json of the embedded model: everyday names with article, plural and broader words, for photographs.

    python -m dynrefer.workbench.evidence.names --wordnet /usr/share/wordnet --out model/embedded/evidence/names.json

The directory holds WordNet's `data.noun` and `index.noun` (Debian: wordnet-base). What WordNet cannot know, namely what
a person in the street would call a thing, and what ImageNet's pictures show, is written by hand in two lists beside
this file: `everyday_names.txt` folds ImageNet's 1,000 classes, the drawn world's categories and COCO's into names;
`everyday_parents.txt` holds the broader words and their WordNet synsets. A name belongs to a parent if everything that
is folded into it does, in WordNet's graph of hypernyms. `imagenet_synsets.txt` lists the synsets of the classes and
`coco_categories.txt` COCO's categories, in their order. The same files give the same bytes.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from dynrefer.model.evidence.noun_phrases import COLOURS, is_article
from dynrefer.workbench.errors import DataError
from dynrefer.workbench.evidence.wordnet import WordNet
from dynrefer.workbench.scenes.world import World

HERE = Path(__file__).parent
NAMES_LIST = HERE / "everyday_names.txt"
PARENTS_LIST = HERE / "everyday_parents.txt"
CLASS_SYNSETS = HERE / "imagenet_synsets.txt"
COCO_CATEGORIES = HERE / "coco_categories.txt"
ROOT = "object"
CLASSES = 1000

_OPTIONS = frozenset({"article", "plural", "coco", "drawn", "also", "wn"})


@dataclass(frozen=True)
class ListedName:
    """An entry of everyday_names.txt. classes: ascending. options: those given, by key. added, removed: parents."""

    name: str
    classes: tuple[int, ...]
    options: Mapping[str, str]
    added: frozenset[str]
    removed: frozenset[str]
    colour: bool


@dataclass(frozen=True)
class ListedParent:
    """An entry of everyday_parents.txt. under: the parent's own parent, "" for the root. senses: "lemma.number".

    excluded: likewise; what lies below one of these does not belong to the parent.
    """

    name: str
    article: str
    under: str
    senses: tuple[str, ...]
    excluded: tuple[str, ...]


def read_names(text: str) -> list[ListedName]:
    """The names list; raises `DataError` with the entry at fault. Every class of ImageNet stands in it once."""
    names = [_listed_name(fields) for fields in _entries(text, columns=3)]
    _refuse_repeats("name", (entry.name for entry in names))
    _refuse_repeats("class", (str(index) for entry in names for index in entry.classes))
    missing = set(range(CLASSES)) - {index for entry in names for index in entry.classes}
    if missing:
        raise DataError(f"class {min(missing)} of ImageNet is folded into no name.")
    return names


def read_parents(text: str) -> list[ListedParent]:
    """The parents list; raises `DataError` with the entry at fault. A parent stands behind its own parent."""
    parents: list[ListedParent] = []
    for name, article, under, senses in _entries(text, columns=4):
        if under not in {parent.name for parent in parents} and (under or name != ROOT):
            raise DataError(f"parent {name!r} lies under {under!r}, which is not listed before it.")
        words = senses.split()
        excluded = tuple(word[1:] for word in words if word.startswith("-"))
        parents.append(ListedParent(name, article, under, tuple(w for w in words if not w.startswith("-")), excluded))
    _refuse_repeats("parent", (parent.name for parent in parents))
    return parents


def build(wordnet: WordNet, names: list[ListedName], parents: list[ListedParent], world: World) -> dict[str, Any]:
    """The contents of names.json: parents and names, in the lists' order."""
    class_synsets = CLASS_SYNSETS.read_text(encoding="ascii").split()
    synsets = {entry.name: _synset_of(entry, class_synsets, wordnet) for entry in names}
    chains = {
        entry.name: _parents_of(entry, [class_synsets[index] for index in entry.classes], synsets, parents, wordnet)
        for entry in names
    }
    sizes = Counter(parent for chain in chains.values() for parent in chain)
    for parent in parents:
        if sizes[parent.name] < 2:
            raise DataError(f"parent {parent.name!r} has fewer than two names below it.")
    drawn = {category.name for category in world.categories}
    coco = set(COCO_CATEGORIES.read_text(encoding="ascii").splitlines())
    lacking = drawn - {entry.name for entry in names} or coco - {_category(entry, "coco", coco) for entry in names}
    if lacking:
        raise DataError(f"{min(lacking)!r} of the drawn world or of COCO is missing among the names.")
    order = {parent.name: (sizes[parent.name], -place) for place, parent in enumerate(parents)}.__getitem__
    return {
        "parents": [_parent_record(parent, parents) for parent in parents],
        "names": [
            _name_record(entry, synsets[entry.name], sorted(chains[entry.name] - {entry.name}, key=order), coco, drawn)
            for entry in names
        ],
    }


def to_json(content: Mapping[str, Any]) -> str:
    """Compact and readable: one parent, one name per line."""
    blocks = [
        f"{json.dumps(key)}: [\n" + ",\n".join(json.dumps(record) for record in records) + "\n]"
        for key, records in content.items()
    ]
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def _entries(text: str, columns: int) -> Iterator[list[str]]:
    """The fields of each line; what stands behind a # is a remark."""
    for line in text.splitlines():
        content = line.partition("#")[0]
        if content.strip():
            fields = [field.strip() for field in content.split("|")]
            if len(fields) != columns or not fields[0]:
                raise DataError(f"the line {line!r} does not have {columns} fields.")
            yield fields


def _listed_name(fields: list[str]) -> ListedName:
    name, ranges, rest = fields
    options: dict[str, str] = {}
    added: set[str] = set()
    removed: set[str] = set()
    colour = False
    for option in filter(None, (part.strip() for word in rest.split(";") for part in _signed_apart(word))):
        key, equals, value = option.partition("=")
        if option == "colour":
            colour = True
        elif equals and key in _OPTIONS:
            options[key] = value
        elif option[0] in "+-" and not equals:
            (added if option[0] == "+" else removed).add(option[1:])
        else:
            raise DataError(f"the name {name!r} has the unknown option {option!r}.")
    classes = [index for bounds in ranges.split() for index in _range(bounds)]
    colour = colour or bool(COLOURS & set(name.split()))
    return ListedName(name, tuple(sorted(classes)), options, frozenset(added), frozenset(removed), colour)


def _signed_apart(option: str) -> list[str]:
    """The parts of "-electronic device -computer"; other options stay whole."""
    return re.split(r"\s+(?=[+-])", option) if option.strip()[:1] in ("+", "-") else [option]


def _range(bounds: str) -> range:
    first, _, last = bounds.partition("-")
    return range(int(first), int(last or first) + 1)


def _refuse_repeats(kind: str, items: Iterable[str]) -> None:
    repeated = [item for item, count in Counter(items).items() if count > 1]
    if repeated:
        raise DataError(f"{kind} {repeated[0]!r} stands in the list twice.")


def _synset_of(entry: ListedName, class_synsets: list[str], wordnet: WordNet) -> str:
    """As listed; else the first sense of the name that is above all its classes; else the lowest synset above."""
    if "wn" in entry.options:
        return wordnet.sense(entry.options["wn"])
    senses = wordnet.lemmas.get(entry.name.replace(" ", "_"), ())
    if not entry.classes:
        if not senses:
            raise DataError(f"WordNet does not know {entry.name!r}; give it a class or wn=.")
        return senses[0]
    classes = [class_synsets[index] for index in entry.classes]
    fitting = (sense for sense in senses if all(sense in wordnet.above(synset) for synset in classes))
    return next(fitting, None) or wordnet.common(classes)


def _parents_of(
    entry: ListedName,
    class_synsets: list[str],
    synsets: Mapping[str, str],
    parents: list[ListedParent],
    wordnet: WordNet,
) -> set[str]:
    """All parents of a name. A listed synset (wn=) speaks for the classes as well: it says what their pictures show."""
    evidence = class_synsets if class_synsets and "wn" not in entry.options else [synsets[entry.name]]
    unknown = (entry.added | entry.removed) - {parent.name for parent in parents}
    if unknown:
        raise DataError(f"the name {entry.name!r} has the unknown parent {min(unknown)!r}.")
    found = {parent.name for parent in parents if _covers(parent, evidence, wordnet)} | entry.added | {ROOT}
    for parent in reversed(parents):  # from the specific to the broad, so that one pass reaches the root
        if parent.name in found and parent.under:
            found.add(parent.under)
    return found - entry.removed


def _covers(parent: ListedParent, synsets: list[str], wordnet: WordNet) -> bool:
    inside = {wordnet.sense(sense) for sense in parent.senses}
    outside = {wordnet.sense(sense) for sense in parent.excluded}
    return all(inside & wordnet.above(synset) and not outside & wordnet.above(synset) for synset in synsets)


def _parent_record(parent: ListedParent, parents: list[ListedParent]) -> dict[str, Any]:
    under = {listed.name: listed.under for listed in parents}
    chain = [parent.under]
    while chain[-1]:
        chain.append(under[chain[-1]])
    return {"name": parent.name, "article": parent.article, "parents": chain[:-1]}


def _name_record(entry: ListedName, synset: str, chain: list[str], coco: set[str], drawn: set[str]) -> dict[str, Any]:
    article = entry.options.get("article", "a")
    if not is_article(article):
        raise DataError(f"the name {entry.name!r} has the article {article!r}, which is none.")
    return {
        "name": entry.name,
        "article": article,
        "plural": entry.options.get("plural", _plural(entry.name) if article == "a" else entry.name),
        "parents": chain,
        "classes": list(entry.classes),
        "synset": synset,
        "coco": _category(entry, "coco", coco),
        "drawn": _category(entry, "drawn", drawn),
        "synonyms": [word.strip() for word in entry.options.get("also", "").split(",") if word.strip()],
        "holds_colour": entry.colour,
    }


def _category(entry: ListedName, key: str, known: Collection[str]) -> str | None:
    """The category that is listed, or the one that has the entry's name."""
    listed = entry.options.get(key)
    if listed is not None and listed not in known:
        raise DataError(f"the name {entry.name!r} says {key}={listed}, which is no such category.")
    return listed or (entry.name if entry.name in known else None)


def _plural(name: str) -> str:
    """By the regular rules of English, of the last word."""
    if name.endswith("y") and name[-2] not in "aeiou":
        return f"{name[:-1]}ies"
    if name.endswith("man"):
        return f"{name[:-2]}en"
    return f"{name}es" if name.endswith(("s", "x", "ch", "sh", "z")) else f"{name}s"


def main(
    wordnet: Annotated[Path, typer.Option(help="Directory of data.noun and index.noun (Debian: wordnet-base).")],
    out: Annotated[Path, typer.Option(help="File to write.")],
) -> None:
    """Make names.json of the embedded model from WordNet and the two lists mended by hand."""
    names = read_names(NAMES_LIST.read_text(encoding="utf-8"))
    parents = read_parents(PARENTS_LIST.read_text(encoding="utf-8"))
    content = build(WordNet.read(wordnet), names, parents, World.load())
    out.write_text(to_json(content), encoding="utf-8")
    print(f"{len(names)} names, {len(parents)} parents: {out.name}")


if __name__ == "__main__":
    typer.run(main)
