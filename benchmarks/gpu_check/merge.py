"""`python -m benchmarks.gpu_check.merge OUT FILE ...` puts the parts of several runs on one card into one file.

A later file's parts replace those of earlier ones, OUT's own included; each part keeps the command, the date and the
commit of its run.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dynrefer.workbench.data.atomic import replace_text

OF_A_PART = ("command", "date", "commit")


def merged(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The last report, with the parts that only earlier ones have. Raises ValueError for reports of several cards or
    sizes of model."""
    kinds = {(each["device"], each["preset"]) for each in reports}
    if len(kinds) != 1:
        raise ValueError(f"the files are of several cards or models: {sorted(kinds)}; give those of one.")
    figures: dict[str, list[Any]] = {}
    runs: dict[str, dict[str, Any]] = {}
    cut: dict[str, str] = {}
    for report in reports:
        known = report.get("runs", {})
        parts = dict.fromkeys([*(each["part"] for each in report["figures"]), *report["not_finished"]])
        for part in parts:
            figures[part] = [each for each in report["figures"] if each["part"] == part]
            runs[part] = known.get(part) or {name: report[name] for name in OF_A_PART}
            cut.pop(part, None)
        cut |= report["not_finished"]
    every = [each for part in figures.values() for each in part]
    return {**reports[-1], "runs": runs, "not_finished": cut, "figures": every}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    given = [Path(each) for each in (sys.argv[1:] if arguments is None else arguments)]
    if len(given) < 2:
        raise SystemExit("usage: python -m benchmarks.gpu_check.merge OUT FILE ...")
    out, *_ = given
    try:
        found = merged([json.loads(each.read_text(encoding="utf-8")) for each in given if each.exists() or each != out])
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from error
    replace_text(out, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
