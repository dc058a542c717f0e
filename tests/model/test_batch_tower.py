"""The batch against the reference path with a transformer tower and its class token, in every dtype and device."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dynrefer.model.batch import RawOutputs, run_batch
from dynrefer.model.cache import FeatureCache
from dynrefer.model.loading import LoadedModel, for_device
from dynrefer.model.networks.kernels.batch_invariance import is_batch_invariant
from dynrefer.model.networks.kernels.onednn import OneDnnLinear, available, use_onednn
from dynrefer.model.preparation import RegionInput
from dynrefer.model.types import ALL_TASKS, Task
from dynrefer.workbench.profiling.workload import Workload, random_inputs, random_model
from tests.model.networks.conftest import perturbed, small_config
from tests.model.reference_batch import reference_batch

WORK = Workload(tags=12, prompts=12, attributes=3, categories=5, tokens=4)
ON_A_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
# Largest difference relative to the standard deviation of the logits: float32 in another order of operations, and
# bfloat16's 8-bit significand through two layers of everything.
CASES = [
    pytest.param(("cpu", torch.float32, 1e-5)),
    pytest.param(("cpu", torch.bfloat16, 0.1)),
    pytest.param(("cuda", torch.float32, 1e-4), marks=ON_A_GPU),
    pytest.param(("cuda", torch.bfloat16, 0.1), marks=ON_A_GPU),
]


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[LoadedModel, float]:
    device, dtype, tolerance = request.param
    torch.set_num_threads(1)
    options = {"num_beams": 2, "max_new_tokens": WORK.tokens, "min_length": WORK.tokens + 1}
    config = small_config("vit")
    config.generation |= options
    loaded = random_model(config, WORK, torch.device(device), dtype)
    perturbed(loaded.network)
    if available():
        use_onednn(loaded.network, "onednn")
    invariant = is_batch_invariant(loaded.network, WORK.categories)
    return for_device(replace(loaded, batch_invariant=invariant)), tolerance  # slots keep numbers made of the weights


def some_inputs(loaded: LoadedModel) -> list[RegionInput]:
    """Three regions that share no view, then one whose first two views are those of the first."""
    inputs = random_inputs(loaded.network.config, 3, ALL_TASKS)
    shared = replace(
        inputs[2].views,
        images=np.concatenate([inputs[0].views.images[:2], inputs[2].views.images[2:]]),
        digests=(*inputs[0].views.digests[:2], *inputs[2].views.digests[2:]),
    )
    return [*inputs, replace(inputs[2], views=shared)]


def logits(found: RawOutputs) -> np.ndarray:
    return np.concatenate([found[task] for task in (Task.TAGS, Task.ATTRIBUTES, Task.CATEGORIES)])


def test_in_a_batch_as_by_the_reference_path(case: tuple[LoadedModel, float]) -> None:
    loaded, tolerance = case
    inputs = some_inputs(loaded)
    reference = [reference_batch(loaded, [each])[0] for each in inputs]
    assert any(isinstance(module, OneDnnLinear) for module in loaded.network.modules()) == available()
    cache = FeatureCache(1 << 20)
    for order in ([0, 1, 2], [3, 0], [2], [1, 1, 3]):
        found = run_batch(loaded, [inputs[i] for i in order], cache).outputs
        for ours, theirs in zip(found, (reference[i] for i in order), strict=True):
            spread = logits(theirs).std()
            assert spread > 0 and np.abs(logits(ours) - logits(theirs)).max() <= tolerance * spread
            if loaded.dtype is torch.float32:
                assert ours[Task.CAPTION].tokens == theirs[Task.CAPTION].tokens
    assert cache.views.stats.hits and cache.regions.stats.hits


def test_the_same_alone_and_in_a_batch(case: tuple[LoadedModel, float]) -> None:
    loaded, _ = case
    inputs = some_inputs(loaded)
    alone = [run_batch(loaded, [each], FeatureCache(0)).outputs[0] for each in inputs]
    for order in ([0, 1], [3, 0, 2], [2, 1, 0, 3]):
        found = run_batch(loaded, [inputs[i] for i in order], FeatureCache(0)).outputs
        for ours, own in zip(found, (alone[i] for i in order), strict=True):
            if loaded.batch_invariant:
                assert np.array_equal(logits(ours), logits(own)) and ours[Task.CAPTION] == own[Task.CAPTION]
            else:
                exact = loaded.dtype is torch.float32 and loaded.device.type == "cpu"
                assert np.abs(logits(ours) - logits(own)).max() <= (1e-5 if exact else 0.05)
