"""Every flag with a wrong value ends in one clear sentence; a resumed run keeps its settings."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import pytest

from dynrefer.workbench.errors import SettingError
from dynrefer.workbench.training.run_settings import TrainingSettings, check_packages, new_settings, resumed_settings


@pytest.fixture
def train(tmp_path: Path) -> Path:
    path = tmp_path / "train.json"
    path.write_text("{}")
    return path


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"train": Path("nowhere.json")}, "--train nowhere.json is not a file"),
        ({"images": Path("nowhere")}, "--images nowhere is not a folder"),
        ({"captions": Path("c.jsonl")}, "--captions c.jsonl is not a file"),
        ({"val": Path("v.json")}, "--val v.json is not a file"),
        ({"val_images": Path(".")}, "--val-images needs --val"),
        ({"validate_every": 5}, "--validate-every needs --val"),
        ({"vocabulary": Path("v.json")}, "--vocabulary v.json is not a file"),
        ({"frame": "turned"}, "--frame turned is unknown; use auto or upright or stored"),
        ({"box_format": "cxcywh"}, "--box-format cxcywh is unknown; use auto or xywh or xyxy"),
        ({"schedule": "linear"}, "--schedule linear is unknown"),
        ({"precision": "fp16"}, "--precision fp16 is unknown; use auto or float32 or bf16"),
        ({"controls": "spacy"}, "--controls spacy is unknown; use vocabulary or part-of-speech"),
        ({"unfreeze": ("text",)}, "--unfreeze text"),
        ({"epochs": 0}, "--epochs 0 is too small"),
        ({"batch_size": 0}, "--batch-size 0 is too small"),
        ({"accumulate": 0}, "--accumulate 0"),
        ({"checkpoint_every": 0}, "--checkpoint-every 0"),
        ({"keep": 0}, "--keep 0"),
        ({"log_every": 0}, "--log-every 0"),
        ({"val_limit": 0}, "--val-limit 0"),
        ({"workers": -1}, "--workers -1"),
        ({"threads": 0}, "--threads 0"),
        ({"warm_up": -1}, "--warm-up -1"),
        ({"seed": -1}, "--seed -1"),
        ({"lora_rank": -1}, "--lora-rank -1"),
        ({"learning_rate": 0.0}, "--learning-rate 0.0 must be a finite number, above 0"),
        ({"learning_rate": math.nan}, "--learning-rate nan"),
        ({"learning_rate": math.inf}, "--learning-rate inf"),
        ({"weight_decay": -0.1}, "--weight-decay -0.1 must be a finite number, 0 or more"),
        ({"clip_norm": -1.0}, "--clip-norm -1.0"),
        ({"tag_gamma": -1.0}, "--tag-gamma -1.0"),
        ({"lora_rank": 8, "lora_alpha": 0.0}, "--lora-alpha 0.0"),
        ({"lora_alpha": 4.0}, "--lora-alpha needs --lora-rank"),
        ({"lora_rank": 8, "unfreeze": ("language",)}, "exclude each other"),
        ({"schedule": "official", "warm_up": 5}, "--schedule official has no warm-up"),
    ],
)
def test_a_wrong_value_is_named(given: dict[str, Any], words: str, train: Path) -> None:
    with pytest.raises(SettingError) as caught:
        new_settings({"train": train, **given})
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_train_is_needed() -> None:
    with pytest.raises(SettingError, match="--train is missing"):
        new_settings({"epochs": 3})


def test_the_defaults_are_the_recipe(train: Path) -> None:
    settings = new_settings({"train": train})
    assert (settings.epochs, settings.batch_size, settings.learning_rate, settings.weight_decay) == (5, 64, 1e-4, 0.05)
    assert settings.tag_gamma == 7.0 and settings.lora_rank == 0 and settings.unfreeze == ()


def test_settings_survive_their_file(train: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(train.parent)
    settings = new_settings({"train": Path("train.json"), "init": "start", "unfreeze": ("vision",), "lora_rank": 4})
    stored = json.loads(json.dumps(settings.as_json()))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = resumed_settings({}, stored)
    assert again.train == train and again.init == str(train.parent / "start") and again.unfreeze == ("vision",)
    assert again.as_json() == stored
    monkeypatch.chdir(train.parent)
    assert (
        resumed_settings({"init": "start"}, stored).as_json() == stored
    )  # the same relative path, from the first run's folder


def test_a_run_from_before_a_setting_goes_on_with_its_default(train: Path) -> None:
    stored = new_settings({"train": train}).as_json()
    del stored["frame"]
    assert resumed_settings({}, stored).frame == resumed_settings({"frame": "auto"}, stored).frame == "auto"
    with pytest.raises(SettingError, match="--frame is stored but the run began with auto"):
        resumed_settings({"frame": "stored"}, stored)


def test_the_embedded_model_is_no_path(train: Path) -> None:
    assert new_settings({"train": train}).as_json()["init"] == "embedded"


def test_as_json_is_plain(train: Path) -> None:
    document = TrainingSettings(train=train).as_json()
    assert document["train"] == str(train) and document["images"] is None


@pytest.mark.parametrize(
    ("package", "given"),
    [("tensorboard", {}), ("peft", {"lora_rank": 2}), ("textblob", {"controls": "part-of-speech"})],
)
def test_a_missing_package_is_named(
    package: str, given: dict[str, Any], train: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = new_settings({"train": train, **given})
    check_packages(settings)
    original = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else original(name))
    with pytest.raises(SettingError, match=f"needs the package {package}; .*dynrefer.train"):
        check_packages(settings)
