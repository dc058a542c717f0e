"""`dynrefer`: the commands. Each imports what it needs when it runs, so that `--help` loads neither NumPy nor torch.

A usage error is one line on standard error and exit code 2, never a traceback.
"""

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynrefer.model.errors import ModelError, QueryError
from dynrefer.model.types import ALL_TASKS, Corners
from dynrefer.service import set_thread_environment
from dynrefer.service.command_files import fail, read_image, read_tasks, reason, refuse_unwritable, save_image
from dynrefer.service.command_options import ImageFile, Overwrite, Segmenter, SomeDevice, SomeModel
from dynrefer.service.region_options import read_box, read_point
from dynrefer.service.remote_commands import (
    Key,
    Server,
    Timeout,
    connected,
    described_by_service,
    read_bytes,
    refuse_mixed_options,
    words_for_service,
)
from dynrefer.service.server.signals import stop_signals
from dynrefer.service.standard_streams import (
    UnwritableOutput,
    abandon_output,
    finish_output,
    prepare_standard_streams,
)

if TYPE_CHECKING:
    from dynrefer.model.masks import RegionMask
    from dynrefer.model.prompts import Polygon, Prompt
    from dynrefer.model.request_vocabulary import RequestVocabulary

# The workbench's commands, and the extra of the installation that brings what each of them needs.
WORKBENCH_EXTRAS = {"train": "train", "evaluate": "evaluate", "bench": "train", "annotate-data": "train"}
SERVE_EXTRA = "serve"  # brings what all other commands need, but those that ask a service
ASK_A_SERVICE = ("describe", "detect", "ask")

