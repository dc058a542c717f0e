"""Answers -> records: what the service writes of a record is read back as that record, but for rounding."""

import json
from dataclasses import replace
from typing import Any

import pytest

from dynrefer.model import (
    AbsentName,
    AttributeLabel,
    Caption,
    CaptionCandidate,
    Explanation,
    Findings,
    FoundRegion,
    ImageInfo,
    Label,
    NamedVocabularies,
    RegionDescription,
    RegionMask,
    Task,
    UnknownWord,
    View,
    ViewPlan,
    ViewPolicy,
)
from dynrefer.model.explanation import (
    ControlWord,
    ExplainedIdentity,
    ExplainedLabel,
    ExplainedView,
    ExplainedWord,
    LeftOut,
    NameProbability,
    PlacedSense,
    Support,
    UsedPrior,
)
from dynrefer.service.api.detections import absent_answers, found_answers, unknown_answers
from dynrefer.service.api.responses import model_answer, region_answer
from dynrefer.service.api.vocabulary_lists import vocabulary_answer
from dynrefer.service.client.errors import ProblemError
from dynrefer.service.client.records import (
    NOT_SAID,
    described,
    found,
    named_vocabulary,
    region,
    reported,
    served_models,
    vocabulary_summaries,
)
from dynrefer.service.settings import Settings
from tests.fakes import CARD
from tests.service.client.scripted import DESCRIBED

BOX = (1.0, 2.0, 30.0, 40.0)
PLAN = ViewPlan((View(0.0, BOX), View(0.5, (0.5, 1.0, 47.0, 44.0))), ViewPolicy.IMAGE_PRIOR)
OTHER = replace(PLAN, policy=ViewPolicy.TASK_PRIOR)
RESULTS: dict[str, Any] = {
    Task.CAPTION: Caption("a dog", 0.5, -1.5, -0.25, "dog", 0.875, (CaptionCandidate("a dog", 0.5, -1.5, -0.25),)),
    Task.TAGS: (Label("dog", 0.75, 0.5),),
    Task.ATTRIBUTES: (AttributeLabel("color:brown", "color", "brown", 0.5, 0.25),),
    Task.CATEGORIES: (Label("animal", 0.5, 0.5, "parent"), Label("dog", -0.5, 0.25)),
}
WHY = Explanation(
    views=(
        ExplainedView(0.0, BOX, "0" * 16, 0, None, ("caption",)),
        ExplainedView(0.5, BOX, "f" * 16, 8, 16.0, (), "thumbnail"),
    ),
    priors=(UsedPrior(("caption",), "task_prior", (0.0, 0.5)),),
    words=(
        ExplainedWord("dog", 2, 5, "noun", True, Support("tags", "dog", 0.75, 0.5), "view", 0.5, (LeftOut(0.5, 0.25),)),
        ExplainedWord("odd", 6, 9, "unknown", False),
    ),
    labels={
        "tags": (ExplainedLabel("dog", 0.75, 0.5, "placement", 1.5, "hound", (PlacedSense("dog", "dog.1", "own"),)),)
    },
    controls=(ControlWord("red", "request", True, False),),
    identity=ExplainedIdentity(
        "photograph", 0.5, "dog", 0.5, False, (NameProbability("dog", 0.5),), (NameProbability("brown", 0.25),), "brown"
    ),
)
WHOLE = RegionDescription(
    box=BOX,
    clipped=True,
    plan=PLAN,
    plans=dict.fromkeys(Task, PLAN),
    results=RESULTS,
    timings_ms={"views": 1.5, "vision": 2.25},
    domain="photograph",
    mask=RegionMask((48, 64), "abc"),
    explanation=WHY,
)


def sent(description: RegionDescription) -> Any:
    """The JSON of a region, as the service writes it."""
    return json.loads(region_answer("0", description, {}).model_dump_json(exclude_none=True))


def test_a_region_with_all_that_it_can_have() -> None:
    assert region(sent(WHOLE)) == WHOLE


