"""What a local Ray cluster costs as `service/scale/ray/cluster.py` starts it, and as `ray.init` does.

    python -m benchmarks.ray_cluster [--rounds 5] [--cpus 2]

Both are started in turn, each in a process of its own, which runs one actor and then stands idle; figures are medians
of the rounds. Seconds: until connected (Ray imported already), until the actor answers, until ended. Processes,
threads, memory (unique, MB) and the processor's time of ten idle seconds are those of the process and all that it
started; `load` is what else ran (five-minute load average at the end). Needs Linux. Writes results/ray_cluster.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULT = Path(__file__).parent / "results" / "ray_cluster.json"
WAYS = ("ours", "ray.init")
STORE_BYTES = 100_000_000
IDLE_S = 10.0
SETTLE_S = 3.0  # processes that were only needed for the start have ended by then


@contextmanager
def _started(way: str, cpus: int) -> Iterator[None]:
    """A local cluster, in one of the two ways."""
    if way == "ours":
        from dynrefer.service.scale.ray.cluster import ClusterSettings, cluster

        with cluster(ClusterSettings(cpus=cpus, gpus=0, object_store_bytes=STORE_BYTES)):
            yield
        return
    import ray

    ray.init("local", num_cpus=cpus, num_gpus=0, object_store_memory=STORE_BYTES, include_dashboard=False)
    yield
    ray.shutdown()


def measure(way: str, cpus: int) -> dict[str, float]:
    """Figures of one start, in this process."""
    import ray

    class Actor:
        def answer(self) -> int:
            return 1

    begun = time.perf_counter()
    with _started(way, cpus):
        connected = time.perf_counter()
        actor: Any = ray.remote(Actor).remote()
        ray.get(actor.answer.remote())
        answered = time.perf_counter()
        time.sleep(SETTLE_S)
        processes = _tree()
        before = sum(_processor_seconds(pid) for pid in processes)
        time.sleep(IDLE_S)
        figures = {
            "connected_s": connected - begun,
            "first_answer_s": answered - connected,
            "processes": len(processes),
            "threads": sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in processes),
            "unique_mb": sum(_unique_bytes(pid) for pid in processes) / 1e6,
            "idle_processor_s": sum(_processor_seconds(pid) for pid in processes) - before,
        }
        ending = time.perf_counter()
    return figures | {"ended_s": time.perf_counter() - ending}


def _tree() -> list[int]:
    """This process and all that it has started, directly or not."""
    parents = {int(each.parent.name): int(_stat(each)[1]) for each in Path("/proc").glob("[0-9]*/stat")}
    found = [os.getpid()]
    for pid in found:
        found.extend(child for child, parent in parents.items() if parent == pid)
    return found


def _stat(path: Path) -> list[str]:
    """The fields of a process behind its name; of one that has just ended none but zeros."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ["0"] * 50


def _processor_seconds(pid: int) -> float:
    fields = _stat(Path(f"/proc/{pid}/stat"))
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _unique_bytes(pid: int) -> int:
    """Memory that the process shares with no other."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def _in_a_process(way: str, cpus: int) -> dict[str, float]:
    """Figures of one start, in a process of its own with a home of its own. Raises SystemExit where it fails."""
    with tempfile.TemporaryDirectory(prefix="r-") as home:
        environment = {**os.environ, "HOME": home, "RAY_TMPDIR": home, "RAY_USAGE_STATS_ENABLED": "0"}
        line = [sys.executable, "-m", "benchmarks.ray_cluster", "--one", way, "--cpus", str(cpus)]
        done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"ray_cluster: a cluster in the way {way} failed: {done.stderr.strip()}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(rounds: int, cpus: int) -> dict[str, Any]:
    """Medians of both ways, started in turn."""
    from dynrefer.workbench.profiling.machine import provenance  # with torch, which is no part of what is measured

    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for number in range(rounds):
        for way in WAYS if number % 2 else reversed(WAYS):
            found[way].append(_in_a_process(way, cpus))
            print(f"round {number + 1}, {way}: {found[way][-1]}", file=sys.stderr)
    medians = {
        way: {name: round(statistics.median(each[name] for each in runs), 3) for name in runs[0]}
        for way, runs in found.items()
    }
    return {**provenance(), "rounds": rounds, "cpus": cpus, "load": round(os.getloadavg()[1], 1), **medians}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ray_cluster", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=5, help="starts in each way [%(default)s]")
    parser.add_argument("--cpus", type=int, default=2, help="CPUs of the cluster [%(default)s]")
    parser.add_argument("--out", type=Path, default=RESULT, help="[benchmarks/results/ray_cluster.json]")
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.one:
        print(json.dumps(measure(given.one, given.cpus)))
        return
    if given.rounds < 1:
        parser.error("--rounds must be at least 1.")
    text = json.dumps(compare(given.rounds, given.cpus), indent=1)
    given.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
