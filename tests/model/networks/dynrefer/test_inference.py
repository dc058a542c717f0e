"""The network's parts as inference calls them: recorded as they are unrecorded, and only where they were recorded."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dynrefer.model.networks.dynrefer.inference import FORMER, REGIONS, VIEWS, Inference
from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.model.networks.kernels.graphs import NoGraphs
from dynrefer.model.vocabulary import TextEmbeddings
from dynrefer.workbench.profiling.workload import Workload, random_config, random_network
from tests.model.networks.conftest import some_regions
from tests.model.networks.generation.recorded_graph import RecordedGraphs

OWNER = (0, 0, 1, 2, 2, 2)
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def inference_of(network: DynReferModel) -> Inference:
    generator, width = torch.Generator().manual_seed(5), network.config.text_config.projection_dim
    like = network.tag_decoder.logit.weight
    texts = [torch.randn(count, width, generator=generator).to(like) for count in (7, len(OWNER), 5)]
    return Inference(network, TextEmbeddings(*texts), OWNER)


@pytest.fixture
def recorded(network: DynReferModel) -> tuple[Inference, RecordedGraphs]:
    graphs, inference = RecordedGraphs(), inference_of(network)
    inference.capture(graphs)
    return inference, graphs


Recorded = tuple[Inference, RecordedGraphs]


def test_every_part_is_recorded_in_every_bucket(recorded: Recorded) -> None:
    _, graphs = recorded
    parts = {"vision tower": VIEWS, "region representation": REGIONS, "tag scores": REGIONS}
    parts |= {"attribute scores": REGIONS, "category scores": REGIONS, "Q-Former": FORMER}
    assert set(graphs.operations) == {f"{name} of {rows} rows" for name, buckets in parts.items() for rows in buckets}


@pytest.mark.parametrize("views, bucket", [(1, 1), (4, 6), (12, 12), (25, None)])
def test_views_are_encoded_as_unrecorded(
    views: int, bucket: int | None, network: DynReferModel, recorded: Recorded
) -> None:
    inference, graphs = recorded
    images = some_regions(network.config, 9)[0].flatten(0, 1)[:views]
    found, expected = inference.encode(images), inference_of(network).encode(images)
    torch.testing.assert_close(found.map, expected.map, **CLOSE)
    assert (found.cls is None) == (expected.cls is None)
    if found.cls is not None:
        torch.testing.assert_close(found.cls, expected.cls, **CLOSE)
    assert graphs.replays == ([] if bucket is None else [f"vision tower of {bucket} rows"])


@pytest.mark.parametrize("regions, bucket", [(1, 1), (3, 4), (9, None)])
def test_regions_are_represented_and_scored_as_unrecorded(
    regions: int, bucket: int | None, network: DynReferModel, recorded: Recorded
) -> None:
    inference, graphs = recorded
    images, boxes = some_regions(network.config, regions)
    with torch.inference_mode():
        features = network.encode(images.flatten(0, 1))
    plain = inference_of(network)
    found, expected = inference.represent(features, boxes), plain.represent(features, boxes)
    torch.testing.assert_close(found, expected, **CLOSE)
    for score in ("score_tags", "score_attributes", "score_categories"):
        torch.testing.assert_close(getattr(inference, score)(found), getattr(plain, score)(found), **CLOSE)
    names = ("region representation", "tag scores", "attribute scores", "category scores")
    more = [f"Q-Former of {FORMER[0]} rows"]
    assert graphs.replays == (more if bucket is None else [f"{name} of {bucket} rows" for name in names])


def test_unrecorded_on_a_cpu_every_bit_is_the_networks(network: DynReferModel) -> None:
    inference = inference_of(network)
    for regions in (1, 3):
        images, boxes = some_regions(network.config, regions)
        images = images.flatten(0, 1)
        with torch.inference_mode():
            features = network.encode_in_parts(images)
            region = network.represent_in_parts(features, boxes)
            tags = network.tag_decoder.score(region, network.tag_decoder.prepare(inference._texts.tags))
        found = inference.encode(images)
        assert torch.equal(found.map, features.map) and found.map.stride() == features.map.stride()
        assert torch.equal(inference.represent(found, boxes), region)
        assert torch.equal(inference.score_tags(region), tags)


META = torch.device("meta")


class OnTheDevice(TorchDispatchMode):
    """Refuses operations on tensors of the host; reading from this device fails by itself."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        assert all(each.device == META for each in tensors), f"{func} reads the host's memory"
        return func(*args, **(kwargs or {}))


class NoNumbersOfPython(TorchFunctionMode):
    """Refuses tensors of Python's numbers, which dispatch no operation."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        assert func not in (torch.tensor, torch.as_tensor, torch.from_numpy, Tensor.new_tensor), (
            f"{func} reads the host's memory"
        )
        return func(*args, **(kwargs or {}))


@contextmanager
def nothing_from_the_host() -> Iterator[None]:
    """Refuses what a recording cannot hold."""
    with NoNumbersOfPython(), OnTheDevice():
        yield


@pytest.fixture(params=["embedded", "medium"])
def elsewhere(request: pytest.FixtureRequest) -> Iterator[DynReferModel]:
    """On a device that is not the CPU, in bfloat16: a tower without a class token, and one with."""
    yield random_network(random_config(request.param, Workload()), META, torch.bfloat16)


def test_no_part_reads_from_the_device_or_from_the_host(elsewhere: DynReferModel) -> None:
    inference, config = inference_of(elsewhere), elsewhere.config
    assert (
        inference.prepared.attribute_owner.device == META
    )  # its numbers come from the host, before anything is recorded
    views, size = config.num_views, config.view_size
    with nothing_from_the_host():
        features = inference.encode(torch.empty(2 * views, 3, size, size, dtype=torch.uint8, device=META))
        region = inference.represent(features, torch.empty(2, views, 4, device=META))
        scores = inference.score_tags(region), inference.score_attributes(region), inference.score_categories(region)
    assert region.dtype == torch.float32 and {each.device for each in scores} == {META}
    assert [each.shape for each in scores] == [(2, 7), (2, 3), (2, 5)]


def test_parts_on_another_device_are_captured_there(elsewhere: DynReferModel) -> None:
    inference, names = inference_of(elsewhere), list[str]()

    class Watched(NoGraphs):
        def capture(self, name: str, work: Any, state: Sequence[Tensor]) -> Any:
            assert all(each.device == META for each in state)
            with nothing_from_the_host():
                work()
            names.append(name)
            return work

    inference.capture(Watched())
    assert len(names) == len(VIEWS) + 4 * len(REGIONS) + len(FORMER)


@pytest.mark.parametrize("read", [lambda: torch.zeros(3).to(META), lambda: torch.tensor([1, 2], device=META)])
def test_a_copy_from_the_host_is_refused(read: Callable[[], Tensor]) -> None:
    """Or the tests above could not fail."""
    with pytest.raises(AssertionError, match="host's memory"), nothing_from_the_host():
        read()
