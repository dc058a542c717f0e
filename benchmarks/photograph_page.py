"""Write docs/photographs.md: twelve photographs with everything that a model says of them, and totals.

    python -m benchmarks.photograph_page [--model embedded] [--page docs/photographs.md] [--images docs/images]
        [--shared DIR] [--overwrite]

Which photographs are shown does not depend on what is said of them: `SCIKIT_IMAGE`, with boxes drawn by hand, and
seven of the test split of benchmarks/photographs, evenly spaced in the order of their file names. Every box is shown.
The totals are those of `dynrefer evaluate --photos`; `--shared` adds a column for another folder of labelled
photographs, whose pictures are not shown.
"""

from __future__ import annotations

import argparse
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image
from skimage import data

from dynrefer.model import DynRefer, RegionDescription
from dynrefer.model.drawing import annotation_of, draw_regions
from dynrefer.model.evidence.evidence import FOLDER
from dynrefer.model.evidence.names import NAMES_FILE, EvidenceNames
from dynrefer.model.evidence.names import ROOT as BROADEST
from dynrefer.model.loading import EMBEDDED
from dynrefer.model.outputs import check_outputs
from dynrefer.model.types import Label
from dynrefer.workbench.data.photographs import (
    LABELS_FILE,
    LabelledBox,
    LabelledPhotograph,
    Split,
    read_photographs,
)
from dynrefer.workbench.evaluation.jobs import Options, run
from dynrefer.workbench.evaluation.metrics.photograph_metrics import PARENT, Ancestors, Verdict, judge
from dynrefer.workbench.evaluation.photographs import names_as_ancestors
from dynrefer.workbench.profiling.machine import ROOT, provenance

LABELLED = ROOT / "benchmarks" / "photographs"
SHARED_COLOURS = ROOT / "benchmarks" / "photograph_colours.json"
OF_LABELLED = 7  # photographs shown of the test split
LEAVES = 3  # categories shown, beside the broader word
LIKELY = 0.3  # attributes with a higher probability are shown
MOST_BYTES, LONGEST = 70_000, 800  # of a picture on the page; pixels of its longer side
_QUALITIES = range(90, 30, -4)  # of JPEG; the first that fits is taken

TOTALS = (
    ("top1", "the first name is right"),
    ("top5", "one of the first five names is right"),
    ("top1_or_parent", "the first name is right, or the broader word in front of it is true"),
    ("backs_off", "a broader word is said, because no name is likely enough"),
    ("caption_names_it", "the caption names the object"),
    ("caption_true", "the caption's noun is right, or a broader word that is true"),
    ("false_noun", "the caption's noun is false"),
    ("colour_said", "a colour is said, where the labels give one"),
    ("colour_right", "the colour is right, where it is said and labelled"),
    ("other_claims", "the caption says anything else"),
    ("confident_wrong", "a wrong name has a probability over .8"),
)


_HEAD = """# The embedded model on photographs

Twelve photographs, and everything that the model says of them, wrong answers included.

**What it does.** It names the one clear object in a box. It has {names} everyday names and {parents} broader words.
The names come from two networks that others trained and that are part of the model: a tower trained on ImageNet's 1,000
classes, and a detector of COCO's 80. In front of the name it puts the object's colour, only where the colour can be
trusted. The caption says no more than that: "a brown dog".

**What it does not do**, and does not try: who a person is; text and brands; fine species, breeds and models; crowds,
objects of a few pixels, and several things in one box; of photographs, scenes, relations, materials and poses. Tags and
attributes of these kinds are for drawings; of a photograph, no attribute but a colour gets a probability over .5.
The [official weights](official-weights.md) write full captions of photographs: one command converts them, and
`dynrefer serve --model DIR` serves them.

**Drawing or photograph** is decided for each region, from it and its image alone, never from the other regions that
are asked: by how sure the drawn network and the tower are, and by how unlike drawings the region and the image look
to the tower. What is taken for a drawing is described by the drawn network, with its 125 kinds of things and full
captions; the column "taken for" says which it was. No request can set it.

**When it is unsure**, because no name has a probability of one half, it says the narrowest broader word that has:
"bird", "vehicle", "animal"; "object" where there is none. That word is then the caption's noun and a tag, and
stands in front of the categories with `"level": "parent"`; the names follow behind it.

How the photographs were chosen: five that scikit-image includes, with boxes drawn and named beforehand, and seven of
the test split of [benchmarks/photographs](../benchmarks/photographs/README.md), evenly spaced in the order of their
file names, with all their boxes. Nothing was fitted on the seven. The five have helped: as backgrounds, as pictures
that activations were measured on, and three of them (astronaut, chelsea, coffee) with boxes whose names or colours
were fitted; so they count in no total.

Below each picture: what each box shows (the first name that counts as right), and what the model says. Numbers are
probabilities; attributes are those over {likely}. The verdict is about the caption's noun: right if a
name that counts as right stands in the caption, true but broad if its noun is a broader word for one.
"""


@dataclass(frozen=True)
class Shown:
    """A photograph on the page: its file name without ending, who made it, its pixels (RGB), and its labels."""

    name: str
    credit: str
    pixels: Image.Image
    boxes: tuple[LabelledBox, ...]


