"""What a run of the recipe began with, so that a resumed run goes on with the same."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from dynrefer.workbench.errors import SettingError

_FILE = "origin.json"


@dataclass(frozen=True)
class Origin:
    """revision: of the weights that the run started from; None for random ones. seed: of the added stages."""

    revision: str | None
    seed: int


def begin_or_continue(out: Path, origin: Origin) -> None:
    """Note the origin of a new run in `out`, an empty folder.

    Raises `SettingError` if `out` holds a run of another origin, or something else.
    """
    path = out / _FILE
    if path.exists():
        began = Origin(**json.loads(path.read_text()))
    elif (out / "log.jsonl").exists():  # of a run before there were added stages
        began = Origin(None, 0)
    else:
        if any(out.iterdir()):  # it may hold a `model/` of its own, which the run would replace
            raise SettingError(f"{out} exists and holds something else than a run of this kind; choose another --out.")
        path.write_text(json.dumps(asdict(origin)) + "\n")
        return
    if began != origin:
        raise SettingError(
            f"{out} holds a run that began from {_words(began)}, not from {_words(origin)}; name the same --from and "
            "--seed, or choose another --out."
        )


def _words(origin: Origin) -> str:
    weights = f"revision {origin.revision}" if origin.revision else "random weights"
    return f"{weights} with seed {origin.seed}"
