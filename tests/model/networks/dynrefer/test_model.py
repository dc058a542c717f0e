"""The assembled network: regions alone and together, precision, and what it refuses."""

import pytest
import torch

from dynrefer.model.errors import ConfigError
from dynrefer.model.networks.dynrefer.config import DynReferConfig, preset
from dynrefer.model.networks.dynrefer.model import DynReferModel
from tests.model.networks.conftest import TOWERS, perturbed, small_config, some_regions

ALONE = 1e-5  # largest difference of a region alone and in a batch


def test_region_alone_or_in_a_batch(network: DynReferModel) -> None:
    images, boxes = some_regions(network.config, 5)
    texts = torch.randn(7, network.config.text_config.projection_dim)
    together = network(images, boxes, texts, texts)
    for region in range(5):
        alone = network(images[region : region + 1], boxes[region : region + 1], texts, texts)
        for name in ("representation", "tag_logits", "region_text_logits"):
            whole, single = getattr(together, name)[region], getattr(alone, name)[0]
            assert torch.allclose(whole, single, atol=ALONE, rtol=ALONE), name


def test_shared_views_are_encoded_once(network: DynReferModel) -> None:
    """Regions of one image may share views: features are taken by index."""
    images, boxes = some_regions(network.config, 2)
    images[1, 0] = images[0, 0]
    distinct, index = torch.unique(images.flatten(0, 1), dim=0, return_inverse=True)
    assert len(distinct) == 2 * network.config.num_views - 1
    shared = network.represent(network.encode(distinct).take(index), boxes)
    assert torch.allclose(shared, network.represent(network.encode(images.flatten(0, 1)), boxes), atol=ALONE)


def test_only_requested_tasks_are_computed(network: DynReferModel) -> None:
    images, boxes = some_regions(network.config, 1)
    output = network(images, boxes)
    assert output.tag_logits is None and output.region_text_logits is None
    assert output.representation.shape == (1, network.config.num_queries, network.config.qformer_config.hidden_size)


def test_order_of_the_views_matters(network: DynReferModel) -> None:
    images, boxes = some_regions(network.config, 1)
    swapped = network(images[:, [0, 2, 1]], boxes[:, [0, 2, 1]]).representation
    assert not torch.allclose(network(images, boxes).representation, swapped, atol=1e-3)


@pytest.mark.parametrize("views", [1, 2, 4])
def test_other_numbers_of_views(views: int) -> None:
    network = perturbed(DynReferModel(small_config(num_views=views)))
    images, boxes = some_regions(network.config, 2)
    assert network(images, boxes).representation.isfinite().all()


@pytest.mark.parametrize("tower", TOWERS)
def test_bfloat16_is_near_float32(tower: str) -> None:
    """The Q-Former stays in float32, the rest is rounded."""
    network = perturbed(DynReferModel(small_config(tower)), scale=0.01)
    images, boxes = some_regions(network.config, 3)
    exact = network(images, boxes).representation
    for part in (network.vision, network.align, network.fusion):
        part.to(torch.bfloat16)
    rounded = network(images, boxes).representation
    assert rounded.dtype == torch.float32
    assert float((rounded - exact).norm() / exact.norm()) < 0.05


def test_unknown_keys_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="num_vews.*num_views"):
        preset("medium", num_vews=3)
    with pytest.raises(ConfigError, match="hiden_size.*vision_config.*hidden_size"):
        small_config(vision_config={**TOWERS["vit"], "hiden_size": 3})
    with pytest.raises(ConfigError, match="generation"):
        small_config(generation={"beams": 3})


def test_contradicting_widths_are_refused() -> None:
    with pytest.raises(ConfigError, match="encoder_hidden_size"):
        small_config(qformer_config={"encoder_hidden_size": 47})


def test_other_language_models_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="gpt2"):
        DynReferModel(small_config(language_config={"model_type": "gpt2"}))


def test_fresh_weights() -> None:
    """Zero offsets, zero control vector, the contrastive loss's start; nothing left to chance or empty memory."""
    network = DynReferModel(small_config())
    assert not network.align.offset_mask.weight.any() and not network.language.control_memory.any()
    assert network.region_text_bias.item() == -10.0
    assert network.query_tokens.std() > 0.01
    assert all(parameter.isfinite().all() for parameter in network.parameters())


def test_config_survives_a_round_trip() -> None:
    config = small_config(thresholds={"tags": 0.5}, calibration={"tags": {"scale": 2.0, "bias": 0.1}})
    again = DynReferConfig.from_dict(config.to_dict())
    assert again.to_dict() == config.to_dict()


@pytest.mark.parametrize("together", [1, 2, 4, 100])
def test_views_encoded_in_parts(together: int, network: DynReferModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few at a time, whatever does not fill the last part; each view in its place."""
    images = some_regions(network.config, 3)[0].flatten(0, 1)
    monkeypatch.setattr(
        "dynrefer.model.networks.kernels.blocking.VIEW_PIXELS_CPU", together * network.config.view_size**2
    )
    whole, parts = network.encode(images), network.encode_in_parts(images)
    assert torch.allclose(parts.map, whole.map, atol=ALONE)
    assert (parts.cls is None) == (whole.cls is None)
    if parts.cls is not None and whole.cls is not None:
        assert torch.allclose(parts.cls, whole.cls, atol=ALONE)
