"""What a project's labelling configuration asks of an image -> the documents of the service's own requests."""

from collections.abc import Iterable, Sequence
from typing import Any

from dynrefer.service.integrations.label_studio.drawn import Drawn
from dynrefer.service.integrations.label_studio.labeling import Answer, Fills, Labeling, Shape, Word
from dynrefer.service.settings import Settings

TASK_OF = {
    Fills.CAPTION: "caption",
    Fills.CATEGORY: "categories",
    Fills.TAGS: "tags",
    Fills.ATTRIBUTES: "attributes",
}
WHOLE_IMAGE = [0, 0, 100, 100]
USUAL_TOP_K = 10
# Kinds of shapes that are made of what is found, the first that the project has.
WRITTEN_KINDS = ("rectangle", "polygon", "brush")


def document_about(drawn: Sequence[Drawn], labeling: Labeling, settings: Settings) -> dict[str, Any]:
    """A request that describes regions that somebody drew: each has its place in the list as its id."""
    regions = [{**each.prompt, "id": str(place)} for place, each in enumerate(drawn)]
    asked = _described_by(labeling.of_regions, settings)
    return {"regions": regions, "coordinates": "percent", "on_region_error": "report", **asked}


def document_about_image(labeling: Labeling, settings: Settings) -> dict[str, Any]:
    """A request that describes the whole image."""
    asked = _described_by(labeling.of_image, settings)
    return {"regions": [{"box": WHOLE_IMAGE}], "coordinates": "percent", **asked}


def document_that_finds(labeling: Labeling, settings: Settings) -> dict[str, Any]:
    """A request that finds what the labels name, or everything where there are none, and describes it as is asked."""
    words = [word for shape in written_shapes(labeling) for word in words_of(shape, labeling)]
    document: dict[str, Any] = {"masks": any(shape.kind != "rectangle" for shape in written_shapes(labeling))}
    if words:
        document["names"] = list(map(_name, _distinct(words)))
    thresholds = [shape.threshold for shape in labeled_by(labeling) if shape.threshold is not None]
    if thresholds:
        document["threshold"] = min(thresholds)
    if labeling.of_regions:
        document["describe"] = _described_by(labeling.of_regions, settings)
    return document


def written_shapes(labeling: Labeling) -> list[Shape]:
    """The controls that what is found is written with: all that have labels, or one that has none."""
    shapes = [shape for kind in WRITTEN_KINDS for shape in labeling.shapes if shape.kind == kind]
    labelled = [shape for shape in shapes if shape.words]
    return labelled or shapes[:1]


def labeled_by(labeling: Labeling) -> list[Shape]:
    """The controls that labels and thresholds stand at."""
    return [*written_shapes(labeling), *([labeling.labels] if labeling.labels else [])]


def words_of(shape: Shape, labeling: Labeling) -> tuple[Word, ...]:
    """The labels that a shape may have: its own, or those of `Labels`."""
    return shape.words or (labeling.labels.words if labeling.labels else ())


def attribute_type(answer: Answer) -> str:
    """What an attribute's control asks for, as a word: its name."""
    return " ".join(answer.name.replace(":", " ").replace("_", " ").split())


def _described_by(answers: Iterable[Answer], settings: Settings) -> dict[str, Any]:
    """The members that say what is computed, and with which words."""
    tasks: list[str] = []
    vocabulary: dict[str, list[dict[str, Any]]] = {}
    for answer in answers:
        tasks.append(TASK_OF[answer.fills])
        if not answer.words:
            continue
        words = [_name(word) for word in _distinct(answer.words)]
        if answer.fills is Fills.ATTRIBUTES:
            words = [{**word, "name": f"{attribute_type(answer)}:{word['name']}"} for word in words]
        vocabulary.setdefault(TASK_OF[answer.fills], []).extend(words)
    most = max((len(words) for words in vocabulary.values()), default=0)
    asked: dict[str, Any] = {
        "task": list(dict.fromkeys(tasks)),
        "top_k": min(settings.max_top_k, max(USUAL_TOP_K, most)),
    }
    return {**asked, "vocabulary": vocabulary} if vocabulary else asked


def _name(word: Word) -> dict[str, Any]:
    return {"name": word.name, "synonyms": list(word.synonyms)} if word.synonyms else {"name": word.name}


def _distinct(words: Iterable[Word]) -> list[Word]:
    """Each once: a label may stand at several controls, and a leaf at several places of a taxonomy."""
    return list({folded(word.name): word for word in reversed(list(words))}.values())[::-1]


def folded(text: str) -> str:
    """A word as it is compared."""
    return " ".join(text.split()).casefold()
