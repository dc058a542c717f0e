"""The choice among torch's fused attentions; on a CPU one more of them is at hand, and others are not."""

from collections.abc import Callable, Sequence
from functools import partial

import pytest
import torch
from torch.nn.attention import SDPBackend

from dynrefer.model.networks.kernels import attention as kernels
from dynrefer.model.networks.kernels.attention import (
    AttentionInputs,
    by_backend,
    fastest_attention,
    seconds_on_gpu,
    torchs_choice,
)
from dynrefer.model.networks.kernels.graphs import Work

PLAIN, FOREIGN = SDPBackend.MATH, SDPBackend.CUDNN_ATTENTION


def inputs(dtype: torch.dtype = torch.float32) -> list[AttentionInputs]:
    """Two queries per region, with a mask for each region and one for each query."""
    torch.manual_seed(0)
    made = []
    for tokens, shape in ((24, (3, 1, 1, 24)), (8, (3, 4, 2, 8))):
        bias = torch.randn(shape).masked_fill(torch.arange(tokens) > 5, float("-inf"))
        query, keys, values = (torch.randn(3, 4, count, 16) for count in (2, tokens, tokens))
        made.append(AttentionInputs(*(each.to(dtype) for each in (query, keys, values, bias))))
    return made


def clock(*seconds: float) -> Callable[[Work], float]:
    """Runs the work, and says that it took so long: torch's own choice first."""
    times = iter(seconds)

    def measured(work: Work) -> float:
        work()
        return next(times)

    return measured


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_fastest_is_chosen(dtype: torch.dtype) -> None:
    chosen = fastest_attention(inputs(dtype), clock(1.0, 0.5), [PLAIN])
    assert isinstance(chosen, partial) and chosen.func is by_backend and chosen.args == (PLAIN,)
    for each in inputs(dtype):
        found = chosen(each.query, each.keys, each.values, each.bias)
        expected = torchs_choice(each.query, each.keys, each.values, each.bias)
        assert torch.allclose(found, expected, atol=4 * torch.finfo(dtype).eps * 4)


@pytest.mark.parametrize("seconds", [(1.0, 2.0), (1.0, 0.95)], ids=["slower", "by noise"])
def test_what_is_not_clearly_faster_is_not_chosen(seconds: Sequence[float]) -> None:
    assert fastest_attention(inputs(), clock(*seconds), [PLAIN]) is torchs_choice


def test_a_backend_that_does_not_take_the_inputs_is_passed_over(recwarn: pytest.WarningsRecorder) -> None:
    with pytest.raises(RuntimeError):
        each = inputs()[0]
        by_backend(FOREIGN, each.query, each.keys, each.values, each.bias)
    recwarn.clear()
    chosen = fastest_attention(inputs(), clock(1.0, 0.5), [FOREIGN, PLAIN])
    assert isinstance(chosen, partial) and chosen.args == (PLAIN,)
    assert not recwarn.list


def test_a_backend_that_computes_something_else_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "by_backend", lambda _, *given: 1.1 * torchs_choice(*given))
    assert fastest_attention(inputs(), clock(1.0, 0.5), [PLAIN]) is torchs_choice


def test_a_full_device_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(kernels, "by_backend", full)
    with pytest.raises(torch.OutOfMemoryError):
        fastest_attention(inputs(), clock(1.0, 0.5), [PLAIN])


def test_time_on_a_gpu_is_that_between_two_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of calls behind those that set things up, launched while the device sleeps."""
    calls: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            calls.append("event")

        def synchronize(self) -> None:
            calls.append("wait")

        def elapsed_time(self, other: "Event") -> float:
            return 60.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: calls.append("sleep"))
    assert seconds_on_gpu(lambda: calls.append("work")) == pytest.approx(0.002)
    assert calls == ["work"] * 3 + ["sleep", "event"] + ["work"] * 30 + ["event", "wait"]
