"""`dynrefer evaluate`: the command line. Standard output holds the result alone, standard error all else."""

from __future__ import annotations

import contextlib
import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dynrefer.model.errors import ConfigError
from dynrefer.workbench.evaluation.benchmark import Benchmark

if TYPE_CHECKING:
    from dynrefer.workbench.evaluation.jobs import Options


class ViewsOf(StrEnum):
    """Who chooses the views of labelled regions."""

    TASK_PRIOR = "task-prior"
    IMAGE_PRIOR = "image-prior"


class BoxFormat(StrEnum):
    """What the four numbers of `bbox` are: two corners, or a corner, width and height."""

    XYWH = "xywh"
    XYXY = "xyxy"


def evaluate_command(
    model: Annotated[
        str | None, typer.Option("--model", help="Name or directory of the model. [default: embedded]")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="FILE", help="COCO-style annotations. Default: scenes drawn for the purpose."),
    ] = None,
    images: Annotated[
        Path | None, typer.Option("--images", metavar="DIR", help="Folder of the images of --data.")
    ] = None,
    captions: Annotated[
        Path | None,
        typer.Option("--captions", metavar="FILE", help="JSONL with the captions of --data, for plain COCO."),
    ] = None,
    box_format: Annotated[
        BoxFormat | None,
        typer.Option("--box-format", help="Of bbox in --data. [default: xyxy beside extra_info, else xywh]"),
    ] = None,
    task: Annotated[Benchmark | None, typer.Option("--task", help="What to measure on --data.")] = None,
    predictions: Annotated[
        Path | None,
        typer.Option("--predictions", metavar="FILE", help="Measure these saved answers; no model is loaded."),
    ] = None,
    save_predictions: Annotated[
        Path | None, typer.Option("--save-predictions", metavar="FILE", help="Keep the answers, one JSON per line.")
    ] = None,
    proposals: Annotated[
        Path | None,
        typer.Option("--proposals", metavar="FILE", help="Boxes of a detector for dense-captions, a COCO result file."),
    ] = None,
    views: Annotated[
        ViewsOf | None,
        typer.Option(
            "--views", help="On --data: the task's views, or those of the image's own search. [default: task-prior]"
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write JSON, a Markdown table and plots here.")
    ] = None,
    sweep_views: Annotated[
        bool, typer.Option("--sweep-views", help="Study views instead: quality over t, and policies, 1 to 4 views.")
    ] = False,
    scenes_seed: Annotated[
        int | None,
        typer.Option("--scenes-seed", min=0, help="Which drawn scenes; none of them is ever trained on. [default: 0]"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
    regions: Annotated[
        int | None,
        typer.Option(
            "--regions",
            min=20,
            help="About how many regions. [default: 2000; with --tune 1000, --sweep-views 500; of --data all]",
        ),
    ] = None,
    batch_regions: Annotated[
        int | None,
        typer.Option(
            "--batch-regions", min=1, help="With --data or --sweep-views: regions per call of the model. [default: 64]"
        ),
    ] = None,
    tune: Annotated[
        Path | None,
        typer.Option(
            "--tune",
            metavar="OUT.json",
            help="Choose task priors, thresholds and calibration on validation scenes instead.",
        ),
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="With --tune: write the choice into the model's config.json too.")
    ] = False,
    device: Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda or cuda:N. [default: auto]")] = None,
) -> None:
    """Measure a model on drawn scenes or on labelled data, with standard errors; study its views; or tune it."""
    given = {
        "--model": model,
        "--device": device,
        "--views": views,
        "--batch-regions": batch_regions,
        "--captions": captions,
        "--box-format": box_format,
        "--data": data,
        "--images": images,
        "--task": task,
        "--predictions": predictions,
        "--save-predictions": save_predictions,
        "--proposals": proposals,
        "--out": out,
        "--sweep-views": sweep_views or None,
        "--scenes-seed": scenes_seed,
        "--tune": tune,
        "--apply": apply or None,
    }
    _refuse_what_does_not_fit({name for name, value in given.items() if value is not None}, task)
    for path in (tune, save_predictions):
        if path is not None and not path.resolve().parent.is_dir():
            raise typer.BadParameter(f"cannot write {path}: no such folder.")
    # Whatever a library prints must not get into the result.
    with contextlib.redirect_stdout(sys.stderr):
        try:
            from dynrefer.workbench.evaluation.inference import BATCH_REGIONS
            from dynrefer.workbench.evaluation.jobs import Options, run
        except ModuleNotFoundError as error:
            raise _missing(error) from error
        options: Options = Options(
            model="embedded" if model is None else model,
            device="auto" if device is None else device,
            scenes_seed=scenes_seed or 0,
            regions=regions,
            out=out,
            tune=tune,
            apply=apply,
            data=data,
            images=images,
            captions=captions,
            box_format=box_format.value if box_format else None,
            proposals=proposals,
            task=task.value if task else None,
            predictions=predictions,
            save_predictions=save_predictions,
            image_prior=views is ViewsOf.IMAGE_PRIOR,
            batch_regions=batch_regions or BATCH_REGIONS,
            sweep_views=sweep_views,
        )
        result, text = run(options)
    print(json.dumps(result, indent=2) if as_json else text)


_NEEDS = {
    "--apply": ("--tune", "--apply writes what --tune OUT.json has chosen; give both."),
    "--views": ("--data", "--views says how the regions of --data FILE are looked at; give both."),
    "--captions": ("--data", "--captions belong to the annotations in --data FILE; give both."),
    "--box-format": ("--data", "--box-format is of the boxes in --data FILE; give both."),
    "--images": ("--data", "--images is the folder of the images of --data; give both."),
    "--task": ("--data", "--task says what to measure on --data FILE; give both."),
    "--predictions": ("--data", "--predictions are compared with the truth in --data FILE; give both."),
    "--save-predictions": ("--data", "--save-predictions keeps answers about --data FILE; give both."),
    "--proposals": ("--data", "--proposals are boxes on the images of --data FILE; give both."),
}
_EXCLUDES = {
    ("--tune", "--data"): "--tune works on drawn scenes; leave --data out.",
    ("--tune", "--sweep-views"): "--tune and --sweep-views are two jobs; give one.",
    ("--tune", "--out"): "--tune writes its own file; leave --out out.",
    ("--data", "--scenes-seed"): "--scenes-seed is for drawn scenes; leave it or --data out.",
    ("--predictions", "--save-predictions"): "--predictions are saved already; leave --save-predictions out.",
    ("--predictions", "--images"): "--predictions are measured without pictures; leave --images out.",
    ("--predictions", "--model"): "--predictions are measured without a model; leave --model out.",
    ("--predictions", "--device"): "--predictions are measured without a model; leave --device out.",
    ("--predictions", "--views"): "--predictions have seen their views; leave --views out.",
    ("--predictions", "--batch-regions"): "--predictions are measured without a model; leave --batch-regions out.",
    ("--predictions", "--proposals"): "--predictions hold their boxes; leave --proposals out.",
    ("--sweep-views", "--views"): "--sweep-views tries all views; leave --views out.",
    ("--sweep-views", "--predictions"): "--sweep-views asks the model anew for every choice; leave --predictions out.",
    ("--sweep-views", "--save-predictions"): "--sweep-views keeps no predictions; leave --save-predictions out.",
    ("--sweep-views", "--proposals"): "--sweep-views looks at labelled boxes; leave --proposals out.",
}


def _refuse_what_does_not_fit(given: set[str], task: Benchmark | None) -> None:
    for name, (needed, sentence) in _NEEDS.items():
        if name in given and needed not in given:
            raise typer.BadParameter(sentence)
    for pair, sentence in _EXCLUDES.items():
        if given.issuperset(pair):
            raise typer.BadParameter(sentence)
    if "--data" in given and not given & {"--task", "--sweep-views"}:
        raise typer.BadParameter(f"--data needs --task, one of {', '.join(Benchmark)}.")
    if "--batch-regions" in given and not given & {"--data", "--sweep-views"}:
        raise typer.BadParameter("--batch-regions is for --data and --sweep-views; leave it out.")
    if "--captions" in given and task in (Benchmark.ATTRIBUTES, Benchmark.RECOGNITION):
        raise typer.BadParameter(f"--task {task} needs no captions; leave --captions out.")
    if "--proposals" in given and task is not Benchmark.DENSE_CAPTIONS:
        raise typer.BadParameter("--proposals are for --task dense-captions alone.")


def _missing(error: ModuleNotFoundError) -> ConfigError:
    return ConfigError(f"evaluating needs the package {error.name}; pip install 'dynrefer[evaluate]'.")
