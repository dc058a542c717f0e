"""The path of a batch through a device that is not the CPU, on torch's device without data: the paths that a GPU takes,
and no operation between a tensor there and one that was made on the CPU by mistake."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dynrefer.model.loading import DECODING_ROWS, open_slots
from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.model.networks.generation import beam_search
from dynrefer.model.networks.generation.beam_search import SearchSettings, SpecialTokens
from dynrefer.model.networks.generation.decoding_state import DecodingState
from dynrefer.model.networks.generation.prompt_encoder import PromptEncoder
from dynrefer.model.networks.generation.static_step import StaticStep
from dynrefer.model.networks.generation.t5_stepper import T5Steps
from dynrefer.model.networks.kernels.graphs import NoGraphs
from dynrefer.workbench.profiling.workload import Workload, random_config, random_network

META, REGIONS, WORK = torch.device("meta"), 3, Workload()


class NoMixture(TorchDispatchMode):
    """Refuses what a GPU refuses: torch's device without data lets products and indices of the CPU pass."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        kinds = {each.device.type for each in tensors if each.ndim}
        assert len(kinds) < 2, f"{func} of tensors on different devices"
        return func(*args, **(kwargs or {}))


class NothingFromTheHost(TorchDispatchMode):
    """Refuses what CUDA graphs refuse: a tensor of the CPU, be it a single number, whose copy the host waits for."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, found)) if isinstance(leaf, torch.Tensor)]
        assert {each.device for each in tensors} == {META}, f"{func} with a tensor of the host"
        return found


@pytest.fixture(autouse=True)
def _watched() -> Iterator[None]:
    with NoMixture():
        yield


@pytest.fixture(scope="module", params=["embedded", "medium"])
def network(request: pytest.FixtureRequest) -> DynReferModel:
    """A tower without a class token, and one with."""
    return random_network(random_config(request.param, WORK), META, torch.bfloat16)


def test_no_tensor_of_a_batch_is_made_elsewhere(network: DynReferModel) -> None:
    size, views = network.config.view_size, network.config.num_views
    images = torch.empty(REGIONS * views, 3, size, size, dtype=torch.uint8, device=META)
    with torch.inference_mode():
        features = network.encode_in_parts(images)
        region = network.represent_in_parts(features, torch.empty(REGIONS, views, 4, device=META))
        logits = []
        for decoder in (network.tag_decoder, network.region_text_decoder):
            texts = decoder.prepare(torch.empty(WORK.categories, decoder.text_projection.in_features, device=META))
            logits.append(decoder.score(region, texts))
    assert features.map.device == region.device == META
    assert region.dtype == torch.float32
    assert [each.shape for each in logits] == [(REGIONS, WORK.categories)] * 2
    assert {each.device for each in logits} == {META}


def test_no_tensor_of_a_step_of_the_search_is_made_elsewhere(network: DynReferModel) -> None:
    language, settings, special = network.language, SearchSettings(2, 4, 2, 1.0, 1.5), SpecialTokens(0, 0, 1)
    region = torch.empty(REGIONS, network.config.num_queries, network.config.qformer_config.hidden_size, device=META)
    ids = torch.empty(REGIONS, 6, dtype=torch.int64, device=META)
    with torch.inference_mode():
        embeddings, mask = language.prompt(region, ids, torch.ones_like(ids))
        steps = T5Steps(language.model, embeddings, mask, settings.num_beams, settings.max_new_tokens)
        beams = beam_search.start(REGIONS, settings, special, META)
        for step in range(settings.max_new_tokens):
            beam_search._advance(beams, steps, step, settings, special, last=step == 3)
    assert {value.device for value in vars(beams).values()} == {META}
    assert beams.tokens.shape == (REGIONS, 2, settings.max_new_tokens + 1)


@pytest.mark.parametrize("settings", [SearchSettings(2, 4, 2, 1.0, 1.5), SearchSettings(1, 4, 2, 1.0, 1.5)])
def test_no_tensor_of_a_step_in_slots_is_made_elsewhere(network: DynReferModel, settings: SearchSettings) -> None:
    """Nor does the host read one, which this device refuses too: there is nothing to read."""
    language, special = network.language, SpecialTokens(0, 0, 1)
    region = torch.empty(REGIONS, network.config.num_queries, network.config.qformer_config.hidden_size, device=META)
    ids = torch.empty(REGIONS, 6, dtype=torch.int64, device=META)
    state = DecodingState.empty(language.model, 4, 64, settings, special)
    with torch.inference_mode():
        state.begin(1, language.encode_prompt(region, ids, torch.ones_like(ids)), special)
        state.invent()
        step = StaticStep(language.model, state, settings, special)
        encoder = PromptEncoder(language.model, buckets=[2], length=48, graphs=NoGraphs())
        with NothingFromTheHost():
            step(2)
            encoder._encode(2)
        state.move(torch.empty(1, dtype=torch.int64, device=META), torch.empty(1, dtype=torch.int64, device=META))
    assert {value.device for value in vars(state).values()} == {META}


def test_a_device_that_is_no_cpu_has_slots(network: DynReferModel) -> None:
    slots = open_slots(network, META, NoGraphs(), lambda: 1 << 40)
    assert slots is not None and slots.capacity == DECODING_ROWS
    assert slots.encoder_length >= network.config.num_queries + network.config.max_control_tokens
    assert open_slots(network, torch.device("cpu"), NoGraphs()) is None


def test_slots_take_a_quarter_of_the_free_memory_at_most(network: DynReferModel) -> None:
    free = 40 * network.language.bytes_per_slot
    slots = open_slots(network, META, NoGraphs(), lambda: free)
    assert slots is not None and slots.capacity == 8
    assert slots.nbytes == pytest.approx(8 * network.language.bytes_per_slot, rel=0.2)
    least = open_slots(network, META, NoGraphs(), lambda: 0)
    assert least is not None and least.capacity == 1


@pytest.mark.parametrize("mix", [lambda there: there @ torch.zeros(3, 3), lambda there: there[torch.tensor([0])]])
def test_a_tensor_of_the_cpu_is_refused(mix: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Or the tests above could not fail."""
    with pytest.raises(AssertionError, match="different devices"):
        mix(torch.empty(3, 3, device=META))


def test_a_number_of_the_host_is_refused() -> None:
    """Likewise."""
    with pytest.raises(AssertionError, match="tensor of the host"), NothingFromTheHost():
        torch.where(torch.empty(3, dtype=torch.bool, device=META), torch.empty(3, device=META), torch.tensor(1.0))
