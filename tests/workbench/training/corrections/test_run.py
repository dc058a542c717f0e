"""A run from a folder of corrections to the offer; what it may look at, what it leaves as it was, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from dynrefer.model import DynRefer
from dynrefer.model.images import Pixels
from dynrefer.model.types import Task
from dynrefer.workbench.data import corrections as reading
from dynrefer.workbench.errors import SettingError, TrainingError
from dynrefer.workbench.training.corrections import run as running
from dynrefer.workbench.training.corrections.run import COMPARISON, CorrectionRun
from tests.workbench.training.corrections.conftest import everything, settings, write_folder

pytestmark = [pytest.mark.training, pytest.mark.usefixtures("small")]


def weights(directory: Path) -> dict[str, np.ndarray[Any, Any]]:
    return {name: value.numpy() for name, value in load_file(directory / "model.safetensors").items()}


def changed(one: Path, other: Path) -> set[str]:
    before, after = weights(one), weights(other)
    assert before.keys() == after.keys()
    return {name for name, value in before.items() if not np.array_equal(value, after[name])}


def test_heads_are_tuned_calibrated_and_compared(folder: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    outcome = CorrectionRun(settings(folder, model), out).train()
    names = changed(model, outcome.model)
    assert names and {name.split(".")[0] for name in names} == {"tag_decoder", "region_text_decoder"}
    config = json.loads((outcome.model / "config.json").read_text())
    before = json.loads((model / "config.json").read_text())
    assert config["revision"] != before["revision"] and "corrected regions" in config["trained_on"]
    assert (outcome.model / "vocabulary.json").read_bytes() == (model / "vocabulary.json").read_bytes()
    document = json.loads((out / COMPARISON).read_text())
    measured = {(each["where"], each["task"], each["metric"]) for each in document["measured"]}
    assert ("held-out corrections", "categories", "accuracy") in measured
    assert ("held-out corrections", "caption", "cider") in measured
    assert ("drawn benchmark", "tags", "f1") in measured
    assert document["offered"] is (outcome.verdict is not None and outcome.verdict.offered)
    assert document["reasons"] and DynRefer.load(outcome.model).card.revision == config["revision"]


def test_lora_changes_the_language_model_alone(folder: Path, model: Path, tmp_path: Path) -> None:
    outcome = CorrectionRun(settings(folder, model, what=("lora",)), tmp_path / "run").train()
    names = changed(model, outcome.model)
    assert names and all(name.startswith("language.model.") and name[-8:-7] in "qv" for name in names)


def test_only_what_is_judged_is_tuned(model: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "folder", lambda each: {"tags": list(each.tags)})
    outcome = CorrectionRun(settings(folder, model), tmp_path / "run").train()
    assert {name.split(".")[0] for name in changed(model, outcome.model)} == {"tag_decoder"}
    assert {each.task for each in outcome.measured if each.where == "held-out corrections"} == {Task.TAGS}


def test_held_out_images_are_seen_by_the_comparison_alone(
    folder: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pixels of corrections are read in one place; what had been read before each step is compared with the split."""
    seen: set[Path] = set()
    read = reading._pixels

    def watched(path: Path) -> Pixels:
        seen.add(path)
        return read(path)

    monkeypatch.setattr(reading, "_pixels", watched)
    run = CorrectionRun(settings(folder, model), tmp_path / "run")
    parts = {
        name: {each.image for each in getattr(run.split, name)} for name in ("training", "calibration", "held_out")
    }
    assert all(parts.values())
    at: dict[str, set[Path]] = {}
    for step in ("_calibrate", "_compare"):
        inner = getattr(run, step)
        monkeypatch.setattr(
            run, step, lambda *given, step=step, inner=inner: (at.update({step: set(seen)}), inner(*given))[1]
        )
    run.train()
    assert at["_calibrate"] == parts["training"]
    assert at["_compare"] == parts["training"] | parts["calibration"]
    assert seen == at["_compare"] | parts["held_out"]


def test_what_held_out_corrections_say_changes_neither_weights_nor_calibration(
    folder: Path, model: Path, tmp_path: Path
) -> None:
    """The same folder with all held-out labels wrong gives the same model, to the bit."""
    held_out = {each.id for each in CorrectionRun(settings(folder, model), tmp_path).split.held_out}
    lies = tmp_path / "lies"
    lies.mkdir()
    (lies / "images").symlink_to(folder / "images")
    lines = [json.loads(line) for line in (folder / "corrections.jsonl").read_text().splitlines()]
    told = [{**line, "category": "cat", "tags": ["cat"]} if line["id"] in held_out else line for line in lines]
    (lies / "corrections.jsonl").write_text("".join(json.dumps(line) + "\n" for line in told))
    one, two = (
        CorrectionRun(settings(where, model), tmp_path / name).train()
        for where, name in ((folder, "one"), (lies, "two"))
    )
    assert not changed(one.model, two.model)
    configs = [json.loads((each.model / "config.json").read_text()) for each in (one, two)]
    assert configs[0] == configs[1]
    assert one.measured != two.measured


