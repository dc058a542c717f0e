"""The recorded encoder against the encoder itself: padded to a bucket and to a length, and masked."""

import copy

import pytest
import torch

from dynrefer.model.networks.dynrefer.language import LanguageDecoder
from dynrefer.model.networks.generation.encoded_prompt import EncodedPrompt, encode_prompt
from dynrefer.model.networks.generation.prompt_encoder import PromptEncoder
from dynrefer.model.networks.kernels.graphs import NoGraphs
from tests.model.networks.generation.conftest import Prompt
from tests.model.networks.generation.recorded_graph import RecordedGraphs


@pytest.fixture(scope="module")
def exact(language: LanguageDecoder) -> LanguageDecoder:
    """In double precision: padding changes no more than the last digits."""
    return copy.deepcopy(language).double()


def assert_same(found: EncodedPrompt, expected: EncodedPrompt) -> None:
    """Of the expected one's tokens; what follows them is masked."""
    length = expected.bias.shape[-1]
    assert torch.equal(found.bias[..., :length], expected.bias)
    assert bool((found.bias[..., length:] == float("-inf")).all())
    assert torch.allclose(found.cross[..., :length, :], expected.cross, atol=1e-9)
    assert bool(found.cross.isfinite().all())


def test_recorded_prompts_are_those_of_the_encoder(exact: LanguageDecoder, prompt: Prompt) -> None:
    graphs = RecordedGraphs()
    encoder = PromptEncoder(exact.model, buckets=[1, 2, 4, 6], length=16, graphs=graphs)
    encoder.capture()
    embeddings, mask = exact.prompt(*prompt)
    made = []
    for start, stop, length in ((0, 1, 9), (1, 4, 7), (4, 9, 9), (2, 4, 8)):
        part = embeddings[start:stop, :length], mask[start:stop, :length]
        made.append((encoder(*part), encode_prompt(exact.model, *part)))
    for found, expected in made:  # the later ones took nothing from the earlier ones' memory
        assert_same(found, expected)
    assert graphs.replays == [f"prompts of {rows} regions" for rows in (1, 4, 6, 2)]


def test_more_or_longer_prompts_are_not_padded(exact: LanguageDecoder, prompt: Prompt) -> None:
    graphs = RecordedGraphs()
    embeddings, mask = exact.prompt(*prompt)
    for buckets, length in (([4], 16), ([16], 8)):
        encoder = PromptEncoder(exact.model, buckets=buckets, length=length, graphs=graphs)
        encoder.capture()
        found, expected = encoder(embeddings, mask), encode_prompt(exact.model, embeddings, mask)
        assert torch.equal(found.cross, expected.cross) and torch.equal(found.bias, expected.bias)
    assert not graphs.replays


def test_without_a_recording_nothing_is_padded(exact: LanguageDecoder, prompt: Prompt) -> None:
    encoder = PromptEncoder(exact.model, buckets=[16], length=16, graphs=NoGraphs())
    encoder.capture()
    embeddings, mask = exact.prompt(*prompt)
    found, expected = encoder(embeddings, mask), encode_prompt(exact.model, embeddings, mask)
    assert found.cross.shape == expected.cross.shape and torch.equal(found.cross, expected.cross)


def test_a_stream_waits_for_the_prompts_before(
    exact: LanguageDecoder, prompt: Prompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may be those of another stream, and a recording has one memory."""
    encoder = PromptEncoder(exact.model, buckets=[16], length=16, graphs=RecordedGraphs())
    encoder.capture()
    embeddings, mask = exact.prompt(*prompt)
    waited: list[object] = []
    marks = iter(["first", "second"])
    monkeypatch.setattr(EncodedPrompt, "wait", lambda self: waited.append(self.ready))
    monkeypatch.setattr(EncodedPrompt, "marked", lambda self: EncodedPrompt(self.cross, self.bias, next(marks)))  # type: ignore[arg-type]
    assert [encoder(embeddings, mask).ready for _ in range(2)] == ["first", "second"]
    assert waited == [None, "first"]
