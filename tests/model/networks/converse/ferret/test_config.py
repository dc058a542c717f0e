"""What a configuration refuses, by name."""

from typing import Any

import pytest

from dynrefer.model.errors import ConfigError
from dynrefer.model.networks.converse.ferret.config import PRESETS, FerretConfig, preset


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_being_written(name: str) -> None:
    config = preset(name)
    again = FerretConfig(**config.to_dict())
    assert again.spec == config.spec
    assert again.language_config.to_dict() == config.language_config.to_dict()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sied": 3}, "unknown key 'sied' .* did you mean 'side'"),
        ({"side": 57}, "image_size is 56 but side is 57"),
        ({"side": "56"}, "side is '56'"),
        ({"grids": [[0, 1]]}, r"grids must be a list of \[columns, rows\]"),
        ({"grids": 3}, "grids must be a list"),
        ({"sampler_kept": [128]}, "sampler_kept"),
        ({"sampler_kept": [1024, 32]}, "none above the points"),
        ({"sampler_neighbours": [24, 200]}, "none above the points"),
        ({"layers_unused": 3}, "without a layer"),
        ({"answer_scale": 0}, "answer_scale is 0"),
        ({"system": 1}, "system is 1"),
        ({"tile_config": {"model_type": "resnet"}}, "tile_config.model_type 'resnet' is not supported"),
        ({"tile_config": {"model_type": "dinov2", "hiden_size": 3}}, "did you mean 'hidden_size'"),
        ({"whole_config": 3}, "whole_config is 3"),
        ({"language_config": {"model_type": "nothing"}}, "not a model type"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        preset("tiny", **changes)


def test_an_unknown_preset_is_named() -> None:
    with pytest.raises(ConfigError, match="unknown preset 'large'; choose one of ferret-v2-7b, tiny"):
        preset("large")
