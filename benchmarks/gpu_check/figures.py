"""What the check finds: figures, what is asked of them, and the file and the table that show them."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dynrefer.workbench.data.atomic import replace_text

FULL_SIZE = "flan-t5-xl"


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    ok: whether it is as it must be; None where nothing is asked of it by itself (see `Target`).
    over_plain: the rate over that of transformers' own `generate` in the same run. detail: more of it, for the file.
    """

    part: str
    name: str
    value: float | str
    unit: str = ""
    ok: bool | None = None
    over_plain: float | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Target:
    """What the full size is to reach on an H100: at least so much, or at most."""

    value: float
    at_most: bool = False

    def met(self, value: float) -> bool:
        """Whether a figure reaches it."""
        return value <= self.value if self.at_most else value >= self.value

    def __str__(self) -> str:
        return f"{'<=' if self.at_most else '>='} {self.value:g}"


def rate_name(regions: int, tasks: str) -> str:
    """The figure of a batch of so many regions, regions per second."""
    return f"{regions} region{'s' if regions > 1 else ''}, {tasks}"


TARGETS: Mapping[tuple[str, str], Target] = {
    ("speed", rate_name(64, "all")): Target(180),
    ("speed", "64 regions, all, over the plain way at 32"): Target(5),
    ("speed", rate_name(64, "tags")): Target(270),
    ("speed", "1 region, all, time"): Target(70, at_most=True),
    ("speed", "vision, 24 views"): Target(0.6),
    ("speed", "vision, 96 views"): Target(0.6),
    ("service", "16 x 8, all, over offline"): Target(0.9),
    ("service", "32 x 1, all"): Target(100),
    ("service", "1 beside 128, p99"): Target(300, at_most=True),
    ("service", "16 x 8, tags"): Target(230),
    ("service", "start to ready"): Target(10, at_most=True),
}


class Report:
    """The figures of a run so far, in a file that is whole at any time.

    machine: what `provenance` says. judged: whether the targets hold for this device and size.
    """

    def __init__(self, out: Path, machine: Mapping[str, Any], preset: str, judged: bool) -> None:
        self._out, self._machine, self._preset, self._judged = out, machine, preset, judged
        self.figures: list[Figure] = []
        self.cut: dict[str, str] = {}
        self._complete = False

    def add(self, figure: Figure) -> None:
        """Take up a figure, and what follows from it and earlier ones."""
        self.figures.append(figure)
        self.figures += _derived(figure, self.figures)
        self.write()

    def end_early(self, part: str, why: str) -> None:
        """Note a part that did not come to its end."""
        self.cut[part] = why
        self.write()

    def complete(self) -> None:
        """Note that every part had its turn."""
        self._complete = True
        self.write()

    @property
    def passed(self) -> bool:
        """Whether every check passed; a target that is missed is no failure."""
        return all(each.ok is not False for each in self.figures) and not self._crashed

    @property
    def _crashed(self) -> bool:
        return any(not why.startswith("cut") for why in self.cut.values())

    def write(self) -> None:
        """Replace the file."""
        found = {
            **self._machine,
            "preset": self._preset,
            "complete": self._complete,
            "not_finished": self.cut,
            "figures": [self._row(each) for each in self.figures],
        }
        replace_text(self._out, json.dumps(found, indent=1) + "\n")

    def _row(self, figure: Figure) -> dict[str, Any]:
        target = TARGETS.get((figure.part, figure.name))
        row = {name: value for name, value in asdict(figure).items() if value not in (None, "", {})}
        return row if target is None else row | {"target": str(target), "met": self._met(figure, target)}

    def _met(self, figure: Figure, target: Target) -> bool | None:
        return target.met(float(figure.value)) if self._judged else None

    def table(self) -> str:
        """Everything as Markdown."""
        lines = ["| part | figure | value | target | | x plain way |", "|---|---|---|---|---|---|"]
        lines += [self._line(each) for each in self.figures]
        lines += ["", *(f"{part}: {why}." for part, why in self.cut.items())]
        if not self._judged:
            lines.append("The targets are for the full size on an H100; here they are only shown.")
        return "\n".join(lines)

    def _line(self, figure: Figure) -> str:
        target = TARGETS.get((figure.part, figure.name))
        met = figure.ok if target is None else self._met(figure, target)
        word = "" if met is None else ("ok" if met else ("FAILED" if target is None else "missed"))
        value = f"{figure.value:.4g}" if isinstance(figure.value, float) else str(figure.value)
        plain = "" if figure.over_plain is None else f"{figure.over_plain:.2f}"
        goal = "" if target is None else str(target)
        return f"| {figure.part} | {figure.name} | {f'{value} {figure.unit}'.strip()} | {goal} | {word} | {plain} |"


def _derived(new: Figure, figures: Iterable[Figure]) -> list[Figure]:
    """Ratios that a figure completes."""
    known = {(each.part, each.name): float(each.value) for each in figures if isinstance(each.value, int | float)}
    found = []
    offline = known.get(("speed", rate_name(64, "all")))
    plain = known.get(("speed", "plain way, 32 regions, all"))
    if new.part == "speed" and new.name == "plain way, 32 regions, all" and offline and plain:
        found.append(Figure("speed", "64 regions, all, over the plain way at 32", offline / plain))
    if (new.part, new.name) == ("service", "16 x 8, all") and offline:
        found.append(Figure("service", "16 x 8, all, over offline", float(new.value) / offline))
    return found
