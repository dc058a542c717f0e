"""Flickr30k Entities (Plummer et al., 2015) -> the document that `AnnotationReader` reads: a COCO-style file.

    Sentences/1000092795.txt     one sentence a line: "[/EN#1/people Two men] are in [/EN#2/scene a yard] ."
    Annotations/1000092795.xml   boxes by the numbers of the entities, as in PASCAL VOC

An annotation is one box of one entity. Its `caption` lists what the sentences call the entity; `phrases` says where:
{"sentence": place in the image's `sentences`, "span": [start, end] in characters of that}. Entities without a box, and
those that are not visual (number 0), have no annotation. Boxes are used as they are written, corners in pixels.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynrefer.workbench.data.json_files import read_text_lines
from dynrefer.workbench.errors import DataError

SENTENCES, ANNOTATIONS = "Sentences", "Annotations"
_ENTITY = re.compile(r"\[/EN#(?P<number>\d+)(?P<kinds>(?:/[^/\s\]]+)+) (?P<words>[^\[\]]+)\]")
_NOT_VISUAL = "0"


@dataclass(frozen=True)
class EntityPhrase:
    """What a sentence calls an entity. start, end: characters of the sentence."""

    entity: str
    text: str
    start: int
    end: int


def read_entities(folder: Path) -> dict[str, Any]:
    """The document of a folder with `Sentences` and `Annotations`. Raises `DataError`, which names the file."""
    sentences, boxes = folder / SENTENCES, folder / ANNOTATIONS
    if not sentences.is_dir() or not boxes.is_dir():
        raise DataError(
            f"{folder} is a folder without {SENTENCES} and {ANNOTATIONS}; give a COCO-style file, or the folder of "
            "Flickr30k Entities."
        )
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for file in sorted(boxes.glob("*.xml")):
        texts = sentences / f"{file.stem}.txt"
        if not texts.is_file():
            raise DataError(f"{file.name} of {boxes} has no {texts.name} in {SENTENCES}; add it, or leave both out.")
        read = [parse_sentence(line, f"{texts.name}, line {number}") for number, line in read_text_lines(texts)]
        images.append({"id": file.stem, **_image(file), "sentences": [sentence for sentence, _ in read]})
        for entity, box in _boxes(file):
            said = [(place, p) for place, (_, phrases) in enumerate(read) for p in phrases if p.entity == entity]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": file.stem,
                    "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                    "caption": list(dict.fromkeys(phrase.text for _, phrase in said)),
                    "phrases": [{"sentence": place, "span": [p.start, p.end]} for place, p in said],
                }
            )
    if not images:
        raise DataError(f"{boxes} has no .xml file.")
    return {"images": images, "annotations": annotations, "categories": []}


def parse_sentence(line: str, where: str) -> tuple[str, tuple[EntityPhrase, ...]]:
    """The sentence without its marks, and its visual phrases. where: for messages. Raises `DataError`."""
    plain, end, phrases = "", 0, []
    line = line.strip()
    for mark in _ENTITY.finditer(line):
        plain += line[end : mark.start()]
        words = mark["words"].strip()
        if mark["number"] != _NOT_VISUAL:
            phrases.append(EntityPhrase(mark["number"], words, len(plain), len(plain) + len(words)))
        plain, end = plain + words, mark.end()
    plain += line[end:]
    if "[/EN#" in plain:
        raise DataError(f"{where} has a mark that is not of the form [/EN#number/kind words].")
    return plain, tuple(phrases)


def _image(file: Path) -> dict[str, Any]:
    """Name and size."""
    root = _parsed(file)
    name = root.findtext("filename")
    if not name:
        raise DataError(f"{file.name} has no filename.")
    sizes = {side: root.findtext(f"size/{side}") for side in ("width", "height")}
    return {"file_name": name, **{side: text for side, text in sizes.items() if text is not None}}


def _boxes(file: Path) -> Iterator[tuple[str, list[float]]]:
    """(entity, corners) of every box; a box may be that of several entities."""
    for entry in _parsed(file).findall("object"):
        box = entry.find("bndbox")
        if box is None:
            continue
        try:
            corners = [float(box.findtext(side) or "") for side in ("xmin", "ymin", "xmax", "ymax")]
        except ValueError as error:
            raise DataError(f"{file.name} has a bndbox without four numbers xmin, ymin, xmax, ymax.") from error
        for name in entry.findall("name"):
            if name.text:
                yield name.text.strip(), corners


def _parsed(file: Path) -> ElementTree.Element:
    try:
        text = file.read_bytes()
        if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
            raise DataError(f"{file.name} declares entities of XML; files of Flickr30k Entities have none.")
        return ElementTree.fromstring(text)
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}.") from error
    except ElementTree.ParseError as error:
        raise DataError(f"{file.name} is not valid XML: {error}.") from error
