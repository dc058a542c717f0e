"""Make translations.json of the embedded model: its words in German, French, Spanish, Japanese and Chinese.

    npm pack cldr-annotations-full && tar xzf cldr-annotations-full-*.tgz
    python -m dynrefer.workbench.languages.translations --cldr package/annotations \
        --model model/embedded --out model/embedded

Two sources: `own_words.txt` beside this file, written for this project, and, for the other names of things, the short
names of pictographs in Unicode's CLDR: where a name is spelled as the English name of a pictograph, the picture says
which of its meanings is meant, and the short name in another language is that of the same picture. No multilingual
WordNet is in a package of the registries that this was made with. The same files give the same bytes; standard output
says which names lack which language.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from dynrefer.model.evidence.names import NAMES_FILE, EvidenceNames
from dynrefer.model.translations import Translations
from dynrefer.model.vocabulary import Vocabulary
from dynrefer.workbench.errors import DataError

LANGUAGES = ("de", "fr", "es", "ja", "zh")
OWN_WORDS = Path(__file__).parent / "own_words.txt"
SECTIONS = ("objects", "properties", "types")
# What Japanese puts behind the name of a picture that shows an animal's face, or a train from the front.
_JAPANESE_SUFFIXES = ("の顔", "正面")

Words = dict[str, dict[str, str]]


def read_own_words(text: str) -> dict[str, Words]:
    """Section -> English name -> language -> word. Raises `DataError` with the line at fault."""
    found: dict[str, Words] = {name: {} for name in SECTIONS}
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            section = line.strip("[]")
            if section not in SECTIONS:
                raise DataError(f"line {number} of the words: the section {line} is none of {', '.join(SECTIONS)}.")
            continue
        name, *words = (part.strip() for part in line.split("|"))
        if len(words) != len(LANGUAGES) or not section or name in found[section]:
            raise DataError(f"line {number} of the words must be a new name and {len(LANGUAGES)} words in a section.")
        found[section][name] = {tag: word for tag, word in zip(LANGUAGES, words, strict=True) if word}
    return found


def short_names(annotations: Mapping[str, Mapping[str, Any]]) -> Words:
    """English short name -> language -> that of the same picture.

    annotations: language -> character -> {"tts": [name]}, English among them.
    """
    found: Words = {}
    for character, entry in annotations["en"].items():
        name = _short_name(entry).lower()
        if name and name not in found:
            words = {tag: _short_name(annotations[tag].get(character, {})) for tag in LANGUAGES}
            for suffix in _JAPANESE_SUFFIXES:
                words["ja"] = words["ja"].removesuffix(suffix)
            found[name] = {tag: word for tag, word in words.items() if word}
    return found


def translations(
    objects: Iterable[str], others: Iterable[str], attributes: Iterable[str], own: Mapping[str, Words], pictures: Words
) -> dict[str, Words]:
    """The file's content. others: tags that are no objects. attributes: "type:value"."""
    things = {name: own["objects"].get(name) or pictures.get(name, {}) for name in objects}
    properties = {name: own["properties"].get(name, {}) for name in others}
    pairs = {}
    for name in attributes:
        kind, _, value = name.partition(":")
        kinds, values = own["types"].get(kind, {}), own["properties"].get(value, {})
        pairs[name] = {tag: f"{kinds[tag]}:{values[tag]}" for tag in LANGUAGES if tag in kinds and tag in values}
    listed = {"objects": things, "properties": properties, "attributes": pairs}
    return {kind: {name: words for name, words in found.items() if words} for kind, found in listed.items()}


def make(
    cldr: Annotated[Path, typer.Option(help="Folder `annotations` of the npm package cldr-annotations-full.")],
    model: Annotated[Path, typer.Option(help="Directory of the embedded model.")],
    out: Annotated[Path, typer.Option(help="The directory to write translations.json to.")],
) -> None:
    """Write the file, and say on standard output what is missing."""
    annotations = {tag: _annotations(cldr / tag / "annotations.json") for tag in ("en", *LANGUAGES)}
    vocabulary, names = Vocabulary.load(model), EvidenceNames.load(model / "evidence" / NAMES_FILE)
    known = dict.fromkeys([*vocabulary.categories, *(each.name for each in names.names)])
    objects = [*known, *(each.name for each in names.parents if each.name not in known)]
    others = [tag for tag in vocabulary.tags if tag not in objects or tag == "orange"]  # the colour, in drawings
    attributes = [attribute.name for attribute in vocabulary.attributes]
    own = read_own_words(OWN_WORDS.read_text(encoding="utf-8"))
    found = translations([*objects, "remote", "hair drier"], others, attributes, own, short_names(annotations))
    Translations(**found).save(out)
    for kind, asked in (("objects", objects), ("properties", others), ("attributes", attributes)):
        for tag in LANGUAGES:
            missing = [name for name in asked if tag not in found[kind].get(name, {})]
            print(
                f"{kind} in {tag}: {len(asked) - len(missing)} of {len(asked)}; missing: {', '.join(missing) or 'none'}"
            )


def _annotations(path: Path) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))["annotations"]["annotations"]
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{path} is no annotations.json of CLDR.") from None
    return found


def _short_name(entry: Mapping[str, Any]) -> str:
    names = entry.get("tts", [])
    return str(names[0]) if names else ""


if __name__ == "__main__":
    typer.run(make)