def _box(x1: float, y1: float, x2: float, y2: float, *accepted: str) -> LabelledBox:
    return LabelledBox((x1, y1, x2, y2), accepted)


# Function in skimage.data -> who made it, and boxes that were drawn and named before any model was asked.
SCIKIT_IMAGE: Mapping[str, tuple[str, tuple[LabelledBox, ...]]] = {
    "astronaut": (
        "NASA, public domain",
        (
            _box(17, 10, 370, 512, "person", "astronaut", "woman"),
            _box(276, 340, 506, 512, "helmet", "space helmet"),
            _box(350, 0, 462, 284, "rocket", "space shuttle", "model"),
            _box(0, 0, 96, 340, "flag"),
        ),
    ),
    "chelsea": (
        "Stefan van der Walt, CC0-1.0",
        (_box(0, 0, 368, 295, "cat"), _box(128, 84, 212, 150, "eye of a cat", "eye")),
    ),
    "coffee": (
        "Rachel Michetti, courtesy of Pikolo Espresso Bar, CC0-1.0",
        (
            _box(166, 14, 424, 290, "cup", "coffee", "espresso", "coffee cup", "mug"),
            _box(318, 60, 424, 330, "spoon"),
            _box(76, 62, 478, 368, "saucer", "plate"),
        ),
    ),
    "rocket": (
        "SpaceX, CC0-1.0",
        (_box(292, 124, 348, 410, "rocket"), _box(30, 0, 100, 427, "pylon", "tower", "mast")),
    ),
    "camera": (
        "Lav Varshney, CC0-1.0",
        (
            _box(0, 60, 326, 512, "person", "man", "photographer"),
            _box(238, 134, 330, 205, "camera"),
        ),
    ),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.photograph_page", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--model", default="embedded", help="a name or a directory")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "photographs.md")
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "images", help="folder for the images")
    parser.add_argument("--shared", type=Path, help="another folder of labelled photographs, for the totals alone")
    parser.add_argument("--shared-colours", type=Path, default=SHARED_COLOURS, help="the colours of --shared")
    parser.add_argument("--overwrite", action="store_true", help="replace the page and its images")
    given = parser.parse_args(arguments)
    # Only the folders' own files: what is shown is written beside other images.
    read = [LABELLED, given.shared, given.shared_colours, Path(given.model)]
    written = [("--images", path) for path in sorted(given.images.glob("photograph_*.jpg"))]
    check_outputs([("--page", given.page), *written], read, overwrite=given.overwrite)
    given.images.mkdir(parents=True, exist_ok=True)
    about = provenance()  # before a file changes
    totals = {"benchmarks/photographs, split test": _totals(given.model, LABELLED, split=Split.TEST.value)}
    if given.shared is not None:
        totals["single objects, not part of this repository"] = _totals(
            given.model, given.shared, colours=given.shared_colours
        )
    model = DynRefer.load(given.model, device="cpu")
    directory = EMBEDDED if given.model == "embedded" else Path(given.model)
    names = EvidenceNames.load(directory / FOLDER / NAMES_FILE)
    ancestors = names_as_ancestors(directory)
    sections = []
    for shown in (*scikit_image(), *labelled(LABELLED)):
        found = model.describe(shown.pixels, [truth.box for truth in shown.boxes])
        file = given.images / f"photograph_{shown.name}.jpg"
        file.write_bytes(picture(shown.pixels, found))
        sections.append(section(shown, found, model, ancestors, _relative(file, given.page.parent)))
    given.page.write_text(page(model, names, sections, totals, about["commit"]), encoding="utf-8")
    print(f"{given.page}: {len(sections)} photographs")


def scikit_image() -> Iterable[Shown]:
    """The photographs that scikit-image includes."""
    for name, (credit, boxes) in SCIKIT_IMAGE.items():
        yield Shown(name, f"{credit}; scikit-image", Image.fromarray(getattr(data, name)()).convert("RGB"), boxes)


def labelled(directory: Path) -> Iterable[Shown]:
    """`OF_LABELLED` photographs of the test split."""
    authors = {entry["file"]: entry["author"] for entry in json.loads((directory / LABELS_FILE).read_text("utf-8"))}
    tests = [each for each in read_photographs(directory) if each.split is Split.TEST]
    for each in evenly_spaced(tests, OF_LABELLED):
        pixels = Image.open(each.path).convert("RGB")
        yield Shown(each.path.stem, f"{authors[each.path.name]}, {each.licence}", pixels, each.boxes)


def evenly_spaced(photographs: Sequence[LabelledPhotograph], count: int) -> list[LabelledPhotograph]:
    """`count` of them in the order of their file names: the first, the last and those at even steps between them."""
    ordered = sorted(photographs, key=lambda each: each.path.name)
    return [ordered[round(place * (len(ordered) - 1) / (count - 1))] for place in range(count)]