app = typer.Typer(
    name="dynrefer",
    help="Describe image regions: captions, tags, attributes and categories.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

SERVES = importlib.util.find_spec("pydantic_settings") is not None  # whether the extra `serve` is installed
if SERVES:
    from dynrefer.service.serve_command import serve_command

    app.command("serve")(serve_command)

Boxes = Annotated[list[str], typer.Option("--box", help="x1,y1,x2,y2 in pixels of the upright image; repeatable.")]
SomeBoxes = Annotated[
    list[str] | None,
    typer.Option("--box", help="x1,y1,x2,y2 in pixels of the upright image; repeatable."),
]
Polygons = Annotated[
    list[str] | None,
    typer.Option("--polygon", help="x,y,x,y,x,y,... in pixels of the upright image; repeatable. After the boxes."),
]
Masks = Annotated[
    list[Path] | None,
    typer.Option(
        "--mask", help="A PNG of the image's size, bright where the region is; repeatable. After the polygons."
    ),
]
Highlight = Annotated[
    bool, typer.Option("--highlight", help="Blank all but the polygons, masks and what the points lie on.")
]
Points = Annotated[
    list[str] | None,
    typer.Option(
        "--point",
        help="x,y of a point on an object, or x,y,0 of one beside it; repeatable. All of them give one region, after "
        "those of the boxes.",
    ),
]
Tasks = Annotated[
    list[str] | None,
    typer.Option("--task", help=f"{', '.join(ALL_TASKS[:-1])} or {ALL_TASKS[-1]}; repeatable. Default: all."),
]
ModelName = Annotated[str, typer.Option("--model", help="Name or directory of the model.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]


def _add_commands() -> None:
    """All that are installed. The workbench's may be missing, as in a container image, and the service too, where the
    client alone is installed."""
    if not SERVES:
        _add_missing_command(app, "serve")
    from dynrefer.model.convert.command import convert_command

    app.command("convert")(convert_command)
    from dynrefer.service.detect_command import detect_command

    app.command("detect")(detect_command)
    from dynrefer.service.ask_command import ask_command

    app.command("ask")(ask_command)
    from dynrefer.service.batch_command import batch_command

    app.command("batch")(batch_command)
    from dynrefer.service.reload_command import reload_command

    app.command("reload")(reload_command)
    from dynrefer.service.corrections_command import corrections_command

    app.command("corrections")(corrections_command)
    from dynrefer.service.vocabulary_command import vocabulary_commands

    vocabulary = vocabulary_commands()
    app.add_typer(vocabulary)
    if importlib.util.find_spec("dynrefer.workbench") is None:
        for name in WORKBENCH_EXTRAS:
            _add_missing_command(app, name)
        _add_missing_command(vocabulary, "fit")
        return
    from dynrefer.workbench.annotate_command import annotate_command
    from dynrefer.workbench.evaluation.command import evaluate_command
    from dynrefer.workbench.profiling.command import bench
    from dynrefer.workbench.training.command import train_command
    from dynrefer.workbench.vocabularies.command import fit_command

    vocabulary.command("fit")(fit_command)
    app.command("train")(train_command)
    app.command("evaluate")(evaluate_command)
    app.command("annotate-data")(annotate_command)
    app.add_typer(bench, name="bench")


def _add_missing_command(group: typer.Typer, name: str) -> None:
    """A hidden command that takes any arguments and says what to install."""

    def say_what_to_install() -> None:
        extra = SERVE_EXTRA if name == "serve" else WORKBENCH_EXTRAS.get(name, "train")
        shown = name if group is app else f"vocabulary {name}"
        fail(f"`dynrefer {shown}` is not part of this installation; pip install 'dynrefer[{extra}]' adds it.")

    any_arguments = {"allow_extra_args": True, "ignore_unknown_options": True}
    group.command(name, hidden=True, add_help_option=False, context_settings=any_arguments)(say_what_to_install)


def main() -> None:
    """The console script: every expected error ends in one line."""
    prepare_standard_streams()
    arguments = sys.argv[1:] or ["--help"]
    if arguments[0] == "serve":
        stop_signals()  # a service may be stopped while it still imports what it needs
    from dynrefer.model.torch_environment import set_cache_environment

    set_thread_environment()  # both before any command imports NumPy or torch
    set_cache_environment()
    _add_commands()
    try:
        code = app(args=arguments, prog_name="dynrefer", standalone_mode=False)
        finish_output()
    except UnwritableOutput as error:
        abandon_output()
        fail(f"cannot write to standard output: {error}.")
    except typer.TyperException as error:
        fail(error.format_message())
    except ModelError as error:
        fail(str(error))
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("dynrefer"):
            raise
        fail(_what_to_install(arguments[0], error.name))
    except (KeyboardInterrupt, typer.Abort):
        raise SystemExit(130) from None
    raise SystemExit(code or 0)


def _what_to_install(command: str, package: str) -> str:
    extra = WORKBENCH_EXTRAS.get(command, SERVE_EXTRA)
    sentence = f"`dynrefer {command}` needs the package {package}: pip install 'dynrefer[{extra}]' adds it"
    return sentence + ("; or ask a service with --server URL." if command in ASK_A_SERVICE else ".")


@app.command()
def key(
    name: Annotated[str, typer.Argument(help="Name of the key's user: 1 to 64 letters, digits, dots, - and _.")],
) -> None:
    """Make an API key: its line for the keys file goes to standard output, the key itself to standard error."""
    from dynrefer.service.server.auth import KEY_LINE, new_key

    secret, line = new_key(name)
    if not KEY_LINE.fullmatch(line):
        fail(f"{name!r} is not a valid name for a key: use 1 to 64 letters, digits, dots, - and _.")
    print(line, flush=True)  # before the key: one whose line is lost is of no use
    print(f"The key, shown only here: {secret}", file=sys.stderr)


@app.command()
def describe(
    image: ImageFile,
    box: SomeBoxes = None,
    polygon: Polygons = None,
    mask: Masks = None,
    point: Points = None,
    highlight: Highlight = False,
    task: Tasks = None,
    server: Server = None,
    key: Key = None,
    timeout: Timeout = None,
    model: SomeModel = None,
    device: SomeDevice = None,
    segmenter: Segmenter = None,
    vocabulary: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="Words to answer in: coco, lvis, everyday, or a JSON file.")
    ] = None,
    language: Annotated[str | None, typer.Option(help="Language of the names, where they have it, such as de.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say why: views, and what supports each word.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, as in the service's responses.")] = False,
    draw: Annotated[Path | None, typer.Option(help="Write the image with boxes and captions to this file.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Describe regions of an image: with a model in this process, or by a service (--server)."""
    if not (box or polygon or mask or point):
        fail("describe needs a region: give --box x1,y1,x2,y2, --polygon x,y,..., --mask FILE.png or --point x,y.")
    from dynrefer.model import is_language

    refuse_mixed_options(
        server, {"--model": model, "--device": device, "--segmenter": segmenter}, {"--timeout": timeout}
    )
    tasks, points = read_tasks(task), [read_point(each) for each in point or []]
    words = _read_vocabulary(vocabulary) if server is None else words_for_service(vocabulary)
    if language is not None and not is_language(language):
        fail(f"--language {language} is no language's tag; write one such as de or zh-Hans.")
    regions: list[Corners | Prompt] = [*map(read_box, box or []), *_read_polygons(polygon or [])]
    pixels = read_image(image) if server is None or mask or draw else None
    if pixels is not None:
        regions += _read_masks(mask or [], (pixels.shape[1], pixels.shape[0]))
    if draw:
        refuse_unwritable(draw, image, model or "embedded", overwrite)
    options: dict[str, Any] = {
        "points": [points] if points else [],
        "highlight": highlight,
        "explain": explain,
        "vocabulary": words,
        "language": language,
    }
    if server is not None:
        with connected(server, key, timeout) as client:
            found, answers = described_by_service(client, read_bytes(image), regions, tasks, options)
    else:
        from dynrefer.model import DynRefer

        predictor = DynRefer.load(model or "embedded", device=device or "auto", segmenter=segmenter or "embedded")
        found = predictor.describe(pixels, regions, tasks, **options)  # type: ignore[arg-type]  # it was read above
        from dynrefer.service.api.responses import region_answer

        written = (region_answer(str(index), each, {}) for index, each in enumerate(found))
        answers = [each.model_dump(exclude_none=True) for each in written]
    if as_json:
        print(json.dumps(answers, indent=2, ensure_ascii=False))
    else:
        print("\n\n".join(map(_in_words, answers)))
    if draw and pixels is not None:
        from PIL import Image

        from dynrefer.model.drawing import annotation_of, draw_regions

        shapes = [None if isinstance(each, tuple) else each for each in regions] + [None] * len(options["points"])
        annotations = [annotation_of(each, shape) for each, shape in zip(found, shapes, strict=True)]
        save_image(draw_regions(Image.fromarray(pixels), annotations), draw)


@app.command()
def views(
    image: ImageFile,
    box: Boxes,
    draw: Annotated[Path, typer.Option(help="The image file to write.")],
    task: Annotated[str | None, typer.Option(help="Draw this task's views. Default: the image's.")] = None,
    candidates: Annotated[
        bool, typer.Option("--candidates", help="Draw every view that the hash search compares, with its hash.")
    ] = False,
    model: ModelName = "embedded",
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Draw the nested views that the model looks at, side by side, with t, hash distance and gain."""
    tasks, corners, pixels = read_tasks([task] if task else None), [read_box(each) for each in box], read_image(image)
    refuse_unwritable(draw, image, model, overwrite)
    from PIL import Image

    from dynrefer.model import DynRefer, Explain, RegionQuery
    from dynrefer.model.drawing import draw_candidates, draw_views

    predictor, upright = DynRefer.load(model, device=device), Image.fromarray(pixels)
    drawn = []
    asked = Explain(candidates=True, evidence=False)
    regions = predictor.prepare(pixels, [RegionQuery(each, tasks, explain=asked) for each in corners])
    for index, region in enumerate(regions):
        plan, title = region.inputs[0].plan, f"region {index}"
        if candidates:
            drawn.append(draw_candidates(upright, plan, region.explained, title))
        else:
            drawn.append(draw_views(upright, plan, title))
    sheet = Image.new("RGB", (max(each.width for each in drawn), sum(each.height for each in drawn)), "white")
    top = 0
    for each in drawn:
        sheet.paste(each, (0, top))
        top += each.height
    save_image(sheet, draw)


def _read_polygons(texts: list[str]) -> "list[Polygon]":
    from dynrefer.model.prompts import Polygon

    found = []
    for text in texts:
        try:
            found.append(Polygon((tuple(float(part) for part in text.split(",")),)))
        except ValueError:
            fail(f"--polygon {text} is not numbers x,y,x,y,....")
    return found


def _read_masks(paths: list[Path], size: tuple[int, int]) -> "list[RegionMask]":
    """size: (width, height) of the image, which the masks have too."""
    from dynrefer.model.mask_files import mask_of_png

    found = []
    for path in paths:
        try:
            found.append(mask_of_png(path.read_bytes(), size))
        except OSError as error:
            fail(f"cannot read {path}: {reason(error)}.")
        except QueryError as error:
            fail(f"{path}: {error}")
    return found


def _read_vocabulary(given: str | None) -> "RequestVocabulary | None":
    """The words of a vocabulary that ships, or of a file, which `dynrefer vocabulary check` explains in full."""
    if given is None:
        return None
    from dynrefer.model import NamedVocabularies
    from dynrefer.model.named_vocabularies import read_named

    known = NamedVocabularies()
    if (found := known.get(given)) is not None:
        return found.words
    if not os.path.exists(given):
        fail(f"--vocabulary {given} is neither one of {', '.join(known.names)} nor a file.")
    return read_named(Path(given)).words


def _in_words(region: dict[str, Any]) -> str:
    lines = [f"region {region['id']}  box {', '.join(f'{value:g}' for value in region['box'])}"]
    for task, found in _results(region):
        if isinstance(found, dict):
            score = f"  ({found['score']:.2f})" if "score" in found else ""
            line = f"{next(iter(found.values()))}{score}"
        else:
            line = ", ".join(f"{label['name']} {label['probability']:.2f}" for label in found) or "none"
        lines.append(f"  {task:<11} {line}")
    return "\n".join([*lines, *_why(region.get("explanation"))])


def _why(explanation: dict[str, Any] | None) -> list[str]:
    """Lines about the priors, and about each word of the caption."""
    if explanation is None:
        return []
    lines = []
    for prior in explanation["priors"]:
        ts = ", ".join(f"{t:g}" for t in prior["t"])
        policy = prior["policy"].replace("_", " ")
        lines.append(f"  {'views':<11} t = {ts} by the {policy} ({', '.join(prior['tasks'])})")
    for word in explanation.get("words", ()):
        line = "nothing supports it"
        if support := word.get("support"):
            said = "" if word["supported"] else "weakly, "
            line = f"{said}{support['task']}: {support['name']} {support['probability']:.2f}"
            line += f", carried by the view t = {word['view']:g}" if "view" in word else ""
            line += ", carried by tower and detector" if word.get("carried_by") == "evidence" else ""
        lines.append(f"  {'word':<11} {word['text']}: {line}")
    return lines


def _results(region: dict[str, Any]) -> list[tuple[str, Any]]:
    """Task and result, a record or a list of them, of the tasks that were computed."""
    from dynrefer.model import TASKS

    return [(task.name, region[task.name]) for task in TASKS if task.name in region]


if __name__ == "__main__":
    main()
