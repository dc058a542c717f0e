"""A start for training: BLIP-2, the text tower, and random weights for what BLIP-2 does not have."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from dynrefer.model.convert import convert
from dynrefer.model.convert.assets import read_config
from dynrefer.model.convert.random_init import random_weights
from dynrefer.model.errors import ConversionError
from dynrefer.model.loading import load_model
from tests.model.convert.test_convert import Sources, sources  # noqa: F401  # a fixture


def test_what_blip_2_lacks_is_initialised_randomly(sources: Sources, tmp_path: Path) -> None:  # noqa: F811
    done = convert(
        tmp_path / "start", [], base=str(sources.base), text_tower=sources.text_tower, language=str(sources.language),
        official=sources.official, config=sources.config, for_training=True,
    )  # fmt: skip
    weights, base = load_file(done.out / "model.safetensors"), sources.base
    fresh = set(json.loads((done.out / "conversion.json").read_text())["fresh"])
    parts = {name.split(".")[0] for name in fresh}
    assert parts == {
        *("align", "fusion", "tag_decoder", "region_text_decoder", "language"),
        *("region_text_temperature", "region_text_bias"),
    }
    assert {name for name in fresh if name.startswith("language.")} == {"language.control_memory"}
    stored = {name: value for path in base.glob("*.safetensors") for name, value in load_file(path).items()}
    assert torch.equal(weights["language.projection.weight"], stored["language_projection.weight"])
    assert torch.equal(weights["query_tokens"], stored["query_tokens"])
    assert not weights["align.offset_mask.weight"].any() and not weights["language.control_memory"].any()
    assert weights["region_text_temperature"].item() == pytest.approx(math.log(10))
    loaded = load_model(done.out, device="cpu", dtype="float32")
    assert "untrained" in loaded.network.config.trained_on


def test_random_weights_are_the_same_every_time(sources: Sources) -> None:  # noqa: F811
    one, two = (random_weights(read_config(sources.config)) for _ in range(2))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    assert one["fusion.reduce.weight"].std() > 0 and not one["fusion.reduce.bias"].any()


def test_without_the_flag_they_are_missing(sources: Sources, tmp_path: Path) -> None:  # noqa: F811
    with pytest.raises(ConversionError, match="tag decoder lacks"):
        convert(
            tmp_path / "start", [], base=str(sources.base), text_tower=sources.text_tower,
            language=str(sources.language), official=sources.official, config=sources.config,
        )  # fmt: skip


def test_no_weights_and_no_flag() -> None:
    import typer

    from dynrefer.model.convert import convert_command

    app = typer.Typer()
    app.command()(convert_command)
    result = CliRunner().invoke(app, ["--out", "nowhere"])
    assert isinstance(result.exception, ConversionError) and "--for-training" in str(result.exception)
