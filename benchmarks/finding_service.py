"""`python -m benchmarks.finding_service`: finding over HTTP beside describing, with the embedded model served.

End to end: the regions of a drawing found and described in one request, relative to the sum of its parts, finding them
and describing these boxes; in the service's processor time, so that other load on the machine matters little. And
whether one kind of work starves the other: the median and the 90th percentile of one client's requests alone, and
beside four clients that ask for the other kind without a pause. Writes results/finding_service.json.
"""

from __future__ import annotations

import json
import statistics
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.vocabularies import processor_s
from dynrefer.workbench.profiling.machine import provenance
from tests.repository import ROOT
from tests.service.conftest import in_base64
from tests.service.server.test_process import Server, running

RESULT = Path(__file__).parent / "results" / "finding_service.json"
IMAGE = {"base64": in_base64((ROOT / "tests" / "recorded" / "images" / "scene_1.jpg").read_bytes())}
REGIONS = 10
ROUNDS = 12
TASK = ["caption", "tags", "attributes", "categories"]
FLOOD_CLIENTS = 4


def post(server: Server, path: str, document: dict[str, Any]) -> dict[str, Any]:
    """The answer. Raises where it is none."""
    status, answer = server.post(path, {"image": IMAGE, **document})
    if status != 200:
        raise RuntimeError(f"{path} answered {status}: {answer}")
    return answer


def processor_ms(server: Server, path: str, document: dict[str, Any]) -> float:
    """The service's processor time for one request, the median over rounds."""
    spent = []
    for _ in range(ROUNDS):
        before = processor_s(server)
        post(server, path, document)
        spent.append((processor_s(server) - before) * 1e3)
    return statistics.median(spent)


def end_to_end(server: Server) -> dict[str, Any]:
    """Processor milliseconds of the whole and of its parts."""
    find: dict[str, Any] = {"names": NAMES, "threshold": 0.02, "max_regions": REGIONS}
    boxes = [region["box"] for region in post(server, "/v1/detect", find)["regions"]]
    describe = {"regions": [{"box": box} for box in boxes], "task": TASK}
    whole = processor_ms(server, "/v1/detect", {**find, "describe": {"task": TASK}})
    parts = [processor_ms(server, "/v1/detect", find), processor_ms(server, "/v1/describe", describe)]
    return {
        "regions": len(boxes),
        "whole_ms": round(whole, 1),
        "find_ms": round(parts[0], 1),
        "describe_ms": round(parts[1], 1),
        "ratio": round(whole / sum(parts), 3),
    }


NAMES = ["animal", "vehicle", "food", "plant", "clothing", "furniture", "tool", "container", "toy", "building"]
DESCRIBE: tuple[str, dict[str, Any]] = (
    "/v1/describe",
    {"regions": [{"box": [20, 20, 90, 90]}, {"box": [60, 40, 150, 140]}], "task": "categories"},
)
DETECT: tuple[str, dict[str, Any]] = ("/v1/detect", {"names": NAMES})


def latencies(server: Server, what: tuple[str, dict[str, Any]]) -> dict[str, float]:
    """Median and 90th percentile of one client's requests, wall milliseconds."""
    spent = []
    for _ in range(3 * ROUNDS):
        began = time.perf_counter()
        post(server, *what)
        spent.append((time.perf_counter() - began) * 1e3)
    spent.sort()
    return {"p50_ms": round(statistics.median(spent), 1), "p90_ms": round(spent[int(0.9 * len(spent))], 1)}


def beside_a_flood(server: Server, what: tuple[str, dict[str, Any]], flood: tuple[str, dict[str, Any]]) -> Any:
    """The same while other clients send `flood`; and how many of these were answered meanwhile."""
    over, answered = threading.Event(), [0] * FLOOD_CLIENTS

    def client(place: int) -> None:
        while not over.is_set():
            post(server, *flood)
            answered[place] += 1

    clients = [threading.Thread(target=client, args=(place,)) for place in range(FLOOD_CLIENTS)]
    for each in clients:
        each.start()
    try:
        found = latencies(server, what)
    finally:
        over.set()
        for each in clients:
            each.join()
    return {**found, "others_answered": sum(answered)}


def main() -> None:
    """The command; the head of this file says what it does."""
    with running("dynrefer.service.cli", "serve", "--device", "cpu", "--log-level", "error") as server:
        server.await_ready()
        for what in (DESCRIBE, DETECT):  # the first of each makes what the later ones share
            post(server, *what)
        result = {
            **provenance(),
            "end_to_end": end_to_end(server),
            "describe": {
                "alone": latencies(server, DESCRIBE),
                "beside_finds": beside_a_flood(server, DESCRIBE, DETECT),
            },
            "find": {"alone": latencies(server, DETECT), "beside_describes": beside_a_flood(server, DETECT, DESCRIBE)},
        }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
