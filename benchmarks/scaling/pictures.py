"""The two pictures of docs/scaling.md: what each way carries by number of GPUs, and latency by load and router."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

MOST_BYTES = 150_000
COLOURS = ("#c44e52", "#dd8452", "#4c72b0", "#55a868", "#8172b3", "#937860")
SHORT = {
    "edge's process": "edge process",
    "GPU machine's object store": "object store",
    "edge's object store": "object store",
}


def draw_ways(rows: Sequence[dict[str, Any]], path: Path, p99_ms: float, card: str) -> None:
    """Regions per second against GPUs, with the part that is full first beside each way's largest size."""
    figure, axes = _figure()
    for colour, way in zip(COLOURS, dict.fromkeys(row["way"] for row in rows), strict=False):
        points = [row for row in rows if row["way"] == way and row["regions_per_s"]]
        if not points:
            continue
        gpus, rates = [row["gpus"] for row in points], [row["regions_per_s"] for row in points]
        axes.plot(gpus, rates, "o-", color=colour, label=way, markersize=4)
        changed = [point for last, point in zip([None, *points], points, strict=False) if _first(last) != _first(point)]
        for point in changed[1:] or changed:
            label = SHORT.get(point["first"], point["first"])
            axes.annotate(
                label,
                (point["gpus"], point["regions_per_s"]),
                (4, -12),
                textcoords="offset points",
                color=colour,
                fontsize=8,
            )
    axes.set(xscale="log", yscale="log", xlabel="GPUs", ylabel="regions per second")
    axes.set_title(f"Carried with p99 within {p99_ms:g} ms, {card}; at a point: what is full first there", fontsize=10)
    _save(figure, axes, path)


def _first(row: dict[str, Any] | None) -> str | None:
    return None if row is None else row["first"]


def draw_routers(rows: Sequence[dict[str, Any]], path: Path, what: str) -> None:
    """p99 against load, a line per router."""
    figure, axes = _figure()
    for colour, router in zip(COLOURS, dict.fromkeys(row["router"] for row in rows), strict=False):
        points = [row for row in rows if row["router"] == router]
        axes.plot(
            [100 * row["load"] for row in points],
            [row["p99_ms"] for row in points],
            "o-",
            color=colour,
            label=router,
            markersize=4,
        )
    axes.set(yscale="log", xlabel="load, % of what the devices can do", ylabel="p99, ms")
    axes.set_title(what, fontsize=10)
    _save(figure, axes, path)


def _figure() -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(7.5, 4.6), dpi=100)


def _save(figure: Any, axes: Any, path: Path) -> None:
    axes.grid(True, which="both", alpha=0.25)
    axes.legend(fontsize=8)
    figure.tight_layout()
    # Without the version of matplotlib, so that the same figures give the same file.
    figure.savefig(path, metadata={"Software": None})
    if path.stat().st_size > MOST_BYTES:
        raise SystemExit(
            f"scaling: {path.name} has {path.stat().st_size} bytes; at most {MOST_BYTES} may be committed."
        )
