"""The jobs of `dynrefer evaluate`, from options to printed result: drawn scenes, labelled data, labelled photographs,
views, tuning."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynrefer.model.geometry import BoxFormat
from dynrefer.model.loading import EMBEDDED
from dynrefer.model.outputs import Output, check_outputs, refuse_inputs
from dynrefer.model.types import RegionDescription, Task
from dynrefer.workbench.data.atomic import replace_text
from dynrefer.workbench.data.frames import Frame, as_stored_sentence
from dynrefer.workbench.data.labelled import LabelledData
from dynrefer.workbench.data.labelled_files import read_labelled, read_proposals
from dynrefer.workbench.data.photographs import LABELS_FILE, LabelledPhotograph, read_photographs
from dynrefer.workbench.data.regions import ImageRegions
from dynrefer.workbench.errors import DataError
from dynrefer.workbench.evaluation.benchmark import Benchmark
from dynrefer.workbench.evaluation.data import TASK_OF, check_measurable, labelled_for, measure_benchmark, predict
from dynrefer.workbench.evaluation.drawn_regions import RegionSet, check_vocabulary
from dynrefer.workbench.evaluation.finding import (
    SCENES,
    measure_finder,
    measure_found_data,
    to_standard_error,
    untrained_names,
)
from dynrefer.workbench.evaluation.inference import BATCH_REGIONS, check_names
from dynrefer.workbench.evaluation.photographs import (
    measure_photographs,
    names_as_ancestors,
    of_split,
    quality_over_views,
    with_colours,
)
from dynrefer.workbench.evaluation.predictions import (
    Prediction,
    named_categories,
    read_predictions,
    skipped_from,
    without_skipped,
    write_predictions,
)
from dynrefer.workbench.evaluation.report.described_boxes import write_described
from dynrefer.workbench.evaluation.report.files import (
    files_of,
    prepare_folder,
    write_photographs,
    write_result,
    write_study,
)
from dynrefer.workbench.evaluation.report.tables import grid_table, text_table
from dynrefer.workbench.evaluation.scenes import MAIN_REGIONS, measure
from dynrefer.workbench.evaluation.tune import TUNING_REGIONS, apply_tuning, tune
from dynrefer.workbench.evaluation.view_study import (
    STUDY_REGIONS,
    LabelledSubject,
    SceneSubject,
    Subject,
    ViewStudy,
    study_views,
)
from dynrefer.workbench.scenes.artwork import SpritePack, art_folder
from dynrefer.workbench.scenes.world import World

if TYPE_CHECKING:
    from dynrefer.model import DynRefer

Result = Mapping[str, Any]
DRAWN_REGIONS = 200  # least number of drawn regions, to see what the model takes drawings for


@dataclass(frozen=True)
class Options:
    """The command line's options; their combination is checked there.

    task: value of a `Benchmark`. box_format: value of a `BoxFormat`, or None for the default of the file's layout.
    frame: value of a `Frame`.
    """

    model: str = "embedded"
    device: str = "auto"
    scenes_seed: int = 0
    regions: int | None = None
    out: Path | None = None
    tune: Path | None = None
    apply: bool = False
    data: Path | None = None
    images: Path | None = None
    captions: Path | None = None
    box_format: str | None = None
    frame: str = "auto"
    proposals: Path | None = None
    task: str | None = None
    predictions: Path | None = None
    save_predictions: Path | None = None
    image_prior: bool = False
    batch_regions: int = BATCH_REGIONS
    sweep_views: bool = False
    finder: bool = False
    scenes: int | None = None
    photos: Path | None = None
    split: str | None = None
    colours: Path | None = None
    jpeg_quality: int | None = None
    overwrite: bool = False

    @property
    def readers(self) -> int:
        """Number of threads that read images while the network runs."""
        return max(1, min(8, (os.cpu_count() or 1) // 2))

    def load(self, directory: Path | None = None) -> DynRefer:
        """Load the model, or the one in `directory`. Imports torch, which saved predictions are measured without."""
        from dynrefer.model import DynRefer

        return DynRefer.load(directory or self.model, device=self.device)

    def load_network(self, directory: Path | None = None) -> DynRefer:
        """`load` without evidence of photographs, which costs time and has no part in what is tuned on drawn scenes."""
        from dynrefer.model import DynRefer
        from dynrefer.model.loading import load_model

        return DynRefer(load_model(directory or self.model, device=self.device, dtype="auto", evidence=False))

    def labelled(self, benchmark: Benchmark) -> LabelledData:
        """Read what the benchmark needs of the annotations in `data`, and check that nothing of it is written over."""
        assert self.data is not None
        data = read_labelled(
            self.data,
            self.images,
            box_format=BoxFormat(self.box_format) if self.box_format else None,
            captions=self.captions,
            task=TASK_OF[benchmark],
        )
        refuse_inputs(self.outputs, data.images.values())
        return data

    @property
    def result_name(self) -> str:
        """Of the files in `out`."""
        if self.finder:
            return "finder_data" if self.data else "finder"
        if self.photos:
            return "photograph_views" if self.sweep_views else "photographs"
        if self.sweep_views:
            return "views"
        return self.task if self.data and self.task else "scenes"

    @property
    def outputs(self) -> list[Output]:
        """The files that the job may write."""
        named = [("--save-predictions", self.save_predictions), ("--tune", self.tune)]
        in_folder = files_of(self.out, self.result_name) if self.out else []
        return [*((option, path) for option, path in named if path), *(("--out", path) for path in in_folder)]

    @property
    def inputs(self) -> list[Path | None]:
        """The files that it reads, but for images, which are known once the labels are read."""
        model = None if self.predictions else _directory(self)
        return [self.data, self.captions, self.predictions, self.proposals, self.colours, model]

    def photographs(self) -> tuple[LabelledPhotograph, ...]:
        """Read the labels in `photos`: the photographs of `split`, with the colours of the file `colours`."""
        assert self.photos is not None
        found = of_split(read_photographs(self.photos), self.split)
        refuse_inputs(self.outputs, [self.photos / LABELS_FILE, *(each.path for each in found)])
        return with_colours(found, self.colours) if self.colours else found


def run(options: Options) -> tuple[Result, str]:
    """Run the job that the options name; returns the result as JSON-ready data and as text. Raises `ModelError`."""
    check_outputs(options.outputs, options.inputs, overwrite=options.overwrite)
    if options.out:
        prepare_folder(options.out)
    job: Callable[[Options], tuple[Result, str]] = _measure_scenes
    if options.tune:
        job = _tune
    elif options.finder:
        job = _measure_finder
    elif options.photos:
        job = _study_photographs if options.sweep_views else _measure_photographs
    elif options.sweep_views:
        job = _study_views
    elif options.data:
        job = _measure_data
    return job(options)


def _measure_scenes(options: Options) -> tuple[Result, str]:
    found = measure(
        options.load(),
        World.load(),
        scenes_seed=options.scenes_seed,
        art_cache=art_folder(),
        regions=options.regions or MAIN_REGIONS,
        directory=_directory(options),
        jpeg_quality=options.jpeg_quality,
    )
    if options.out:
        _report_written(write_result(options.out, "scenes", found.result, found.curves))
    return found.result, text_table(found.result)


def _measure_finder(options: Options) -> tuple[Result, str]:
    about: dict[str, Any]
    if options.data:
        data = read_labelled(
            options.data,
            options.images,
            box_format=BoxFormat(options.box_format) if options.box_format else None,
            captions=None,
            task=Task.CATEGORIES,
        )
        refuse_inputs(options.outputs, data.images.values())
        model = options.load()
        result, about = measure_found_data(model, data, to_standard_error), {"data": options.data.name}
    else:
        model = options.load()
        result = measure_finder(
            model,
            world=World.load(),
            held_out=untrained_names(_directory(options)),
            ancestors=names_as_ancestors(_directory(options)),
            seed=options.scenes_seed,
            scenes=options.scenes or SCENES,
            progress=to_standard_error,
        )
        about = {}
    result = {**result, "model": model.card.name, "revision": model.card.revision, **about}
    if options.out:
        path = options.out / f"{options.result_name}.json"
        replace_text(path, json.dumps(result, indent=2) + "\n")
        _report_written([path])
    return result, text_table(result)


def _measure_photographs(options: Options) -> tuple[Result, str]:
    photographs = options.photographs()
    model = options.load()
    found = measure_photographs(
        model,
        photographs,
        ancestors=names_as_ancestors(_directory(options)),
        decide=_decision,
        drawings=_drawings(),
        about=_about_photographs(options),
    )
    if options.save_predictions:
        write_described(options.save_predictions, found.boxes)
    if options.out:
        _report_written(write_photographs(options.out, found))
    result = found.result
    text = text_table({name: value for name, value in result.items() if name != "by_split"})
    return result, f"{text}\n\n{grid_table(found.splits, 'split').rstrip()}" if len(found.splits) > 1 else text


def _decision(found: RegionDescription) -> str | None:
    """What the model took the region for, "drawing" or "photograph", if its answer says so."""
    decision: str | None = getattr(found, "domain", None)
    return decision


def _drawings() -> Iterator[ImageRegions]:
    """Drawn test scenes; drawn when they are first asked for."""
    drawn = RegionSet.draw(World.load(), SpritePack.load(), "test", scenes_seed=0, regions=DRAWN_REGIONS)
    yield from drawn.image_regions()


def _study_photographs(options: Options) -> tuple[Result, str]:
    photographs = options.photographs()
    model = options.load()
    study = quality_over_views(model, photographs, names_as_ancestors(_directory(options)))
    result = {
        "over_t": study.to_json()["over_t"],
        "boxes": sum(len(each.boxes) for each in photographs),
        "model": model.card.name,
        "revision": model.card.revision,
        **_about_photographs(options),
    }
    if options.out:
        _report_written(write_study(options.out, "photograph_views", result, study))
    return result, study.markdown()


def _about_photographs(options: Options) -> dict[str, Any]:
    assert options.photos is not None
    return {"data": options.photos.resolve().name, **({"split": options.split} if options.split else {})}


def _tune(options: Options) -> tuple[Result, str]:
    assert options.tune is not None
    directory = _directory(options)
    tuning = tune(
        directory,
        options.load_network,
        scenes_seed=options.scenes_seed,
        regions=options.regions or TUNING_REGIONS,
    )
    options.tune.write_text(json.dumps(tuning.fragment, indent=2) + "\n")
    if options.apply:
        apply_tuning(directory, tuning.fragment)
    result = {**tuning.fragment, "quality": tuning.quality}
    return result, text_table(result)


def _directory(options: Options) -> Path:
    return EMBEDDED if options.model == "embedded" else Path(options.model)


def _measure_data(options: Options) -> tuple[Result, str]:
    assert options.task is not None
    benchmark = Benchmark(options.task)
    labelled = _sampled(labelled_for(benchmark, options.labelled(benchmark)), options)
    check_measurable(benchmark, labelled)
    if options.predictions:
        predictions = _of_sample(read_predictions(options.predictions), labelled, options)
        labelled, predictions = without_skipped(labelled, predictions)
        labelled = labelled.competing(named_categories(predictions))
        about: dict[str, Any] = {"predictions": options.predictions.name}
    else:
        labelled, predictions, about = _predict(benchmark, labelled, options)
    found = measure_benchmark(benchmark, labelled, predictions)
    result = {**found.result, **about, **_left_out(labelled)}
    if options.out:
        _report_written(write_result(options.out, benchmark.value, result, found.curves))
    return result, text_table(result)


def _predict(
    benchmark: Benchmark, labelled: LabelledData, options: Options
) -> tuple[LabelledData, list[Prediction], dict[str, Any]]:
    """Run the model: the data with all competing categories, its predictions, and what the result says about them."""
    about: dict[str, Any] = {}
    boxes = None
    labelled = labelled.located(Frame(options.frame))
    check_measurable(benchmark, labelled)  # some regions may be left out
    if options.proposals:
        boxes = read_proposals(options.proposals, labelled).on_images_of(labelled)
        about["proposals"] = options.proposals.name
        _report_skipped(boxes)
    model = options.load()
    labelled = labelled.competing(model.card.vocabulary[Task.CATEGORIES])
    predictions = predict(
        model,
        benchmark,
        boxes or labelled,
        image_prior=options.image_prior,
        batch_regions=options.batch_regions,
        readers=options.readers,
    )
    if boxes:  # detected boxes have no annotation
        predictions = [each.model_copy(update={"region": None}) for each in predictions]
    about |= {
        "model": model.card.name,
        "revision": model.card.revision,
        "views": "image prior" if options.image_prior else "task prior",
    }
    if options.save_predictions:
        write_predictions(options.save_predictions, [*predictions, *skipped_from(labelled)])
    return labelled, predictions, about


def _study_views(options: Options) -> tuple[Result, str]:
    model = options.load()
    subjects = _drawn_subjects(options, model) if options.data is None else _labelled_subjects(options, model)
    studies: list[ViewStudy] = [
        study_views(model, subject, batch_regions=options.batch_regions, readers=options.readers)
        for subject in subjects
    ]
    study = studies[0]
    for other in studies[1:]:
        study = study.joined(other)
    result = {
        **study.to_json(),
        "regions": {_name(subject): len(subject.regions) for subject in subjects},
        "views_of_the_model": model.card.num_views,
        "model": model.card.name,
        "revision": model.card.revision,
        **({"scenes_seed": options.scenes_seed} if options.data is None else {"data": options.data.name}),
    }
    if options.out:
        _report_written(write_study(options.out, "views", result, study))
    return result, study.markdown()


def _drawn_subjects(options: Options, model: DynRefer) -> list[Subject]:
    world = World.load()
    check_vocabulary(model, world)
    regions = RegionSet.draw(
        world, SpritePack.load(), "test", scenes_seed=options.scenes_seed, regions=options.regions or STUDY_REGIONS
    )
    return [SceneSubject(regions, model.card.thresholds["tags"])]


def _labelled_subjects(options: Options, model: DynRefer) -> list[Subject]:
    """The chosen benchmark, or without --task every benchmark that the data have ground truth for."""
    if options.task:
        return [_subject(Benchmark(options.task), options, model)]
    assert options.data is not None
    subjects: list[Subject] = []
    for benchmark in (Benchmark.CAPTIONS, Benchmark.ATTRIBUTES, Benchmark.RECOGNITION):
        try:
            subjects.append(_subject(benchmark, options, model))
        except DataError as error:
            print(f"not studied: {error}", file=sys.stderr)
    if not subjects:
        raise DataError(f"{options.data.name} holds neither captions nor attributes nor categories to measure.")
    return subjects


def _subject(benchmark: Benchmark, options: Options, model: DynRefer) -> Subject:
    limited = replace(options, regions=options.regions or STUDY_REGIONS)
    data = options.labelled(benchmark).competing(model.card.vocabulary[Task.CATEGORIES])
    regions = _sampled(labelled_for(benchmark, data), limited).located(Frame(options.frame))
    _report_skipped(regions)
    task = TASK_OF[benchmark]
    check_names(model, {known: names for known, names in regions.names.items() if known is task}, regions.source)
    return LabelledSubject(benchmark, regions, (task,))


def _name(subject: Subject) -> str:
    return subject.benchmark.value if isinstance(subject, LabelledSubject) else "test"


def _sampled(data: LabelledData, options: Options) -> LabelledData:
    return data.sample(options.regions) if options.regions else data


def _of_sample(predictions: list[Prediction], data: LabelledData, options: Options) -> list[Prediction]:
    """Predictions for the sampled images, and those for unknown images, which measuring then refuses."""
    if options.regions is None:
        return predictions
    return [each for each in predictions if each.image in data.by_image or each.image not in data.images]


def _left_out(data: LabelledData) -> dict[str, int]:
    """What the result says of annotations that were skipped, and of images whose boxes are in the stored frame."""
    _report_skipped(data)
    counts = {"skipped": len(data.skipped.found), "images_read_as_stored": len(data.stored)}
    return {name: count for name, count in counts.items() if count}


def _report_skipped(data: LabelledData) -> None:
    if data.skipped.found:
        print(data.skipped.summary(), file=sys.stderr)
    if data.stored:
        print(as_stored_sentence(len(data.stored), data.source), file=sys.stderr)


def _report_written(paths: list[Path]) -> None:
    print("written: " + ", ".join(str(path) for path in paths), file=sys.stderr)
