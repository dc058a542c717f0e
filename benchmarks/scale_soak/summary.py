"""What a soak has shown: counts by verdict and by fault, latencies, slopes, and whether every promise was kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.scale_out.served import logged
from benchmarks.scale_soak.faults import Injected
from benchmarks.scale_soak.traffic import Record
from benchmarks.scale_soak.verdicts import ALLOWED, FORBIDDEN
from benchmarks.scale_soak.watch import Sample, slope_per_hour

MEMORY_MB_PER_HOUR = 64.0  # of some 2,000; a leak of an answer per request would be ten times that
DESCRIPTORS_PER_HOUR = 20.0
WRITER_S = 3.0  # by which the log's writer may be late


def summary(records: Sequence[Record], faults: Sequence[Injected], samples: Sequence[Sample]) -> dict[str, Any]:
    """Figures for the results file."""
    counts = Counter(each.verdict for each in records)
    ids = Counter(each.id for each in records)
    waited = [each.seconds for each in records if each.verdict in ("right", "close")]
    return {
        "requests": len(records),
        "regions": sum(each.regions for each in records if each.verdict in ("right", "close")),
        "by_verdict": {name: counts[name] for name in (*ALLOWED, *FORBIDDEN)},
        "ids_twice": sum(count > 1 for count in ids.values()),
        "statuses": dict(sorted(Counter(each.status for each in records).items())),
        "latency_s": percentiles(waited),
        "by_fault": by_fault(records, faults),
        "resources": resources(samples),
        "broken_promises": [vars_of(each) for each in records if each.verdict in FORBIDDEN][:20],
    }


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """p50, p99 and the longest; nothing without any."""
    if not seconds:
        return {}
    p50, p99 = np.percentile(seconds, (50, 99))
    return {"p50": round(float(p50), 3), "p99": round(float(p99), 3), "longest": round(max(seconds), 3)}


def vars_of(record: Record) -> dict[str, Any]:
    """What of a record helps to find its cause."""
    names = ("id", "behaviour", "name", "due", "seconds", "status", "verdict", "text")
    return {name: getattr(record, name) for name in names}


def by_fault(records: Sequence[Record], faults: Sequence[Injected]) -> dict[str, Any]:
    """What came of the requests that were under way in each kind of fault; and of those in none ("none")."""
    found: dict[str, list[Record]] = {"none": []}
    for each in records:
        found.setdefault(_during(each, faults), []).append(each)
    rows = {}
    for name, some in sorted(found.items()):
        counts = Counter(each.verdict for each in some)
        done = [each for each in faults if each.fault == name]
        rows[name] = {
            "times": len(done),
            "requests": len(some),
            **{verdict: counts[verdict] for verdict in (*ALLOWED, *FORBIDDEN) if counts[verdict]},
            "latency_s": percentiles([each.seconds for each in some if each.verdict in ("right", "close")]),
            "recovered_s": [each.recovered_s for each in done],
            "notes": [each.notes for each in done][:3],
        }
    return rows


def _during(record: Record, faults: Sequence[Injected], margin_s: float = 0.0) -> str:
    """The fault in whose time, recovery included, the request was under way. margin_s: before and after it."""
    for fault in faults:
        over = max(fault.ended, fault.began + (fault.recovered_s or 0.0)) + margin_s
        if record.due < over and fault.began - margin_s < record.due + record.seconds:
            return fault.fault
    return "none"


def resources(samples: Sequence[Sample]) -> dict[str, Any]:
    """Memory, processes and descriptors: at the end of the settling part, at the end, most, and slopes."""
    if not samples:
        return {}
    times = [each.at for each in samples]
    pss = [each.pss / 1e6 for each in samples]
    heap = [each.heap / 1e6 for each in samples]
    descriptors = [float(each.descriptors) for each in samples]
    last = samples[-1]
    return {
        "pss_mb": {"first": round(pss[0]), "last": round(pss[-1]), "most": round(max(pss))},
        "pss_mb_per_hour": round(slope_per_hour(times, pss), 1),
        "heap_mb": {"first": round(heap[0]), "last": round(heap[-1]), "most": round(max(heap))},
        "heap_mb_per_hour": round(slope_per_hour(times, heap), 1),
        "descriptors": {"first": int(descriptors[0]), "last": int(descriptors[-1]), "most": int(max(descriptors))},
        "descriptors_per_hour": round(slope_per_hour(times, descriptors), 1),
        "processes": {"first": samples[0].processes, "last": last.processes},
        "by_role_last": {
            name: {
                "processes": each.processes,
                "pss_mb": round(each.pss / 1e6),
                "uss_mb": round(each.uss / 1e6),
                "heap_mb": round(each.heap / 1e6),
                "shared_mb": round(each.shared / 1e6),
            }
            for name, each in last.by_role.items()
        },
        "heap_mb_per_hour_by_role": {
            name: round(slope_per_hour(times, [_heap(each, name) for each in samples]), 1) for name in last.by_role
        },
        "shared_memory_mb": {"first": round(samples[0].shared / 1e6), "last": round(last.shared / 1e6)},
        "disk_mb": {"first": round(samples[0].disk / 1e6), "last": round(last.disk / 1e6)},
    }


def _heap(sample: Sample, name: str) -> float:
    return sample.by_role[name].heap / 1e6 if name in sample.by_role else 0.0


def log_lines(log: str, records: Sequence[Record], faults: Sequence[Injected]) -> dict[str, int]:
    """How the log counts the requests: each has one line, whatever came of it; two would be two answers. Requests that
    were under way with a full disk are left out of `missing`, for the log stood on it."""
    lines = logged(log)
    counts = Counter(str(line["request_id"]) for line in lines if line.get("logger") == "service.access")
    full = [each for each in faults if each.fault == "full disk"]
    asked = [each for each in records if _during(each, full, WRITER_S) == "none" and each.status]
    return {
        "lines": len(lines),
        "missing": sum(counts[each.id] == 0 for each in asked),
        "twice": sum(count > 1 for name, count in counts.items() if name.startswith("soak-")),
        "tracebacks": sum("trace" in line for line in lines),
        "errors": sum(line.get("level") == "error" for line in lines),
    }


def broken(report: dict[str, Any], long: bool) -> list[str]:
    """Sentences about each promise that was not kept. long: whether slopes mean something."""
    found = [f"{name}: {report['by_verdict'][name]}" for name in FORBIDDEN if report["by_verdict"][name]]
    if report["ids_twice"] or report["log"]["twice"]:
        found.append(f"answered twice: {report['ids_twice']}; logged twice: {report['log']['twice']}")
    if report["log"]["missing"]:
        found.append(f"answered but not logged: {report['log']['missing']}")
    for each in report["faults"]:
        if each["recovered_s"] is None:
            found.append(f"not recovered from {each['fault']} of minute {each['minute']}")
    if report["end"]["exit_code"] != 0:
        found.append(f"exit code {report['end']['exit_code']}")
    if left := report["end"]["processes_left"]:
        found.append(f"processes left: {left}")
    if names := report["end"]["shared_memory_left"]:
        found.append(f"left in /dev/shm: {', '.join(names)}")
    resource = report["resources"]
    if long and resource["heap_mb_per_hour"] > MEMORY_MB_PER_HOUR:
        found.append(f"memory grows by {resource['heap_mb_per_hour']} MB an hour")
    if long and resource["descriptors_per_hour"] > DESCRIPTORS_PER_HOUR:
        found.append(f"descriptors grow by {resource['descriptors_per_hour']} an hour")
    return found
