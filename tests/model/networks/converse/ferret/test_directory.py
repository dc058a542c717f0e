"""A directory that is written, loaded and asked; and what is wrong with one, said in a sentence."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dynrefer.model.conversation import CANNOT_TELL, Message, Role
from dynrefer.model.errors import ConfigError, ModelError, ModelNotFoundError, WeightsError
from dynrefer.model.networks.converse.ferret.directory import load_ferret
from dynrefer.model.predictor import DynRefer
from dynrefer.workbench.random_ferret import main
from tests.model.networks.converse.ferret.random_model import picture

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """By the command."""
    folder = tmp_path_factory.mktemp("ferret") / "tiny"
    assert main(["--preset", "tiny", "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def copied(written: Path, tmp_path: Path) -> Path:
    """To be spoilt."""
    return shutil.copytree(written, tmp_path / "copy")


def test_a_model_is_asked_through_the_directory(written: Path) -> None:
    model = DynRefer.load("embedded", device="cpu", converser=written)
    assert model.card.conversation
    reply = model.ask(picture(), "What is <region:a>?", {"a": (10, 20, 100, 90)}, max_tokens=12)
    assert reply == model.ask(picture(), "What is <region:a>?", {"a": (10, 20, 100, 90)}, max_tokens=12)
    assert 0 < reply.tokens <= 12
    messages = [
        Message(Role.USER, "What is <region:a>?"),
        Message(Role.ASSISTANT, reply.content or CANNOT_TELL),
        Message(Role.USER, "Is it large?"),
    ]
    chosen = model.ask(picture(), messages, {"a": (10, 20, 100, 90)}, answers=["yes", "no"])
    assert chosen.content in ("yes", "no")
    assert sum(each.probability for each in chosen.answers) == pytest.approx(1)


def test_in_bfloat16_too(written: Path) -> None:
    speaker = load_ferret(written, CPU, torch.bfloat16)
    assert speaker.num_bytes == 0
    assert {each.dtype for each in speaker._model.parameters()} == {torch.bfloat16}


def test_the_command_writes_over_nothing(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(written)]) == 2
    assert "name a directory that does not" in capsys.readouterr().err


def config_changed(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def weights_changed(folder: Path, *, without: str = "", added: str = "") -> None:
    path = folder / "model.safetensors"
    weights = {name: value for name, value in load_file(path).items() if name != without}
    if added:
        weights[added] = torch.zeros(2)
    save_file(weights, path, metadata={"format": "pt"})


def check(folder: Path, kind: type[ModelError], message: str) -> None:
    with pytest.raises(kind, match=message):
        load_ferret(folder, CPU, torch.float32)


def test_what_is_wrong_with_a_directory_is_named(copied: Path) -> None:
    weights_changed(copied, without="sampler.reduce.weight")
    check(copied, WeightsError, "do not fit: missing_keys sampler.reduce.weight")
    weights_changed(copied, added="sampler.reduce.bias")
    check(copied, WeightsError, "do not fit: (missing|unexpected)_keys")
    (copied / "model.safetensors").write_bytes(b"none")
    check(copied, WeightsError, "cannot be read")
    config_changed(copied, sied=3)
    check(copied, ConfigError, "config.json.*unknown key 'sied'")
    shutil.rmtree(copied / "tokenizer")
    (copied / "config.json").unlink()
    check(copied, ModelNotFoundError, "does not exist")


def test_a_directory_of_another_kind_is_no_converser(copied: Path) -> None:
    config_changed(copied, model_type="resnet")
    with pytest.raises(ConfigError, match="'resnet', which is no converser; .* one of .*ferret-v2"):
        DynRefer.load("embedded", device="cpu", converser=copied)
    with pytest.raises(ModelNotFoundError, match="there is no converser directory"):
        DynRefer.load("embedded", device="cpu", converser=copied / "nothing")
