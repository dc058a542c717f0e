"""What a model says of photographs: the free ones that scikit-image carries, with boxes drawn by hand.

    python -m benchmarks.photographs [--model embedded] [--page docs/photographs.md] [--images docs/images]

Writes the page and its pictures. Nothing is chosen after the fact: every box below is asked once, and shown.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from skimage import data

from benchmarks.machine import ROOT, provenance
from dynrefer.model import DynRefer, RegionDescription
from dynrefer.model.drawing import draw_descriptions
from dynrefer.model.types import Corners

_BEST = 3  # names of each kind that are shown
_QUALITY = 88  # of the JPEG files


@dataclass(frozen=True)
class Photograph:
    """name: of the function in skimage.data. regions: what it is, and its box, xyxy pixels."""

    name: str
    credit: str
    regions: tuple[tuple[str, Corners], ...]


PHOTOGRAPHS = (
    Photograph(
        "chelsea",
        "Stefan van der Walt, CC0",
        (("cat", (0, 0, 368, 295)), ("eye of a cat", (128, 84, 212, 150))),
    ),
    Photograph(
        "coffee",
        "Rachel Michetti, courtesy of Pikolo Espresso Bar, CC0",
        (("cup", (166, 14, 424, 290)), ("spoon", (318, 60, 424, 330)), ("saucer", (76, 62, 478, 368))),
    ),
    Photograph(
        "astronaut",
        "NASA, public domain",
        (
            ("person", (17, 10, 370, 512)),
            ("helmet", (276, 340, 506, 512)),
            ("rocket", (350, 0, 462, 284)),
            ("flag", (0, 0, 96, 340)),
        ),
    ),
    Photograph("rocket", "SpaceX, public domain", (("rocket", (292, 124, 348, 410)), ("pylon", (30, 0, 100, 427)))),
    Photograph("camera", "Lav Varshney, CC0", (("person", (0, 60, 326, 512)), ("camera", (238, 134, 330, 205)))),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.photographs", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--model", default="embedded", help="a name or a directory")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "photographs.md")
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "images", help="folder of the pictures")
    given = parser.parse_args(arguments)
    model = DynRefer.load(given.model, device="cpu")
    known = set(model.card.vocabulary["categories"])
    given.images.mkdir(parents=True, exist_ok=True)
    sections, right, asked = [], 0, 0
    for photograph in PHOTOGRAPHS:
        pixels = Image.fromarray(getattr(data, photograph.name)()).convert("RGB")
        found = model.describe(pixels, [box for _, box in photograph.regions])
        picture = given.images / f"photograph_{photograph.name}.jpg"
        said = [(each.box, f"{each.caption.text if each.caption else ''}\n{_names(each)}") for each in found]
        draw_descriptions(pixels, said).save(picture, quality=_QUALITY)
        link = Path(_relative(picture, given.page.parent))
        sections.append(_section(photograph, found, link))
        for (truth, _), each in zip(photograph.regions, found, strict=True):
            asked += truth in known
            right += truth in known and _best(each) == truth
    given.page.write_text(_page(model, sections, right, asked), encoding="utf-8")
    print(f"{given.page}: {right} of {asked} objects that the model has a word for are named right")


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()


def _best(found: RegionDescription) -> str:
    return found.categories[0].name if found.categories else ""


def _names(found: RegionDescription) -> str:
    """The best categories with their probabilities."""
    return ", ".join(f"{label.name} {label.probability:.2f}" for label in (found.categories or ())[:_BEST])


def _section(photograph: Photograph, found: Sequence[RegionDescription], picture: Path) -> str:
    rows = []
    for index, ((truth, _), each) in enumerate(zip(photograph.regions, found, strict=True)):
        attributes = ", ".join(label.name for label in (each.attributes or ())[:_BEST])
        tags = ", ".join(label.name for label in (each.tags or ())[:_BEST]) or "none"
        caption = each.caption.text if each.caption else ""
        rows.append(f"| {index} | {truth} | {caption} | {_names(each)} | {tags} | {attributes} |")
    return (
        f"## {photograph.name} ({photograph.credit})\n\n"
        f"![{photograph.name}, described]({picture.as_posix()})\n\n"
        "| region | what it is | caption | categories, probability | tags | attributes |\n|---|---|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n"
    )


def _page(model: DynRefer, sections: Sequence[str], right: int, asked: int) -> str:
    about, kinds = provenance(), len(model.card.vocabulary["categories"])
    head = f"""# What it does on photographs

The embedded model was trained on drawings: icon artwork on drawn backgrounds, {kinds} kinds of objects. It has never
seen a photograph. Here it is asked about the free photographs that scikit-image carries, with boxes drawn by hand
before the model was asked; every answer is shown as it came. Below each picture: what stands in the box, and what the
model says.

{right} of {asked} objects that it has a word for are named right. For photographs, convert the official weights, or
train on your own regions.

Written by `python -m benchmarks.photographs`; model {model.card.name}, revision {model.card.revision}, commit
{about["commit"]}.

"""
    return head + "\n".join(sections)


if __name__ == "__main__":
    main()
