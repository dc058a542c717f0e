"""The command line of `dynrefer evaluate`. Standard output holds only the result; everything else goes to stderr."""

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
    """How the views of labelled regions are chosen."""

    TASK_PRIOR = "task-prior"
    IMAGE_PRIOR = "image-prior"


class FrameOf(StrEnum):
    """The frame of the boxes of images with an EXIF orientation."""

    AUTO = "auto"
    UPRIGHT = "upright"
    STORED = "stored"


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
        typer.Option("--data", metavar="FILE", help="COCO-style annotations to measure on. [default: drawn scenes]"),
    ] = None,
    images: Annotated[
        Path | None, typer.Option("--images", metavar="DIR", help="Folder with the images of --data.")
    ] = None,
    captions: Annotated[
        Path | None,
        typer.Option("--captions", metavar="FILE", help="JSONL file with the reference captions of --data."),
    ] = None,
    box_format: Annotated[
        BoxFormat | None,
        typer.Option("--box-format", help="Format of bbox in --data. [default: xyxy with extra_info, else xywh]"),
    ] = None,
    frame: Annotated[
        FrameOf | None,
        typer.Option(
            "--frame",
            help="Boxes in --data are those of the upright images, or of images as they are stored, without their EXIF "
            "orientation. [default: auto: by the boxes and the listed sizes]",
        ),
    ] = None,
    task: Annotated[Benchmark | None, typer.Option("--task", help="What to measure on --data.")] = None,
    predictions: Annotated[
        Path | None,
        typer.Option("--predictions", metavar="FILE", help="Measure these saved predictions; no model is loaded."),
    ] = None,
    save_predictions: Annotated[
        Path | None,
        typer.Option("--save-predictions", metavar="FILE", help="Save the predictions, one JSON object per line."),
    ] = None,
    proposals: Annotated[
        Path | None,
        typer.Option("--proposals", metavar="FILE", help="Detected boxes for dense-captions: a COCO result file."),
    ] = None,
    views: Annotated[
        ViewsOf | None,
        typer.Option(
            "--views", help="On --data: the task's views, or those of the perceptual-hash search. [default: task-prior]"
        ),
    ] = None,
    photos: Annotated[
        Path | None,
        typer.Option(
            "--photos", metavar="DIR", help="Folder of labelled photographs to measure on: labels.json and the images."
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", metavar="NAME", help="Only this split of --photos. [default: all]")
    ] = None,
    colours: Annotated[
        Path | None,
        typer.Option(
            "--colours", metavar="FILE", help="True colours for --photos: a JSON object, image name to colour words."
        ),
    ] = None,
    jpeg: Annotated[
        int | None,
        typer.Option("--jpeg", min=1, max=100, help="Store the drawn scenes as JPEG of this quality first."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write the result here as JSON, Markdown and plots.")
    ] = None,
    finder: Annotated[
        bool, typer.Option("--finder", help="Measure how regions are found instead, on drawn scenes or on --data.")
    ] = False,
    scenes: Annotated[
        int | None, typer.Option("--scenes", min=1, help="With --finder: number of drawn scenes. [default: 500]")
    ] = None,
    sweep_views: Annotated[
        bool,
        typer.Option("--sweep-views", help="Study views instead: metrics over t, and policies with 1 to 4 views."),
    ] = False,
    scenes_seed: Annotated[
        int | None,
        typer.Option(
            "--scenes-seed", min=0, help="Seed of the drawn scenes, none of which is used in training. [default: 0]"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    regions: Annotated[
        int | None,
        typer.Option(
            "--regions",
            min=20,
            help="Approximate number of regions. [default: 2000; with --tune 1000, --sweep-views 500; --data all]",
        ),
    ] = None,
    batch_regions: Annotated[
        int | None,
        typer.Option("--batch-regions", min=1, help="With --data or --sweep-views: regions per batch. [default: 64]"),
    ] = None,
    tune: Annotated[
        Path | None,
        typer.Option(
            "--tune",
            metavar="OUT.json",
            help="Tune task priors, thresholds and calibration on validation scenes instead; write them here.",
        ),
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="With --tune: also write the result into the model's config.json.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    device: Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda or cuda:N. [default: auto]")] = None,
) -> None:
    """Measure a model on drawn scenes, labelled data or photographs, with standard errors; study its views; tune it."""
    given = {
        "--model": model,
        "--device": device,
        "--views": views,
        "--batch-regions": batch_regions,
        "--captions": captions,
        "--box-format": box_format,
        "--frame": frame,
        "--data": data,
        "--images": images,
        "--task": task,
        "--predictions": predictions,
        "--save-predictions": save_predictions,
        "--proposals": proposals,
        "--out": out,
        "--sweep-views": sweep_views or None,
        "--finder": finder or None,
        "--scenes": scenes,
        "--scenes-seed": scenes_seed,
        "--tune": tune,
        "--apply": apply or None,
        "--photos": photos,
        "--split": split,
        "--colours": colours,
        "--jpeg": jpeg,
        "--regions": regions,
        "--overwrite": overwrite or None,
    }
    _check_combination({name for name, value in given.items() if value is not None}, task)
    for path in (tune, save_predictions):
        if path is not None and not path.resolve().parent.is_dir():
            raise typer.BadParameter(f"cannot write {path}: no such folder.")
    # Nothing that a library prints may end up in the result.
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
            frame=frame.value if frame else "auto",
            proposals=proposals,
            task=task.value if task else None,
            predictions=predictions,
            save_predictions=save_predictions,
            image_prior=views is ViewsOf.IMAGE_PRIOR,
            batch_regions=batch_regions or BATCH_REGIONS,
            sweep_views=sweep_views,
            finder=finder,
            scenes=scenes,
            photos=photos,
            split=split,
            colours=colours,
            jpeg_quality=jpeg,
            overwrite=overwrite,
        )
        result, text = run(options)
    print(json.dumps(result, indent=2) if as_json else text)


_NEEDS = {
    "--apply": ("--tune", "--apply writes the result of --tune OUT.json into the model; give both."),
    "--views": ("--data", "--views chooses the views for --data FILE; give both."),
    "--captions": ("--data", "--captions belong to the annotations in --data FILE; give both."),
    "--box-format": ("--data", "--box-format describes the boxes in --data FILE; give both."),
    "--frame": ("--data", "--frame is that of the boxes in --data FILE; give both."),
    "--images": ("--data", "--images is the folder with the images of --data FILE; give both."),
    "--task": ("--data", "--task names what to measure on --data FILE; give both."),
    "--predictions": ("--data", "--predictions are compared with the ground truth in --data FILE; give both."),
    "--proposals": ("--data", "--proposals are boxes in the images of --data FILE; give both."),
    "--split": ("--photos", "--split names a split of --photos DIR; give both."),
    "--scenes": ("--finder", "--scenes is the number of drawn scenes for --finder; give both."),
    "--colours": ("--photos", "--colours are those of the objects in --photos DIR; give both."),
}
_EXCLUDES = {
    ("--tune", "--data"): "--tune uses drawn scenes; leave --data out.",
    ("--tune", "--sweep-views"): "--tune and --sweep-views exclude each other; give one.",
    ("--tune", "--out"): "--tune writes only its own file; leave --out out.",
    ("--data", "--scenes-seed"): "--scenes-seed applies to drawn scenes only; leave it or --data out.",
    ("--predictions", "--save-predictions"): "--predictions are already saved; leave --save-predictions out.",
    ("--predictions", "--images"): "--predictions are measured without images; leave --images out.",
    ("--predictions", "--frame"): "--predictions are measured without images; leave --frame out.",
    ("--predictions", "--model"): "--predictions are measured without a model; leave --model out.",
    ("--predictions", "--device"): "--predictions are measured without a model; leave --device out.",
    ("--predictions", "--views"): "--predictions were made with their own views; leave --views out.",
    ("--predictions", "--batch-regions"): "--predictions are measured without a model; leave --batch-regions out.",
    ("--predictions", "--proposals"): "--predictions contain their boxes; leave --proposals out.",
    ("--sweep-views", "--views"): "--sweep-views compares all views; leave --views out.",
    (
        "--sweep-views",
        "--predictions",
    ): "--sweep-views runs the model for each choice of views; leave --predictions out.",
    ("--sweep-views", "--save-predictions"): "--sweep-views saves no predictions; leave --save-predictions out.",
    ("--sweep-views", "--proposals"): "--sweep-views uses the labelled boxes; leave --proposals out.",
    ("--sweep-views", "--colours"): "--sweep-views measures no colours; leave --colours out.",
    **{
        ("--finder", other): f"--finder measures how regions are found; leave {other} out."
        for other in (
            *("--tune", "--sweep-views", "--photos", "--task", "--predictions", "--save-predictions", "--proposals"),
            *("--captions", "--views", "--regions", "--batch-regions", "--jpeg", "--frame", "--colours"),
        )
    },
    ("--scenes", "--data"): "--scenes are drawn; leave it or --data out.",
    ("--photos", "--data"): "--photos and --data are different labels; give one.",
    ("--photos", "--tune"): "--tune uses drawn scenes; leave --photos out.",
    ("--photos", "--scenes-seed"): "--scenes-seed applies to drawn scenes only; leave it or --photos out.",
    ("--photos", "--regions"): "--photos measures every box; leave --regions out.",
    ("--photos", "--batch-regions"): "--photos runs one photograph at a time; leave --batch-regions out.",
    ("--jpeg", "--photos"): "--jpeg stores drawn scenes; leave it or --photos out.",
    ("--jpeg", "--data"): "--jpeg stores drawn scenes; leave it or --data out.",
    ("--jpeg", "--tune"): "--tune uses scenes as they are drawn; leave --jpeg out.",
    ("--jpeg", "--sweep-views"): "--sweep-views uses scenes as they are drawn; leave --jpeg out.",
}


def _check_combination(given: set[str], task: Benchmark | None) -> None:
    for name, (needed, sentence) in _NEEDS.items():
        if name in given and needed not in given:
            raise typer.BadParameter(sentence)
    for pair, sentence in _EXCLUDES.items():
        if given.issuperset(pair):
            raise typer.BadParameter(sentence)
    if "--save-predictions" in given and not given & {"--data", "--photos"}:
        raise typer.BadParameter("--save-predictions saves predictions for --data FILE or --photos DIR; give one.")
    if "--data" in given and not given & {"--task", "--sweep-views", "--finder"}:
        raise typer.BadParameter(f"--data needs --task: one of {', '.join(Benchmark)}.")
    if "--batch-regions" in given and not given & {"--data", "--sweep-views"}:
        raise typer.BadParameter("--batch-regions applies to --data and --sweep-views only; leave it out.")
    if "--overwrite" in given and not given & {"--out", "--save-predictions", "--tune"}:
        raise typer.BadParameter("--overwrite is for --out, --save-predictions and --tune; leave it out.")
    if "--captions" in given and task in (Benchmark.ATTRIBUTES, Benchmark.RECOGNITION):
        raise typer.BadParameter(f"--task {task} uses no captions; leave --captions out.")
    if "--proposals" in given and task is not Benchmark.DENSE_CAPTIONS:
        raise typer.BadParameter("--proposals apply to --task dense-captions only; leave them out.")


def _missing(error: ModuleNotFoundError) -> ConfigError:
    return ConfigError(f"dynrefer evaluate needs the package {error.name}; pip install 'dynrefer[evaluate]'.")
