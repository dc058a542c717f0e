"""`python -m benchmarks.scaling.measuring` measures what no other benchmark does of what the simulation needs, and writes
results/scaling_costs.json: image work of the official sizes by size of the image, a request's processor time in the
process that answers it, and what Ray adds to it.

Everything is processor time, so that other work on the machine moves it little. Needs the extra `ray`; about two
minutes.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]
from PIL import Image

from benchmarks.attacks.served import Service
from benchmarks.large_images import sized
from benchmarks.offline import random_boxes
from benchmarks.preparing_service import PreparingPredictor
from benchmarks.scaling.traffic import WEB
from dynrefer.model import DynRefer, RegionDescription, RegionQuery, preparation
from dynrefer.model.images import decode_image
from dynrefer.model.preparation import PreparationSpec, PreparedRegion
from dynrefer.service.scale.ray.cluster import ClusterSettings, cluster
from dynrefer.service.server.server import exit_process, listen, serve
from dynrefer.service.settings import load_settings
from dynrefer.model.networks.dynrefer.config import preset
from dynrefer.workbench.profiling.machine import provenance

RESULT = Path(__file__).parents[1] / "results" / "scaling_costs.json"
PHOTOGRAPH = Path(__file__).parents[1] / "photographs" / "tourist.jpg"
ANSWERING_SERVICE = ("benchmarks.scaling.measuring", "--serve")
FEW, MANY = 1, 8  # regions of a request; the line through both is what a request and what a region costs
QUALITY = 85  # of the JPEG files
REPLICAS = (1, 5)  # of which the controller's load is measured
CONTROLLER_S = 15.0


def image_work() -> list[dict[str, float]]:
    """CPU seconds of decoding, and of searching and cutting the official sizes' views, by size of the image."""
    config = preset("flan-t5-xl")
    spec = PreparationSpec(config.num_views, config.view_size, {})
    picture = Image.open(PHOTOGRAPH)
    rows = []
    for megapixels in (each.megapixels for each in WEB.sizes):
        file = jpeg(picture, megapixels)
        image = decode_image(file, _bound(megapixels)).pixels
        decode_s = cpu_seconds(lambda file=file, m=megapixels: decode_image(file, _bound(m)))  # type: ignore[misc]
        one, many = (cpu_seconds(lambda n=n, i=image: _prepare(i, n, spec)) for n in (FEW, MANY))  # type: ignore[misc]
        region_s = (many - one) / (MANY - FEW)
        rows.append(
            {
                "megapixels": megapixels,
                "bytes": len(file),
                "decode_s": round(decode_s, 5),
                "views_s": round(max(0.0, one - region_s), 5),
                "region_s": round(region_s, 5),
            }
        )
    return rows


def jpeg(picture: Image.Image, megapixels: float) -> bytes:
    """The picture as a file of so many megapixels."""
    file = io.BytesIO()
    Image.fromarray(sized(picture, megapixels)).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def cpu_seconds(call: Callable[[], object], repeats: int = 5) -> float:
    """The median processor time of this process for a call, after a warm-up."""
    call()
    times = []
    for _ in range(repeats):
        began = time.process_time()
        call()
        times.append(time.process_time() - began)
    return float(np.median(times))


def _bound(megapixels: float) -> int:
    return int(megapixels * 1.1e6) + 10_000


def _prepare(image: Any, regions: int, spec: PreparationSpec) -> list[PreparedRegion]:
    height, width = image.shape[:2]
    scale = np.array([width, height, width, height])
    boxes = [tuple((np.array(box) * scale).tolist()) for box in random_boxes(regions, random.Random(regions))]
    return preparation.prepare(image, [RegionQuery(box) for box in boxes], spec)  # type: ignore[arg-type]


class AnsweringPredictor(PreparingPredictor):
    """Answers every region with one true answer, so that records and JSON have their real size."""

    def __init__(self, model: DynRefer, example: RegionDescription) -> None:
        super().__init__(model.card, model.preparation)
        self._example = example

    def finish(self, region: PreparedRegion, output: None) -> RegionDescription:
        """The example's words for the region's box and views."""
        plan = region.inputs[0].plan
        plans = dict.fromkeys(self._example.plans, plan)
        return replace(
            self._example, box=region.box, plan=plan, plans=plans, timings_ms=dict(region.timings_ms)
        )


def serve_answers() -> None:
    """A service around it, until a signal comes."""
    model = DynRefer.load("embedded", device="cpu")
    example = model.describe(str(PHOTOGRAPH), [(308, 190, 401, 258)])[0]
    settings = load_settings()
    with listen(settings.host, settings.port) as listener:
        code, sentence = serve(settings, listener, AnsweringPredictor(model, example))
    if sentence:
        print(sentence, file=sys.stderr)
    exit_process(code)


