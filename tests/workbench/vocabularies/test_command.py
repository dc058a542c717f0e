"""`dynrefer vocabulary`: list, show, check; fit, with a model whose words follow from the box."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image

from dynrefer.model import AttributeLabel, Label, RegionDescription, RequestVocabulary
from dynrefer.model.named_vocabularies import read_named
from dynrefer.model.predictor import DynRefer
from dynrefer.service import cli
from tests.workbench.command_line import refusal

WORDS = {
    "name": "pets",
    "categories": ["dog", {"name": "kitty", "synonyms": ["cat"]}, "gnu"],
    "attributes": ["color:brown/tan"],
    "tags": ["dog", "grass"],
}


class Model:
    """Says dog left of x = 50, and kitty right of it; of the gnu it knows nothing."""

    def describe(self, image: Any, boxes: Any, task: str, *, vocabulary: RequestVocabulary, **_: Any) -> Any:
        assert vocabulary.calibration == () and all(w.threshold is None for w in vocabulary.words(task) or ())
        found = []
        for box in boxes:
            dog = 0.9 if box[0] < 50 else 0.2
            labels: Any = (Label("dog", 10 * dog, dog), Label("kitty", 10 - 10 * dog, 1 - dog))
            if task == "tags":
                labels = (Label("dog", dog, dog), Label("grass", 0.5, 0.5))
            if task == "attributes":
                labels = (AttributeLabel("color:brown", "color", "brown", dog, dog),)
            found.append(RegionDescription(box, False, None, {}, {task: labels}))
        return found


@pytest.fixture
def labelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(DynRefer, "load", lambda *_, **__: Model())
    (tmp_path / "pets.json").write_text(json.dumps(WORDS), encoding="utf-8")
    images, annotations = [], []
    for number in range(6):
        Image.new("RGB", (100, 40)).save(tmp_path / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png"})
        for x in (10, 60):
            category = 1 if x == 10 else 2
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "bbox": [x, 5, 20, 20], "category_id": category}
            )
    categories = [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]
    path = tmp_path / "labelled.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    monkeypatch.setattr("sys.argv", ["dynrefer", "vocabulary", *arguments])
    monkeypatch.setattr(cli, "app", typer.Typer())
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_fit(labelled: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = labelled.with_name("fitted.json")
    arguments = ["fit", str(labelled.with_name("pets.json")), "--from", str(labelled), "--out", str(out)]
    printed = run(monkeypatch, capsys, *arguments)
    found = read_named(out)
    assert found.name == "pets" and {task for task, _, _ in found.words.calibration} == {"categories", "tags"}
    dog, kitty, gnu = found.words.categories or ()
    assert dog.threshold is not None and 2.0 < dog.threshold < 9.0
    assert kitty.synonyms == ("cat",) and kitty.threshold is not None and gnu.threshold is None
    assert [word.threshold is None for word in found.words.tags or ()] == [False, True]  # nothing is known of grass
    rows = [line.split() for line in printed.splitlines()]
    assert ["dog", "6", "6", f"{dog.threshold:.4g}", "1.00", "1.00"] in rows
    assert "1 without an example, whose thresholds stay: gnu" in printed


def test_fit_refuses_what_it_cannot_use(
    labelled: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pets, out = str(labelled.with_name("pets.json")), str(labelled.with_name("out.json"))

    def refused(*arguments: str) -> str:
        return refusal(monkeypatch, capsys, "vocabulary", "fit", *arguments)

    assert "there is no vocabulary 'pets'" in refused("pets", "--from", str(labelled), "--out", out)
    assert "which this command reads" in refused(pets, "--from", str(labelled), "--out", pets, "--overwrite")
    assert "pass --overwrite" in refused("coco", "--from", str(labelled), "--out", pets)
    other = labelled.with_name("other.json")
    other.write_text(json.dumps({"name": "other", "categories": ["spoon"]}))
    sentence = "no label of labelled.json is a word of the vocabulary; its labels are dog, cat."
    assert sentence in refused(str(other), "--from", str(labelled), "--out", out)
    assert "evaluate --tune" in refused("model", "--from", str(labelled), "--out", out)


def test_list_show_and_check(
    labelled: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pets = str(labelled.with_name("pets.json"))
    names = [line.split()[0] for line in run(monkeypatch, capsys, "list", "--vocabularies", pets).splitlines()]
    assert names == ["coco", "everyday", "lvis", "model", "pets"]
    shown = json.loads(run(monkeypatch, capsys, "show", "pets", "--vocabularies", pets))
    assert shown["categories"][1] == {"name": "kitty", "synonyms": ["cat"]}
    assert shown["attributes"] == [{"name": "color:brown", "synonyms": ["tan"]}]
    assert "pets: 3 categories, 1 attributes, 2 tags; no translations" in run(monkeypatch, capsys, "check", pets)
    assert "did you mean 'coco'?" in refusal(monkeypatch, capsys, "vocabulary", "show", "coko")


def test_what_show_prints_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = json.loads(run(monkeypatch, capsys, "show", "lvis"))
    (tmp_path / "mine.json").write_text(json.dumps({**shown, "name": "mine"}))
    assert read_named(tmp_path / "mine.json").sizes == {"categories": 1203}
