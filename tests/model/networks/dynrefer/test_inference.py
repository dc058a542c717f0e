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

from dynrefer.model.networks.dynrefer.inference import PROMPTS, REGIONS, VIEWS, Inference
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
def recorded(network: DynReferModel) -> tuple[Inference, RecordedGraphs, RecordedGraphs]:
    beside, main, inference = RecordedGraphs(), RecordedGraphs(), inference_of(network)
    inference.capture(beside, main)
    return inference, beside, main


Recorded = tuple[Inference, RecordedGraphs, RecordedGraphs]


def prompts(network: DynReferModel, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    generator, config = torch.Generator().manual_seed(rows), network.config
    region = torch.randn(rows, config.num_queries, config.qformer_config.hidden_size, generator=generator)
    ids = torch.randint(2, 90, (rows, 16), generator=generator)
    mask = (torch.arange(16) < torch.randint(1, 17, (rows, 1), generator=generator)).long()
    return region, ids * mask, mask


def test_every_part_is_recorded_in_every_bucket(recorded: Recorded) -> None:
    _, beside, main = recorded
    parts = {"vision tower": VIEWS, "region representation": REGIONS, "tag scores": REGIONS}
    parts |= {"attribute scores": REGIONS, "category scores": REGIONS}
    assert set(beside.operations) == {f"{name} of {rows} rows" for name, buckets in parts.items() for rows in buckets}
    assert set(main.operations) == {f"prompt encoder of {rows} rows" for rows in PROMPTS}


@pytest.mark.parametrize("views, bucket", [(1, 1), (4, 6), (12, 12), (25, None)])
def test_views_are_encoded_as_unrecorded(
    views: int, bucket: int | None, network: DynReferModel, recorded: Recorded
) -> None:
    inference, beside, _ = recorded
    images = some_regions(network.config, 9)[0].flatten(0, 1)[:views]
    found, expected = inference.encode(images), inference_of(network).encode(images)
    torch.testing.assert_close(found.map, expected.map, **CLOSE)
    assert (found.cls is None) == (expected.cls is None)
    if found.cls is not None:
        torch.testing.assert_close(found.cls, expected.cls, **CLOSE)
    assert beside.replays == ([] if bucket is None else [f"vision tower of {bucket} rows"])


@pytest.mark.parametrize("regions, bucket", [(1, 1), (3, 4), (9, None)])
def test_regions_are_represented_and_scored_as_unrecorded(
    regions: int, bucket: int | None, network: DynReferModel, recorded: Recorded
) -> None:
    inference, beside, _ = recorded
    images, boxes = some_regions(network.config, regions)
    with torch.inference_mode():
        features = network.encode(images.flatten(0, 1))
    plain = inference_of(network)
    found, expected = inference.represent(features, boxes), plain.represent(features, boxes)
    torch.testing.assert_close(found, expected, **CLOSE)
    for score in ("score_tags", "score_attributes", "score_categories"):
        torch.testing.assert_close(getattr(inference, score)(found), getattr(plain, score)(found), **CLOSE)
    names = ("region representation", "tag scores", "attribute scores", "category scores")
    assert beside.replays == ([] if bucket is None else [f"{name} of {bucket} rows" for name in names])


@pytest.mark.parametrize("rows, bucket", [(1, 1), (3, 4), (8, 8), (9, None)])
def test_prompts_decode_as_unrecorded(
    rows: int, bucket: int | None, network: DynReferModel, recorded: Recorded
) -> None:
    inference, _, main = recorded
    given = prompts(network, rows)
    slots = network.language.open_slots(rows, NoGraphs())
    captions = []
    for prompt in (inference.encode_prompt(*given), network.language.encode_prompt(*given)):
        slots.insert(prompt)
        for _ in range(slots.settings.max_new_tokens):
            slots.step()
        found = slots.finished(wait=True)
        slots.clear()
        captions.append(sorted(found, key=lambda each: each.handle))
    assert len(captions[0]) == len(captions[1]) == rows
    for ours, theirs in zip(*captions, strict=True):
        assert torch.equal(ours.tokens, theirs.tokens)
        torch.testing.assert_close(ours.score, theirs.score, atol=1e-4, rtol=1e-4)
    assert main.replays == ([] if bucket is None else [f"prompt encoder of {bucket} rows"])


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
        ids = torch.empty(2, 16, dtype=torch.int64, device=META)
        prompt = inference.encode_prompt(region, ids, torch.ones_like(ids))
    assert region.dtype == torch.float32 and {each.device for each in (*scores, prompt.cross)} == {META}
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

    inference.capture(Watched(), Watched())
    assert len(names) == len(VIEWS) + 4 * len(REGIONS) + len(PROMPTS)


@pytest.mark.parametrize("read", [lambda: torch.zeros(3).to(META), lambda: torch.tensor([1, 2], device=META)])
def test_a_copy_from_the_host_is_refused(read: Callable[[], Tensor]) -> None:
    """Or the tests above could not fail."""
    with pytest.raises(AssertionError, match="host's memory"), nothing_from_the_host():
        read()
