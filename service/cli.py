"""`dynrefer`: the commands. Each one imports what it needs when it runs, so that `--help` loads no torch.

A mistake of the person at the keyboard is one line on standard error and exit code 2, never a traceback.
"""

import inspect
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from dynrefer.model.errors import ModelError
from dynrefer.service import set_thread_environment
from dynrefer.service.settings import PREFIX, Settings, SettingsError, flag_names, load_settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image as PictureType

    from dynrefer.model import Corners, Task

EXIT_USAGE = 2  # exit code: something that was typed, named or found on this machine cannot be honoured

app = typer.Typer(
    name="dynrefer",
    help="Describe image regions: captions, tags, attributes and categories.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Boxes = Annotated[list[str], typer.Option("--box", help="x1,y1,x2,y2 in pixels of the upright image; repeatable.")]
Tasks = Annotated[
    list[str] | None,
    typer.Option("--task", help="caption, tags, attributes or categories; repeatable. Default: all."),
]
ModelName = Annotated[str, typer.Option("--model", help="Name or directory of the model.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Picture = Annotated[Path, typer.Argument(metavar="IMAGE", help="JPEG, PNG, WebP, BMP or GIF.")]


def fail(sentence: str, code: int = EXIT_USAGE) -> NoReturn:
    """End the command with one line."""
    print(f"dynrefer: {sentence}", file=sys.stderr)
    raise SystemExit(code)


def _add_workbench() -> None:
    """The commands that stand beside the service; their modules import typer alone until they run."""
    from dynrefer.model.convert.command import convert_command
    from dynrefer.workbench.evaluation.command import evaluate_command
    from dynrefer.workbench.profiling.command import bench
    from dynrefer.workbench.training.command import train_command

    app.command("convert")(convert_command)
    app.command("train")(train_command)
    app.command("evaluate")(evaluate_command)
    app.add_typer(bench, name="bench")


def main() -> None:
    """The console script: every expected error ends in one line."""
    set_thread_environment()  # before any command imports NumPy or torch
    _add_workbench()
    try:
        code = app(args=sys.argv[1:] or ["--help"], prog_name="dynrefer", standalone_mode=False)
    except typer.TyperException as error:
        fail(error.format_message())
    except ModelError as error:
        fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        raise SystemExit(130) from None
    raise SystemExit(code or 0)


def _serve(**flags: str | None) -> None:
    """Serve the model over HTTP. Every flag has an environment twin, DYNREFER_<NAME>."""
    try:
        settings = load_settings({name: value for name, value in flags.items() if value is not None})
    except SettingsError as error:
        fail(str(error))
    from dynrefer.model.gc_pause import gc_paused

    with gc_paused():
        from dynrefer.service.server.server import exit_process, listen, serve

    try:
        listener = listen(settings.host, settings.port)
    except OSError as error:
        fail(f"cannot listen on {settings.host} port {settings.port}: {_reason(error)}.")
    try:
        code, sentence = serve(settings, listener)
    except SettingsError as error:
        fail(str(error))
    if sentence:
        print(f"dynrefer: {sentence}", file=sys.stderr)
    exit_process(code)


def _reason(error: OSError) -> str:
    """Why the operating system refused, in its words but without its numbers."""
    return "unknown address" if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0).lower()


def _with_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give the command one text option per setting: names and meanings stand in `Settings` alone."""
    parameters, annotations = [], {}
    for name in flag_names():
        field = Settings.model_fields[name]
        default = "none" if field.default in (None, (), "") else field.default
        help_text = f"{field.description}. [default: {default}; {PREFIX}{name.upper()}]"
        annotation = Annotated[
            str | None,
            typer.Option("--" + name.replace("_", "-"), help=help_text, metavar="VALUE", show_default=False),
        ]
        annotations[name] = annotation
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = annotations
    return command


app.command("serve")(_with_flags(_serve))


@app.command()
def key(name: Annotated[str, typer.Argument(help="Who will hold the key: letters, digits, dots, - and _.")]) -> None:
    """Make a key: its line for the keys file on standard output, the key itself on standard error."""
    from dynrefer.service.server.auth import KEY_LINE, new_key

    secret, line = new_key(name)
    if not KEY_LINE.fullmatch(line):
        fail(f"{name!r} is no name for a key: 1 to 64 letters, digits, dots, - and _ are taken.")
    print(line)
    print(f"The key, shown only here: {secret}", file=sys.stderr)


@app.command()
def describe(
    image: Picture,
    box: Boxes,
    task: Tasks = None,
    model: ModelName = "embedded",
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, as the service answers.")] = False,
    draw: Annotated[Path | None, typer.Option(help="Draw boxes and captions into this picture.")] = None,
) -> None:
    """Describe regions of an image, without a server."""
    tasks, corners, pixels = _read_tasks(task), _read_boxes(box), _read_image(image)
    if draw:
        _refuse_unwritable(draw)
    from dynrefer.model import DynRefer

    found = DynRefer.load(model, device=device).describe(pixels, corners, tasks)
    from dynrefer.service.api.responses import region_answer

    answers = [region_answer(str(index), each, {}) for index, each in enumerate(found)]
    if as_json:
        print(json.dumps([each.model_dump(exclude_none=True) for each in answers], indent=2, ensure_ascii=False))
    else:
        print("\n\n".join(_in_words(each.model_dump(exclude_none=True)) for each in answers))
    if draw:
        from PIL import Image

        from dynrefer.model.drawing import draw_descriptions

        said = [_in_brief(each.model_dump(exclude_none=True)) for each in answers]
        boxes = [each.box for each in found]
        _save(draw_descriptions(Image.fromarray(pixels), list(zip(boxes, said, strict=True))), draw)


@app.command()
def views(
    image: Picture,
    box: Boxes,
    draw: Annotated[Path, typer.Option(help="The picture to write.")],
    task: Annotated[str | None, typer.Option(help="The task whose views to draw. Default: the picture's.")] = None,
    model: ModelName = "embedded",
    device: Device = "auto",
) -> None:
    """Draw the nested views that the model looks at, side by side with t, distance and gain."""
    tasks, corners, pixels = _read_tasks([task] if task else None), _read_boxes(box), _read_image(image)
    _refuse_unwritable(draw)
    from PIL import Image

    from dynrefer.model import DynRefer
    from dynrefer.model.drawing import draw_views

    predictor, upright = DynRefer.load(model, device=device), Image.fromarray(pixels)
    drawn = [
        draw_views(upright, predictor.plan_views(pixels, each, tasks[0] if tasks else None), title=f"region {index}")
        for index, each in enumerate(corners)
    ]
    sheet = Image.new("RGB", (max(each.width for each in drawn), sum(each.height for each in drawn)), "white")
    top = 0
    for each in drawn:
        sheet.paste(each, (0, top))
        top += each.height
    _save(sheet, draw)


def _read_boxes(texts: list[str]) -> "list[Corners]":
    boxes: list[Corners] = []
    for text in texts:
        try:
            x1, y1, x2, y2 = (float(part) for part in text.split(","))
        except ValueError:
            fail(f"--box {text} is not four numbers x1,y1,x2,y2.")
        boxes.append((x1, y1, x2, y2))
    return boxes


def _read_tasks(names: list[str] | None) -> "tuple[Task, ...] | None":
    from dynrefer.model import Task

    if not names:
        return None
    known = [task.value for task in Task]
    for name in names:
        if name not in known:
            fail(f"--task {name} is unknown; the tasks are {', '.join(known)}.")
    return tuple(dict.fromkeys(Task(name) for name in names))


def _read_image(path: Path) -> "NDArray[np.uint8]":
    """The upright image, read as the service reads it: same formats, same refusals."""
    from dynrefer.model.errors import ImageError
    from dynrefer.service.inputs import decoding as images

    try:
        data = path.read_bytes()
    except OSError as error:
        fail(f"cannot read {path}: {_reason(error)}.")
    images.forbid_bombs()
    try:
        return images.decode(data, Settings.model_fields["max_image_pixels"].default)
    except ImageError as error:
        fail(f"{path}: {error}")


def _refuse_unwritable(path: Path) -> None:
    """Before the model is loaded, not after."""
    from PIL import Image

    if path.suffix.lower() not in Image.registered_extensions():
        fail(f"cannot write {path}: the ending must be one of a picture, such as .png.")
    target = path if path.exists() else path.parent
    if path.is_dir() or not target.exists() or not os.access(target, os.W_OK):
        fail(f"cannot write {path}: no such folder, or no right to write there.")


def _save(picture: "PictureType", path: Path) -> None:
    try:
        picture.save(path)
    except OSError as error:
        fail(f"cannot write {path}: {_reason(error) if error.errno else 'not in this format'}.")


def _in_brief(region: dict[str, Any]) -> str:
    """The caption and the three best names of each kind, for a drawing."""
    lines = [region["caption"]["text"]] if "caption" in region else []
    for task in ("categories", "tags", "attributes"):
        if region.get(task):
            lines.append(f"{task}: {', '.join(label['name'] for label in region[task][:3])}")
    return "\n".join(lines)


def _in_words(region: dict[str, Any]) -> str:
    lines = [f"region {region['id']}  box {', '.join(f'{value:g}' for value in region['box'])}"]
    if "caption" in region:
        lines.append(f"  caption     {region['caption']['text']}  ({region['caption']['score']:.2f})")
    for task in ("tags", "attributes", "categories"):
        if task in region:
            named = ", ".join(f"{label['name']} {label['probability']:.2f}" for label in region[task])
            lines.append(f"  {task:<11} {named or 'none'}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
