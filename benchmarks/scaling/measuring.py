"""`python -m benchmarks.scaling.measuring` measures what no other benchmark does of what the simulation needs, and
writes results/scaling_costs.json: image work of the official sizes by size of the image, a request's processor time in
the process that answers it, and what Ray adds to it.

Everything is processor time, so that other work on the machine moves it little. Needs the extra `ray`; about two
minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]
import ray
from PIL import Image

from benchmarks.attacks.served import Service
from benchmarks.large_images import sized
from benchmarks.offline import random_boxes
from benchmarks.preparing_service import PreparingPredictor
from benchmarks.scaling.traffic import WEB
from dynrefer.model import DynRefer, RegionDescription, RegionQuery, preparation
from dynrefer.model.images import decode_image
from dynrefer.model.networks.dynrefer.config import preset
from dynrefer.model.preparation import PreparationSpec, PreparedRegion
from dynrefer.service.scale.ray.cluster import ClusterSettings, cluster
from dynrefer.service.server.server import exit_process, listen, serve
from dynrefer.service.settings import load_settings
from dynrefer.workbench.profiling.machine import provenance

RESULT = Path(__file__).parents[1] / "results" / "scaling_costs.json"
PHOTOGRAPH = Path(__file__).parents[1] / "photographs" / "tourist.jpg"
ANSWERING_SERVICE = ("benchmarks.scaling.measuring", "--serve")
FEW, MANY = 1, 8  # regions of a request; the line through both is what a request and what a region costs
QUALITY = 85  # of the JPEG files
REPLICAS = (1, 5)  # of which the controller's load is measured
CONTROLLER_S = 15.0
AT_ONCE = 8  # calls under way


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
        return replace(self._example, box=region.box, plan=plan, plans=plans, timings_ms=dict(region.timings_ms))


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
                began = _cpu_s(process)
                for _ in range(requests if measured else 20):
                    answer = service.describe(file, boxes, None)
                    if answer.status != 200:
                        raise SystemExit(f"measuring: status {answer.status}: {answer.body[:200]!r}")
                found[count] = (_cpu_s(process) - began) / requests
            answer_bytes[count] = len(answer.body)
    region_s = (found[MANY] - found[FEW]) / (MANY - FEW)
    return {
        "requests": requests,
        "request_s": round(found[FEW] - region_s, 6),
        "region_s": round(region_s, 6),
        "answer_bytes_per_region": (answer_bytes[MANY] - answer_bytes[FEW]) // (MANY - FEW),
    }


def ray_calls(requests: int, view_bytes: int) -> dict[str, Any]:
    """CPU seconds of a call by handle, as an edge makes it (views are put once, then the call is made), of the caller
    and of the replica: per call, per region of so many bytes of views, and of a call without any, such as the question
    how a replica is."""
    from ray import serve as ray_serve

    @ray_serve.deployment(num_replicas=1, max_ongoing_requests=100, ray_actor_options={"num_cpus": 0})
    class Receiving:
        async def pid(self) -> int:
            return os.getpid()

        async def receive(self, views: list[Any]) -> int:
            return len(views)

    handle = ray_serve.run(Receiving.bind(), name="receiving", route_prefix=None)
    processes = psutil.Process(), psutil.Process(handle.pid.remote().result())

    async def calls(number: int, regions: int) -> None:
        views = [np.zeros(view_bytes, dtype=np.uint8) for _ in range(regions)]

        async def one_after_another() -> None:
            for _ in range(number // AT_ONCE):
                await (handle.receive.remote(ray.put(views)) if regions else handle.pid.remote())

        await asyncio.gather(*(one_after_another() for _ in range(AT_ONCE)))

    seconds: dict[int, list[float]] = {}
    for count in (0, FEW, MANY):
        asyncio.run(calls(4 * AT_ONCE, count))
        began = [_cpu_s(each) for each in processes]
        asyncio.run(calls(requests, count))
        seconds[count] = [(_cpu_s(each) - b) / requests for each, b in zip(processes, began, strict=True)]
    ray_serve.delete("receiving")
    found: dict[str, Any] = {"requests": requests, "view_bytes": view_bytes}
    for place, name in enumerate(("caller", "replica")):
        region_s = (seconds[MANY][place] - seconds[FEW][place]) / (MANY - FEW)
        found[f"{name}_call_s"] = round(seconds[FEW][place] - region_s, 6)
        found[f"{name}_region_s"] = round(region_s, 6)
        found[f"{name}_question_s"] = round(seconds[0][place], 6)
    return found


def _cpu_s(process: psutil.Process) -> float:
    return float(sum(process.cpu_times()[:2]))


def routing() -> list[dict[str, float]]:
    """CPU seconds in which an edge puts so many replicas in order, with four of its calls on each."""
    from dynrefer.service.scale.ray.board import Board, Sent

    rows = []
    for count in (10, 100, 1_000):
        board, names = Board(), [f"replica-{number}" for number in range(count)]
        board.update(names)
        board.calls = {f"call-{number}": Sent(4, names[number % count]) for number in range(4 * count)}
        rows.append({"replicas": count, "order_s": round(cpu_seconds(lambda b=board, n=names: b.order(n)), 7)})  # type: ignore[misc]
    return rows


def transfers(requests: int, view_bytes: int) -> dict[str, Any]:
    """CPU seconds of the raylets of two nodes on this machine for a call whose views lie in the object store of the
    one and whose actor runs on the other: per call and per region, of the sender and of the receiver. In a process of
    its own."""
    command = [sys.executable, "-m", "benchmarks.scaling.measuring", "--transfers", str(requests), str(view_bytes)]
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure_transfers(requests: int, view_bytes: int) -> None:
    """Print them."""
    from ray._private import utils
    from ray.cluster_utils import Cluster

    utils.write_ray_address = lambda *_: None  # type: ignore[assignment]  # the cluster is nobody else's
    scratch = tempfile.mkdtemp(prefix="r-", dir="/tmp")
    options = {"num_cpus": 1, "object_store_memory": 150_000_000}
    nodes = Cluster(True, head_node_args={**options, "include_dashboard": False, "temp_dir": scratch})
    nodes.add_node(**options, resources={"other": 1})
    ray.init(address=nodes.address, log_to_driver=False, configure_logging=False)

    @ray.remote(num_cpus=0, resources={"other": 0.1})
    class Receiving:
        def receive(self, views: list[Any]) -> int:
            return len(views)

    there = Receiving.remote()  # type: ignore[attr-defined]
    found: dict[str, Any] = {"requests": requests, "view_bytes": view_bytes}
    raylets = [each for each in psutil.process_iter(["cmdline"]) if _is_raylet(each, scratch)]
    seconds = {}
    for count in (FEW, MANY):
        views = [np.zeros(view_bytes, dtype=np.uint8) for _ in range(count)]
        for number in (2 * AT_ONCE, requests):
            began, under_way = [_cpu_s(each) for each in raylets], []
            for _ in range(number):
                under_way.append(there.receive.remote(ray.put(views)))
                if len(under_way) >= AT_ONCE:
                    ray.get(under_way.pop(0))
            ray.get(under_way)
        seconds[count] = [(_cpu_s(each) - b) / requests for each, b in zip(raylets, began, strict=True)]
    for place, name in enumerate(("sender", "receiver")):
        region_s = (seconds[MANY][place] - seconds[FEW][place]) / (MANY - FEW)
        found |= {f"{name}_call_s": round(seconds[FEW][place] - region_s, 6), f"{name}_region_s": round(region_s, 6)}
    ray.shutdown()
    nodes.shutdown()
    shutil.rmtree(scratch, ignore_errors=True)
    print(json.dumps(found))


def _is_raylet(process: psutil.Process, scratch: str) -> bool:
    line = process.info["cmdline"] or [""]
    return line[0].endswith("/raylet") and any(scratch in each for each in line)


def controller() -> dict[str, Any]:
    """Cores that Ray Serve's controller takes at rest, by number of idle replicas of a deployment that scales itself.

    replica_cores: what one more takes, or the least that could have been seen.
    """
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
        began, cpu = time.perf_counter(), _cpu_s(process)
        time.sleep(CONTROLLER_S)
        cores = (_cpu_s(process) - cpu) / (time.perf_counter() - began)
        rows.append({"replicas": count, "cores": round(cores, 4)})
        ray_serve.delete("idle")
    more = REPLICAS[1] - REPLICAS[0]
    replica = (rows[1]["cores"] - rows[0]["cores"]) / more
    # The system counts in hundredths of a second: less than one of them cannot be told from nothing.
    least = 0.01 / CONTROLLER_S / more
    return {"rows": rows, "replica_cores": round(max(replica, least), 5), "base_cores": rows[0]["cores"]}


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
    report["routing"] = routing()
    report["transfers"] = transfers(requests, view_bytes)
    with cluster(ClusterSettings(cpus=2, object_store_bytes=200_000_000)):
        report["ray"] = ray_calls(requests, view_bytes)
        report["controller"] = controller()
    return report


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling.measuring", description=__doc__)
    parser.add_argument("--requests", type=int, default=400, help="of each measurement [%(default)s]")
    parser.add_argument("--out", type=Path, default=RESULT, help="[benchmarks/results/scaling_costs.json]")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--transfers", nargs=2, type=int, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.serve:
        return serve_answers()
    if given.transfers:
        return measure_transfers(*given.transfers)
    if os.environ.get("OMP_NUM_THREADS") != "1":  # as in the worker processes; read once, when NumPy is loaded
        os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        os.execv(sys.executable, sys.orig_argv)
    report = measure(given.requests)
    given.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