def picture(pixels: Image.Image, found: Sequence[RegionDescription]) -> bytes:
    """The photograph with its boxes and their captions, as JPEG of at most `MOST_BYTES`."""
    drawn = draw_regions(pixels, [replace(annotation_of(each), lines=()) for each in found], longest=LONGEST)
    for quality in _QUALITIES:
        stored = io.BytesIO()
        drawn.save(stored, "JPEG", quality=quality, optimize=True, progressive=True)
        if stored.tell() <= MOST_BYTES:
            return stored.getvalue()
    raise ValueError(f"the drawing takes {stored.tell()} bytes at quality {quality}, not {MOST_BYTES}.")


def section(
    shown: Shown, found: Sequence[RegionDescription], model: DynRefer, ancestors: Ancestors, image: Path
) -> str:
    """One photograph on the page."""
    known = model.card.vocabulary["categories"]
    rows = [
        _row(index, truth, each, judge(truth, each, known, ancestors))
        for index, (truth, each) in enumerate(zip(shown.boxes, found, strict=True))
    ]
    head = "| | shows | taken for | caption | name | verdict | categories | tags | attributes |"
    return "\n".join(
        (
            f"## {shown.name} ({shown.credit})\n",
            f"![{shown.name}, described]({image.as_posix()})\n",
            head,
            "|---" * (head.count("|") - 1) + "|",
            *rows,
            "",
        )
    )


def _row(index: int, truth: LabelledBox, found: RegionDescription, verdict: Verdict) -> str:
    caption = found.caption
    name = "" if caption is None or caption.name is None else f"{caption.name} {_short(caption.probability or 0.0)}"
    categories = found.categories or ()
    shown = [each for each in categories if each.level == PARENT]
    shown += [each for each in categories if each.level != PARENT][:LEAVES]
    cells = (
        str(index),
        truth.accepted[0],
        found.domain or "",
        caption.text if caption else "",
        name,
        said_of(verdict),
        _listed(shown),
        _listed(found.tags or ()),
        ", ".join(
            f"{each.name} {_short(each.probability)}" for each in found.attributes or () if each.probability > LIKELY
        ),
    )
    return f"| {' | '.join(cells)} |"


def said_of(verdict: Verdict) -> str:
    """What is to be thought of the caption's noun, in a word or two."""
    if verdict.names_it:
        return "right"
    if verdict.noun == BROADEST:
        return "says nothing"
    return "true, but broad" if verdict.caption_true else "**wrong**"


def _listed(labels: Iterable[Label]) -> str:
    return ", ".join(
        f"{each.name} {_short(each.probability)}{' (broader word)' if each.level == PARENT else ''}" for each in labels
    )


def _short(value: float) -> str:
    """A number between 0 and 1 with two decimals: ".87"."""
    return f"{value:.2f}".removeprefix("0")


def _totals(model: str, photos: Path, split: str | None = None, colours: Path | None = None) -> Mapping[str, Any]:
    """What `dynrefer evaluate --photos` gives as JSON."""
    return run(Options(model=model, device="cpu", photos=photos, split=split, colours=colours))[0]


def totals_table(totals: Mapping[str, Mapping[str, Any]]) -> str:
    """Title of a set -> its result: one column per set, values with their standard errors."""
    heads = [
        f"{title}: {found['boxes']} boxes in {found['photographs']} photographs" for title, found in totals.items()
    ]
    rows = [f"| of the boxes | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for metric, meaning in TOTALS:
        cells = [_with_error(found, metric) for found in totals.values()]
        rows.append(f"| {meaning} (`{metric}`) | {' | '.join(cells)} |")
    errors = [_short(found["calibration_error"]["name"]) for found in totals.values()]
    rows.append(f"| error of the first name's probability (`calibration_error`) | {' | '.join(errors)} |")
    gates = [_taken_for(found.get("gate", {}).get("photographs", {})) for found in totals.values()]
    rows.append(f"| taken for (`gate`) | {' | '.join(gates)} |")
    return "\n".join(rows)


def _with_error(found: Mapping[str, Any], metric: str) -> str:
    value, error = found[metric], found["standard_errors"][metric]
    if value is None:
        return "not measured"
    return _short(value) if error is None else f"{_short(value)} ± {_short(error)}"


def _taken_for(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{decision}: {count}" for decision, count in sorted(counts.items()))


def page(
    model: DynRefer, names: EvidenceNames, sections: Sequence[str], totals: Mapping[str, Mapping[str, Any]], commit: str
) -> str:
    """The page, as Markdown. names: the model's for photographs. commit: of the code that wrote it."""
    counts = {"names": len(names.names), "parents": len(names.parents)}
    head = _HEAD.format(**counts, likely=_short(LIKELY))
    return f"""{head}
Written by `python -m benchmarks.photograph_page`; model {model.card.name}, revision {model.card.revision}, commit
{commit}.

## Totals

{totals_table(totals)}

`dynrefer evaluate --photos` measures them; [evaluation.md](evaluation.md) defines them. A word as broad as "object"
counts as neither true nor false.

{chr(10).join(sections)}"""


def _relative(path: Path, folder: Path) -> Path:
    return Path(os.path.relpath(path.resolve(), folder.resolve()))


if __name__ == "__main__":
    main()