def test_tasks_that_looked_at_different_views() -> None:
    plans = {Task.CAPTION: PLAN, Task.TAGS: OTHER}
    description = RegionDescription(BOX, False, None, plans, {task: RESULTS[task] for task in plans})
    assert region(sent(description)) == description


def test_a_task_without_a_label_has_an_empty_result() -> None:
    description = RegionDescription(
        BOX, False, None, {Task.CAPTION: PLAN}, {Task.CAPTION: RESULTS["caption"], Task.TAGS: ()}
    )
    assert region(sent(description)) == description
    assert region(sent(description)).tags == () and region(sent(description)).categories is None


def test_an_answer_says_more_than_its_regions() -> None:
    document = {
        **DESCRIBED,
        "image": {"width": 8, "height": 6, "frames": 3},
        "regions": [
            {**sent(WHOLE), "id": "left"},
            {
                "id": "right",
                "error": {"type": "t", "title": "T", "status": 422, "detail": "It is empty.", "errors": []},
            },
        ],
        "unknown_words": [{"name": "blorf", "nearest": ["fork"]}],
    }
    answer = reported(document)
    assert answer[0] == replace(WHOLE, unknown_words=(UnknownWord("blorf", ("fork",)),))
    assert isinstance(answer[1], ProblemError) and answer[1].detail == "It is empty."
    assert answer.info.image == ImageInfo(8, 6, frames=3)
    assert (answer.info.ids, answer.info.request_id) == (("left", "right"), "req_1")
    assert answer.document is document and answer == list(answer)
    assert answer.described == answer[:1] and answer.described.info is answer.info


def test_members_of_a_newer_service_are_passed_over() -> None:
    later = {**sent(WHOLE), "depth": 3}
    later["caption"]["language"] = "en"
    assert region(later) == WHOLE


def test_what_was_found() -> None:
    description = replace(WHOLE, clipped=False, mask=None)
    regions = (
        FoundRegion(BOX, "dog", 0.75, 0.5, 4, RegionMask((48, 64), "abc"), (2, 5), description=description),
        FoundRegion(BOX, "cat", 0.5, 0.25, 2, None, None, "a cat", "cat", "animal"),
    )
    findings = Findings(regions, (AbsentName("zebra", 0.125, (7, 9)),), (UnknownWord("blorf", ()),))
    descriptions = [each.description for each in regions]
    document = {
        "regions": [
            json.loads(each.model_dump_json(exclude_none=True)) for each in found_answers(findings, descriptions)
        ],
        "absent": [json.loads(each.model_dump_json(exclude_none=True)) for each in absent_answers(findings)],
        "unknown_words": [each.model_dump() for each in unknown_answers(findings, descriptions)],
    }
    read = found(document)
    expected = replace(regions[0], candidate=NOT_SAID, description=replace(description, unknown_words=()))
    assert read == replace(findings, regions=(expected, replace(regions[1], candidate=NOT_SAID)))


def test_a_model_s_card() -> None:
    card = replace(CARD, prompts=("box", "points"), detection=True, batch_invariant=True)
    (model,) = served_models({"models": [json.loads(model_answer(card, Settings()).model_dump_json())]})
    assert {name: getattr(model, name) for name in card.__dataclass_fields__} == {
        name: getattr(card, name) for name in card.__dataclass_fields__
    }
    assert model.limits["max_regions"] == Settings().max_regions


def test_vocabularies() -> None:
    coco = NamedVocabularies().get("coco")
    assert coco is not None
    document = json.loads(vocabulary_answer(coco, CARD).model_dump_json(exclude_none=True))
    assert named_vocabulary(document) == coco
    (summary,) = vocabulary_summaries({"vocabularies": [document]})
    assert (summary.name, summary.sizes, summary.languages) == ("coco", {"categories": 80}, coco.languages)


@pytest.mark.parametrize("member", ["id", "model", "image", "regions", "timings_ms"])
def test_an_answer_that_lacks_a_member_is_none(member: str) -> None:
    with pytest.raises(KeyError, match=member):
        described({name: value for name, value in DESCRIBED.items() if name != member})
