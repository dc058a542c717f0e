"""What a drawing says of a region."""

from dynrefer.model.drawing.annotations import annotation_of, annotation_of_found, figure, listed
from dynrefer.model.finding import FoundRegion
from dynrefer.model.prompts import Scribble
from dynrefer.model.types import Caption, Label, RegionDescription, Task

BOX = (1.0, 2.0, 30.0, 40.0)
CAPTION = Caption("a dog", 0.5, -1.0, -0.5, "dog", 0.93)
TAGS = (Label("dog", 1.0, 0.9), Label("animal", 1.0, 0.8), Label("cat", 0.0, 0.01), Label("fox", 0.0, 0.2))


def description(**results: object) -> RegionDescription:
    return RegionDescription(BOX, False, None, {}, {Task(task): result for task, result in results.items()})


def test_the_caption_is_the_title_and_the_rest_are_lines() -> None:
    found = annotation_of(description(caption=CAPTION, tags=TAGS, attributes=()))
    assert (found.title, found.probability) == ("a dog", 0.93)
    assert found.lines == (("tags", "dog\u00a0.90, animal\u00a0.80"),)


def test_without_a_caption_the_best_name_is_the_title() -> None:
    found = annotation_of(description(tags=TAGS, categories=(Label("poodle", 1.0, 0.4), Label("cup", 0.0, 0.01))))
    assert (found.title, found.probability) == ("poodle", 0.4)
    assert [name for name, _ in found.lines] == ["tags"]
    nothing = annotation_of(description(tags=()))
    assert (nothing.title, nothing.probability, nothing.lines) == ("", None, ())


def test_a_region_keeps_its_shape() -> None:
    scribble = Scribble(((1.0, 2.0, 3.0, 4.0),))
    assert annotation_of(description(caption=CAPTION), scribble).shape is scribble


def test_what_was_found_has_its_own_title() -> None:
    found = FoundRegion(BOX, "dog", 0.4, 0.6, 0, phrase="a brown dog", description=description(caption=CAPTION))
    said = annotation_of_found(found)
    assert (said.title, said.probability, said.lines) == ("a brown dog", 0.6, (("caption", "a dog"),))
    assert annotation_of_found(FoundRegion(BOX, "dog", 0.4, 0.6, 0)).lines == ()


def test_probabilities_have_two_places() -> None:
    assert [figure(value) for value in (0.0, 0.5, 0.996, 1.0)] == [".00", ".50", "1.00", "1.00"]


def test_unlikely_names_are_left_out_but_the_first() -> None:
    assert listed(TAGS) == "dog\u00a0.90, animal\u00a0.80" and listed(TAGS[2:3]) == "cat\u00a0.01"
