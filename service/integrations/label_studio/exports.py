"""Label Studio's JSON export -> the folder of corrections that its webhooks would have made."""

import asyncio
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from dynrefer.service.errors import ServiceError
from dynrefer.service.inputs.bodies import Buffer
from dynrefer.service.inputs.json_text import printable
from dynrefer.service.integrations.label_studio.client import ImageNotFetched, LabelStudio
from dynrefer.service.integrations.label_studio.corrections import Line, Origin, annotation_lines
from dynrefer.service.integrations.label_studio.corrections_folder import CorrectionsFolder, NoImageError
from dynrefer.service.integrations.label_studio.labeling import Answer, Fills, Labeling

MAX_PIXELS = 1_000_000_000  # of a brush's mask
MAX_IMAGE_BYTES = 1 << 30
TIMEOUT_S = 60.0
UPLOAD_PREFIX = re.compile(r"[0-9a-f]{8}-")  # which Label Studio puts before the name of an uploaded file
TYPES = {"textarea", "choices", "taxonomy"}

Read = Callable[[str], bytes]  # what a task names as its image -> the file; raises ImageNotFetched


class ExportError(ValueError):
    """A file that is no JSON export of Label Studio."""


@dataclass(slots=True)
class Counts:
    """What became of an export. skipped: a sentence for each task that was left out."""

    tasks: int = 0
    regions: int = 0
    written: int = 0
    skipped: list[str] = field(default_factory=list)


def read_export(text: bytes) -> list[Mapping[str, Any]]:
    """The tasks. Raises ExportError."""
    try:
        tasks = json.loads(text)
    except ValueError:
        raise ExportError("is not JSON") from None
    if not isinstance(tasks, list) or not all(_is_task(each) for each in tasks):
        raise ExportError("is not Label Studio's export of the format JSON (not JSON-MIN): tasks with annotations")
    return tasks


def _is_task(given: object) -> bool:
    return (
        isinstance(given, dict) and isinstance(given.get("data"), dict) and isinstance(given.get("annotations"), list)
    )


def collect(
    tasks: Sequence[Mapping[str, Any]], labeling: Labeling | None, read: Read, folder: CorrectionsFolder
) -> Counts:
    """Have what the export says in the place of whatever the folder holds of its tasks.

    labeling: None where the configuration is not at hand: controls are then told by what results say.
    """
    labeling = labeling or guessed_labeling(tasks)
    found = Counts()
    for task in tasks:
        name = str(task.get("id"))
        try:
            lines = list(_lines(task, name, labeling))
            image = read(_image(task, labeling)) if lines else None
            found.written += folder.replace(partial(_is_of_task, name), lines, image)
        except (ServiceError, NoImageError) as error:
            found.skipped.append(f"task {name}: {error}")
            continue
        found.tasks += 1
        found.regions += len(lines)
    return found


def _is_of_task(task: str, origin: Origin) -> bool:
    return origin.task == task


def _lines(task: Mapping[str, Any], name: str, labeling: Labeling) -> Iterator[Line]:
    for annotation in task["annotations"]:
        if isinstance(annotation, dict):
            yield from annotation_lines(annotation, name, labeling, MAX_PIXELS)[1]


def _image(task: Mapping[str, Any], labeling: Labeling) -> str:
    image = task["data"].get(labeling.variable)
    if not isinstance(image, str):
        raise ImageNotFetched(f"The data has no text '{printable(labeling.variable)}' that names the image.")
    return image


def guessed_labeling(tasks: Sequence[Mapping[str, Any]]) -> Labeling:
    """The controls, by the results that there are: the first list of which one word is chosen says what a region is."""
    answers: dict[str, Answer] = {}
    image = "image"
    for item in _items(tasks):
        kind, name = item.get("type"), str(item.get("from_name"))
        if kind not in TYPES:
            if "original_width" in item:
                image = str(item.get("to_name"))
            continue
        chosen = item["value"].get("text" if kind == "textarea" else kind)
        many = isinstance(chosen, list) and len(chosen) > 1
        if kind == "textarea":
            fills = next((each for each in Fills if each in name.lower()), Fills.CAPTION)
        elif many or (name in answers and answers[name].fills is Fills.TAGS):
            fills = Fills.TAGS
        else:
            others = [each for each in answers.values() if each.fills is Fills.CATEGORY and each.type != "textarea"]
            fills = Fills.ATTRIBUTES if others and others[0].name != name else Fills.CATEGORY
        answers[name] = Answer(name, kind, fills, True, many=many)
    return Labeling(image, _variable(tasks), answers=tuple(answers.values()))


def _items(tasks: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for task in tasks:
        for annotation in task["annotations"]:
            results = annotation.get("result") if isinstance(annotation, dict) else None
            for item in results if isinstance(results, list) else ():
                if isinstance(item, dict) and isinstance(item.get("value"), dict):
                    yield item


def _variable(tasks: Sequence[Mapping[str, Any]]) -> str:
    """The member of the data that looks like an image's address: `image` where there is one, else the first text."""
    for task in tasks:
        texts = [name for name, value in task["data"].items() if isinstance(value, str)]
        if texts:
            return "image" if "image" in texts else texts[0]
    return "image"


def files_in(folder: Path) -> Read:
    """Images of a folder, by their names: that of an upload with or without what Label Studio put before it, and paths
    of its local files."""

    def read(image: str) -> bytes:
        parts = urlsplit(image)
        path = parse_qs(parts.query).get("d", [unquote(parts.path)])[0]
        names = [Path(path).name, UPLOAD_PREFIX.sub("", Path(path).name, count=1)]
        for candidate in (folder / path.lstrip("/"), *(folder / name for name in names)):
            if candidate.resolve().is_relative_to(folder.resolve()) and candidate.is_file():
                return candidate.read_bytes()
        raise ImageNotFetched(f"There is no {printable(names[-1])} in {folder}.")

    return read


def files_of(label_studio: LabelStudio) -> Read:
    """Images that Label Studio holds."""

    def read(image: str) -> bytes:
        address = label_studio.address_of(image)
        if address is None:
            raise ImageNotFetched(f"The image {printable(image)} is not on this Label Studio; give --images.")
        return asyncio.run(label_studio.fetch(address, "", Buffer(2 * MAX_IMAGE_BYTES).lease()))

    return read