def test_a_run_that_was_interrupted_ends_as_one_that_was_not(
    folder: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = settings(folder, model, steps=4, checkpoint_every=2, without_comparison=True)
    whole = CorrectionRun(given, tmp_path / "whole").train()
    heads = running.Batches.heads

    def interrupted(self: Any, step: int) -> Any:
        if step == 3:
            raise KeyboardInterrupt
        return heads(self, step)

    monkeypatch.setattr(running.Batches, "heads", interrupted)
    with pytest.raises(KeyboardInterrupt):
        CorrectionRun(given, tmp_path / "again").train()
    assert not (tmp_path / "again" / "model").exists()
    asked: list[int] = []
    monkeypatch.setattr(running.Batches, "heads", lambda self, step: (asked.append(step), heads(self, step))[1])
    again = CorrectionRun(given, tmp_path / "again").train()
    assert asked == [2, 3] and not changed(whole.model, again.model)


def test_a_run_is_not_resumed_with_other_corrections(model: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "folder", scenes=range(6_100_000_000, 6_100_000_006))
    given = settings(folder, model, without_comparison=True)
    CorrectionRun(given, tmp_path / "run").train()
    with (folder / "corrections.jsonl").open("a") as file:
        file.write(json.dumps({"id": "drawn:6100000000:0", "deleted": True}) + "\n")
    with pytest.raises(TrainingError, match="the corrections of the run in .* changed since it began"):
        CorrectionRun(given, tmp_path / "run").train()


def test_too_few_held_out_regions_are_refused_unless_nothing_is_compared(model: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "folder", scenes=range(6_100_000_000, 6_100_000_006))
    with pytest.raises(SettingError, match="held-out regions are too few to compare models on .*--without-comparison"):
        CorrectionRun(settings(folder, model), tmp_path / "run")
    outcome = CorrectionRun(settings(folder, model, without_comparison=True), tmp_path / "run").train()
    assert outcome.verdict is None and not (tmp_path / "run" / COMPARISON).exists()


def test_new_words_are_told_and_added_where_asked(model: Path, tmp_path: Path) -> None:
    def renamed(each: Any) -> dict[str, Any]:
        return {"category": "gizmo" if each.relation == "left of" else each.category}

    folder = write_folder(tmp_path / "folder", renamed)
    plain = CorrectionRun(settings(folder, model), tmp_path / "plain")
    assert "categories: gizmo (" in plain.told[0] and "--add-words" in plain.told[0]
    outcome = CorrectionRun(settings(folder, model, add_words=True), tmp_path / "added").train()
    card = DynRefer.load(outcome.model).card
    assert card.vocabulary["categories"][-1] == "gizmo"
    assert "gizmo" in (outcome.model / "README.md").read_text()


@pytest.mark.parametrize(
    ("said", "changes", "sentence"),
    [
        ({"caption": "a dog"}, {}, "no training correction judges a category, tag or attribute that the model knows"),
        ({"category": "nothing it knows"}, {}, "no training correction judges"),
        ({"category": "dog"}, {"what": ("lora",)}, "--what lora learns captions, and no training correction has one"),
    ],
)
def test_nothing_to_learn_is_refused(
    model: Path, tmp_path: Path, said: dict[str, Any], changes: dict[str, Any], sentence: str
) -> None:
    folder = write_folder(tmp_path / "folder", lambda each: said)
    with pytest.raises(SettingError, match=sentence):
        CorrectionRun(settings(folder, model, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_embedded_model_keeps_all_that_is_beside_its_network(tmp_path: Path) -> None:
    """Evidence, finder, segmenter, translations: a tuned model does what the running one does."""
    folder = write_folder(tmp_path / "folder", everything, range(6_100_000_000, 6_100_000_004))
    given = settings(folder, "embedded", what=("heads", "lora"), steps=1, without_comparison=True)
    outcome = CorrectionRun(given, tmp_path / "run").train()
    tuned, before = DynRefer.load(outcome.model), DynRefer.load("embedded")
    assert tuned.card.detection and tuned.card.prompts == before.card.prompts
    assert tuned.card.vocabulary == before.card.vocabulary and tuned.card.revision != before.card.revision
    assert tuned.card.task_priors == before.card.task_priors
