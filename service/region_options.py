"""Regions that a command is given: `--box 1,2,3,4 --point 5,6,0`; and regions with names, `--box dog=1,2,3,4`."""

import itertools
import string
from collections.abc import Iterator, Sequence

from dynrefer.model import REGION_ID
from dynrefer.model.types import Corners, PointPrompt
from dynrefer.service.command_files import fail

Region = Corners | tuple[PointPrompt, ...]


def read_box(text: str) -> Corners:
    """x1,y1,x2,y2."""
    try:
        x1, y1, x2, y2 = (float(part) for part in text.split(","))
    except ValueError:
        fail(f"--box {text} is not four numbers x1,y1,x2,y2.")
    return x1, y1, x2, y2


def read_point(text: str) -> PointPrompt:
    """x,y or x,y,0."""
    parts = text.split(",")
    try:
        x, y = (float(part) for part in parts[:2])
    except ValueError:
        fail(f"--point {text} is not two numbers x,y.")
    if len(parts) > 3 or parts[2:] not in ([], ["0"], ["1"]):
        fail(f"--point {text} is not x,y, or x,y,0 for a point beside the object.")
    return PointPrompt(x, y, parts[2:] != ["0"])


def read_named_regions(boxes: Sequence[str], points: Sequence[str]) -> dict[str, Region]:
    """Regions by name, boxes first. Those without a name are called a, b, c, ..., z, aa, ab, ..., as far as these names
    are free. Points of one name are one region; a point without a name is a region of its own."""
    split = [("--box", *_split("--box", text), text) for text in boxes]
    split += [("--point", *_split("--point", text), text) for text in points]
    free = _free_names({name for _, name, _, _ in split if name is not None})
    regions: dict[str, Region] = {}
    for option, given, numbers, text in split:
        name = next(free) if given is None else given
        if option == "--box":
            if name in regions:
                fail(f"--box {text}: there is another region {name}; give each its own name.")
            regions[name] = read_box(numbers)
        else:
            before = regions.get(name, ())
            if before and not isinstance(before[0], PointPrompt):
                fail(f"--point {text}: region {name} has a box; give the points another name.")
            regions[name] = (*before, read_point(numbers))
    for name, region in regions.items():
        if isinstance(region[0], PointPrompt) and not any(each.positive for each in region):
            fail(f"--point: region {name} has only points beside its object; give one on it, {name}=x,y.")
    return regions


def _split(option: str, text: str) -> tuple[str | None, str]:
    """The name, None without one, and the numbers."""
    name, equals, numbers = text.partition("=")
    if not equals:
        return None, text
    if REGION_ID.fullmatch(name) is None:
        fail(f"{option} {text}: a region's name has 1 to 64 letters, digits, dots, hyphens and underscores.")
    return name, numbers


def _free_names(taken: set[str]) -> Iterator[str]:
    for length in itertools.count(1):
        for letters in itertools.product(string.ascii_lowercase, repeat=length):
            if (name := "".join(letters)) not in taken:
                yield name
