"""Every way in which a model directory can be wrong ends in one clear sentence of the model's own errors."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dynrefer.model import ConfigError, DeviceError, DynRefer, ModelError, ModelNotFoundError, WeightsError
from dynrefer.model.loading import EMBEDDED, load_model, pick_device, pick_dtype

WEIGHTS = "model.safetensors"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A copy of the embedded model that a test may spoil."""
    return Path(shutil.copytree(EMBEDDED, tmp_path / "model"))


def spoil_config(directory: Path, change: Callable[[dict[str, object]], object]) -> None:
    config = json.loads((directory / "config.json").read_text())
    change(config)
    (directory / "config.json").write_text(json.dumps(config))


def spoil_weights(directory: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(directory / WEIGHTS)
    change(weights)
    save_file(weights, directory / WEIGHTS, metadata={"format": "pt"})


def refused(directory: Path, error: type[ModelError], *words: str) -> None:
    with pytest.raises(error) as caught:
        DynRefer.load(directory, device="cpu")
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_missing_directory(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", ModelNotFoundError, "nowhere")


def test_empty_directory(tmp_path: Path) -> None:
    refused(tmp_path, ModelNotFoundError, "config.json")


@pytest.mark.parametrize("name", [".", "config.json", "model.safetensors", "language_tokenizer"])
def test_file_of_another_user(directory: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = directory / name
    # Rights themselves would not do: who runs the tests may be root, who may read everything.
    monkeypatch.setattr("dynrefer.model.loading.os.access", lambda path, mode: path != closed)
    refused(directory, ModelNotFoundError, str(closed), "may not be read by user")


@pytest.mark.parametrize("name", [WEIGHTS, "vocabulary.json", "text_embeddings.safetensors"])
def test_missing_file(directory: Path, name: str) -> None:
    (directory / name).unlink()
    refused(directory, ModelNotFoundError)


def test_missing_tokenizer(directory: Path) -> None:
    shutil.rmtree(directory / "language_tokenizer")
    refused(directory, ModelNotFoundError, "language_tokenizer")


def test_tokenizer_without_its_words(directory: Path) -> None:
    (directory / "language_tokenizer" / "tokenizer.json").unlink()
    refused(directory, ModelNotFoundError, "language_tokenizer")


@pytest.mark.parametrize("text", ["{", "{}"])
def test_broken_tokenizer(directory: Path, text: str) -> None:
    (directory / "language_tokenizer" / "tokenizer.json").write_text(text)
    refused(directory, ConfigError, "language_tokenizer")


def test_config_is_not_json(directory: Path) -> None:
    (directory / "config.json").write_text("{")
    refused(directory, ConfigError, "not valid JSON")


def test_config_of_another_model(directory: Path) -> None:
    spoil_config(directory, lambda config: config.update(model_type="bert"))
    refused(directory, ConfigError, "dynrefer")


def test_unknown_key_is_named_with_the_nearest(directory: Path) -> None:
    spoil_config(directory, lambda config: config.update(num_querys=3))
    refused(directory, ConfigError, "num_querys", "num_queries")


def test_truncated_weights(directory: Path) -> None:
    data = (directory / WEIGHTS).read_bytes()
    (directory / WEIGHTS).write_bytes(data[: len(data) // 2])
    refused(directory, WeightsError)


def test_missing_weight_is_named(directory: Path) -> None:
    spoil_weights(directory, lambda weights: weights.pop("query_tokens"))
    refused(directory, WeightsError, "query_tokens")


def test_left_over_weight_is_named(directory: Path) -> None:
    spoil_weights(directory, lambda weights: weights.update(extra=torch.zeros(1)))
    refused(directory, WeightsError, "extra")


def test_weight_of_another_shape(directory: Path) -> None:
    spoil_weights(directory, lambda weights: weights.update(query_tokens=torch.zeros(1, 2, 3)))
    refused(directory, WeightsError)


def test_embeddings_must_fit_the_vocabulary(directory: Path) -> None:
    embeddings = load_file(directory / "text_embeddings.safetensors")
    embeddings["tags"] = embeddings["tags"][:-1].contiguous()
    save_file(embeddings, directory / "text_embeddings.safetensors")
    refused(directory, WeightsError, "tags")


def test_embeddings_must_fit_the_text_tower(directory: Path) -> None:
    embeddings = load_file(directory / "text_embeddings.safetensors")
    save_file(
        {name: each[:, :-1].contiguous() for name, each in embeddings.items()},
        directory / "text_embeddings.safetensors",
    )
    refused(directory, WeightsError, "width")


@pytest.mark.parametrize("name", ["gpu", "tpu:0", "cuda:99", "meta"])
def test_device_that_is_not_there(name: str) -> None:
    with pytest.raises(DeviceError, match=name):
        pick_device(name)


def test_unknown_dtype() -> None:
    with pytest.raises(DeviceError, match="int8"):
        pick_dtype("int8", torch.device("cpu"))


def test_qformer_stays_in_float32() -> None:
    model = DynRefer.load("embedded", device="cpu", dtype="bfloat16")
    network = model._loaded.network
    assert network.query_tokens.dtype is torch.float32
    assert {p.dtype for p in network.qformer.parameters()} == {torch.float32}
    assert {p.dtype for p in network.fusion.parameters()} == {torch.bfloat16}
    assert network.image_mean.dtype is torch.float32


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/maps")
def test_weights_stay_in_their_file(directory: Path) -> None:
    """Weights of the run's own dtype are mapped, not read: the network has no copy of them in memory of its own."""
    spoil_weights(
        directory,
        lambda weights: weights.update(
            {name: each.float() for name, each in weights.items() if each.is_floating_point()}
        ),
    )
    network = load_model(directory, device="cpu", dtype="float32").network
    mapped = mapped_at(directory / WEIGHTS)
    outside = [name for name, each in network.named_parameters() if not any(each.data_ptr() in at for at in mapped)]
    assert mapped and outside == []


def mapped_at(path: Path) -> list[range]:
    """Where this process has the file in its address space."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    spans = [line.split()[0].split("-") for line in lines if line.endswith(str(path))]
    return [range(int(first, 16), int(last, 16)) for first, last in spans]
