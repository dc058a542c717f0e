"""`dynrefer batch`: describe the regions of many images without a server; what it does is in `batch/job.py`."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynrefer.model.types import ALL_TASKS
from dynrefer.service.command_files import fail, read_tasks

if TYPE_CHECKING:
    from dynrefer.model import FindQuery, NamedVocabularies
    from dynrefer.service.settings import Settings

# Of image work where no client waits and the files are the user's own, unless the environment says otherwise.
_OFFLINE = {"image_cpu_s": "30", "image_wall_s": "120", "max_image_pixels": "200000000"}
_QUEUE = "1000000"  # regions; the run itself bounds what is under way


def batch_command(
    given: Annotated[
        Path, typer.Argument(metavar="IN", help="Folder of images, or a file of boxes: COCO JSON, CSV or JSONL.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="OUT", help="What to write, by its ending: .jsonl, .parquet, .coco.json, .hf.jsonl, .yolo, .voc."
        ),
    ],
    also: Annotated[
        list[Path] | None, typer.Option(help="A further file to write of the same answers; repeatable.")
    ] = None,
    boxes: Annotated[
        Path | None, typer.Option(help="Boxes of a folder's images: COCO JSON, YOLO, VOC XML, CSV or JSONL.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder that a file's images are relative to. [default: that of the file]")
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="coco, yolo, voc, csv or jsonl. [default: by what the files hold]")
    ] = None,
    coordinates: Annotated[
        str | None, typer.Option(help="What a CSV's numbers count: pixels, unit (0..1), percent or per_mille.")
    ] = None,
    orientation: Annotated[
        str | None, typer.Option(help="Frame of the boxes: upright, or stored, which is before the EXIF rotation.")
    ] = None,
    find: Annotated[
        bool, typer.Option("--find", help="Find the regions: every object, or --name, or --phrase.")
    ] = False,
    name: Annotated[
        list[str] | None, typer.Option("--name", help="What to find; repeatable; as of `dynrefer detect`.")
    ] = None,
    phrase: Annotated[str | None, typer.Option(help="A sentence, each of whose noun phrases is found.")] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Least score. [default: the finder's own]")
    ] = None,
    nms: Annotated[
        float, typer.Option(min=0, max=1, help="Boxes of one name that overlap by more are one object.")
    ] = 0.5,
    max_regions: Annotated[int, typer.Option("--max-regions", min=1, help="The best so many of an image.")] = 50,
    masks: Annotated[bool, typer.Option("--masks", help="Find each region's mask too.")] = False,
    no_describe: Annotated[bool, typer.Option("--no-describe", help="Find, and describe nothing.")] = False,
    task: Annotated[
        list[str] | None, typer.Option("--task", help=f"{', '.join(ALL_TASKS)}; repeatable. [default: all]")
    ] = None,
    vocabulary: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="Words to answer in: coco, lvis, everyday, or a JSON file.")
    ] = None,
    language: Annotated[str | None, typer.Option(help="Language of the names, where they have it, such as de.")] = None,
    top_k: Annotated[int | None, typer.Option("--top-k", min=1, help="Most labels of a task. [default: 10]")] = None,
    model: Annotated[str, typer.Option("--model", help="Name or directory of the model.")] = "embedded",
    finder: Annotated[str, typer.Option(help="embedded, or a directory with a finder of transformers.")] = "embedded",
    segmenter: Annotated[str, typer.Option(help="embedded, or a directory with a SAM 2.")] = "embedded",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    batch: Annotated[int | None, typer.Option(min=1, help="Most regions of a batch. [default: as the service]")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that decode images. [default: as the service]")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="thread: this process; ray: workers of a Ray cluster. [default: thread]")
    ] = None,
    replicas: Annotated[int | None, typer.Option(help="Workers of --engine ray, a model each. [default: 1]")] = None,
    replica_gpus: Annotated[
        float | None, typer.Option(help="GPUs of a worker; 0.5: two share one. [default: 1 if there are any]")
    ] = None,
    replica_cpus: Annotated[
        float | None, typer.Option(help="Cores of a worker, and threads of its model on a CPU. [default: 1]")
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="HOST:PORT of a Ray cluster to join. [default: one is started here]")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try again what failed in an earlier run.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that no earlier run wrote.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Describe the regions of many images. A run that is stopped, in whatever way, goes on where it was.

    Answers are kept in OUT.journal.jsonl; OUT is written at the end, and OUT.failed.jsonl with what failed and why.
    Exit codes: 0 all is answered; 4 some failed; 2 something cannot be used; 130 interrupted; 3 the device is lost.
    """
    if importlib.util.find_spec("fcntl") is None:
        fail("`dynrefer batch` needs Linux or macOS; on Windows run it in a container or in WSL.")
    found: dict[str, Any] = {
        "coordinates": coordinates,
        "orientation": orientation,
        "language": language,
        "top_k": top_k,
    }
    fields = {key: value for key, value in found.items() if value is not None}
    if tasks := read_tasks(task):
        fields["task"] = [each.value for each in tasks]
    query = _find_query(find, name, phrase, threshold, nms, max_regions, masks)
    if no_describe and (query is None or fields):
        fail("--no-describe belongs to --find, and leaves nothing to --task and other options of descriptions.")
    vocabularies, known = _vocabulary(vocabulary)
    if known is not None:
        fields["vocabulary"] = known
    given_settings = {
        "model": model,
        "finder": finder,
        "segmenter": segmenter,
        "device": device,
        "max_batch_regions": batch,
        "worker_processes": workers,
        "max_queue_regions": _QUEUE,
        "engine": engine,
        "replicas": replicas,
        "replica_gpus": replica_gpus,
        "replica_cpus": replica_cpus,
        "ray_address": ray_address,
    }
    settings = _settings({key: str(value) for key, value in given_settings.items() if value is not None})
    if settings.engine == "ray":
        _check_ray_is_here()
    from dynrefer.service.batch.asking import Question
    from dynrefer.service.batch.errors import BatchError
    from dynrefer.service.batch.job import interrupt_on_sigterm, run_job
    from dynrefer.service.batch.planning import Job
    from dynrefer.service.server.server import exit_process
    from dynrefer.service.settings import SettingsError

    interrupt_on_sigterm()
    job = Job(
        given,
        out,
        Question(fields, query, not no_describe),
        settings,
        also=tuple(also or ()),
        boxes=boxes,
        images=images,
        format=format,
        vocabularies=vocabularies,
        retry_failed=retry_failed,
        overwrite=overwrite,
        quiet=quiet,
    )
    try:
        code = run_job(job)
    except (BatchError, SettingsError) as error:
        fail(str(error))
    exit_process(code)


