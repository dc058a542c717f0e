"""`dynrefer detect`: find regions of an image, with a model in this process or by a service."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynrefer.model.types import ALL_TASKS
from dynrefer.service.command_files import fail, read_image, read_tasks, refuse_unwritable, save_image
from dynrefer.service.command_options import ImageFile, Overwrite, SomeDevice, SomeModel
from dynrefer.service.remote_commands import (
    Key,
    Server,
    Timeout,
    connected,
    found_by_service,
    read_bytes,
    refuse_mixed_options,
)

if TYPE_CHECKING:
    from dynrefer.model.finding import AskedName, Findings


def detect_command(
    image: ImageFile,
    name: Annotated[
        list[str] | None,
        typer.Option(
            "--name",
            help="What to find; repeatable. mug=cup,beaker adds other words for it, mug!glass says what is not meant.",
        ),
    ] = None,
    phrase: Annotated[str | None, typer.Option(help="A sentence, each of whose noun phrases is found.")] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Least score. [default: the finder's own]")
    ] = None,
    nms: Annotated[
        float, typer.Option(min=0, max=1, help="Boxes of one name that overlap by more are one object.")
    ] = 0.5,
    max_regions: Annotated[int, typer.Option("--max-regions", min=1, help="The best so many.")] = 50,
    masks: Annotated[bool, typer.Option("--masks", help="Find each region's mask too.")] = False,
    describe: Annotated[
        list[str] | None,
        typer.Option("--describe", help=f"Describe what is found: {', '.join(ALL_TASKS)} or all; repeatable."),
    ] = None,
    server: Server = None,
    key: Key = None,
    timeout: Timeout = None,
    model: SomeModel = None,
    finder: Annotated[
        str | None,
        typer.Option(help="What finds: embedded, or a directory with a finder of transformers. [default: embedded]"),
    ] = None,
    segmenter: Annotated[
        str | None,
        typer.Option(
            help="What makes masks where the finder makes none: embedded, or a directory with a SAM 2. "
            "[default: embedded]"
        ),
    ] = None,
    device: SomeDevice = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, as in the service's responses.")] = False,
    draw: Annotated[Path | None, typer.Option(help="Write the image with what was found to this file.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Find regions of an image: of the names given, of the phrases of a sentence, or, with neither, every object."""
    if name and phrase is not None:
        fail("give --name or --phrase, not both.")
    if phrase is not None and not phrase.strip():
        fail("--phrase is empty; give a sentence, or leave it out to find everything.")
    refuse_mixed_options(
        server,
        {"--model": model, "--finder": finder, "--segmenter": segmenter, "--device": device},
        {"--timeout": timeout},
    )
    names = [read_name(each) for each in name or []]
    everything = describe is not None and "all" in describe
    tasks = None if describe is None else tuple(ALL_TASKS) if everything else read_tasks(describe)
    pixels = read_image(image) if server is None or draw else None
    if draw:
        refuse_unwritable(draw, image, model or "embedded", overwrite)
    options: dict[str, Any] = {"nms": nms, "max_regions": max_regions, "masks": masks}
    if threshold is not None:
        options["threshold"] = threshold
    if server is not None:
        with connected(server, key, timeout) as client:
            found, answer = found_by_service(client, read_bytes(image), names, phrase, tasks, options)
    else:
        from dynrefer.model import DynRefer

        predictor = DynRefer.load(
            model or "embedded",
            device=device or "auto",
            finder=finder or "embedded",
            segmenter=segmenter or "embedded",
        )
        try:
            found = predictor.detect(pixels, names, phrase, describe=tasks, **options)  # type: ignore[arg-type]
        except ValueError as error:  # names that are asked twice
            fail(str(error))
        answer = _as_answer(found, described=tasks is not None) if as_json else {}
    if as_json:
        print(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        print(_in_words(found, described=tasks is not None))
    if draw and pixels is not None:
        from PIL import Image

        from dynrefer.model.drawing import annotation_of_found, draw_regions

        annotations = [annotation_of_found(each) for each in found.regions]
        save_image(draw_regions(Image.fromarray(pixels), annotations), draw)


def read_name(text: str) -> "AskedName":
    """NAME, NAME=SYNONYM,SYNONYM, NAME!NOT,NOT or both."""
    from dynrefer.model import AskedName

    named, _, excluded = text.partition("!")
    word, _, synonyms = named.partition("=")
    parts = [[each.strip() for each in part.split(",")] if part else [] for part in (synonyms, excluded)]
    if not word.strip() or not all(all(each) for each in parts):
        fail(f"--name {text} is not a name, such as mug, mug=cup,beaker or mug!glass.")
    return AskedName(word.strip(), tuple(parts[0]), tuple(parts[1]))


def _as_answer(found: "Findings", *, described: bool) -> dict[str, Any]:
    """What the service would answer, but for what belongs to a request."""
    from dynrefer.service.api.detections import absent_answers, found_answers, unknown_answers

    descriptions = [each.description if described else None for each in found.regions]
    answer = {
        "regions": [each.model_dump(exclude_none=True) for each in found_answers(found, descriptions)],
        "absent": [each.model_dump(exclude_none=True) for each in absent_answers(found)],
    }
    unknown = [each.model_dump() for each in unknown_answers(found, descriptions)]
    return {**answer, **({"unknown_words": unknown} if unknown else {})}


def _in_words(found: "Findings", *, described: bool) -> str:
    lines = []
    for place, region in enumerate(found.regions):
        box = ", ".join(f"{value:g}" for value in region.box)
        lines.append(f"{place:>3}  {region.probability:.2f}  {region.label:<24}  box {box}")
        if region.phrase is not None:
            lines.append(f"{'':>11}{region.phrase}" + (f", a kind of {region.parent}" if region.parent else ""))
        for task, result in (region.description.results if described and region.description else {}).items():
            said = ", ".join(label.name for label in result[:5]) if isinstance(result, tuple) else result.text
            lines.append(f"{'':>11}{task:<11} {said}")
    if not found.regions:
        lines.append("nothing was found.")
    lines += [f"  -  {absent.probability:.2f}  {absent.name:<24}  is not there" for absent in found.absent]
    for word in found.unknown_words:
        nearest = f"; the nearest known: {', '.join(word.nearest)}" if word.nearest else ""
        print(f"dynrefer: nothing is known of '{word.name}'{nearest}.", file=sys.stderr)
    return "\n".join(lines)
