"""The command; see the package."""

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu_check.conditions import Conditions
from benchmarks.gpu_check.figures import FULL_SIZE, Figure, Report
from benchmarks.gpu_check.parts import ALL_S, BUDGETS, UNASKED, run_part
from dynrefer.model.loading import pick_device
from dynrefer.workbench.profiling.machine import provenance
from dynrefer.workbench.profiling.workload import preset as known_preset

RESULTS = Path(__file__).parents[1] / "results"


def result_file(device: str, folder: Path) -> Path:
    """gpu-<card>.json among the results; a CPU's, which nobody compares, in the scratch folder."""
    name = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
    return folder / "cpu.json" if name == "cpu" else RESULTS / f"gpu-{name}.json"


def check(report: Report, given: Conditions, parts: Sequence[str], seconds: float) -> None:
    """Run the parts in turn, each within its budget and what is left of the whole."""
    end = time.monotonic() + seconds
    for part in parts:
        left = end - time.monotonic()
        if left < 1.0:
            report.end_early(part, "cut: no time was left for it")
            continue
        print(f"-- {part}", file=sys.stderr)
        for each in run_part(part, (given.device, given.preset, str(given.folder)), min(BUDGETS[part], left)):
            if isinstance(each, Figure):
                report.add(each)
                print(f"   {each.name}: {each.value} {each.unit}", file=sys.stderr)
            elif each.why:
                report.end_early(part, each.why)
                print(f"   {each.why}", file=sys.stderr)
    report.complete()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 1 where a check failed or a part broke."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check", description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu [%(default)s]")
    parser.add_argument("--preset", default=FULL_SIZE, help="size of the measured model [%(default)s]")
    parser.add_argument("--out", type=Path, help="[benchmarks/results/gpu-<card>.json; of a CPU, a scratch file]")
    usual = tuple(part for part in BUDGETS if part not in UNASKED)
    parser.add_argument(
        "--only", nargs="+", choices=tuple(BUDGETS), default=usual, help=f"parts [all but {' and '.join(UNASKED)}]"
    )
    parser.add_argument("--seconds", type=float, default=ALL_S, help="of all parts together [%(default)g]")
    given = parser.parse_args(arguments)
    pick_device(given.device)
    known_preset(given.preset)
    with tempfile.TemporaryDirectory(prefix="gpu-check-", ignore_cleanup_errors=True) as scratch:
        conditions = Conditions(given.device, given.preset, Path(scratch))
        machine = provenance(given.device)
        out = given.out or result_file(str(machine["device"]), Path(tempfile.gettempdir()))
        report = Report(out, machine, given.preset, conditions.full_size)
        check(report, conditions, given.only, given.seconds)
    print(report.table())
    print(f"\nwritten to {out}", file=sys.stderr)
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main())
