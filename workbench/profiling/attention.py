"""Every attention call of the network, by every kernel that the device has: does torch pick the fastest?

The network runs once on meta tensors while its calls of `scaled_dot_product_attention` are recorded; each is then timed
on random values in the same memory layout. The recognition decoders do not use that function and are not included.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.workbench.profiling.machine import heading, provenance, synchronize
from dynrefer.workbench.profiling.operation_counts import control_tokens
from dynrefer.workbench.profiling.workload import Workload, random_config, random_network

META = torch.device("meta")
PICKED, EAGER = "torch's choice", "eager"
KERNELS = {
    "math": SDPBackend.MATH,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}


@dataclass(frozen=True)
class Layout:
    """Shape, strides and dtype of a tensor."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    @staticmethod
    def of(value: Tensor) -> "Layout":
        """The layout of a tensor."""
        return Layout(tuple(value.shape), value.stride(), value.dtype)

    def random(self, device: torch.device) -> Tensor:
        """A tensor of this layout, uniform in [-1, 1]."""
        return torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device=device).uniform_(-1, 1)


@dataclass(frozen=True)
class Call:
    """One call: query, key, value, (batch, heads, tokens, width); an additive mask or None; the scale of the scores."""

    query: Layout
    key: Layout
    value: Layout
    mask: Layout | None
    scale: float | None


class _CallRecorder(TorchFunctionMode):
    """While entered, counts the calls by layout and scale."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[Call, int] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            mask = kwargs.get("attn_mask")
            query, key, value = (Layout.of(each) for each in args[:3])
            call = Call(query, key, value, None if mask is None else Layout.of(mask), kwargs.get("scale"))
            self.calls[call] = self.calls.get(call, 0) + 1
        return func(*args, **kwargs)


@torch.inference_mode()
def attention_calls(network: DynReferModel, work: Workload, regions: int) -> dict[str, dict[Call, int]]:
    """Part -> call -> its count in a batch; for captions only those of the last token. network: on the meta device."""
    config, language = network.config, network.language
    size, views = config.view_size, config.num_views
    found = {}
    with _CallRecorder() as recorder:
        features = network.encode(torch.empty(regions * views, 3, size, size, dtype=torch.uint8, device=META))
    found["vision"] = recorder.calls
    with _CallRecorder() as recorder:
        region = network.represent(features, torch.empty(regions, views, 4, device=META))
    found["Q-Former"] = recorder.calls
    ids = torch.empty(regions, control_tokens(network), dtype=torch.int64, device=META)
    path = torch.zeros(regions, work.beams, work.tokens, dtype=torch.int64, device=META)
    with _CallRecorder() as recorder:
        embeddings, mask = language.prompt(region, ids, torch.ones_like(ids))
        steps = language.steps(embeddings, mask, work.beams, work.tokens)
    found["language encoder"] = recorder.calls
    for step in range(work.tokens):
        with _CallRecorder() as recorder:
            steps.step(path[:, :, step], path[:, :, : step + 1])
    found["a caption's last token"] = recorder.calls
    return found


def measure_attention(
    preset: str, regions: int, dtype: torch.dtype, device: torch.device, repeats: int
) -> tuple[dict[str, Any], str]:
    """Median milliseconds per call, all kernels in turn. Returns the report and its table."""
    work = Workload()
    network = random_network(random_config(preset, work), META, dtype)
    rows = [
        {
            "dtype": str(call.query.dtype).removeprefix("torch."),
            "part": part,
            **_sizes(call),
            "calls": count,
            "ms": _milliseconds(call, device, repeats),
        }
        for part, calls in attention_calls(network, work, regions).items()
        for call, count in calls.items()
    ]
    report = {**provenance(device), "preset": preset, "regions": regions, "rows": rows}
    return report, _table(report)


def _sizes(call: Call) -> dict[str, int]:
    batch, heads, queries, width = call.query.shape
    return {"batch": batch, "heads": heads, "queries": queries, "keys": call.key.shape[2], "width": width}


@torch.inference_mode()
def _milliseconds(call: Call, device: torch.device, repeats: int) -> dict[str, float]:
    query, key, value = (each.random(device) for each in (call.query, call.key, call.value))
    mask = None if call.mask is None else call.mask.random(device)

    def attend() -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=call.scale)

    kernels: dict[str, Callable[[], Tensor]] = {PICKED: attend}
    kernels |= {name: _with_kernel(kernel, attend) for name, kernel in KERNELS.items()}
    kernels[EAGER] = lambda: _eager(query, key, value, mask, call.scale)
    times: dict[str, list[float]] = {name: [] for name in _supported(kernels)}
    for _ in range(repeats):
        for name, found in times.items():
            synchronize(device)
            started = time.perf_counter()
            kernels[name]()
            synchronize(device)
            found.append((time.perf_counter() - started) * 1e3)
    return {name: round(statistics.median(found), 3) for name, found in times.items()}


def _with_kernel(kernel: SDPBackend, attend: Callable[[], Tensor]) -> Callable[[], Tensor]:
    def only() -> Tensor:
        with sdpa_kernel(kernel):
            return attend()

    return only


def _supported(kernels: dict[str, Callable[[], Tensor]]) -> Iterator[str]:
    """The names of the kernels that can run this call on this device; each runs once, which warms it up."""
    for name, kernel in kernels.items():
        try:
            kernel()
        except RuntimeError:  # what torch raises for a kernel that does not support the call
            continue
        yield name


def _eager(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None) -> Tensor:
    """Two matrix products with a softmax between them, each rounded to the dtype."""
    scores = torch.matmul(query, key.transpose(2, 3)) * (1 / math.sqrt(query.shape[3]) if scale is None else scale)
    if mask is not None:
        scores = scores + mask
    return torch.matmul(scores.softmax(-1), value)


def _table(report: dict[str, Any]) -> str:
    rows = report["rows"]
    names = [name for name in (PICKED, *KERNELS, EAGER) if any(name in row["ms"] for row in rows)]
    lines = [f"{heading(report)}; {report['preset']}, {report['regions']} regions; ms per call", ""]
    lines += [f"| dtype | part | batch x heads | queries x keys x width | calls | {' | '.join(names)} |"]
    lines += ["|" + "---|" * (5 + len(names))]
    for row in rows:
        times = " | ".join(f"{row['ms'][name]:.3f}" if name in row["ms"] else "" for name in names)
        lines.append(
            f"| {row['dtype']} | {row['part']} | {row['batch']} x {row['heads']} "
            f"| {row['queries']} x {row['keys']} x {row['width']} | {row['calls']} | {times} |"
        )
    return "\n".join(lines)
