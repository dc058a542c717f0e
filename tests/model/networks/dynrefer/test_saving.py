"""`save_pretrained` and `from_pretrained`: shards, precision, placement; the full-size preset without its weights."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from dynrefer.model.networks.dynrefer.config import preset
from dynrefer.model.networks.dynrefer.model import DynReferModel
from tests.model.networks.conftest import TOWERS, perturbed, small_config, some_regions

BILLIONS = {"vision": 0.986, "qformer": 0.105, "language": 2.850, "text": 0.124}  # the official model's parts
TOTAL = 4.1


@pytest.mark.parametrize("tower", TOWERS)
@pytest.mark.parametrize("tied", [False, True])
def test_shards_give_the_same_model(tower: str, tied: bool, tmp_path: Path) -> None:
    network = perturbed(DynReferModel(small_config(tower, tie_language_head=tied)))
    network.save_pretrained(tmp_path, max_shard_size="200KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    again, report = DynReferModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[what] for what in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    ours, theirs = network.state_dict(), again.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    embedding = again.language.model.get_input_embeddings().weight
    assert (again.language.model.lm_head.weight is embedding) == tied
    images, boxes = some_regions(network.config, 1)
    assert torch.equal(network(images, boxes).representation, again.eval()(images, boxes).representation)


def test_bfloat16_leaves_the_q_former_and_two_numbers_in_float32(tmp_path: Path) -> None:
    DynReferModel(small_config()).save_pretrained(tmp_path)
    network = DynReferModel.from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    types = {name: parameter.dtype for name, parameter in network.named_parameters()}
    exact = {name for name, dtype in types.items() if dtype == torch.float32}
    kept = ("qformer.", "query_tokens", "region_text_temperature", "region_text_bias")
    assert exact == {name for name in types if name.startswith(kept)}
    assert network.image_mean.dtype == torch.float32
    images, boxes = some_regions(network.config, 2)
    with torch.no_grad():
        region = network.represent(network.encode(images.flatten(0, 1)), boxes)
        ids = torch.tensor([[3, 4, 1], [5, 1, 0]])
        found = network.language.generate(region, ids, (ids != 0).long(), max_new_tokens=4)
    assert region.dtype == torch.float32 and found.tokens.shape[0] == 2


def test_device_map(tmp_path: Path) -> None:
    network = perturbed(DynReferModel(small_config()))
    network.save_pretrained(tmp_path)
    again = DynReferModel.from_pretrained(tmp_path, device_map="cpu").eval()
    images, boxes = some_regions(network.config, 1)
    assert torch.equal(network(images, boxes).representation, again(images, boxes).representation)


def test_buffers_are_not_stored(tmp_path: Path) -> None:
    """The mean and deviation of the pixels are settings; a file of weights does not repeat them."""
    DynReferModel(small_config()).save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        assert not any("image_" in name for name in file.keys())  # noqa: SIM118 - not a dict
    config = small_config(image_mean=[0.1, 0.2, 0.3])
    network = DynReferModel(config)
    network.save_pretrained(tmp_path)
    assert torch.allclose(DynReferModel.from_pretrained(tmp_path).image_mean, torch.tensor([0.1, 0.2, 0.3]))


def test_full_size_has_the_official_number_of_parameters() -> None:
    with torch.device("meta"):
        network = DynReferModel(preset("flan-t5-xl"))
    for part, billions in BILLIONS.items():
        found = sum(parameter.numel() for parameter in getattr(network, part).parameters()) / 1e9
        print(f"{part}: {found:.4f} billion, {billions} officially")
        assert found == pytest.approx(billions, rel=0.01), part
    total = sum(parameter.numel() for parameter in network.parameters()) / 1e9
    print(f"all: {total:.4f} billion")
    assert total == pytest.approx(TOTAL, rel=0.01)
