"""What the steps of a request cost, read from files that benchmarks wrote; nothing here is a figure of its own but
prices and network cards, which are arguments.

The GPU's figures come from results/gpu-<card>.json: its part "curve", where it has one (regions per second with so many
in flight), else the rates of whole batches of its part "speed". All else is from results/scaling_costs.json.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.scaling.replicas import Curve, DeviceCosts
from benchmarks.scaling.traffic import WEB, Mix

RESULTS = Path(__file__).parents[1] / "results"
COSTS = RESULTS / "scaling_costs.json"
MOST_IN_FLIGHT = 64  # what the model's slots hold (docs/performance.md)


class MissingFigures(Exception):
    """A file of results, or a figure in one, that is not there; says which and what makes it."""


@dataclass(frozen=True)
class ImageCosts:
    """Processor seconds of an image's work, and its bytes."""

    megapixels: float
    bytes: int
    decode_s: float
    views_s: float
    region_s: float

    def seconds(self, regions: int) -> float:
        """Decoding, and the views of so many regions."""
        return self.decode_s + self.views_s + regions * self.region_s


@dataclass(frozen=True)
class CallCosts:
    """Seconds of one core: of a call, of a region that goes with it, of asking a replica how it is."""

    call_s: float = 0.0
    region_s: float = 0.0
    question_s: float = 0.0

    def seconds(self, regions: float) -> float:
        """A call with so many regions."""
        return self.call_s + regions * self.region_s


@dataclass(frozen=True)
class Costs:
    """images: in the order of the mix's sizes. request_s, answered_region_s: of the edge's process, for HTTP, checks
    and JSON, before and after the work. edge, replica: of their processes, for calls. sender, receiver: of the raylets,
    where edge and replica are on two machines. order_s: by number of replicas, of a choice among them. controller_s,
    controller_replica_s: cores that Ray Serve's controller takes, without and for each replica."""

    mix: Mix
    images: tuple[ImageCosts, ...]
    device: DeviceCosts
    request_s: float
    answered_region_s: float
    edge: CallCosts
    replica: CallCosts
    sender: CallCosts
    receiver: CallCosts
    order_s: Curve
    controller_s: float
    controller_replica_s: float
    view_bytes: int
    answer_bytes: int

    @property
    def image_s(self) -> float:
        """Mean seconds of image work per region."""
        per_request = sum(
            size.share * image.seconds(1) + size.share * image.region_s * (self.mix.regions - 1)
            for size, image in zip(self.mix.sizes, self.images, strict=True)
        )
        return per_request / self.mix.regions

    @property
    def request_bytes(self) -> float:
        """Mean bytes of a request's image."""
        return sum(size.share * image.bytes for size, image in zip(self.mix.sizes, self.images, strict=True))

    def loop_s(self, replicas: int) -> float:
        """Mean seconds of the edge's process per region."""
        call = self.request_s + self.edge.call_s + self.order_s(replicas)
        return call / self.mix.regions + self.answered_region_s + self.edge.region_s


def load(device: DeviceCosts, mix: Mix = WEB, path: Path = COSTS) -> Costs:
    """From the file that `benchmarks.scaling.measuring` wrote. Raises MissingFigures."""
    found = _read(path, "python -m benchmarks.scaling.measuring")
    images = {row["megapixels"]: ImageCosts(**row) for row in found["image_work"]}
    missing = [size.megapixels for size in mix.sizes if size.megapixels not in images]
    if missing:
        raise MissingFigures(f"{path.name} has no image work for {missing} megapixels; it has {sorted(images)}.")
    ray, transfers = found["ray"], found["transfers"]

    def calls(of: Mapping[str, Any], name: str) -> CallCosts:
        return CallCosts(*(max(0.0, of.get(f"{name}_{kind}_s", 0.0)) for kind in ("call", "region", "question")))

    return Costs(
        mix=mix,
        images=tuple(images[size.megapixels] for size in mix.sizes),
        device=device,
        request_s=found["edge"]["request_s"],
        answered_region_s=found["edge"]["region_s"],
        edge=calls(ray, "caller"),
        replica=calls(ray, "replica"),
        sender=calls(transfers, "sender"),
        receiver=calls(transfers, "receiver"),
        order_s=Curve.of({row["replicas"]: row["order_s"] for row in found["routing"]}, proportional=True),
        controller_s=found["controller"]["base_cores"],
        controller_replica_s=found["controller"]["replica_cores"],
        view_bytes=ray["view_bytes"],
        answer_bytes=found["edge"]["answer_bytes_per_region"],
    )


def gpu_files() -> dict[str, Path]:
    """The measured cards, by name: "h200" for gpu-nvidia-h200.json."""
    paths = sorted(RESULTS.glob("gpu-*.json"))
    return {path.stem.removeprefix("gpu-").removeprefix("nvidia-").split("-")[0]: path for path in paths}


def gpu(name: str, tasks: str = "all") -> DeviceCosts:
    """A card's rates. tasks: "all" four outputs, or "tags". Raises MissingFigures."""
    files = gpu_files()
    if name not in files:
        known = ", ".join(files) or "none"
        raise MissingFigures(f"no card {name!r} was measured; there are {known} (make gpu-check measures one).")
    found = _read(files[name], "make gpu-check")
    rates = _in_flight(found["figures"], tasks) or _of_batches(found["figures"], tasks)
    if not rates:
        raise MissingFigures(f"{files[name].name} has no rates for {tasks!r}; make gpu-check measures them.")
    return DeviceCosts(found["device"], MOST_IN_FLIGHT, rate=Curve.of(rates))


def gpu_source(name: str, tasks: str = "all") -> str:
    """Where `gpu` finds its rates, in words."""
    found = _read(gpu_files()[name], "make gpu-check")
    if _in_flight(found["figures"], tasks):
        return "regions per second with so many in flight, joining and leaving at any time"
    return "whole batches, one after another: rates of regions in flight were not measured"


def _in_flight(figures: list[dict[str, Any]], tasks: str) -> dict[int, float]:
    rates = {
        int(each["detail"]["in_flight"]): float(each["value"])
        for each in figures
        if each["part"] == "curve" and each["name"].startswith("continuous") and each["detail"]["tasks"] == tasks
    }
    return dict(sorted(rates.items()))


def _of_batches(figures: list[dict[str, Any]], tasks: str) -> dict[int, float]:
    rates = {}
    for each in figures:
        regions, _, rest = each["name"].partition(" region")
        if each["part"] == "speed" and regions.isdigit() and rest.removeprefix("s") == f", {tasks}":
            rates[int(regions)] = float(each["value"])
    return dict(sorted(rates.items()))


def _read(path: Path, command: str) -> dict[str, Any]:
    if not path.is_file():
        raise MissingFigures(f"{path.name} is missing; {command} makes it.")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
