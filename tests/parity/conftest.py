"""The official model of the goldens, loaded through the converter, and how its numbers are compared with ours."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from dynrefer.model.convert.assets import read_config
from dynrefer.model.convert.plan import plan_conversion
from dynrefer.model.convert.weight_files import open_weights
from dynrefer.model.networks.dynrefer.config import DynReferConfig
from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.model.networks.dynrefer.vision import VisionFeatures
from tests.conftest import goldens_folder
from tests.goldens_reader import features_of, has_photographs, read_tensors
from tests.parity import reference

torch.set_num_threads(1)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests that need pixels run on our own images, and on the official photographs where they are present."""
    if "source" in metafunc.fixturenames:
        complete = has_photographs(goldens_folder(metafunc.config))
        metafunc.parametrize("source", ["reference", *(["official"] if complete else [])], scope="session")


def network_from(state_file: Path, config: DynReferConfig) -> DynReferModel:
    """Official weights in a network of ours, in float32, by the converter's own plan."""
    plan = plan_conversion([open_weights(state_file)], config)
    network = DynReferModel(config)
    loaded = network.load_state_dict({name: plan.assemble(name).float() for name in plan.shapes}, strict=False)
    assert not loaded.unexpected_keys
    assert set(loaded.missing_keys) == set(network.all_tied_weights_keys)
    return network.eval()


@dataclass
class Goldens:
    """Recorded inputs and outputs, read on first use."""

    folder: Path

    def json(self, name: str) -> Any:
        """A JSON file."""
        return json.loads((self.folder / name).read_text(encoding="utf-8"))

    def tensors(self, name: str) -> dict[str, Tensor]:
        """A file of tensors, named without its ending."""
        return read_tensors(self.folder, name)

    @cached_property
    def config(self) -> DynReferConfig:
        """Sizes of the recorded model."""
        return read_config(self.folder / "tiny_config.json")

    @cached_property
    def texts(self) -> dict[str, Any]:
        """text_lists.json."""
        return self.json("text_lists.json")  # type: ignore[no-any-return]

    @cached_property
    def embeddings(self) -> dict[str, Tensor]:
        """text_encoder.safetensors."""
        return self.tensors("text_encoder")

    @cached_property
    def intermediates(self) -> dict[str, Tensor]:
        """intermediates."""
        return self.tensors("intermediates")

    @cached_property
    def generation(self) -> dict[str, Any]:
        """generation.json."""
        return self.json("generation.json")  # type: ignore[no-any-return]

    @cached_property
    def features(self) -> VisionFeatures:
        """What the official vision tower made of the views, (R * V, C, H, W), region-major."""
        return features_of(self.intermediates["vit_ln_vision"])

    @cached_property
    def processor(self) -> reference.Processor:
        """The official processor's settings."""
        record = self.json("processor.json")
        return reference.Processor(record["mean"], record["std"], record["image_size"])

    def views(self, source: str) -> "Views":
        """The official views, or those that the reference cuts out of our own images."""
        return self.official_views if source == "official" else self.reference_views

    @cached_property
    def official_views(self) -> "Views":
        """From the complete folder only."""
        with np.load(self.folder / "region_images_u8.npz") as file:
            images = torch.from_numpy(file["images"])
        return Views(images, self.intermediates["boxes"], self.intermediates["vit_ln_vision"])

    @cached_property
    def reference_views(self) -> "Views":
        """As many views of each region of ours as the recorded network takes."""
        runs = [
            record[f"num_views_{self.config.num_views}"]
            for image in reference.processor_record(self.processor)
            for record in image["boxes"]
        ]
        images = torch.from_numpy(np.stack([run["images"] for run in runs]))
        boxes = torch.tensor([run["in_view_boxes"] for run in runs])
        heads = self.json("tiny_config.json")["cfg"]["vit"]["num_heads"]
        settings = self.processor.mean, self.processor.std
        state = self.tensors(self.state_file.stem)
        return Views(images, boxes, reference.vision_tokens(images.flatten(0, 1), state, heads, *settings))

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Of the language model."""
        return AutoTokenizer.from_pretrained(self.folder / "t5_tokenizer")  # type: ignore[no-any-return]

    @property
    def state_file(self) -> Path:
        """The official weights."""
        return self.folder / "tiny_state_dict.safetensors"

    def network(self) -> DynReferModel:
        """A fresh network with the official weights."""
        return network_from(self.state_file, self.config)

    def controls(self, words: list[str]) -> tuple[Tensor, Tensor]:
        """Token ids and attention mask (R, W) of control words, cut and padded as the official code does."""
        batch = self.tokenizer(
            words,
            padding="longest",
            truncation=True,
            max_length=self.config.max_control_tokens,
            return_tensors="pt",
        )
        return batch["input_ids"], batch["attention_mask"]


@dataclass
class Views:
    """The vision tower's inputs and its expected output.

    images: (R, V, 3, S, S) uint8. boxes: (R, V, 4) float32, the region in each view. tokens: (R * V, 1 + P, C).
    """

    images: Tensor
    boxes: Tensor
    tokens: Tensor


@pytest.fixture(scope="session")
def recorded(goldens: Path) -> Goldens:
    """The recorded numbers."""
    return Goldens(goldens)


@pytest.fixture(scope="session")
def views(recorded: Goldens, source: str) -> Views:
    """Views with their tokens: of our own images by the reference, and the official ones where they are."""
    return recorded.views(source)


@pytest.fixture(scope="session")
def network(recorded: Goldens) -> DynReferModel:
    """The official weights in our network; not to be changed."""
    return recorded.network().requires_grad_(False)


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """Frobenius norm of the difference over that of what was recorded."""
    assert ours.shape == theirs.shape, f"{tuple(ours.shape)} is not {tuple(theirs.shape)}"
    difference, size = (ours.double() - theirs.double()).norm(), theirs.double().norm()
    return float(difference / size) if size > 0 else float(difference)


@dataclass
class Comparison:
    """Collects errors, so that a test can print the largest and fail on any above its tolerance."""

    errors: list[tuple[str, float, float]]

    def tensor(self, name: str, ours: Tensor, theirs: Tensor, tolerance: float) -> None:
        """Relative Frobenius norm."""
        self.number(name, relative_error(ours, theirs), tolerance)

    def number(self, name: str, error: float, tolerance: float) -> None:
        """An error that the test has worked out itself."""
        self.errors.append((name, error, tolerance))
        assert error <= tolerance, f"{name}: error {error:.2e} is above {tolerance:.0e}"

    def largest(self) -> str:
        """The error that came nearest to its tolerance."""
        name, error, tolerance = max(self.errors, key=lambda item: item[1] / item[2])
        return f"{error:.2e} of {tolerance:.0e} allowed ({name}; {len(self.errors)} compared)"


@pytest.fixture
def compare(request: pytest.FixtureRequest) -> Iterator[Comparison]:
    """The test's comparison; its largest error is printed at the end."""
    comparison = Comparison([])
    yield comparison
    if comparison.errors:
        print(f"\n{request.node.name}: largest error {comparison.largest()}")
