"""`dynrefer evaluate`: the command line. Standard output holds the result alone, standard error all else."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from model.errors import ConfigError


def evaluate_command(
    model: Annotated[str, typer.Option("--model", help="Name or directory of the model.")] = "embedded",
    scenes_seed: Annotated[
        int, typer.Option("--scenes-seed", min=0, help="Which drawn scenes; none of them is ever trained on.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
    regions: Annotated[
        int | None,
        typer.Option("--regions", min=20, help="Least number of regions. [default: 2000; with --tune 1000]"),
    ] = None,
    tune: Annotated[
        Path | None,
        typer.Option(
            "--tune",
            metavar="OUT.json",
            help="Choose task priors, tag threshold and calibration on validation scenes instead.",
        ),
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="With --tune: write the choice into the model's config.json too.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Measure a model on drawn scenes, with standard errors; or tune it on others."""
    if apply and tune is None:
        raise typer.BadParameter("--apply writes what --tune OUT.json has chosen; give both.")
    if tune is not None and not tune.resolve().parent.is_dir():
        raise typer.BadParameter(f"cannot write {tune}: no such folder.")
    # Whatever a library prints must not get into the result.
    with contextlib.redirect_stdout(sys.stderr):
        result = (
            _measured(model, device, scenes_seed, regions)
            if tune is None
            else _tuned(model, device, scenes_seed, regions, tune, apply)
        )
    print(json.dumps(result, indent=2) if as_json else _table(result))


def _measured(model: str, device: str, scenes_seed: int, regions: int | None) -> dict[str, Any]:
    try:
        from model.evaluation.measure import MAIN_REGIONS, measure
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    from model import DynRefer
    from model.training.artwork import default_cache
    from model.training.world import World

    return measure(
        DynRefer.load(model, device=device),
        World.load(),
        scenes_seed=scenes_seed,
        art_cache=default_cache(),
        regions=regions or MAIN_REGIONS,
    )


def _tuned(model: str, device: str, scenes_seed: int, regions: int | None, out: Path, apply: bool) -> dict[str, Any]:
    try:
        from model.evaluation.sweep import SWEEP_REGIONS, apply_tuning, tune
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    from model import DynRefer
    from model.loading import EMBEDDED

    directory = EMBEDDED if model == "embedded" else Path(model)
    tuning = tune(
        directory,
        lambda path: DynRefer.load(path, device=device),
        scenes_seed=scenes_seed,
        regions=regions or SWEEP_REGIONS,
    )
    out.write_text(json.dumps(tuning.fragment, indent=2) + "\n")
    if apply:
        apply_tuning(directory, tuning.fragment)
    return {**tuning.fragment, "quality": tuning.quality}


def _missing(error: ModuleNotFoundError) -> ConfigError:
    return ConfigError(f"evaluating needs the package {error.name}; pip install 'dynrefer[evaluate]'.")


def _table(result: Mapping[str, Any]) -> str:
    """Figures with their standard errors in columns, what else there is below them."""
    errors = result.get("standard_errors", {})
    width = max(len(name) for name in result)
    lines = []
    for name, error in errors.items():
        value = result[name]
        spread = "" if error is None else f"  ± {error:.3f}"
        lines.append(f"{name:<{width}}  " + ("not measured" if value is None else f"{value:7.3f}{spread}"))
    rest = {name: value for name, value in result.items() if name not in errors and name != "standard_errors"}
    lines += [f"{name:<{width}}  {_line(value)}" for name, value in rest.items()]
    return "\n".join(lines)


def _line(value: object) -> str:
    return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, Mapping) else str(value)
