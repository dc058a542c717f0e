"""What IN and --boxes are: a folder of images with boxes in one of the formats, found out by what the files hold."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from dynrefer.service.batch.errors import BatchError
from dynrefer.service.batch.formats.coco import CocoSource
from dynrefer.service.batch.formats.lines import LinesSource
from dynrefer.service.batch.formats.table import TableSource
from dynrefer.service.batch.formats.voc import VocSource, is_annotation
from dynrefer.service.batch.formats.yolo import YoloSource, is_label_line, label_file
from dynrefer.service.batch.items import FolderSource, ItemSource, image_files

FORMATS = ("coco", "yolo", "voc", "csv", "jsonl")
_FILES_LOOKED_AT = 50  # of a folder, to find out what they are
_NO_REGIONS = (
    "{} brings no boxes: name a file or folder with boxes by --boxes (COCO, YOLO, VOC, CSV or JSONL), or let regions "
    "be found with --find."
)


def open_source(
    given: Path,
    boxes: Path | None = None,
    images: Path | None = None,
    format: str | None = None,
    *,
    find: bool = False,
    written: Sequence[Path] = (),
) -> tuple[ItemSource, Path]:
    """The items, and the folder that the images' names are relative to.

    given: IN, a folder of images or a file of boxes. images: --images, another folder than that of the file. format:
    one of FORMATS, by force. written: what this command writes, which may lie in the folder and brings no boxes.
    Raises BatchError, a sentence that says what to give.
    """
    for path in (given, boxes, images):
        if path is not None and not path.exists():
            raise BatchError(f"there is no {path}.")
    if find and boxes is not None:
        raise BatchError("--find looks for regions and --boxes brings them; give one of the two.")
    if given.is_dir():
        if images is not None:
            raise BatchError(f"--images names the folder of a file's images, and {given} is a folder itself.")
        return _of_folder(given, boxes, format, find, written), given
    if boxes is not None:
        raise BatchError(f"--boxes belongs to a folder of images, and {given} is a file; name its folder by --images.")
    root = images or given.parent
    kind = format or _format_of_file(given)
    if find and kind != "jsonl":
        raise BatchError(f"--find takes a folder of images or a JSONL file with an `image` per line, not {given}.")
    return _of_file(given, root, kind, find), root


def _of_folder(folder: Path, boxes: Path | None, format: str | None, find: bool, written: Sequence[Path]) -> ItemSource:
    if next(iter(image_files(folder)), None) is None:
        raise BatchError(f"{folder} holds no images.")
    if find:
        return FolderSource(folder)
    if boxes is None:
        boxes, format = _boxes_inside(folder, format, written)
    if boxes.is_file() and boxes.suffix.lower() not in (".yaml", ".yml"):
        return _of_file(boxes, folder, format or _format_of_file(boxes), find)
    labels = boxes.parent if boxes.is_file() else boxes
    kind = format or ("yolo" if boxes.is_file() else _format_of_folder(folder, labels))
    if kind == "voc":
        return VocSource(labels, folder)
    if kind == "yolo":
        return YoloSource(folder, labels)
    raise BatchError(f"--format {kind} is read from a file, and {boxes} is a folder.")


def _of_file(file: Path, images: Path, kind: str, find: bool) -> ItemSource:
    if kind == "coco":
        return CocoSource(file, images)
    if kind == "csv":
        return TableSource(file, images)
    if kind == "jsonl":
        return LinesSource(file, images, find)
    raise BatchError(f"--format {kind} is read from a folder, and {file} is a file.")


def _format_of_file(file: Path) -> str:
    """By its first bytes."""
    try:
        with file.open("rb") as opened:
            head = opened.read(1 << 16)
    except OSError as error:
        raise BatchError(f"cannot read {file}: {(error.strerror or str(error)).lower()}.") from None
    first = head.lstrip(b"\xef\xbb\xbf \t\r\n").split(b"\n", 1)[0].strip()
    if not first:
        raise BatchError(f"{file} is empty.")
    if first.startswith((b"{", b"[")):
        return "coco" if _is_coco(file, first) else "jsonl"
    if any(separator in first for separator in (b",", b"\t", b";")):
        return "csv"
    formats = ", ".join(FORMATS)
    raise BatchError(f"{file} is neither COCO's JSON, a CSV nor JSONL; name its format by --format ({formats}).")


def _is_coco(file: Path, first: bytes) -> bool:
    """Whether one document begins with this line, and not one of many."""
    if b'"images"' in first and b'"annotations"' in first:
        return True
    return not _is_object(first) and (file.suffix.lower() == ".json" or first in (b"{", b"["))


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _format_of_folder(images: Path, labels: Path) -> str:
    if any(is_annotation(each) for each in islice(labels.rglob("*.xml"), _FILES_LOOKED_AT)):
        return "voc"
    if any(True for _ in _yolo_labels(images, labels)):
        return "yolo"
    raise BatchError(f"{labels} holds neither VOC's XML files nor YOLO's text files of the images in {images}.")


def _yolo_labels(images: Path, labels: Path | None) -> Iterator[Path]:
    """Label files of some images, that hold what YOLO writes."""
    for image in islice(image_files(images), _FILES_LOOKED_AT):
        file = label_file(images, image.relative_to(images), labels)
        if file is not None and any(map(is_label_line, file.read_text("utf-8", "replace").splitlines()[:1])):
            yield file


def _boxes_inside(folder: Path, format: str | None, written: Sequence[Path]) -> tuple[Path, str]:
    """What brings the boxes where nothing names it: the one thing in the folder that can. Raises BatchError."""
    found: list[tuple[Path, str]] = []
    files = [each for place in (folder, folder / "annotations") if place.is_dir() for each in sorted(place.iterdir())]
    for file in files:
        ours = any(file.name.startswith(path.name) and file.parent.samefile(path.parent) for path in written)
        if file.suffix.lower() in (".json", ".csv", ".tsv", ".jsonl") and not ours:
            found.append((file, _format_of_file(file)))
    if any(is_annotation(each) for each in islice(folder.rglob("*.xml"), _FILES_LOOKED_AT)):
        found.append((folder, "voc"))
    if any(True for _ in _yolo_labels(folder, None)):
        found.append((folder, "yolo"))
    found = [each for each in found if format in (None, each[1])]
    if not found:
        raise BatchError(_NO_REGIONS.format(folder))
    if len(found) > 1:
        names = ", ".join(f"{path} ({kind})" for path, kind in found)
        raise BatchError(f"several things in {folder} may bring its boxes: {names}; name one by --boxes.")
    return found[0]
