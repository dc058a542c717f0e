"""Prompts that another stream of a GPU encodes, on stand-ins for streams and events."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from dynrefer.model.networks.dynrefer.language import LanguageDecoder
from dynrefer.model.networks.generation.encoded_prompt import EncodedPrompt
from tests.model.networks.generation.conftest import Prompt


class Device:
    """What happens on it, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.happened: list[object] = []
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: self)
        monkeypatch.setattr(Tensor, "record_stream", lambda tensor, stream: self.happened.append(tensor.shape))

    def wait_event(self, event: object) -> None:
        self.happened.append(event)


def test_insertion_waits_on_the_device_and_keeps_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch)
    prompt = EncodedPrompt(torch.zeros(2, 2, 3, 4, 5, 8), torch.zeros(3, 1, 1, 5), "ready")  # type: ignore[arg-type]
    prompt[1:].wait()
    assert device.happened == ["ready", (2, 2, 2, 4, 5, 8), (2, 1, 1, 5)]


def test_a_mark_lies_behind_the_work_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    class Event:
        recorded = False

        def record(self) -> None:
            self.recorded = True

    monkeypatch.setattr(torch.cuda, "Event", Event)
    on_gpu = SimpleNamespace(device=torch.device("cuda"))
    ready = EncodedPrompt(on_gpu, on_gpu).marked().ready  # type: ignore[arg-type]
    assert isinstance(ready, Event) and ready.recorded


def test_a_cpu_has_nothing_to_wait_for(
    monkeypatch: pytest.MonkeyPatch, language: LanguageDecoder, prompt: Prompt
) -> None:
    device, encoded = Device(monkeypatch), language.encode_prompt(*prompt)
    encoded.marked().wait()
    assert encoded.ready is None and not device.happened


def test_encoded_once_with_all_its_parts(language: LanguageDecoder, prompt: Prompt) -> None:
    """Layers, keys and values, regions, heads, tokens, channels."""
    encoded = language.encode_prompt(*prompt)
    assert encoded.cross.shape == (2, 2, 9, 4, 9, 8) and encoded.bias.shape == (9, 1, 1, 9) and len(encoded) == 9
    assert torch.equal(encoded.bias[:, 0, 0, 4:] == 0, prompt[2].bool())
    assert len(encoded[2:5]) == 3 and torch.equal(encoded[2:5].cross, encoded.cross[:, :, 2:5])
