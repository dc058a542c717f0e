"""Labelling configurations: what is asked, and what is refused."""

from typing import Any

import pytest

from dynrefer.service.errors import InvalidRequestError
from dynrefer.service.integrations.label_studio.labeling import Fills, Word, read_labeling
from dynrefer.service.integrations.label_studio.questions import document_that_finds
from dynrefer.service.integrations.label_studio.xml_text import MAX_CHARS, MAX_DEPTH
from dynrefer.service.settings import Settings

IMAGE = '<Image name="img" value="$photo"/>'


def view(*tags: str, image: str = IMAGE) -> str:
    return f"<View>{image}{''.join(tags)}</View>"


BOXES = '<RectangleLabels name="box" toName="img"><Label value="cat" alias="c"/><Label value="dog"/></RectangleLabels>'


def test_the_controls_of_the_image_are_read() -> None:
    labeling = read_labeling(
        view(
            BOXES,
            '<TextArea name="words" toName="img" perRegion="true"/>',
            '<TextArea name="my_tags" toName="img" perRegion="TRUE"/>',
            '<Choices name="whole" toName="img"><Choice value="indoors"/></Choices>',
            '<Choices name="of_text" toName="text" perRegion="true"><Choice value="a"/></Choices>',
            '<Text name="text" value="$text"/>',
        )
    )
    assert (labeling.image, labeling.variable) == ("img", "photo")
    (box,) = labeling.shapes
    assert (box.name, box.type, box.kind) == ("box", "rectanglelabels", "rectangle")
    assert box.words == (Word("cat", "c"), Word("dog", "dog"))
    assert [(each.name, each.fills) for each in labeling.of_regions] == [
        ("words", Fills.CAPTION),
        ("my_tags", Fills.TAGS),
    ]
    assert [each.name for each in labeling.of_image] == ["whole"]


def test_the_first_list_says_what_a_region_is_and_further_ones_are_attributes() -> None:
    labeling = read_labeling(
        view(
            BOXES,
            '<Choices name="kind" toName="img" perRegion="true"><Choice value="cat"/></Choices>',
            '<Choices name="colour" toName="img" perRegion="true"><Choice value="red"/></Choices>',
            '<Choices name="seen" toName="img" perRegion="true" choice="multiple"><Choice value="ball"/></Choices>',
            '<Taxonomy name="order" toName="img" perRegion="true"><Choice value="Animal"><Choice value="cat"/></Choice>'
            "</Taxonomy>",
        )
    )
    asked = document_that_finds(labeling, Settings())["describe"]
    assert asked["vocabulary"] == {
        "categories": [{"name": "cat"}],
        "attributes": [{"name": "colour:red"}, {"name": "order:cat"}],
        "tags": [{"name": "ball"}],
    }
    assert set(asked["task"]) == {"categories", "attributes", "tags"}
    assert labeling.of_regions[-1].words == (Word("cat", "cat", path=("Animal", "cat")),)


def test_labels_say_what_is_found() -> None:
    tag = (
        '<RectangleLabels name="box" toName="img" model_score_threshold="0.3">'
        '<Label value="Cup" predicted_values="mug, beaker, Cup"/><Label value="$more"/></RectangleLabels>'
    )
    document = document_that_finds(read_labeling(view(tag)), Settings())
    assert document == {
        "names": [{"name": "Cup", "synonyms": ["mug", "beaker"]}],
        "threshold": 0.3,
        "masks": False,
    }
    assert "names" not in document_that_finds(read_labeling(view('<Rectangle name="r" toName="img"/>')), Settings())


def test_labels_of_their_own_control_and_masks_for_brushes() -> None:
    both = '<Labels name="l" toName="img"><Label value="cat"/></Labels><Brush name="b" toName="img"/>'
    document = document_that_finds(read_labeling(view(both)), Settings())
    assert document == {"names": [{"name": "cat"}], "masks": True}


BILLION = '<!DOCTYPE v [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><View>&b;</View>'
OUTSIDE = '<!DOCTYPE v [<!ENTITY a SYSTEM "file:///etc/passwd">]><View>&a;</View>'


@pytest.mark.parametrize(
    ("xml", "said"),
    [
        (None, "is missing"),
        (7, "is missing"),
        ("  ", "is missing"),
        ("<View>", "is not XML: line 1"),
        ("cat", "is not XML"),
        (BILLION, "has a DOCTYPE"),
        (OUTSIDE, "has a DOCTYPE"),
        ("<View>" + "<View>" * MAX_DEPTH + "</View>" * MAX_DEPTH + "</View>", "in each other"),
        ("<View " + "x" * MAX_CHARS, "characters"),
        (view(BOXES, image=""), "no tag Image"),
        (view(BOXES, image='<Images name="img" value="$photo"/>'), "Did you mean it by 'Images'"),
        (view(BOXES, IMAGE), "shows 2 images"),
        (view(BOXES, image='<Image name="img"/>'), "needs a name and a value"),
        (view(), "needs one of RectangleLabels"),
        (view(BOXES.replace("img", "other")), "needs one of RectangleLabels"),
    ],
)
def test_what_cannot_be_predicted_for_is_refused_with_the_reason(xml: Any, said: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        read_labeling(xml)
    assert said in refused.value.detail and refused.value.detail.endswith((".", "?", "'"))
    assert [each.pointer for each in refused.value.fields] == ["/label_config"]


def test_a_controls_words_are_not_those_of_a_control_in_it() -> None:
    inner = '<Labels name="b" toName="img"><Label value="inner"/></Labels>'
    labeling = read_labeling(
        view(f'<RectangleLabels name="a" toName="img"><Label value="outer"/><View>{inner}</View></RectangleLabels>')
    )
    assert [word.name for word in labeling.shapes[0].words] == ["outer"]
    assert labeling.labels is not None and [word.name for word in labeling.labels.words] == ["inner"]


def test_too_many_words_are_refused_while_they_are_read() -> None:
    labels = "".join(f'<Label value="w{number}" predicted_values="a{number},b{number}"/>' for number in range(4))
    tag = f'<RectangleLabels name="box" toName="img">{labels}</RectangleLabels>'
    assert len(read_labeling(view(tag), 12).shapes[0].words) == 4
    areas = '<Choices name="c" toName="img"><Choice value="one"/></Choices>'
    for xml, most in ((view(tag), 11), (view(tag, areas), 12)):
        with pytest.raises(InvalidRequestError, match="more words than the setting max_vocabulary_words"):
            read_labeling(xml, most)
