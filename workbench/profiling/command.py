"""The command line of `dynrefer bench`: what the model costs on this machine. Importing this imports only typer."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynrefer.model import tasks as model_tasks

if TYPE_CHECKING:
    import torch

bench = typer.Typer(help="Measure speed and numerical agreement on this machine.")

SIZES, DTYPES = ("flan-t5-xl", "medium", "embedded"), ("float32", "bfloat16")
TASKS = ("all", *(task.name for task in model_tasks.TASKS))
Preset = Annotated[str, typer.Option("--preset", help="Model size: flan-t5-xl, medium or embedded.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Also write the JSON to this file.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace --out if it exists.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads. [default: all cores]")]
Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")]


@bench.command("model")
def model_command(
    preset: Preset = "medium",
    regions: Annotated[str, typer.Option("--regions", help="Batch sizes, separated by commas.")] = "1,8,32",
    dtype: Annotated[list[str] | None, typer.Option("--dtype", help="float32 or bfloat16; repeatable.")] = None,
    tasks: Annotated[str, typer.Option("--tasks", help="all, or tasks, separated by commas.")] = ",".join(TASKS),
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="New tokens per caption.")] = 20,
    beams: Annotated[int, typer.Option("--beams", min=1, help="Beams of the caption search.")] = 2,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Timed runs per row; the median counts.")] = 5,
    device: Device = "cpu",
    threads: Threads = None,
    as_json: AsJson = False,
    out: Out = None,
    overwrite: Overwrite = False,
) -> None:
    """Seconds by stage, regions per second and the roofline bound; random weights, caches off."""
    _check_out(out, overwrite)
    sizes = _sizes(regions)
    chosen = tuple(part.strip() for part in tasks.split(","))
    for each in chosen:
        _one_of(each, TASKS, "--tasks")
    dtypes = tuple(dtype or ["float32"])
    for each in dtypes:
        _one_of(each, DTYPES, "--dtype")
    _one_of(preset, SIZES, "--preset")
    reports: list[dict[str, Any]] = []

    def keep(report: dict[str, Any]) -> None:
        reports[:] = [report]
        _write_report(report, out)

    try:
        with contextlib.redirect_stdout(sys.stderr):
            from dynrefer.workbench.profiling.model_speed import Plan, measure_model, model_table
            from dynrefer.workbench.profiling.workload import Workload

            work = Workload(tokens=tokens, beams=beams)
            plan = Plan(preset, sizes, dtypes, chosen, _device(device, threads), repeats, work)
            measure_model(plan, None, lambda line: print(line, file=sys.stderr), keep)
    finally:  # what was measured before an error or Ctrl-C is shown too: it may be minutes of a GPU
        for report in reports:
            _print_report(report, model_table(report), as_json, out)


@bench.command("counts")
def counts_command(
    regions: Annotated[int, typer.Option("--regions", min=1, help="Regions in the batch.")] = 1,
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="New tokens per caption.")] = 20,
    beams: Annotated[int, typer.Option("--beams", min=1, help="Beams of the caption search.")] = 2,
    threads: Threads = None,
    as_json: AsJson = False,
    out: Out = None,
    overwrite: Overwrite = False,
) -> None:
    """Operations and bytes of every stage of all presets, and the roofline bound on this machine."""
    _check_out(out, overwrite)
    with contextlib.redirect_stdout(sys.stderr):
        from dynrefer.workbench.profiling.operation_counts import count_presets

        _device("cpu", threads)
        report, table = count_presets(regions, tokens, beams)
    _print_report(report, table, as_json, out)


@bench.command("attention")
def attention_command(
    preset: Preset = "medium",
    regions: Annotated[int, typer.Option("--regions", min=1, help="Regions in the batch.")] = 8,
    dtype: Annotated[str, typer.Option("--dtype", help="float32 or bfloat16.")] = "float32",
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Timed calls per kernel; the median counts.")] = 15,
    device: Device = "cpu",
    threads: Threads = None,
    as_json: AsJson = False,
    out: Out = None,
    overwrite: Overwrite = False,
) -> None:
    """Every attention call of the network by every kernel of the device: does torch pick the fastest?"""
    _check_out(out, overwrite)
    _one_of(preset, SIZES, "--preset")
    _one_of(dtype, DTYPES, "--dtype")
    with contextlib.redirect_stdout(sys.stderr):
        from dynrefer.workbench.profiling.attention import measure_attention
        from dynrefer.workbench.profiling.model_speed import DTYPES as BY_NAME

        report, table = measure_attention(preset, regions, BY_NAME[dtype], _device(device, threads), repeats)
    _print_report(report, table, as_json, out)


@bench.command("repeats")
def repeats_command(
    preset: Preset = "medium",
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Timed pairs; the median counts.")] = 5,
    device: Device = "cpu",
    threads: Threads = None,
    as_json: AsJson = False,
    out: Out = None,
    overwrite: Overwrite = False,
) -> None:
    """What the feature cache saves: a first task on a region, then another task on the same views."""
    _check_out(out, overwrite)
    _one_of(preset, SIZES, "--preset")
    with contextlib.redirect_stdout(sys.stderr):
        from dynrefer.workbench.profiling.cache_savings import measure_repeats

        report, table = measure_repeats(preset, _device(device, threads), repeats)
    _print_report(report, table, as_json, out)


@bench.command("views")
def views_command(as_json: AsJson = False, out: Out = None, overwrite: Overwrite = False) -> None:
    """View search and crops of one region on one core, for images of 640 x 480 and 12 megapixels."""
    _check_out(out, overwrite)
    # In a process of its own, because NumPy fixes its number of threads when it is imported.
    alone = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
    command = [sys.executable, "-m", "dynrefer.workbench.profiling.view_search"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | alone)
    report = json.loads(done.stdout)
    from dynrefer.workbench.profiling.view_search import views_table

    _print_report(report, views_table(report), as_json, out)


@bench.command("start")
def start_command(
    model: Annotated[str, typer.Option("--model", help="Name or directory of the model.")] = "embedded",
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Starts; the median counts.")] = 5,
    as_json: AsJson = False,
    out: Out = None,
    overwrite: Overwrite = False,
) -> None:
    """Time from the start of `dynrefer serve` to ready, and where it goes."""
    _check_out(out, overwrite, Path(model))
    from dynrefer.workbench.profiling.startup import measure_start

    report, table = measure_start(model, repeats)
    _print_report(report, table, as_json, out)


@bench.command("agreement")
def agreement_command(
    regions: Annotated[int, typer.Option("--regions", min=1, help="Regions on drawn scenes.")] = 200,
    as_json: AsJson = False,
    out: Out = None,
    overwrite: Overwrite = False,
) -> None:
    """Agreement of the embedded model in bfloat16 with float32: views, tags above the threshold, captions."""
    _check_out(out, overwrite)
    with contextlib.redirect_stdout(sys.stderr):
        from dynrefer.workbench.profiling.dtype_agreement import measure_agreement

        report, table = measure_agreement(regions)
    _print_report(report, table, as_json, out)


@bench.command("peers")
def peers_command(
    models: Annotated[str, typer.Option("--models", help="all, or names, separated by commas.")] = "all",
    regions: Annotated[int, typer.Option("--regions", min=1, help="Regions of the image.")] = 8,
    batches: Annotated[str, typer.Option("--batches", help="Regions per pass, separated by commas.")] = "1,4,8",
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Timed runs per row; the median pass counts.")] = 1,
    tokens: Annotated[int, typer.Option("--tokens", min=2, help="New tokens per caption.")] = 20,
    dtype: Annotated[str, typer.Option("--dtype", help="auto, float32 or bfloat16.")] = "auto",
    row_seconds: Annotated[
        float, typer.Option("--row-seconds", min=0, help="No further pass of a row begins after as long.")
    ] = 20.0,
    device: Device = "cpu",
    threads: Threads = None,
    as_json: AsJson = False,
    out: Out = None,
    overwrite: Overwrite = False,
    append: Annotated[
        bool, typer.Option("--append", help="Keep the rows of --out, and replace or add to them.")
    ] = False,
) -> None:
    """DynRefer beside other models of published sizes with random weights: regions per second, memory, answers."""
    _check_out(out, overwrite or append)
    sizes = _sizes(batches, "--batches")
    _one_of(dtype, ("auto", *DTYPES), "--dtype")
    with contextlib.redirect_stdout(sys.stderr):
        from dynrefer.workbench.profiling.peers.measure import ModelPlan
        from dynrefer.workbench.profiling.peers.published import MODELS
        from dynrefer.workbench.profiling.peers.report import measure_peers, peers_table

        names = tuple(MODELS) if models == "all" else tuple(part.strip() for part in models.split(","))
        for name in names:
            _one_of(name, tuple(MODELS), "--models")
        chosen = str(_device(device, threads))
        plans = [
            ModelPlan(name, regions, sizes, repeats, tokens, dtype, chosen, threads, row_seconds) for name in names
        ]
        report = measure_peers(plans, out, append=append, log=lambda line: print(line, file=sys.stderr))
    _print_report(report, peers_table(report), as_json, out)


@bench.command("batch-invariance")
def batch_invariance_command(
    regions: Annotated[int, typer.Option("--regions", min=1, help="Regions on drawn scenes.")] = 200,
    as_json: AsJson = False,
    out: Out = None,
    overwrite: Overwrite = False,
) -> None:
    """Whether a region's numbers depend on what else is in its batch; the embedded model."""
    _check_out(out, overwrite)
    with contextlib.redirect_stdout(sys.stderr):
        from dynrefer.workbench.profiling.batch_invariance import measure_batch_invariance

        report, table = measure_batch_invariance(regions)
    _print_report(report, table, as_json, out)


