"""What is given to the Python interface -> `RegionQuery` records, or a `QueryError` that names the argument. No torch.

Python takes anything for anything: a text is a sequence of words to it, one box a sequence of boxes. What is not meant
is refused here by the name of its type, before any work is done.
"""

import math
import numbers
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dynrefer.model.errors import BoxError, PointsError, PromptError, QueryError
from dynrefer.model.explanation import Explain
from dynrefer.model.masks import mask_from_bitmap
from dynrefer.model.named_vocabularies import NamedVocabularies
from dynrefer.model.prompts import Prompt, Scribble, placed
from dynrefer.model.request_vocabulary import RequestVocabulary
from dynrefer.model.types import CaptionWriting, Corners, PointPrompt, RegionQuery, Task, ViewPolicy
from dynrefer.model.vocabulary_entries import VocabularyError, read_vocabulary

NOWHERE: Corners = (0.0, 0.0, 0.0, 0.0)  # the box of a region that points or a prompt are given for, until it is found


def region_queries(
    boxes: Iterable[Sequence[float] | Prompt],
    task: Task | str | Iterable[Task | str] | None,
    controls: Sequence[str],
    views: Sequence[float] | None,
    top_k: int,
    thresholds: Mapping[Task, float] | None,
    vocabulary: RequestVocabulary | Mapping[str, Any] | str | None = None,
    writing: CaptionWriting | None = None,
    points: Iterable[Iterable[PointPrompt | Sequence[float]]] = (),
    view_policy: ViewPolicy | str | None = None,
    explain: Explain | bool = False,
    *,
    highlight: bool = False,
) -> list[RegionQuery]:
    """One query per box, then one per group of points; the arguments are those of `DynRefer.describe`.

    The box of a prompt is not known yet, because the image's size is not: see `with_prompts`.

    Raises `BoxError`, with its index, for a box that is not four numbers, `PointsError` for what are no points,
    `QueryError` for any other argument of a wrong type or range, and ValueError for an unknown task or view policy.
    """
    corners = _boxes(boxes)
    tasks = _tasks(task)
    words = _words(controls)
    chosen = None if views is None else _numbers(views, "views")
    most = _count(top_k)
    least = _thresholds(thresholds)
    asked, search = _vocabulary(vocabulary), _writing(writing)
    policy, why = None if view_policy is None else ViewPolicy(view_policy), _explain(explain)
    query = RegionQuery(NOWHERE, tasks, words, chosen, most, least, asked, search, view_policy=policy, explain=why)
    pointed = [(NOWHERE, group) for group in _point_groups(points, len(corners))]
    given: list[tuple[Corners, tuple[PointPrompt, ...]]] = [*((each, ()) for each in corners), *pointed]
    return [replace(query, box=box, points=group, highlight=highlight) for box, group in given]


def listed_boxes(boxes: Any) -> Any:
    """The boxes as a list, where they can be listed: a generator is read once."""
    return _listed(boxes) or boxes


def prompts_among(boxes: Any) -> dict[int, Prompt]:
    """Those of the boxes that are prompts, by place."""
    return {place: each for place, each in enumerate(_listed(boxes) or ()) if isinstance(each, Prompt)}


def with_prompts(
    queries: Sequence[RegionQuery], prompts: Mapping[int, Prompt], size: tuple[int, int]
) -> list[RegionQuery]:
    """The queries, those of prompts with their boxes, and their masks where they are to be highlighted.

    size: (width, height) of the image. What is wrong with a prompt is its query's `flaw`.
    """
    found = list(queries)
    for place, prompt in prompts.items():
        try:
            box, bitmap = placed(prompt, size, highlight=found[place].highlight)
        except PromptError as error:
            found[place] = replace(found[place], flaw=error)
        else:
            mask = None if bitmap is None else mask_from_bitmap(bitmap)
            found[place] = replace(found[place], box=box, mask=mask, rough=isinstance(prompt, Scribble))
    return found


def box_corners(box: Any, index: int | None = None) -> Corners:
    """Four numbers as a box. Raises `BoxError` for anything else; index: the box's position among those given."""
    values = _listed(box)
    if values is None or len(values) != 4 or not all(map(_is_number, values)):
        given = f"{len(values)} values" if values is not None and len(values) != 4 else _kind(box, values)
        error = BoxError(f"A box must be four numbers x1, y1, x2, y2, not {given}.")
        error.index = index
        raise error
    x1, y1, x2, y2 = map(float, values)
    return x1, y1, x2, y2


def _boxes(boxes: Any) -> list[Corners]:
    listed = _listed(boxes)
    if listed is None:
        raise _wrong("box", f"boxes must be a list of boxes, not {_kind(boxes, None)}.")
    if listed and all(map(_is_number, listed)):
        raise _wrong("box", "boxes must be a list of boxes: write one box as [(x1, y1, x2, y2)].")
    return [NOWHERE if isinstance(box, Prompt) else box_corners(box, index) for index, box in enumerate(listed)]


