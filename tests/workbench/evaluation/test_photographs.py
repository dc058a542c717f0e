"""Photographs: the metrics of a predictor whose answers are written down, the report, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from dynrefer.model import DynRefer
from dynrefer.model.errors import BoxError
from dynrefer.model.loading import EMBEDDED
from dynrefer.model.types import (
    Caption,
    Corners,
    Label,
    ModelCard,
    RegionDescription,
    RegionQuery,
    Task,
    ViewPlan,
    ViewPolicy,
)
from dynrefer.workbench.data.photographs import LabelledBox, read_photographs
from dynrefer.workbench.data.regions import ImageRegions
from dynrefer.workbench.errors import DataError
from dynrefer.workbench.evaluation.command import evaluate_command
from dynrefer.workbench.evaluation.drawn_regions import RegionSet
from dynrefer.workbench.evaluation.metrics.photograph_metrics import ancestors_among, judge, without_kinds
from dynrefer.workbench.evaluation.photographs import (
    OVER_VIEWS,
    measure_photographs,
    names_as_ancestors,
    of_split,
    quality_over_views,
    with_colours,
)
from dynrefer.workbench.evaluation.report.files import prepare_folder, write_photographs, write_study
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.world import World
from tests.workbench.command_line import refusal

app = typer.Typer()
app.command()(evaluate_command)

KNOWN = ("dog", "cat", "bear", "toucan", "orange", "wok")
SIZE = (64, 48)
DOG, TOUCAN, ORANGE, CHAIR = (
    (0.0, 0.0, 32.0, 48.0),
    (8.0, 8.0, 40.0, 40.0),
    (0.0, 0.0, 64.0, 48.0),
    (1.0, 2.0, 9.0, 9.0),
)


@dataclass(frozen=True)
class Answer:
    """What is said of a box: caption, its name and probability, and (category, probability), a parent in front."""

    caption: str
    name: str | None
    probability: float | None
    categories: tuple[tuple[str, float], ...]
    parent: tuple[str, float] | None = None
    tags: tuple[str, ...] = ()

    def describe(self, box: Corners) -> RegionDescription:
        """As the model would."""
        labels = tuple(Label(name, value, value) for name, value in self.categories)
        if self.parent:
            labels = (Label(*self.parent, self.parent[1], "parent"), *labels)
        return RegionDescription(
            box=box,
            clipped=False,
            plan=None,
            plans={},
            results={
                Task.CAPTION: Caption(self.caption, 0.5, -1.0, -0.25, self.name, self.probability),
                Task.TAGS: tuple(Label(tag, 0.9, 0.9) for tag in self.tags),
                Task.CATEGORIES: labels,
            },
        )


ANSWERS = {
    DOG: Answer("a brown dog", "dog", 0.9, (("dog", 0.9), ("cat", 0.05))),
    TOUCAN: Answer("a gray bird", "bird", 0.7, (("bear", 0.3), ("toucan", 0.25)), ("bird", 0.7), ("gray",)),
    ORANGE: Answer("an orange", "orange", 0.6, (("orange", 0.6),), tags=("orange",)),
    CHAIR: Answer("a black wok behind another object", "wok", 0.95, (("wok", 0.95),)),
}


@dataclass
class Witness:
    """Answers by the box; with narrow views (t below .5) only, if `near`."""

    near: bool = False
    answers: dict[Corners, Answer] = field(default_factory=lambda: dict(ANSWERS))
    queries: list[RegionQuery] = field(default_factory=list)
    sizes: list[tuple[int, ...]] = field(default_factory=list)
    card: ModelCard = ModelCard(
        name="witness",
        revision="1",
        parameters=0,
        dtype="float32",
        device="cpu",
        num_views=3,
        view_size=64,
        vocabulary={"categories": KNOWN, "tags": (), "attributes": ()},
        task_priors={},
        thresholds={"tags": 0.5},
        trained_on="nothing",
        intended_use="tests",
    )

    def plan_views(self, image: NDArray[np.uint8], box: Corners) -> ViewPlan:
        """Never asked."""
        return ViewPlan((), ViewPolicy.FIXED)

    def prepare(self, image: NDArray[np.uint8], queries: Sequence[RegionQuery]) -> list[RegionQuery]:
        """Keep the queries."""
        self.queries.extend(queries)
        self.sizes.append(image.shape)
        return list(queries)

    def run(self, regions: Sequence[RegionQuery]) -> list[bool]:
        """Whether it can see."""
        return [not self.near or max(query.views or (0.0,)) < 0.5 for query in regions]

    def finish(self, region: RegionQuery, output: bool) -> RegionDescription:
        """The answer."""
        blind = Answer("a cat", "cat", 0.2, (("cat", 0.2),))
        return (self.answers.get(region.box, blind) if output else blind).describe(region.box)


def _entry(file: str, split: str, *boxes: dict[str, Any]) -> dict[str, Any]:
    return {
        **{"file": file, "split": split, "size": list(SIZE), "boxes": list(boxes)},
        **{"source": "this test", "author": "this test", "licence": "CC0-1.0", "licence_stated": "here"},
    }


def _box(box: Corners, accepted: list[str], parents: list[str], colours: list[str]) -> dict[str, Any]:
    return {"box": list(box), "accepted": accepted, "parents": parents, "colours": colours}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two photographs with two boxes each, one per split."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("zoo.png", "table.png"):
        Image.new("RGB", SIZE, "gray").save(photos / name)
    zoo = _entry(
        "zoo.png",
        "test",
        _box(DOG, ["dog", "hound"], ["animal"], ["brown", "white"]),
        _box(TOUCAN, ["toucan"], ["bird", "animal"], ["black"]),
    )
    table = _entry(
        "table.png", "calibration", _box(ORANGE, ["orange"], ["fruit"], []), _box(CHAIR, ["chair"], ["seat"], ["black"])
    )
    (photos / "labels.json").write_text(json.dumps([zoo, table]))
    return photos


def test_metrics_by_hand(folder: Path) -> None:
    witness = Witness()
    found = measure_photographs(witness, read_photographs(folder), about={"data": "photos"})
    result = found.result
    assert (result["boxes"], result["photographs"], result["model"], result["data"]) == (4, 2, "witness", "photos")
    # Of dog, toucan (backs off to bird), orange and chair (a wok with confidence).
    assert {name: result[name] for name in result["standard_errors"]} == {
        **{"top1": 0.5, "top5": 0.75, "mean_per_name": 0.5, "top1_or_parent": 0.75, "backs_off": 0.25},
        **{"caption_names_it": 0.5, "caption_true": 0.75, "false_noun": 0.25, "confident_wrong": 0.25},
        **{"colour_said": 1.0, "colour_right": 0.6667, "other_claims": 0.25, "caption_words": 3.5},
    }
    assert result["standard_errors"]["top1"] == 0.25 and result["false_nouns"] == 1
    assert result["parents"] == {"bird": 1}
    assert result["other_words"] == {"another": 1, "behind": 1, "object": 1}
    # First leaves: .9 right, .3 wrong, .6 right, .95 wrong; .9 and .95 lie in two bins.
    assert result["calibration_error"]["name"] == pytest.approx((0.1 + 0.3 + 0.4 + 0.95) / 4, abs=1e-4)
    assert list(result["by_split"]) == ["calibration", "test"] and result["by_split"]["test"]["top1_or_parent"] == 1.0
    assert result["by_split"]["calibration"]["confident_wrong"] == 0.5
    json.dumps(result, allow_nan=False)
    # Asked as a user asks, with the image in the size of the labels.
    assert all(query.tasks is None and query.views is None and not query.thresholds for query in witness.queries)
    assert witness.sizes == [(48, 64, 3)] * 2


def test_boxes_with_the_same_names_are_one_kind(folder: Path) -> None:
    labels = json.loads((folder / "labels.json").read_text())
    labels[0]["boxes"][1]["accepted"] = ["dog", "hound"]  # now two of three kinds are right by a half, 1 and 0
    (folder / "labels.json").write_text(json.dumps(labels))
    result = measure_photographs(Witness(), read_photographs(folder)).result
    assert (result["top1"], result["mean_per_name"]) == (0.5, 0.5)
    assert result["standard_errors"]["mean_per_name"] == pytest.approx(0.5 / 3**0.5, abs=1e-4)


def test_a_parent_without_labelled_parents_is_looked_up() -> None:
    truth, found = LabelledBox(TOUCAN, ("toucan",)), ANSWERS[TOUCAN].describe(TOUCAN)
    assert not judge(truth, found, KNOWN).top1_or_parent
    known = judge(truth, found, KNOWN, ancestors_among([("cat", ("pet",)), ("toucans", ("bird", "animal"))]))
    assert known.top1_or_parent and known.caption_true and not known.false_noun and not known.names_it
    assert judge(LabelledBox(TOUCAN, ("bird", "toucan")), found, KNOWN).top1_or_parent  # a parent that is accepted
    # Without a hierarchy the words of the name count: a brown bear is a bear.
    bear = Answer("a bear", "bear", 0.6, (("dog", 0.4),), ("bear", 0.6))
    assert judge(LabelledBox(DOG, ("brown bear",)), bear.describe(DOG), KNOWN).top1_or_parent


def test_the_embedded_model_knows_broader_words(tmp_path: Path) -> None:
    ancestors = names_as_ancestors(EMBEDDED)
    assert {"bird", "animal", "object"} <= set(ancestors("toucans")) and "bird" not in ancestors("hammer")
    assert not ancestors("pededskirt")
    assert names_as_ancestors(tmp_path)("brown bear") == ("bear",)  # a model without names for photographs


def test_a_caption_without_a_name_is_searched_for_one() -> None:
    old = Answer("in a city a large dark cat behind another object", None, None, (("dog", 0.9),))
    verdict = judge(LabelledBox(DOG, ("dog",)), old.describe(DOG), KNOWN)
    assert verdict.noun == "cat" and verdict.false_noun and not verdict.names_it and verdict.top1
    assert (verdict.name, verdict.probability, verdict.confident_wrong) == ("dog", 0.9, False)
    nonsense = judge(LabelledBox(DOG, ("dog",)), Answer("a pededskirt", None, None, ()).describe(DOG), KNOWN)
    assert nonsense.noun is None and nonsense.false_noun and nonsense.leaf_probability == 0.0


def test_a_parent_with_confidence_may_be_wrong() -> None:
    bird = Answer("a bird", "bird", 0.9, (("toucan", 0.4),), ("bird", 0.9)).describe(DOG)
    verdict = judge(LabelledBox(DOG, ("dog",), ("animal",)), bird, KNOWN)
    assert verdict.confident_wrong and verdict.backs_off and not verdict.caption_true


def test_colours_from_a_file(folder: Path, tmp_path: Path) -> None:
    labels = json.loads((folder / "labels.json").read_text())
    for entry in labels:
        entry["boxes"] = entry["boxes"][:1]
    labels[0]["boxes"][0]["colours"] = []
    (folder / "labels.json").write_text(json.dumps(labels))
    photographs = read_photographs(folder)
    unknown = measure_photographs(Witness(), photographs).result
    assert unknown["colour_right"] is None and "--colours" in unknown["notes"]["colour_right"]
    file = tmp_path / "colours.json"
    file.write_text(json.dumps({"zoo.png": ["black", "brown"]}))
    assert measure_photographs(Witness(), with_colours(photographs, file)).result["colour_right"] == 1.0
    for content, sentence in (
        ({"no.png": ["red"]}, "'no.png' is not among the photographs"),
        ({"zoo.png": ["mauve"]}, "'mauve'"),
        ({"zoo.png": "red"}, "not a list of words"),
        ([], "not a JSON object"),
    ):
        file.write_text(json.dumps(content))
        with pytest.raises(DataError, match=sentence):
            with_colours(photographs, file)


def test_a_file_of_colours_knows_no_boxes(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "colours.json").write_text('{"zoo.png": ["red"]}')
    with pytest.raises(DataError, match="'zoo.png' has 2 boxes"):
        with_colours(read_photographs(folder), tmp_path / "colours.json")


def test_splits(folder: Path) -> None:
    photographs = read_photographs(folder)
    assert [each.path.name for each in of_split(photographs, "calibration")] == ["table.png"]
    assert of_split(photographs, None) == photographs
    with pytest.raises(DataError, match="no such split, only calibration, test"):
        of_split(photographs, "train")


def test_what_the_model_took_photographs_and_drawings_for(folder: Path) -> None:
    drawing = ImageRegions(lambda: np.zeros((48, 64, 3), np.uint8), ((0.0, 0.0, 5.0, 5.0),), "drawing")

    def decide(found: RegionDescription) -> str:
        return "drawing" if found.box in (CHAIR, drawing.boxes[0]) else "photograph"

    result = measure_photographs(Witness(), read_photographs(folder), decide=decide, drawings=[drawing]).result
    assert result["gate"] == {"photographs": {"photograph": 3, "drawing": 1}, "drawings": {"drawing": 1}}

    def never() -> Iterator[ImageRegions]:
        raise AssertionError("drawings are of no use to a model that decides nothing")
        yield drawing

    assert "gate" not in measure_photographs(Witness(), read_photographs(folder), drawings=never()).result


def test_quality_over_views(folder: Path, tmp_path: Path) -> None:
    witness = Witness(near=True)
    study = quality_over_views(witness, read_photographs(folder))
    assert [study.over_t[t]["top1"].value for t in (0.0, 0.4, 0.5, 1.0)] == [0.5, 0.5, 0.0, 0.0]
    assert list(study.over_t[0.3]) == list(OVER_VIEWS)
    assert {query.views for query in witness.queries} >= {(0.0, 0.0, 0.0), (0.0, 0.3, 0.3)}
    paths = write_study(prepare_folder(tmp_path / "out"), "photograph_views", study.to_json(), study)
    assert [path.suffix for path in paths] == [".json", ".md", ".png"] and "policy" not in paths[1].read_text()


def test_the_report_shows_every_box(folder: Path, tmp_path: Path) -> None:
    found = measure_photographs(Witness(), read_photographs(folder), decide=lambda found: "photograph")
    paths = write_photographs(prepare_folder(tmp_path / "out"), found)
    assert [path.name for path in paths][2:] == ["photographs_calibration.png", "photographs_decisions.png"]
    page, stored = paths[1].read_text(), json.loads(paths[0].read_text())
    assert stored["top1"] == 0.5 and stored["curves"]["reliability"].keys() == {
        "name",
        "name, calibration",
        "name, test",
    }
    assert "| zoo.png | 0, 0, 32, 48 | dog, hound | a brown dog (dog 0.90) | yes | dog 0.90, cat 0.05 | yes |" in page
    assert "| broader, true | bird 0.70 (parent), bear 0.30, toucan 0.25 | broader, true | gray: **wrong**" in page
    assert "| **no** | wok 0.95 | **no** | black: right |" in page
    assert "- parents: bird 1\n- other_words: another 1, behind 1, object 1\n" in page
    assert "| calibration | 0.500" in page and "photographs_decisions.png" in page


@pytest.fixture
def witness(monkeypatch: pytest.MonkeyPatch) -> Witness:
    """The predictor that the command loads."""
    found = Witness()
    monkeypatch.setattr(DynRefer, "load", lambda model, device: found)
    return found


def test_the_command(folder: Path, tmp_path: Path, witness: Witness) -> None:
    lines = tmp_path / "said.jsonl"
    arguments = ["--photos", str(folder), "--save-predictions", str(lines), "--out", str(tmp_path / "out")]
    table = CliRunner().invoke(app, arguments)
    assert table.exit_code == 0 and "top1" in table.stdout and "| test |" in table.stdout
    said = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [(each["file"], each["box"]) for each in said][:2] == [("zoo.png", list(DOG)), ("zoo.png", list(TOUCAN))]
    assert said[0]["caption"]["name"] == "dog" and said[1]["categories"][0]["level"] == "parent"
    assert said[3]["verdict"]["confident_wrong"] and said[3]["verdict"]["other_words"] == [
        "behind",
        "another",
        "object",
    ]
    assert (tmp_path / "out" / "photographs.md").is_file()
    result = json.loads(CliRunner().invoke(app, ["--photos", str(folder), "--split", "test", "--json"]).stdout)
    assert (result["boxes"], result["top1"], result["split"], result["data"]) == (2, 0.5, "test", "photos")
    study = json.loads(CliRunner().invoke(app, ["--photos", str(folder), "--sweep-views", "--json"]).stdout)
    assert study["over_t"]["1"]["top1"]["value"] == 0.5 and study["boxes"] == 4


def test_bad_input_is_one_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], witness: Witness
) -> None:
    def said(*more: str) -> str:
        return refusal(monkeypatch, capsys, "evaluate", "--photos", str(folder), *more)

    assert "no such split" in said("--split", "train")
    assert "cannot read" in said("--colours", str(folder / "none.json"))
    labels = json.loads((folder / "labels.json").read_text())

    def with_first(**members: Any) -> None:
        (folder / "labels.json").write_text(json.dumps([{**labels[0], **members}, labels[1]]))

    with_first(size=[32, 24], boxes=[_box((0, 0, 9, 9), ["dog"], [], [])])
    assert "is 64 x 48 pixels, but listed as 32 x 24" in said()
    with_first(boxes=[_box((0, 0, 65, 9), ["dog"], [], [])])
    assert "reaches beyond the picture" in said()
    with_first(file="gone.png")
    assert "gone.png" in said()
    (folder / "zoo.png").write_text("no image")
    with_first()
    assert "zoo.png is not an image" in said()
    (folder / "labels.json").write_text("[]")
    assert "labels.json" in said()
    (folder / "labels.json").unlink()
    assert "labels.json" in said()
    assert not witness.queries


def test_a_box_that_the_model_refuses_names_the_photograph(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object) -> list[RegionQuery]:
        raise BoxError("The box is too small.")

    witness = Witness()
    monkeypatch.setattr(witness, "prepare", refuse)
    with pytest.raises(DataError, match="zoo.png: The box is too small"):
        measure_photographs(witness, read_photographs(folder))


@pytest.mark.parametrize(
    "arguments",
    [
        *(["--split", "test"], ["--colours", "x"], ["--save-predictions", "x"], ["--jpeg", "0"], ["--jpeg", "101"]),
        *(["--photos", "x", "--data", "y", "--task", "captions"], ["--photos", "x", "--scenes-seed", "1"]),
        *(
            ["--photos", "x", "--tune", "y.json"],
            ["--photos", "x", "--jpeg", "75"],
            ["--photos", "x", "--regions", "20"],
        ),
        *(["--photos", "x", "--batch-regions", "8"], ["--photos", "x", "--task", "captions"]),
        *(["--photos", "x", "--views", "task-prior"], ["--photos", "x", "--predictions", "y"]),
        *(
            ["--photos", "x", "--sweep-views", "--colours", "y"],
            ["--photos", "x", "--sweep-views", "--batch-regions", "8"],
        ),
        *(["--jpeg", "75", "--tune", "x.json"], ["--jpeg", "75", "--data", "x", "--task", "captions"]),
        *(["--jpeg", "75", "--sweep-views"], ["--photos", "x", "--proposals", "y"]),
    ],
)
def test_usage_errors(arguments: list[str], witness: Witness) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2 and not witness.queries


def test_the_embedded_model_answers(tmp_path: Path, world: World) -> None:
    scene = RegionSet.draw(world, SpritePack.load(), "test", scenes_seed=9, regions=2).scenes[0]
    Image.fromarray(scene.image).save(tmp_path / "scene.png")
    boxes = [_box(obj.box, [obj.category], [], []) for obj in scene.objects[:2]]
    size = {"size": [scene.image.shape[1], scene.image.shape[0]]}
    (tmp_path / "labels.json").write_text(json.dumps([_entry("scene.png", "test", *boxes) | size]))
    found = measure_photographs(DynRefer.load("embedded", device="cpu"), read_photographs(tmp_path))
    assert len(found.boxes) == 2 and all(each.found.caption and each.found.categories for each in found.boxes)
    assert found.result["top5"] == 1.0 and 0 < found.boxes[0].verdict.leaf_probability <= 1


def test_a_name_with_its_kind_is_the_name() -> None:
    def ancestors(name: str) -> tuple[str, ...]:
        return {"bittern": ("bird", "animal"), "wine": ("drink",)}.get(name, ())

    assert without_kinds(("bittern bird", "wine glass", "heron"), ancestors) == (
        "bittern bird",
        "wine glass",
        "heron",
        "bittern",
    )


def test_the_broadest_word_is_neither_true_nor_false() -> None:
    truth = LabelledBox((0.0, 0.0, 4.0, 4.0), ("dog",), parents=("animal",))
    unsure = RegionDescription(
        box=truth.box,
        clipped=False,
        plan=None,
        plans={},
        results={
            "caption": Caption("an object", 0.5, -0.7, -0.2, "object", 1.0),
            "categories": (Label("object", 0.0, 1.0, "parent"), Label("mop", -0.1, 0.3)),
        },
    )
    verdict = judge(truth, unsure, {"mop", "dog"})
    assert not (verdict.false_noun or verdict.caption_true or verdict.top1_or_parent or verdict.confident_wrong)
    assert verdict.backs_off