bench.command("company", hidden=True)(batch_invariance_command)  # its earlier name


def _check_out(out: Path | None, overwrite: bool, *read: Path) -> None:
    """Before anything is measured. Raises `OutputFileError`."""
    if out is not None:
        from dynrefer.model.outputs import check_outputs

        check_outputs([("--out", out)], read, overwrite=overwrite)


def _sizes(text: str, option: str = "--regions") -> tuple[int, ...]:
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise typer.BadParameter(f"{option} {text!r} must be whole numbers from 1 on, separated by commas.")
    return sizes


def _one_of(given: str, known: tuple[str, ...], option: str) -> None:
    if given not in known:
        raise typer.BadParameter(f"{option} {given!r} is not one of {', '.join(known)}.")


def _device(device: str, threads: int | None) -> "torch.device":
    import torch

    from dynrefer.model.loading import pick_device

    if threads is not None:
        torch.set_num_threads(threads)
    return pick_device(device)


def _print_report(report: dict[str, Any], table: str, as_json: bool, out: Path | None) -> None:
    _write_report(report, out)
    print(json.dumps(report, indent=1) if as_json else table)


def _write_report(report: dict[str, Any], out: Path | None) -> None:
    if out is not None:
        from dynrefer.workbench.data.atomic import replace_text

        replace_text(out, json.dumps(report, indent=1) + "\n")