def _check_ray_is_here() -> None:
    for package in ("ray", "pyarrow"):
        if importlib.util.find_spec(package) is None:
            fail(f"--engine ray needs the package {package}: pip install 'dynrefer[ray]' adds it.")


def _find_query(
    find: bool,
    names: list[str] | None,
    phrase: str | None,
    threshold: float | None,
    nms: float,
    max_regions: int,
    masks: bool,
) -> FindQuery | None:
    if not find:
        if names or phrase is not None or masks or threshold is not None:
            fail("--name, --phrase, --threshold and --masks belong to --find; add it.")
        return None
    if names and phrase is not None:
        fail("give --name or --phrase, not both.")
    if phrase is not None and not phrase.strip():
        fail("--phrase is empty; give a sentence, or leave it out to find everything.")
    from dynrefer.model.find_names import find_query
    from dynrefer.service.detect_command import read_name

    try:
        return find_query([read_name(each) for each in names or []], phrase, threshold, nms, max_regions, masks=masks)
    except ValueError as error:  # names that are asked twice
        fail(str(error))


def _vocabulary(given: str | None) -> tuple[NamedVocabularies, str | None]:
    """All that have a name, and the one that is asked for."""
    from dynrefer.model import NamedVocabularies

    known = NamedVocabularies()
    if given is None or known.get(given) is not None:
        return known, given
    if not os.path.exists(given):
        fail(f"--vocabulary {given} is neither one of {', '.join(known.names)} nor a file.")
    from dynrefer.model.named_vocabularies import read_named

    found = read_named(Path(given))
    return NamedVocabularies([found]), found.name


def _settings(flags: dict[str, str]) -> Settings:
    """Those of the service, from the environment too; some have other defaults here."""
    from dynrefer.service.settings import PREFIX, SettingsError, load_settings

    given = {name.upper() for name, value in os.environ.items() if value}
    defaults = {name: value for name, value in _OFFLINE.items() if PREFIX + name.upper() not in given}
    try:
        return load_settings({**defaults, **flags})
    except SettingsError as error:
        fail(str(error))
