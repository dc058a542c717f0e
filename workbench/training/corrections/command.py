"""`dynrefer train --from-corrections FOLDER`: what the command line gives, and what it is told."""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from dynrefer.workbench.errors import SettingError, TrainingError
from dynrefer.workbench.training.corrections.settings import CorrectionSettings, from_flags, resumed

NOT_OFFERED = 3  # exit code: trained and compared, and not better by the rule
_TIMEOUT_S = 10.0
_MOST_BYTES = 16_000_000  # of the list of models


def train_from_corrections(out: Path, resume: bool, given: Mapping[str, Any]) -> None:
    """Run it, and say what came of it. Ends with `NOT_OFFERED` where no switch is offered.

    given: the flags by their settings' names. Raises what `CorrectionRun` raises.
    """
    from dynrefer.workbench.training.corrections.comparison import text_table
    from dynrefer.workbench.training.corrections.offer import RULE
    from dynrefer.workbench.training.corrections.run import SETTINGS, CorrectionRun

    settings = _settings(out, resume, given, out / SETTINGS)
    import torch

    torch.set_num_threads(settings.threads or os.cpu_count() or 1)
    run = CorrectionRun(settings, out)
    print(run.split.sentence())
    if settings.server is not None:
        _check_server(settings, run.base_revision)
    outcome = run.train()
    for sentence in run.told:
        print(sentence, file=sys.stderr)
    print(f"{outcome.model}: the tuned model; serve it with dynrefer serve --model {outcome.model}")
    if outcome.verdict is None:
        print("Nothing was compared, so no switch is offered.")
        return
    print(f"\n{text_table(outcome.measured)}\n\n{RULE}")
    for reason in outcome.verdict.reasons:
        print(f"  {reason}")
    if not outcome.verdict.offered:
        print("Not offered: the running model stays.")
        raise typer.Exit(NOT_OFFERED)
    server = settings.server or "URL"
    print(
        f"Offered. To switch a running service: dynrefer reload {outcome.model.absolute()} --server {server}\n"
        f"and back: dynrefer reload --previous --server {server}"
    )


def _settings(out: Path, resume: bool, given: Mapping[str, Any], path: Path) -> CorrectionSettings:
    if path.exists():
        if not resume:
            raise SettingError(f"{out} already holds a run; pass --resume to continue it, or choose another --out.")
        return resumed(given, json.loads(path.read_text(encoding="utf-8")))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SettingError(f"{out} exists and holds something else than a run of this kind; choose another --out.")
    if "folder" not in given:
        raise SettingError("--from-corrections is missing: name the folder of the corrections.")
    return from_flags(given)


def _check_server(settings: CorrectionSettings, revision: str) -> None:
    """Raise `SettingError` unless the service runs the model that is tuned: the comparison would be with another."""
    found = served_revisions(str(settings.server), settings.key)
    if revision not in found:
        raise SettingError(
            f"the service at {settings.server} runs revision {', '.join(found)}, and --model {settings.model} is "
            f"revision {revision}; name with --model the directory that it runs."
        )
    print(f"The service at {settings.server} runs revision {revision}, the model that is tuned.")


def served_revisions(server: str, key: str | None) -> list[str]:
    """The revisions of the models that a service runs. Raises `TrainingError` if it cannot be asked."""
    url = f"{server.rstrip('/')}/v1/models"
    if not url.startswith(("http://", "https://")):
        raise SettingError(f"--server {server} is not an address such as http://127.0.0.1:8000.")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_S) as answer:
            document = json.loads(answer.read(_MOST_BYTES))
        return [str(each["revision"]) for each in document["models"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"HTTP {error.code}" if isinstance(error, urllib.error.HTTPError) else str(error)
        raise TrainingError(f"the service at {server} cannot be asked for its model: {reason}.") from error
