"""What a model says about photographs: the free ones that scikit-image includes, with boxes drawn by hand.

    python -m benchmarks.photographs [--model embedded] [--page docs/photographs.md] [--images docs/images]

Writes the page and its images. Nothing is selected afterwards: every box below is described once, and shown.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from skimage import data

from dynrefer.model import DynRefer, RegionDescription
from dynrefer.model.drawing import draw_descriptions
from dynrefer.model.types import Corners
from dynrefer.workbench.profiling.machine import ROOT, provenance

_TOP = 3  # labels shown per output
_QUALITY = 88  # of the JPEG files


@dataclass(frozen=True)
class Photograph:
    """name: of the function in skimage.data. regions: what each shows, and its box, xyxy pixels."""

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
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "images", help="folder for the images")
    given = parser.parse_args(arguments)
    model = DynRefer.load(given.model, device="cpu")
    known = set(model.card.vocabulary["categories"])
    given.images.mkdir(parents=True, exist_ok=True)
    sections, correct, known_objects = [], 0, 0
    for photograph in PHOTOGRAPHS:
        pixels = Image.fromarray(getattr(data, photograph.name)()).convert("RGB")
        found = model.describe(pixels, [box for _, box in photograph.regions])
        file = given.images / f"photograph_{photograph.name}.jpg"
        described = [(each.box, f"{each.caption.text if each.caption else ''}\n{_names(each)}") for each in found]
        draw_descriptions(pixels, described).save(file, quality=_QUALITY)
        link = Path(_relative(file, given.page.parent))
        sections.append(_section(photograph, found, link))
        for (truth, _), each in zip(photograph.regions, found, strict=True):
            known_objects += truth in known
            correct += truth in known and _best(each) == truth
    given.page.write_text(_page(model, sections, correct, known_objects), encoding="utf-8")
    print(f"{given.page}: {correct} of {known_objects} objects in the model's vocabulary are named correctly")


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()


def _best(found: RegionDescription) -> str:
    return found.categories[0].name if found.categories else ""


def _names(found: RegionDescription) -> str:
    """The best categories with their probabilities."""
    return ", ".join(f"{label.name} {label.probability:.2f}" for label in (found.categories or ())[:_TOP])


def _section(photograph: Photograph, found: Sequence[RegionDescription], image: Path) -> str:
    rows = []
    for index, ((truth, _), each) in enumerate(zip(photograph.regions, found, strict=True)):
        attributes = ", ".join(label.name for label in (each.attributes or ())[:_TOP])
        tags = ", ".join(label.name for label in (each.tags or ())[:_TOP]) or "none"
        caption = each.caption.text if each.caption else ""
        rows.append(f"| {index} | {truth} | {caption} | {_names(each)} | {tags} | {attributes} |")
    return (
        f"## {photograph.name} ({photograph.credit})\n\n"
        f"![{photograph.name}, described]({image.as_posix()})\n\n"
        "| region | ground truth | caption | categories, probability | tags | attributes |\n|---|---|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n"
    )


def _page(model: DynRefer, sections: Sequence[str], correct: int, known_objects: int) -> str:
    about, kinds = provenance(), len(model.card.vocabulary["categories"])
    head = f"""# The embedded model on photographs

The embedded model was trained on drawings: icon artwork on drawn backgrounds, {kinds} kinds of objects. It has never
seen a photograph. Here it describes the free photographs that scikit-image includes. The boxes were drawn by hand
beforehand, and every result is shown. Below each image: what each box shows, and what the model says.

{correct} of {known_objects} objects in its vocabulary are named correctly. For photographs, convert the official
weights, or train on your own regions.

Written by `python -m benchmarks.photographs`; model {model.card.name}, revision {model.card.revision}, commit
{about["commit"]}.

"""
    return head + "\n".join(sections)


if __name__ == "__main__":
    main()