def edge(requests: int) -> dict[str, Any]:
    """CPU milliseconds of the answering process alone, without its image workers, per request and per region; and the
    bytes of an answer."""
    picture = Image.open(PHOTOGRAPH)
    file = jpeg(picture, WEB.sizes[0].megapixels)
    width, height = Image.open(io.BytesIO(file)).size
    found, answer_bytes = {}, {}
    with Service(ANSWERING_SERVICE, worker_processes=1) as service:
        process = psutil.Process(service.process.pid)
        for count in (FEW, MANY):
            boxes = [
                (x * width, y * height, u * width, v * height)
                for x, y, u, v in random_boxes(count, random.Random(count))
            ]
            for measured in (False, True):
                began = sum(process.cpu_times()[:2])
                for _ in range(requests if measured else 20):
                    answer = service.describe(file, boxes, None)
                    if answer.status != 200:
                        raise SystemExit(f"measuring: status {answer.status}: {answer.body[:200]!r}")
                found[count] = (sum(process.cpu_times()[:2]) - began) / requests
            answer_bytes[count] = len(answer.body)
    region_s = (found[MANY] - found[FEW]) / (MANY - FEW)
    return {
        "requests": requests,
        "request_s": round(found[FEW] - region_s, 6),
        "region_s": round(region_s, 6),
        "answer_bytes_per_region": (answer_bytes[MANY] - answer_bytes[FEW]) // (MANY - FEW),
    }


def ray_calls(requests: int, view_bytes: int) -> dict[str, Any]:
    """CPU seconds that a call of a handle costs the caller, per call and per region of so many bytes of views; and the
    same of the replica."""
    from ray import serve as ray_serve

    @ray_serve.deployment(num_replicas=1, max_ongoing_requests=100, ray_actor_options={"num_cpus": 0})
    class Receiving:
        def pid(self) -> int:
            import os

            return os.getpid()

        def receive(self, views: list[Any]) -> list[int]:
            return [int(each.sum() & 1) if each.size < 0 else each.size for each in views]

    handle = ray_serve.run(Receiving.bind(), name="receiving", route_prefix=None)
    replica = psutil.Process(handle.pid.remote().result())
    caller = psutil.Process()
    callers, replicas = {}, {}
    for count in (FEW, MANY):
        views = [np.zeros(view_bytes, dtype=np.uint8) for _ in range(count)]
        for measured in (False, True):
            began = [sum(each.cpu_times()[:2]) for each in (caller, replica)]
            for _ in range(requests if measured else 20):
                handle.receive.remote(views).result()
            ended = [sum(each.cpu_times()[:2]) for each in (caller, replica)]
            callers[count], replicas[count] = ((e - b) / requests for e, b in zip(ended, began, strict=True))
    ray_serve.delete("receiving")
    return {
        "requests": requests,
        "view_bytes": view_bytes,
        "caller_call_s": round(callers[FEW] - (callers[MANY] - callers[FEW]) / (MANY - FEW), 6),
        "caller_region_s": round((callers[MANY] - callers[FEW]) / (MANY - FEW), 6),
        "replica_call_s": round(replicas[FEW] - (replicas[MANY] - replicas[FEW]) / (MANY - FEW), 6),
        "replica_region_s": round((replicas[MANY] - replicas[FEW]) / (MANY - FEW), 6),
    }


def controller() -> dict[str, Any]:
    """Cores that Ray Serve's controller takes at rest, by number of idle replicas of a deployment that scales itself."""
    from ray import serve as ray_serve

    class Idle:
        def __call__(self) -> None:
            return None

    rows = []
    for count in REPLICAS:
        scaling = {"min_replicas": count, "max_replicas": count}
        deployment = ray_serve.deployment(Idle, autoscaling_config=scaling, ray_actor_options={"num_cpus": 0})
        ray_serve.run(deployment.bind(), name="idle", route_prefix=None)
        time.sleep(5)
        process = _controller_process()
        began, cpu = time.perf_counter(), sum(process.cpu_times()[:2])
        time.sleep(CONTROLLER_S)
        cores = (sum(process.cpu_times()[:2]) - cpu) / (time.perf_counter() - began)
        rows.append({"replicas": count, "cores": round(cores, 4)})
        ray_serve.delete("idle")
    replica = (rows[1]["cores"] - rows[0]["cores"]) / (REPLICAS[1] - REPLICAS[0])
    return {"rows": rows, "replica_cores": round(replica, 5), "base_cores": round(rows[0]["cores"] - replica, 4)}


def _controller_process() -> psutil.Process:
    """Ray renames the processes of its actors after their class."""
    for each in psutil.Process().children(recursive=True):
        if "ServeController" in " ".join(each.cmdline()):
            return each
    raise SystemExit("measuring: Ray Serve's controller was not found among the processes.")


def measure(requests: int) -> dict[str, Any]:
    """All of it."""
    config = preset("flan-t5-xl")
    view_bytes = config.num_views * 3 * config.view_size**2
    report = {**provenance(), "views": config.num_views, "view_size": config.view_size, "image_work": image_work()}
    report["edge"] = edge(requests)
    with cluster(ClusterSettings(cpus=2, object_store_bytes=200_000_000)):
        report["ray"] = ray_calls(requests, view_bytes)
        report["controller"] = controller()
    return report


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling.measuring", description=__doc__)
    parser.add_argument("--requests", type=int, default=200, help="of each measurement [%(default)s]")
    parser.add_argument("--out", type=Path, default=RESULT, help="[benchmarks/results/scaling_costs.json]")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.serve:
        return serve_answers()
    report = measure(given.requests)
    given.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
