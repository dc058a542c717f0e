"""`dynrefer detect`: find regions of an image without a server."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynrefer.model.types import ALL_TASKS
from dynrefer.service.command_files import fail, read_image, read_tasks, refuse_unwritable, save_image

if TYPE_CHECKING:
    from dynrefer.model.finding import AskedName, Findings


def detect_command(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="JPEG, PNG, WebP, AVIF, TIFF, BMP or GIF; any size.")],
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
    model: Annotated[str, typer.Option("--model", help="Name or directory of the model.")] = "embedded",
    finder: Annotated[
        str, typer.Option(help="What finds: embedded, or a directory with a finder of transformers.")
    ] = "embedded",
    segmenter: Annotated[
        str, typer.Option(help="What makes masks where the finder makes none: embedded, or a directory with a SAM 2.")
    ] = "embedded",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, as in the service's responses.")] = False,
    draw: Annotated[Path | None, typer.Option(help="Write the image with what was found to this file.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the drawing if there is one.")] = False,
) -> None:
    """Find regions of an image: of the names given, of the phrases of a sentence, or, with neither, every object."""
    if name and phrase is not None:
        fail("give --name or --phrase, not both.")
    if phrase is not None and not phrase.strip():
        fail("--phrase is empty; give a sentence, or leave it out to find everything.")
    names = [read_name(each) for each in name or []]
    everything = describe is not None and "all" in describe
    tasks = None if describe is None else tuple(ALL_TASKS) if everything else read_tasks(describe)
    pixels = read_image(image)
    if draw:
        refuse_unwritable(draw, image, model, overwrite)
    from dynrefer.model import DynRefer

    predictor = DynRefer.load(model, device=device, finder=finder, segmenter=segmenter)
    options: dict[str, Any] = {"threshold": threshold, "nms": nms, "max_regions": max_regions, "masks": masks}
    try:
        found = predictor.detect(pixels, names, phrase, describe=tasks, **options)
    except ValueError as error:  # names that are asked twice
        fail(str(error))
    if as_json:
        print(json.dumps(_as_answer(found, described=tasks is not None), indent=2, ensure_ascii=False))
    else:
        print(_in_words(found, described=tasks is not None))
    if draw:
        from PIL import Image

        from dynrefer.model.drawing import draw_descriptions

        labels = [(each.box, f"{each.phrase or each.label}  {each.probability:.2f}") for each in found.regions]
        shapes = {place: each.mask for place, each in enumerate(found.regions) if each.mask is not None}
        save_image(draw_descriptions(Image.fromarray(pixels), labels, shapes), draw)


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
