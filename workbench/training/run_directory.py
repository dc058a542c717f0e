"""The directory of a run: settings, how it was started (commands, commits, versions), the log, TensorBoard scalars."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynrefer.workbench.data.atomic import replace_text
from dynrefer.workbench.errors import TrainingError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

SETTINGS, SESSIONS, LOG = "settings.json", "run.json", "log.jsonl"
BAD_SAMPLES = "bad_samples.json"
MODEL = "model"
_PACKAGES = ("torch", "transformers", "accelerate", "numpy", "pillow")
_REPOSITORY = Path(__file__).resolve().parents[2]


def run_files(out: Path) -> list[Path]:
    """The files that a run writes into its directory, but for checkpoints, the model and TensorBoard's."""
    return [out / name for name in (SETTINGS, SESSIONS, LOG, BAD_SAMPLES)]


class RunDirectory:
    """The files of one run. Only the first process writes."""

    def __init__(self, path: Path, *, writes: bool) -> None:
        self.path, self._writes = path, writes
        self._board: SummaryWriter | None = None

    @staticmethod
    def stored_settings(path: Path) -> dict[str, Any] | None:
        """The settings of the run in `path`, or None. Raises `TrainingError` if they are damaged."""
        try:
            document = json.loads((path / SETTINGS).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError as error:
            raise TrainingError(f"{path / SETTINGS} is not valid JSON; start a new run with another --out.") from error
        return dict(document)

    def begin_session(self, settings: Mapping[str, Any], session: Mapping[str, Any], first_step: int) -> None:
        """Write the settings, add this session, and drop log lines beyond `first_step`. Raises `TrainingError`."""
        if not self._writes:
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._write_beginning(settings, session, first_step)
        except OSError as error:
            raise TrainingError(f"cannot write into --out {self.path}: {error.strerror or error}.") from error

    def _write_beginning(self, settings: Mapping[str, Any], session: Mapping[str, Any], first_step: int) -> None:
        replace_text(self.path / SETTINGS, json.dumps(settings, indent=1) + "\n")
        sessions = self._sessions()
        sessions.append({**session, "first_step": first_step})
        replace_text(self.path / SESSIONS, json.dumps(sessions, indent=1) + "\n")
        lines = self._log_lines()
        kept = [line for line in lines if json.loads(line)["step"] <= first_step]
        replace_text(self.path / LOG, "".join(line + "\n" for line in kept))
        self._board = self._open_board(first_step)

    def data_digests(self) -> dict[str, str]:
        """The digests of annotations, vocabulary and initial model in the session that began at step 0."""
        began = [session for session in self._sessions() if session["first_step"] == 0]
        return dict(began[-1]["data"]) if began else {}  # an earlier one was killed before its first checkpoint

    def _sessions(self) -> list[dict[str, Any]]:
        try:
            return list(json.loads((self.path / SESSIONS).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return []

    def _log_lines(self) -> list[str]:
        """Complete lines; a killed process may have left a partial one."""
        try:
            text = (self.path / LOG).read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        return [line for line in text[: text.rfind("\n") + 1].splitlines() if line]

    def _open_board(self, first_step: int) -> SummaryWriter:
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self.path / "tensorboard"), purge_step=first_step + 1)

    def log(self, step: int, group: str, values: Mapping[str, float]) -> None:
        """Write a line to log.jsonl and the same values as TensorBoard scalars. group: "train" or "val"."""
        if not self._writes:
            return
        with (self.path / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "group": group, **values}) + "\n")
        assert self._board is not None
        for name, value in values.items():
            self._board.add_scalar(f"{group}/{name}", value, step)

    def close(self) -> None:
        """Flush TensorBoard's file."""
        if self._board is not None:
            self._board.close()


def session_record(seed: int, processes: int, device: str, data: Mapping[str, str]) -> dict[str, Any]:
    """What is needed to repeat a run: command, commit, seeds, versions, data; and where and when it ran."""
    return {
        "command": sys.argv,
        "commit": _commit(),
        "seed": seed,
        "process_seeds": [seed + rank for rank in range(processes)],
        "processes": processes,
        "device": device,
        "data": dict(data),
        "versions": {"python": sys.version.split()[0], **{name: version(name) for name in _PACKAGES}},
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _commit() -> str:
    """The commit of this checkout, with "+changes" if the working tree differs; outside a checkout, the version."""
    git = ["git", "-C", str(_REPOSITORY)]
    asked = [*git, "rev-parse", "--show-toplevel", "HEAD"]
    try:
        top, head = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD"], capture_output=True, check=False).returncode
    except (OSError, ValueError, subprocess.CalledProcessError):
        return f"no checkout; dynrefer {version('dynrefer')}"
    if Path(top).resolve() != _REPOSITORY:  # installed into somebody else's repository
        return f"no checkout; dynrefer {version('dynrefer')}"
    return head + ("+changes" if changed else "")
