"""A project's labelling configuration (XML) -> what of it concerns an image: the kinds of regions that may be drawn,
with their labels, and what is asked of each region.

Label Studio calls a tag that makes results a control; each is bound to the tag of the image by its attribute `toName`.
"""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NoReturn

from dynrefer.service.errors import InvalidRequestError
from dynrefer.service.inputs.json_text import printable
from dynrefer.service.integrations.label_studio.xml_text import Element, XmlError, read_xml

POINTER = "/label_config"
MAX_WORDS = 20_000  # where the settings say nothing of it
# Tag -> (the kind of region, whether it has labels). The type of a result is its tag in small letters.
SHAPES = {
    "RectangleLabels": ("rectangle", True),
    "Rectangle": ("rectangle", False),
    "PolygonLabels": ("polygon", True),
    "Polygon": ("polygon", False),
    "BrushLabels": ("brush", True),
    "Brush": ("brush", False),
    "EllipseLabels": ("ellipse", True),
    "Ellipse": ("ellipse", False),
    "KeyPointLabels": ("keypoint", True),
    "KeyPoint": ("keypoint", False),
}
LABELS = "Labels"  # the labels of shapes that have none of their own
ANSWERS = {"TextArea", "Choices", "Taxonomy"}
CONTROLS = {*SHAPES, LABELS, *ANSWERS}


class Fills(StrEnum):
    """What of a region's description a control takes."""

    CAPTION = "caption"
    CATEGORY = "category"
    TAGS = "tags"
    ATTRIBUTES = "attributes"


@dataclass(frozen=True, slots=True)
class Word:
    """A label or a choice. stored: as results have it. path: of a taxonomy, its ancestors and itself. synonyms: words
    of the attribute `predicted_values`, by which backends are told what else may be meant."""

    name: str
    stored: str
    synonyms: tuple[str, ...] = ()
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Shape:
    """A control by which regions are drawn. kind: rectangle, polygon, brush, ellipse or keypoint. words: its labels;
    empty where it has none of its own. threshold: the attribute `model_score_threshold`."""

    name: str
    type: str
    kind: str
    words: tuple[Word, ...] = ()
    threshold: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A control that says something of a region. type: textarea, choices or taxonomy. words: of the last two.

    per_region: of a region that was selected; else of the whole image. many: whether several words may be chosen.
    """

    name: str
    type: str
    fills: Fills
    per_region: bool
    words: tuple[Word, ...] = ()
    many: bool = False


@dataclass(frozen=True, slots=True)
class Labeling:
    """image: the name of its tag. variable: the member of a task's data that holds the image's address.

    labels: the control `Labels`, whose words are those of the shapes without their own; None where there is none.
    """

    image: str
    variable: str
    shapes: tuple[Shape, ...] = ()
    labels: Shape | None = None
    answers: tuple[Answer, ...] = ()

    @property
    def of_regions(self) -> tuple[Answer, ...]:
        """What is asked of each region."""
        return tuple(each for each in self.answers if each.per_region)

    @property
    def of_image(self) -> tuple[Answer, ...]:
        """What is asked of the whole image."""
        return tuple(each for each in self.answers if not each.per_region)

    def answer_named(self, name: object) -> Answer | None:
        """The control of that name."""
        return next((each for each in self.answers if each.name == name), None)


@dataclass(slots=True)
class _Found:
    """words_left: that may still be read."""

    words_left: int
    shapes: list[Shape] = field(default_factory=list)
    labels: Shape | None = None
    answers: list[Answer] = field(default_factory=list)


def read_labeling(xml: object, max_words: int = MAX_WORDS) -> Labeling:
    """max_words: of all controls, synonyms counted. Raises InvalidRequestError at /label_config, for one that shows no
    single image too."""
    if not isinstance(xml, str) or not xml.strip():
        _refuse("The labelling configuration is missing; set one up in the project's settings.")
    try:
        root = read_xml(xml)
    except XmlError as error:
        _refuse(f"The labelling configuration {error}.")
    elements = list(_within(root))
    image = _image(elements)
    name, variable = image.attributes.get("name", ""), image.attributes.get("value", "").removeprefix("$")
    if not name or not variable:
        _refuse('The tag Image needs a name and a value, such as <Image name="image" value="$image"/>.')
    found = _Found(max_words)
    for element in elements:
        if name in element.attributes.get("toName", "").split(","):
            _read_control(element, found)
    if not found.shapes and not found.answers:
        known = ", ".join(("RectangleLabels", "PolygonLabels", "BrushLabels", *sorted(ANSWERS)))
        _refuse(f"Nothing in the labelling configuration can be filled for the image; it needs one of {known}.")
    return Labeling(name, variable, tuple(found.shapes), found.labels, _in_roles(found.answers))


def _image(elements: list[Element]) -> Element:
    images = [each for each in elements if each.tag == "Image"]
    if len(images) == 1:
        return images[0]
    if images:
        _refuse(f"The labelling configuration shows {len(images)} images; one can be described.")
    near = difflib.get_close_matches("Image", sorted({each.tag for each in elements}), n=1)
    hint = f" Did you mean it by '{printable(near[0])}'?" if near else ""
    _refuse(f"The labelling configuration has no tag Image: only images can be described.{hint}")


def _within(element: Element) -> Iterator[Element]:
    """Itself and all in it."""
    yield element
    for child in element.children:
        yield from _within(child)


def _parts(control: Element) -> Iterator[Element]:
    """All in a control, but nothing of another control in it: that one's words are its own."""
    for child in control.children:
        if child.tag not in CONTROLS:
            yield child
            yield from _parts(child)


