"""Runs around the fake predictor, in this process: what is answered, what fails, and how a run goes on."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dynrefer.model import AskedName, FindQuery
from dynrefer.model.errors import ModelNotFoundError
from dynrefer.service.batch.asking import Question
from dynrefer.service.batch.errors import BatchError
from dynrefer.service.batch.job import run_job
from dynrefer.service.batch.planning import Job
from dynrefer.service.settings import Settings
from tests.fake_finder import FakeFinderSpec
from tests.fakes import FakePredictor
from tests.service.batch.inputs import lines_of, make_images, write_requests

SETTINGS = Settings(worker_processes=0, max_queue_regions=1_000_000)
BOX = {"box": [1, 2, 30, 40]}

Run = Callable[..., int]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_images(tmp_path, 3)
    return tmp_path


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """run(requests, predictor=..., **fields of Job) -> exit code; OUT is out.jsonl."""

    def run(requests: list[dict[str, Any]] | None, predictor: FakePredictor | None = None, **options: Any) -> int:
        if requests is not None:
            write_requests(folder / "requests.jsonl", requests)
        fields = {"given": folder / "requests.jsonl", "question": Question({"task": ["caption"]}), **options}
        job = Job(out=folder / "out.jsonl", settings=SETTINGS, **fields)
        return run_job(job, predictor or FakePredictor(finding=FakeFinderSpec()))

    return run


def answers(folder: Path) -> list[dict[str, Any]]:
    return lines_of(folder / "out.jsonl")


def failures(folder: Path) -> list[dict[str, Any]]:
    return lines_of(folder / "out.jsonl.failed.jsonl")


def test_an_answer_is_that_of_the_service_without_what_differs(run: Run, folder: Path) -> None:
    assert run([{"image": "0001.png", "regions": [{"id": "dog", **BOX}]}]) == 0
    (line,) = answers(folder)
    assert line["file"] == "0001.png" and line["image"] == {"width": 64, "height": 48}
    (region,) = line["regions"]
    assert list(region) == ["id", "box", "clipped", "views", "view_policy", "caption"]
    assert region["id"] == "dog" and region["caption"]["text"] == "pixel 1 0 7"
    assert "timings_ms" not in json.dumps(line)


def test_a_lines_own_fields_win_over_those_of_the_command(run: Run, folder: Path) -> None:
    unit = {
        "image": "0000.png",
        "coordinates": "unit",
        "regions": [{"box": [0, 0, 0.5, 0.5]}],
        "task": "tags",
        "top_k": 2,
    }
    assert run([unit], question=Question({"task": ["caption"], "top_k": 1})) == 0
    (region,) = answers(folder)[0]["regions"]
    assert region["box"] == [0, 0, 32, 24] and len(region["tags"]) == 2 and "caption" not in region


def test_answers_stand_in_the_order_of_the_input(run: Run, folder: Path) -> None:
    asked = [{"image": f"000{place % 3}.png", "id": place, "regions": [BOX] * (1 + place % 5)} for place in range(50)]
    assert run(asked) == 0
    assert [line["id"] for line in answers(folder)] == list(range(50))


def test_a_question_that_is_asked_twice_is_answered_twice_and_computed_once(run: Run, folder: Path) -> None:
    predictor = FakePredictor()
    assert run([{"image": "0000.png", "regions": [BOX]}] * 4, predictor) == 0
    assert len(answers(folder)) == 4
    assert len(lines_of(folder / "out.jsonl.journal.jsonl")) == 3  # the settings, one answer, one file


def test_an_image_in_base64_is_described(run: Run, folder: Path) -> None:
    text = base64.b64encode((folder / "0002.png").read_bytes()).decode()
    assert run([{"image": {"base64": text}, "regions": [BOX]}]) == 0
    (line,) = answers(folder)
    assert line["file"] == "line 1" and line["regions"][0]["caption"]["text"] == "pixel 2 0 7"


def test_an_image_with_many_regions_is_asked_in_parts(run: Run, folder: Path) -> None:
    regions: list[dict[str, Any]] = [{"box": [1, 2, 3 + place / 10, 40]} for place in range(200)]
    regions[150] = {"box": [900, 900, 950, 950]}
    assert run([{"image": "0000.png", "regions": regions}]) == 4
    (line,) = answers(folder)
    assert [region["id"] for region in line["regions"]] == [str(place) for place in range(200)]
    assert line["regions"][150]["error"]["errors"][0]["pointer"] == "/regions/150/box"
    assert [(each["region"], each["type"]) for each in failures(folder)] == [("150", "invalid-request")]


def test_what_fails_fails_alone_and_says_why(run: Run, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "broken.png").write_bytes((folder / "0000.png").read_bytes()[:40])
    (folder / "text.png").write_text("no image")
    asked = [
        {"image": "missing.png", "regions": [BOX], "id": "a"},
        {"image": "broken.png", "regions": [BOX]},
        {"image": "text.png", "regions": [BOX]},
        {"image": "0000.png", "regions": [BOX], "tusk": "caption"},
        {"image": "0000.png", "regions": [{"box": [200, 200, 300, 300]}, BOX, {"box": ["x"]}]},
        {"image": "0000.png", "regions": "all"},
        {"image": "0001.png", "regions": [BOX]},
    ]
    assert run(asked) == 4
    assert [line["file"] for line in answers(folder)] == ["0000.png", "0001.png"]
    found = [(each["file"], each.get("region"), each["reason"]) for each in failures(folder)]
    assert found[0] == ("missing.png", None, "The file cannot be read: no such file or directory.")
    assert failures(folder)[0]["id"] == "a"
    assert [each[0] for each in found] == ["missing.png", "broken.png", "text.png"] + ["0000.png"] * 4
    assert "Unknown field 'tusk'. Did you mean 'task'? (at /tusk)" in found[3][2]
    assert found[4][1:] == ("0", "The box lies wholly outside the image.") and found[5][1] == "2"
    assert "A list is expected. (at /regions)" in found[6][2]
    assert "7 failed" in capsys.readouterr().err


def test_what_failed_is_tried_again_only_if_that_is_asked_for(run: Run, folder: Path) -> None:
    asked = [{"image": f"{name}.png", "regions": [BOX]} for name in ("late", "0000", "never")]
    assert run(asked) == 4
    make_images(folder / "more", 1)[0].rename(folder / "late.png")
    assert run(asked) == 4 and len(answers(folder)) == 1
    predictor = FakePredictor()
    assert run(asked, predictor, retry_failed=True) == 4
    assert [line["file"] for line in answers(folder)] == ["late.png", "0000.png"]
    assert [each["file"] for each in failures(folder)] == ["never.png"]
    (folder / "late.png").rename(folder / "never.png")
    assert run(asked, retry_failed=True) == 0
    assert not (folder / "out.jsonl.failed.jsonl").exists()


def test_a_region_that_the_model_fails_on_fails_alone(run: Run, folder: Path) -> None:
    def refuse(boxes: Any) -> None:
        if any(box[0] == 5 for box in boxes):
            raise RuntimeError("a defect")

    asked = [{"image": "0000.png", "regions": [BOX, {"box": [5, 2, 30, 40]}]}]
    assert run(asked, FakePredictor(run_hook=refuse)) == 4
    assert [(each["region"], each["type"]) for each in failures(folder)] == [("1", "region-failed")]
    assert "caption" in answers(folder)[0]["regions"][0]


def test_a_run_that_is_over_computes_nothing_and_writes_further_files(run: Run, folder: Path) -> None:
    asked = [{"image": "0000.png", "regions": [BOX]}]
    assert run(asked) == 0
    (folder / "out.jsonl").unlink()
    predictor = FakePredictor()
    assert run(asked, predictor, also=(folder / "more.coco.json",)) == 0
    assert not predictor.batches and (folder / "out.jsonl").exists()
    assert json.loads((folder / "more.coco.json").read_text())["annotations"][0]["caption"] == "pixel 0 0 7"


def test_new_and_changed_items_are_answered_and_others_are_not_again(run: Run, folder: Path) -> None:
    asked = [{"image": "0000.png", "regions": [BOX]}, {"image": "0001.png", "regions": [BOX]}]
    assert run(asked) == 0
    asked = [
        {"image": "0002.png", "regions": [BOX]},
        asked[1],
        {"image": "0000.png", "regions": [{"box": [3, 3, 9, 9]}]},
    ]
    predictor = FakePredictor()
    assert run(asked, predictor) == 0
    assert [line["file"] for line in answers(folder)] == ["0002.png", "0001.png", "0000.png"]
    assert sum(len(batch) for batch in predictor.batches) == 2 + 1  # and the warm-up


def test_other_settings_or_another_model_are_refused(run: Run, folder: Path) -> None:
    asked = [{"image": "0000.png", "regions": [BOX]}]
    assert run(asked) == 0
    with pytest.raises(BatchError, match=r'begun with task \["caption"\], and this run has \["tags"\]'):
        run(asked, question=Question({"task": ["tags"]}))
    with pytest.raises(BatchError, match=r'begun with task \["caption"\], and this run has none'):
        run(asked, question=Question({}))
    with pytest.raises(BatchError, match="begun with find false, and this run has true"):
        run([{"image": "0000.png"}], question=Question({"task": ["caption"]}, FindQuery()))


def test_a_file_that_no_run_wrote_is_left_alone(run: Run, folder: Path) -> None:
    (folder / "out.jsonl").write_text("precious\n")
    asked = [{"image": "0000.png", "regions": [BOX]}]
    with pytest.raises(BatchError, match=r"out\.jsonl exists; pass --overwrite"):
        run(asked)
    assert (folder / "out.jsonl").read_text() == "precious\n"
    assert not (folder / "out.jsonl.journal.jsonl").exists()
    assert run(asked, overwrite=True) == 0 and len(answers(folder)) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"also": (Path("x.txt"),)}, r"x\.txt: the ending says what is written; use one of \.jsonl"),
        ({"also": (Path("/nowhere/x.jsonl"),)}, "no such folder"),
        ({"question": Question({"top_k": 0})}, r"The number is too small. \(top_k\)"),
        ({"question": Question({"vocabulary": "coca"})}, r"coco"),
    ],
)
def test_what_cannot_be_used_is_said_before_any_work(run: Run, options: dict[str, Any], said: str) -> None:
    predictor = FakePredictor()
    with pytest.raises(BatchError, match=said):
        run([{"image": "0000.png", "regions": [BOX]}], predictor, **options)
    assert not predictor.batches


def test_the_input_is_never_an_output(run: Run, folder: Path) -> None:
    asked = write_requests(folder / "asked.jsonl", [{"image": "0000.png", "regions": [BOX]}])
    with pytest.raises(BatchError, match="is what this command reads"):
        run(None, given=asked, also=(asked,), overwrite=True)


def test_an_input_without_items_is_refused(run: Run, folder: Path) -> None:
    with pytest.raises(BatchError, match="is empty"):
        run([])
    (folder / "boxes.csv").write_text("image,x1,y1,x2,y2\n")
    with pytest.raises(BatchError, match="brings no regions and no images"):
        run(None, given=folder / "boxes.csv")


def test_a_model_that_cannot_be_loaded_is_an_error_of_its_own(run: Run, folder: Path) -> None:
    class Unloadable(FakePredictor):
        @property
        def preparation(self) -> Any:
            raise ModelNotFoundError("the model directory 'nowhere' does not exist")

    with pytest.raises(ModelNotFoundError):
        run([{"image": "0000.png", "regions": [BOX]}], Unloadable())
    assert not (folder / "out.jsonl.journal.jsonl").exists()


def test_a_device_that_is_lost_ends_the_run_and_keeps_what_is_answered(
    run: Run, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from dynrefer.model.errors import DeviceLostError

    def lose(boxes: Any) -> None:
        if any(box[0] == 29 for box in boxes):
            raise DeviceLostError("it is gone")

    asked = [{"image": "0000.png", "regions": [{"box": [place, 2, 60, 40]}]} for place in range(40)]
    assert run(asked, FakePredictor(run_hook=lose)) == 3
    assert "the device is lost" in capsys.readouterr().err
    assert not (folder / "out.jsonl").exists() and not (folder / "out.jsonl.failed.jsonl").exists()
    assert run(asked) == 0 and len(answers(folder)) == 40


def test_regions_are_found_and_described(run: Run, folder: Path) -> None:
    (folder / "pictures").mkdir()
    make_images(folder / "pictures", 2)
    names = (AskedName("dog"), AskedName("fox"))
    question = Question({"task": ["caption"]}, FindQuery(names=names))
    assert run(None, given=folder / "pictures", question=question) == 0
    lines = answers(folder)
    assert [line["file"] for line in lines] == ["0000.png", "0001.png"]
    region = lines[0]["regions"][0]
    assert region["label"] in ("dog", "fox") and "caption" in region and "absent" in lines[0]


def test_what_is_found_need_not_be_described(run: Run, folder: Path) -> None:
    make_images(folder / "pictures", 1)
    question = Question({}, FindQuery(names=(AskedName("dog"),)), describe_found=False)
    assert run(None, given=folder / "pictures", question=question) == 0
    assert "caption" not in answers(folder)[0]["regions"][0]


def test_yolos_polygons_are_regions_of_their_form(run: Run, folder: Path) -> None:
    (folder / "0000.txt").write_text("0 0.25 0.25 0.75 0.25 0.75 0.75\n1 0.5 0.5 0.5 0.5\n")
    (folder / "classes.txt").write_text("sail\nhull\n")
    assert run(None, given=folder) == 0
    (line,) = answers(folder)
    assert [region["label"] for region in line["regions"]] == ["sail", "hull"]
    assert line["regions"][0]["box"] == [16, 12, 48, 36] and line["regions"][1]["box"] == [16, 12, 48, 36]