def _point_groups(points: Any, first: int) -> list[tuple[PointPrompt, ...]]:
    """first: the index of the first group's region."""
    listed = _listed(points)
    if listed is None or any(isinstance(group, PointPrompt) or _is_number(group) for group in listed):
        raise _wrong("points", "points must be a list of groups of points, one group per region: [[(x, y)]].")
    groups = []
    for index, group in enumerate(listed, first):
        members = None if isinstance(group, PointPrompt) else _listed(group)
        try:
            if not members:
                raise PointsError(f"A region's points must be a list of points, not {_kind(group, members)}.")
            groups.append(tuple(map(_point, members)))
        except PointsError as error:
            error.index = index
            raise
    return groups


def _point(given: Any) -> PointPrompt:
    if isinstance(given, PointPrompt):
        return given
    values = _listed(given)
    if values is None or len(values) not in (2, 3) or not all(map(_is_number, values[:2])):
        raise PointsError(f"A point must be (x, y), (x, y, positive) or a PointPrompt, not {given!r:.60}.")
    return PointPrompt(float(values[0]), float(values[1]), bool(values[2]) if len(values) == 3 else True)


def _tasks(task: Any) -> tuple[Task, ...] | None:
    if task is None:
        return None
    listed = [task] if isinstance(task, str) else _listed(task)
    if listed is None:
        raise _wrong("task", f"task must be a name, a list of names or None, not {_kind(task, None)}.")
    return tuple(dict.fromkeys(Task(each) for each in listed))


def _words(controls: Any) -> tuple[str, ...]:
    listed = _listed(controls)
    if listed is None or not all(isinstance(word, str) for word in listed):
        hint = f": write one as [{controls!r}]" if isinstance(controls, str) else ""
        raise _wrong("controls", f"controls must be a list of words, not {_kind(controls, listed)}{hint}.")
    return tuple(listed)


def _numbers(values: Any, field: str) -> tuple[float, ...]:
    listed = _listed(values)
    if listed is None or not all(map(_is_number, listed)):
        raise _wrong(field, f"{field} must be a list of numbers, not {_kind(values, listed)}.")
    return tuple(map(float, listed))


def _count(top_k: Any) -> int:
    try:
        number = None if isinstance(top_k, bool) else operator.index(top_k)
    except TypeError:
        number = None
    if number is None:
        raise _wrong("top_k", f"top_k must be an integer, not {_kind(top_k, None)}.")
    if number < 1:
        raise _wrong("top_k", f"top_k must be at least 1, not {number}.")
    return number


def _explain(explain: Any) -> Explain | None:
    if isinstance(explain, Explain):
        return explain
    if not isinstance(explain, bool):
        raise _wrong("explain", f"explain must be a truth value or an Explain, not {_kind(explain, None)}.")
    return Explain() if explain else None


def _writing(writing: Any) -> CaptionWriting:
    if writing is None:
        return CaptionWriting()
    if not isinstance(writing, CaptionWriting):
        raise _wrong("writing", f"writing must be a CaptionWriting, not {_kind(writing, None)}.")
    for name in ("num_captions", "num_beams", "max_words"):
        value = getattr(writing, name)
        if value is None and name != "num_captions":
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise _wrong(name, f"{name} must be a whole number of at least 1, not {value!r}.")
    if writing.num_beams is not None and writing.num_beams < writing.num_captions:
        raise _wrong(
            "num_beams", f"{writing.num_captions} captions need at least so many beams, not {writing.num_beams}."
        )
    return writing


def _thresholds(thresholds: Any) -> dict[Task, float]:
    if thresholds is None:
        return {}
    if not isinstance(thresholds, Mapping):
        raise _wrong("thresholds", f"thresholds must map tasks to numbers, and are {_kind(thresholds, None)}.")
    for task, value in thresholds.items():
        if not _is_number(value) or not math.isfinite(value):
            raise _wrong("thresholds", f"The threshold of {task} must be a finite number, not {value!r}.")
    return {Task(task): float(value) for task, value in thresholds.items()}


def _vocabulary(given: Any) -> RequestVocabulary | None:
    """A name is that of a vocabulary that ships."""
    if given is None or isinstance(given, RequestVocabulary):
        return given
    try:
        found = read_vocabulary(given, NamedVocabularies().resolve)
        return None if found.is_own else found
    except VocabularyError as error:
        flaw = error.flaws[0]
        place = f" at {flaw.pointer}" if flaw.pointer else ""
        raise _wrong("vocabulary", f"vocabulary{place}: {flaw.sentence}") from error


def _listed(values: Any) -> list[Any] | None:
    """What can be listed; None for what is no collection, or one that nobody means here: text, bytes, a mapping."""
    if isinstance(values, str | bytes | bytearray | memoryview | Mapping):
        return None
    try:
        return list(values)
    except TypeError:
        return None


def _is_number(value: Any) -> bool:
    """Whether it is one real number; arrays and tensors without dimensions count, truth values do not."""
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return True
    return getattr(value, "shape", None) == () and hasattr(value, "__float__")


def _kind(value: Any, listed: list[Any] | None) -> str:
    """The type's name, of the members too where those are wrong."""
    if not listed:
        return type(value).__name__
    return f"{type(value).__name__} of {', '.join(sorted({type(each).__name__ for each in listed}))}"


def _wrong(field: str, sentence: str) -> QueryError:
    error = QueryError(sentence)
    error.field = field
    return error
