"""Pascal VOC's XML: a file per image, an `object` with `name` and `bndbox` per region.

Coordinates are taken as they are written: tools disagree whether the first pixel is 0 or 1.

Source of the format: http://host.robots.ox.ac.uk/pascal/VOC/voc2012/devkit_doc.pdf
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from dynrefer.service.batch.answers import Answers, attributes_of, caption_of, described_regions, name_of
from dynrefer.service.batch.box_table import number_of
from dynrefer.service.batch.items import IMAGE_ENDINGS, Item, Line, link_image, path_inside

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class VocSource:
    """annotations: the folder with the XML files, at all depths. images: the folder with the images."""

    annotations: Path
    images: Path
    format: str = "voc"

    def items(self) -> Iterator[Item]:
        """See `ItemSource`. Files without an object are left out."""
        for file in sorted(self.annotations.rglob("*.xml")):
            item = self._item(file)
            if item.num_regions or item.flaw:
                yield item

    def _item(self, file: Path) -> Item:
        name = file.relative_to(self.annotations)
        try:
            root = ElementTree.parse(file).getroot()
        except (ElementTree.ParseError, OSError) as error:
            return Item(name.as_posix(), file, flaw=f"{name} is not XML: {error}.")
        image = self._image(name, (root.findtext("filename") or "").strip())
        regions, labels = [], []
        for place, each in enumerate(root.iter("object")):
            box = each.find("bndbox")
            corners = [number_of(None if box is None else box.findtext(corner)) for corner in _CORNERS]
            regions.append({"id": str(place), "box": corners})
            labels.append((each.findtext("name") or "").strip() or None)
        try:
            shown = image.relative_to(self.images).as_posix()
        except ValueError:
            shown = image.as_posix()
        return Item(shown, image, {"box_format": "xyxy", "regions": regions}, tuple(labels))

    def _image(self, name: Path, filename: str) -> Path:
        """Where the image is: by the name in the file, else by the file's own; where it should be if it is nowhere."""
        folders = [self.images / name.parent, self.images, self.images / "JPEGImages"]
        folders = list(dict.fromkeys(folders))
        if filename:
            found = next((path for folder in folders if (path := folder / filename).is_file()), None)
            if found is not None:
                return found
        for folder in folders:
            for path in sorted(folder.glob(f"{glob_escaped(name.stem)}.*")):
                if path.suffix.lower() in IMAGE_ENDINGS:
                    return path
        return folders[0] / (filename or name.with_suffix(".jpg").name)


def glob_escaped(text: str) -> str:
    """A name as a pattern that matches it alone."""
    return "".join(f"[{each}]" if each in "*?[" else each for each in text)


def is_annotation(file: Path) -> bool:
    """Whether an XML file is one of VOC's."""
    try:
        return ElementTree.parse(file).getroot().tag == "annotation"
    except (ElementTree.ParseError, OSError):
        return False


def write_voc(folder: Path, answers: Answers) -> None:
    """`Annotations/` with a file per image, `ImageSets/Main/default.txt`, and, with links to the images, `JPEGImages/`.

    Caption and attributes stand in `attributes`, where CVAT and datumaro read them. folder: is there, and empty.
    """
    listed = folder / "ImageSets" / "Main" / "default.txt"
    listed.parent.mkdir(parents=True)
    names: set[str] = set()
    with listed.open("w", encoding="utf-8") as stems:
        for line in answers.lines():
            name = path_inside(line["file"])
            file = folder / "Annotations" / name.with_suffix(".xml")
            file.parent.mkdir(parents=True, exist_ok=True)
            root = _annotation(line, name)
            ElementTree.indent(root)
            ElementTree.ElementTree(root).write(file, encoding="utf-8")
            stems.write(f"{name.with_suffix('').as_posix()}\n")
            names.update(name_of(region) for region in described_regions(line))
            link_image(answers.images / line["file"], folder / "JPEGImages" / name)
    lines = ["# label:color_rgb:parts:actions", *(f"{name.replace(':', ' ')}:::" for name in sorted(names))]
    (folder / "labelmap.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _annotation(line: Line, name: Path) -> ElementTree.Element:
    root = ElementTree.Element("annotation")
    _add(root, "folder", "JPEGImages")
    _add(root, "filename", name.as_posix())
    size = ElementTree.SubElement(root, "size")
    for side in ("width", "height"):
        _add(size, side, str(line["image"][side]))
    _add(size, "depth", "3")
    for region in described_regions(line):
        each = ElementTree.SubElement(root, "object")
        _add(each, "name", name_of(region))
        for flag in ("truncated", "difficult"):
            _add(each, flag, "0")
        box = ElementTree.SubElement(each, "bndbox")
        for corner, value in zip(_CORNERS, region["box"], strict=True):
            _add(box, corner, f"{value:g}" if float(value).is_integer() else repr(value))
        _add_attributes(each, caption_of(region), attributes_of(region))
    return root


def _add_attributes(each: ElementTree.Element, caption: str | None, attributes: dict[str, str]) -> None:
    listed = {**({} if caption is None else {"caption": caption}), **attributes}
    if listed:
        parent = ElementTree.SubElement(each, "attributes")
        for key, value in listed.items():
            attribute = ElementTree.SubElement(parent, "attribute")
            _add(attribute, "name", key)
            _add(attribute, "value", value)


def _add(parent: ElementTree.Element, tag: str, text: str) -> None:
    ElementTree.SubElement(parent, tag).text = text
