"""One key's large requests beside another key's thumbnails."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.attacks.findings import Finding, unexpected
from benchmarks.attacks.images import LIMIT_SIDE, jpeg
from benchmarks.attacks.served import Answer, Service, Watch, at_once, longest

NEIGHBOUR_S = 2.0
CPU_S = 15.0  # of one request of 64 regions
REFUSALS = (413, 422, 429)
TASKS = ("caption", "tags", "attributes", "categories")
GREEDY, SMALL = "greedy", "small"


@contextmanager
def _service_with_keys() -> Iterator[Service]:
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys"
        lines = (f"{name} sha256:{hashlib.sha256(name.encode()).hexdigest()}\n" for name in (GREEDY, SMALL))
        keys.write_text("".join(lines), encoding="utf-8")
        with Service(api_keys_file=keys) as service:
            service.describe(key=SMALL)
            yield service


def unfair_image_work() -> Iterator[Finding]:
    """Ten requests of 8 regions of a 50-megapixel image by one key, then twenty; a thumbnail by another."""
    data = jpeg.solid_jpeg(LIMIT_SIDE)
    boxes = [(i, i, LIMIT_SIDE - 800 * i, LIMIT_SIDE - 500 * i) for i in range(8)]
    for requests, task in ((10, None), (20, "caption")):
        with _service_with_keys() as service:
            alone_s = max(service.describe(key=SMALL).seconds for _ in range(5))
            with Watch(lambda: service.describe(key=SMALL, timeout_s=70), 0.2) as neighbour:
                answers = at_once([partial(service.describe, data, boxes, task, key=GREEDY, timeout_s=70)] * requests)
        yield _beside(f"{requests} requests of 8 regions, task {task}", answers, neighbour.seen, alone_s)


def _beside(case: str, answers: list[Answer], neighbour: list[Answer], alone_s: float) -> Finding:
    wait_s = longest(neighbour)
    failed = [each.status for each in neighbour if each.status != 200]
    statuses = sorted(each.status for each in answers)
    return Finding(
        case,
        wait_s <= NEIGHBOUR_S and not failed and not unexpected(statuses),
        f"another key's thumbnail waits up to {wait_s:.2f} s of {len(neighbour)} (alone {alone_s:.2f} s), "
        f"failures {failed}; the large ones {statuses} after up to {longest(answers):.1f} s",
        {"neighbour_s": round(wait_s, 3), "alone_s": round(alone_s, 3), "statuses": statuses},
    )


def many_regions() -> Iterator[Finding]:
    """Two requests at once of 64 regions of a 50-megapixel image, with all tasks by name and with none."""
    data = jpeg.solid_jpeg(LIMIT_SIDE)
    boxes = [(20 * i, 30 * i, LIMIT_SIDE - 10 * i, LIMIT_SIDE - 15 * i) for i in range(64)]
    for task in (TASKS, None):
        with _service_with_keys() as service:
            before = service.cpu_s()
            with Watch(lambda: service.describe(key=SMALL, timeout_s=70), 1.0) as neighbour:
                answers = at_once([partial(service.describe, data, boxes, task, key=GREEDY, timeout_s=130)] * 2)
            service.settle(5)
            cpu_s = (service.cpu_s() - before) / 2
        wait_s, statuses = longest(neighbour.seen), [each.status for each in answers]
        refused = any(status in REFUSALS for status in statuses)
        yield Finding(
            f"64 regions, {'all tasks by name' if task else 'no task'}",
            wait_s <= NEIGHBOUR_S and (cpu_s <= CPU_S or refused) and not unexpected(statuses),
            f"{cpu_s:.1f} CPU s a request, statuses {statuses} after up to {longest(answers):.1f} s, "
            f"a thumbnail beside them up to {wait_s:.2f} s",
            {"cpu_s": round(cpu_s, 2), "neighbour_s": round(wait_s, 3), "statuses": statuses},
        )
