"""What Label Studio posts to /predict -> the tasks that it wants predicted."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dynrefer.model import ResolveVocabulary
from dynrefer.service.errors import InvalidRequestError
from dynrefer.service.inputs.json_text import parse_json, printable
from dynrefer.service.integrations.label_studio.drawn import MOST_BRUSHES, brush_pixels
from dynrefer.service.integrations.label_studio.labeling import Labeling, read_labeling
from dynrefer.service.settings import Settings

# Members of a task's data that may hold an image as a long `data:` URI; in others it may have about a megabyte.
IMAGE_MEMBERS = ("image", "img", "picture", "photo")
MAX_TASKS = 256  # of a request that are answered: Label Studio sends all that its user has selected


@dataclass(frozen=True, slots=True)
class LabelTask:
    """A task. name: its id there. image: what its data names as the image. results: those whose regions are to be
    described, with a pointer to them; empty: regions are to be found.

    just_drawn: whether they are of an interactive call. What somebody said of a region then stays.
    """

    name: str
    image: str
    results: tuple[Any, ...]
    at: str
    just_drawn: bool = False


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """project: its id there. tasks: in order; one that makes no sense is its error."""

    project: str
    labeling: Labeling
    tasks: tuple[LabelTask | InvalidRequestError, ...]

    @property
    def num_bytes(self) -> int:
        """Of the images that it holds."""
        return sum(len(each.image) for each in self.tasks if isinstance(each, LabelTask))


def read_predict(
    body: bytes, content_type: str, settings: Settings, query: str, resolve: ResolveVocabulary
) -> PredictRequest:
    """A request to /predict. Raises InvalidRequestError for what concerns all tasks. CPU work."""
    parsed = parse_json(body, settings.max_json_values, base64_members=IMAGE_MEMBERS)
    document = parsed.document
    if not isinstance(document, dict):
        raise InvalidRequestError.at(
            "", "An object with 'tasks' and 'label_config' is expected, as Label Studio sends it."
        )
    tasks = document.get("tasks")
    if not isinstance(tasks, list) or not tasks:
        raise InvalidRequestError.at("/tasks", "A list of at least one task is expected.")
    labeling = read_labeling(document.get("label_config"), settings.max_vocabulary_words)
    drawn = _drawn_just_now(document.get("params"))

    if drawn is not None and len(tasks) > 1:
        detail = f"Regions that were just drawn are of one task; the request has {len(tasks)}."
        raise InvalidRequestError.at("/params/context", detail)

    def read(place: int, task: object) -> LabelTask | InvalidRequestError:
        try:
            return _task(task, f"/tasks/{place}", labeling, drawn, parsed.long_texts)
        except InvalidRequestError as error:
            return error

    found = [read(place, task) for place, task in enumerate(tasks[:MAX_TASKS])]
    return PredictRequest(
        str(document.get("project", ""))[:64],
        labeling,
        (*_of_few_brushes(found, labeling, settings.max_image_pixels), *_beyond(tasks)),
    )


def _of_few_brushes(
    tasks: Sequence[LabelTask | InvalidRequestError], labeling: Labeling, max_pixels: int
) -> Iterator[LabelTask | InvalidRequestError]:
    """In the place of a task whose brushes are more than a request may have beside those before it, its error."""
    left = MOST_BRUSHES * max_pixels
    for place, task in enumerate(tasks):
        pixels = brush_pixels(task.results, labeling) if isinstance(task, LabelTask) else 0
        if pixels <= left:
            left -= pixels
            yield task
        else:
            most = MOST_BRUSHES * max_pixels
            detail = f"The masks of a request's brushes have at most {most} pixels in all; ask for fewer tasks."
            yield InvalidRequestError.at(f"/tasks/{place}", detail)


def _beyond(tasks: Sequence[object]) -> Iterator[InvalidRequestError]:
    """The errors of tasks that are too many: Label Studio asks again for those that it has no prediction of."""
    detail = f"The first {MAX_TASKS} tasks of a request are answered; ask again for the others."
    for place in range(MAX_TASKS, len(tasks)):
        yield InvalidRequestError.at(f"/tasks/{place}", detail)


def _drawn_just_now(params: object) -> tuple[str, list[Any]] | None:
    """The results of an interactive request, with a pointer to them; None where it is none."""
    context = params.get("context") if isinstance(params, dict) else None
    results = context.get("result") if isinstance(context, dict) else None
    return ("/params/context/result", results) if isinstance(results, list) and results else None


def _task(
    task: object,
    at: str,
    labeling: Labeling,
    drawn: tuple[str, list[Any]] | None,
    long_texts: Mapping[str, bytes],
) -> LabelTask:
    data = task.get("data") if isinstance(task, dict) else None
    if not isinstance(task, dict) or not isinstance(data, dict):
        raise InvalidRequestError.at(f"{at}/data", "A task needs data.")
    image = data.get(labeling.variable)
    if not isinstance(image, str) or not image:
        detail = f"The task's data has no text '{printable(labeling.variable)}', which the tag Image shows."
        raise InvalidRequestError.at(f"{at}/data", detail)
    if image in long_texts:
        image = long_texts[image].decode("latin-1")
    where, results = drawn or _annotated(task, at)
    return LabelTask(str(task.get("id", ""))[:64], image, tuple(results), where, just_drawn=drawn is not None)


def _annotated(task: Mapping[str, Any], at: str) -> tuple[str, list[Any]]:
    """The results of the latest draft, else of the latest annotation that was not skipped."""
    for name in ("drafts", "annotations"):
        given = task.get(name)
        found = [
            (str(each.get("updated_at") or each.get("created_at") or ""), place, each["result"])
            for place, each in enumerate(given if isinstance(given, list) else ())
            if isinstance(each, dict) and isinstance(each.get("result"), list) and not each.get("was_cancelled")
        ]
        if found:
            _, place, results = max(found, key=lambda each: each[:2])
            return f"{at}/{name}/{place}/result", results
    return at, []