def _read_control(element: Element, found: _Found) -> None:
    name = element.attributes.get("name", "")
    if element.tag in SHAPES:
        kind, labelled = SHAPES[element.tag]
        words = _counted(_words(element, "Label"), found) if labelled else ()
        found.shapes.append(Shape(name, element.tag.lower(), kind, words, _threshold(element)))
    elif element.tag == LABELS:
        found.labels = Shape(name, "labels", "", _counted(_words(element, "Label"), found), _threshold(element))
    elif element.tag in ANSWERS and (answer := _answer(element, name, found)) is not None:
        found.answers.append(answer)


def _counted(words: Iterator[Word], found: _Found) -> tuple[Word, ...]:
    """Raises InvalidRequestError as soon as there are too many."""
    taken = []
    for word in words:
        found.words_left -= 1 + len(word.synonyms)
        if found.words_left < 0:
            _refuse("The labelling configuration has more words than the setting max_vocabulary_words allows.")
        taken.append(word)
    return tuple(taken)


def _answer(element: Element, name: str, found: _Found) -> Answer | None:
    """None for a list without words: its words stand in the task's data, or are fetched."""
    per_region = element.attributes.get("perRegion", "").lower() == "true"
    if element.tag == "TextArea":
        fills = next((each for each in Fills if each in name.lower()), Fills.CAPTION)
        return Answer(name, "textarea", fills, per_region, many=fills in (Fills.TAGS, Fills.ATTRIBUTES))
    words = _counted(_words(element, "Choice") if element.tag == "Choices" else _paths(element), found)
    if not words:
        return None
    many = element.attributes.get("choice", "single") == "multiple"
    return Answer(name, element.tag.lower(), Fills.TAGS if many else Fills.CATEGORY, per_region, words, many)


def _in_roles(answers: list[Answer]) -> tuple[Answer, ...]:
    """Of the lists of which one word is chosen, the first says what a region is, and each further one is an attribute,
    whose type is the control's name ("colour"): a model has one list of categories. So of regions, and of the image."""
    taken: set[bool] = set()
    read = []
    for answer in answers:
        if answer.words and answer.fills is Fills.CATEGORY:
            if answer.per_region in taken:
                answer = Answer(answer.name, answer.type, Fills.ATTRIBUTES, answer.per_region, answer.words)
            taken.add(answer.per_region)
        read.append(answer)
    return tuple(read)


def _words(element: Element, tag: str) -> Iterator[Word]:
    for child in _parts(element):
        value = child.attributes.get("value", "").strip()
        if child.tag == tag and value and not value.startswith("$"):
            given = child.attributes.get("predicted_values", "").split(",")
            synonyms = tuple(dict.fromkeys(each.strip() for each in given if each.strip() and each.strip() != value))
            yield Word(value, child.attributes.get("alias") or value, synonyms)


def _paths(element: Element, above: tuple[str, ...] = ()) -> Iterator[Word]:
    """The leaves of a taxonomy."""
    for child in element.children:
        value = child.attributes.get("value", "").strip()
        if child.tag != "Choice" or not value:
            continue
        path = (*above, child.attributes.get("alias") or value)
        if child.children:
            yield from _paths(child, path)
        else:
            yield Word(value, path[-1], path=path)


def _threshold(element: Element) -> float | None:
    try:
        threshold = float(element.attributes.get("model_score_threshold", ""))
    except ValueError:
        return None
    return threshold if 0 <= threshold <= 1 else None


def _refuse(detail: str) -> NoReturn:
    raise InvalidRequestError.at(POINTER, detail)
