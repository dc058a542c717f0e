"""checkpoint_keys.json, tiny_config.json and medium_config.json: names, shapes and sizes of official models."""

from math import prod
from typing import Any

import pytest

from dynrefer.model.convert.names import Dropped, translate
from dynrefer.model.convert.plan import ConversionPlan, network_shapes, plan_conversion
from dynrefer.model.convert.sizes import settings_of_sizes
from dynrefer.model.convert.weight_files import WeightFile, open_weights
from dynrefer.model.errors import ConversionError
from dynrefer.model.networks.dynrefer.config import PRESETS, preset
from tests.parity.conftest import Goldens

# Recomputed from the vocabulary; the state dict of the goldens leaves them out.
RECOMPUTED = {"clip_embeds", "att_embeds", "ov_embeds"}


@pytest.fixture(scope="module")
def keys(recorded: Goldens) -> dict[str, Any]:
    """checkpoint_keys.json."""
    return recorded.json("checkpoint_keys.json")  # type: ignore[no-any-return]


def file_of(recorded: Goldens, name: str, shapes: dict[str, list[int]]) -> WeightFile:
    """A file with these names and shapes, of which no tensor is ever read."""
    return WeightFile(recorded.folder / name, {key: tuple(shape) for key, shape in shapes.items()}, _unreadable)


def _unreadable(name: str) -> Any:
    raise AssertionError(f"{name} was read")


def accounted(plan: ConversionPlan, file: WeightFile) -> set[str]:
    """Names of the file that are used or named as dropped."""
    used = {source.key for sources in plan.sources.values() for source in sources if source.file is file}
    return used | {key for path, key in plan.dropped if path == str(file.path)}


def test_every_key_is_used_or_named_as_dropped(recorded: Goldens, keys: dict[str, Any]) -> None:
    file = file_of(recorded, "whole.pth", keys["all_state_dict_keys"])
    plan = plan_conversion([file], recorded.config)
    assert accounted(plan, file) == set(keys["all_state_dict_keys"])
    aliases = {f"t5_model.{side}.embed_tokens.weight" for side in ("encoder", "decoder")}
    dropped = {key for _, key in plan.dropped}
    assert RECOMPUTED | aliases <= dropped
    print(f"\nkeys: {len(file.shapes)} accounted for, {len(dropped)} of them dropped: {', '.join(sorted(dropped))}")


def test_state_dict_holds_what_the_list_says(recorded: Goldens, keys: dict[str, Any]) -> None:
    file = open_weights(recorded.state_file)
    listed = {key: tuple(shape) for key, shape in keys["all_state_dict_keys"].items()}
    assert {key: listed[key] for key in file.shapes} == file.shapes
    plan = plan_conversion([file], recorded.config)
    assert accounted(plan, file) == set(file.shapes)
    assert plan.shapes == network_shapes(recorded.config)


def test_released_checkpoint_and_the_rest(recorded: Goldens, keys: dict[str, Any]) -> None:
    """A released checkpoint on top of a base that holds everything else: the checkpoint's tensors are the ones used."""
    whole = keys["all_state_dict_keys"]
    assert set(keys["saved_by_runner"]).isdisjoint(keys["not_saved"])
    assert set(keys["saved_by_runner"]) | set(keys["not_saved"]) == set(whole)
    rest = file_of(recorded, "rest.pth", {key: whole[key] for key in keys["not_saved"]})
    released = file_of(recorded, "vg1.2_5e.pth", {key: whole[key] for key in keys["saved_by_runner"]})
    plan = plan_conversion([rest, released], recorded.config)
    assert accounted(plan, rest) == set(rest.shapes)
    assert accounted(plan, released) == set(released.shapes)
    again = plan_conversion([file_of(recorded, "whole.pth", whole), released], recorded.config)
    kept = {key for key in released.shapes if (str(released.path), key) not in again.dropped}
    replaced = {key for _, key in again.dropped if again.dropped[_, key] == "replaced by vg1.2_5e.pth"}
    assert replaced == kept


@pytest.mark.parametrize("lacking", ["saved_by_runner", "not_saved"])
def test_what_is_missing_is_named_with_its_file(recorded: Goldens, keys: dict[str, Any], lacking: str) -> None:
    there = set(keys["all_state_dict_keys"]) - set(keys[lacking])
    shapes = {key: shape for key, shape in keys["all_state_dict_keys"].items() if key in there}
    with pytest.raises(ConversionError) as caught:
        plan_conversion([file_of(recorded, "part.pth", shapes)], recorded.config)
    sentence = str(caught.value)
    named = {
        "saved_by_runner": ("tag decoder", "fusion", "vg1.2_5e.pth (--weights)"),
        "not_saved": (
            "vision tower",
            "language model",
            "text tower",
            "--base",
            "--text-tower",
            "eva_clip_psz14.pt",
        ),
    }
    assert all(part in sentence for part in named[lacking]), sentence


def test_tensors_are_where_their_shapes_fit(recorded: Goldens, keys: dict[str, Any]) -> None:
    """The sizes that are read from tiny_config.json are those of its weights, number for number."""
    shapes = network_shapes(recorded.config)
    placed = {
        key
        for key in keys["all_state_dict_keys"]
        if not isinstance(translate(key), Dropped) and not key.endswith("embed_tokens.weight")
    }
    official = sum(prod(keys["all_state_dict_keys"][key]) for key in placed)
    layers = recorded.config.vision_config.num_hidden_layers  # type: ignore[union-attr]
    key_biases = layers * recorded.config.vision_config.hidden_size  # type: ignore[union-attr]
    assert sum(prod(shape) for shape in shapes.values()) == official + key_biases


def test_medium_preset_has_the_recorded_sizes(recorded: Goldens) -> None:
    document = recorded.json("medium_config.json")
    expected, config = settings_of_sizes({"cfg": document["medium"]}), preset("medium")
    for key, value in expected.items():
        ours = getattr(config, key)
        if isinstance(value, dict):
            assert {name: getattr(ours, name) for name in value} == value, key
        else:
            assert ours == value, key
    generate = document["bench"]["generate"]
    assert {name: config.generation[name] for name in generate} == generate
    assert config.num_views == document["bench"]["num_views"]


def test_full_preset_generates_as_the_official_configuration(recorded: Goldens) -> None:
    run = recorded.generation["runs"]["C_official_yaml"]["settings"]
    ours = preset("flan-t5-xl").generation
    assert {name: run[name] for name in ours} == ours
    assert "generation" not in PRESETS["flan-t5-xl"]
