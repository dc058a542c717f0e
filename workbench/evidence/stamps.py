"""The development set of benchmarks/evidence_crops.py: photographs of single objects, put into other photographs.

The objects are the photographs among Tux Paint's stamps (Debian package tuxpaint-stamps-default, GPL-2; read where they
lie, never committed) that ImageNet has a class for; which are photographs and which drawings was judged by eye. The
backgrounds are scikit-image's. None of this is what the service is measured on.

Frames: boxes are xyxy, pixels of the composed image.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from dynrefer.model.types import Corners

_DOGS = range(151, 269)
_CARS = (436, 468, 511, 581, 609, 627, 656, 661, 751, 817)
_MUSHROOMS = (947, 992, 997)
_TANKS = (408, 586, 847)

# Stamp -> the classes of ImageNet, counted from 0, of which any is right.
ANIMALS: dict[str, tuple[int, ...] | range] = {
    "amphibians/frog": range(30, 33),
    "amphibians/frog-1": range(30, 33),
    "birds/adelaide-rosella": range(87, 91),
    "birds/chicken_profile": (7, 8),
    "birds/hen": (7, 8),
    "birds/rooster": (7, 8),
    "birds/crowned_crane": (134,),
    "birds/drake": (97, 98),
    "birds/duck": (97, 98),
    "birds/gander": (99,),
    "birds/heron_greatblue": (131, 132),
    "birds/heron_greatblue_flying": (131, 132),
    "birds/little-penguin": (145,),
    "birds/magellanic_penguin": (145,),
    "birds/penguin": (145,),
    "birds/magpie": (18,),
    "birds/nandou": (9,),
    "birds/ostrich": (9,),
    "birds/owl": (24,),
    "birds/peacock": (84,),
    "birds/pelican": (144,),
    "birds/pink_flamingo": (130,),
    "birds/rainbow-lorikeet": range(87, 91),
    "birds/tucan": (96,),
    "birds/vulture": (23,),
    "fish/lionfish": (396,),
    "fish/lobster": (122, 123),
    "insects/Brown_slug": (114,),
    "insects/Woodlouse": (126,),
    "insects/grasshopper": (311, 312),
    "insects/hoverfly": (308, 309),
    "insects/mantis": (315,),
    "lizards/iguana": (39,),
    "mammals/apes/chimp": (367,),
    "mammals/apes/gorilla": (366,),
    "mammals/apes/tamarin_emperor": (377, 380),
    "mammals/aquatic/otter": (360,),
    "mammals/aquatic/orca": (148,),
    "mammals/aquatic/sea_lion": (150,),
    "mammals/badger": (362,),
    "mammals/bears/bear": range(294, 298),
    "mammals/bears/european-bear": range(294, 298),
    "mammals/bears/toys/edward_bear": (850,),
    "mammals/bovines/bison": (347,),
    "mammals/bovines/bull": (345,),
    "mammals/bovines/cow": (345,),
    "mammals/bovines/cow_white": (345,),
    "mammals/bovines/indian_blackbuck": (352, 353),
    "mammals/bovines/mountaingoat": (350,),
    "mammals/bovines/ram": (348, 349),
    "mammals/bovines/sheep": (348, 349),
    "mammals/bovines/zebu": (345,),
    "mammals/camel/camel": (354,),
    "mammals/camel/dromedary": (354,),
    "mammals/cats/lion": (291,),
    "mammals/cats/lion-2": (291,),
    "mammals/cats/tiger": (292,),
    "mammals/cats/tiger_sumatran": (292,),
    "mammals/dogs/dingo": (*_DOGS, 273),
    "mammals/dogs/dog": _DOGS,
    "mammals/dogs/fox": range(277, 281),
    "mammals/elephant": (101, 385, 386),
    "mammals/equines/horse": (339,),
    "mammals/equines/zebra": (340,),
    "mammals/ferret": range(356, 360),
    "mammals/hippopotamus": (344,),
    "mammals/pig": (341, 342),
    "mammals/pig_golden": (341, 342),
    "mammals/pig_golden2": (341, 342),
    "mammals/wildboar": (341, 342),
    "mammals/rabbit_little": range(330, 333),
    "mammals/rodents/rabbit": range(330, 333),
    "mammals/rodents/rabbit-2": range(330, 333),
    "mammals/rodents/beaver": (337,),
    "mammals/rodents/marmot": (336,),
    "mammals/rodents/squirrel": (335,),
    "marsupials/kangaroo": (104,),
    "marsupials/koala": (105,),
    "marsupials/wombat": (106,),
}
THINGS: dict[str, tuple[int, ...] | range] = {
    "food/fruit/Strawberry2": (949,),
    "food/fruit/strawberry": (949,),
    "food/fruit/apple_granny_smith": (948,),
    "food/fruit/apple_green": (948,),
    "food/fruit/banana": (954,),
    "food/fruit/cherimoya": (956,),
    "food/fruit/lemon": (951,),
    "food/fruit/orange": (950,),
    "food/fruit/orange_seville": (950,),
    "food/fruit/mandarine": (950,),
    "food/fruit/sliced_orange": (950,),
    "food/fruit/pineapple": (953,),
    "food/fruit/pomegranate": (957,),
    "food/vegetables/broccoli": (937,),
    "food/vegetables/corn": (987, 998),
    "food/vegetables/mushroom": _MUSHROOMS,
    "food/vegetables/pepper": (945,),
    "food/vegetables/yellowpepper": (945,),
    "hobbies/binoculars": (447,),
    "hobbies/camera_35mm": (732, 759),
    "hobbies/music/brass/trumpet": (513,),
    "hobbies/music/percussion/drum_tomtom_floor": (541,),
    "hobbies/music/percussion/drumkit": (541,),
    "hobbies/music/string/cello": (486,),
    "hobbies/music/string/violin": (889,),
    "hobbies/music/string/guitar2": (402, 546),
    "hobbies/music/string/guitar_classical": (402,),
    "hobbies/music/string/guitar_electric": (546,),
    "hobbies/music/string/guitar_electric_bass": (546,),
    "hobbies/music/wind/bassoon": (432,),
    "household/dishes/mug": (504, 968),
    "household/dishes/pitcher_small": (725,),
    "household/dishes/teapot": (849,),
    "household/garbagecan": (412,),
    "household/wheelie_bin": (412,),
    "household/toilet": (861,),
    "household/tools/hammer": (587,),
    "household/tools/mallet_metal": (587,),
    "household/tools/paintbrush_large": (696,),
    "household/tools/spade": (792,),
    "military/ammunition/old_naval_shell": (657, 744),
    "military/paratrooper": (701,),
    "military/vehicles/bradley": _TANKS,
    "military/vehicles/infantry-stryker": _TANKS,
    "military/vehicles/ww2_german_gun": _TANKS,
    "military/vehicles/f22_raptor": (895,),
    "plants/mushrooms/cep": _MUSHROOMS,
    "plants/mushrooms/cep-1": _MUSHROOMS,
    "plants/mushrooms/cep-2": _MUSHROOMS,
    "seasonal/candle": (470,),
    "sports/basketball": (430,),
    "sports/football": (768,),
    "sports/australian_rules_football": (768,),
    "sports/soccer": (805,),
    "sports/tennis_ball": (852,),
    "sports/tennis_racket": (752,),
    "town/monuments/inukshuk-photo": (649,),
    "town/uk_post_box": (637,),
    "town/usps_mailbox": (637,),
    "vehicles/7spoke256": (479,),
    "vehicles/auto/beetle": _CARS,
    "vehicles/auto/sedan": _CARS,
    "vehicles/auto/sportscar2": _CARS,
    "vehicles/auto/truck": (717,),
    "vehicles/cycle/pink_tricycle": (870,),
    "vehicles/emergency/firetruck": (555,),
    "vehicles/flight/balloon360": (417,),
    "vehicles/flight/planes/747": (404,),
    "vehicles/garbagetruck": (569,),
    "vehicles/masstransit/green_korean_bus": (654, 779, 874),
    "vehicles/race/indycar": (751,),
    "vehicles/ship/chineseJunk": (724, 780, 914),
    "vehicles/ship/walnutBoat": (724, 780, 914),
}
STAMPS = {**{f"animals/{name}": classes for name, classes in ANIMALS.items()}, **THINGS}
BACKGROUNDS = ("coffee.png", "rocket.jpg", "brick.png", "grass.png", "gravel.png", "astronaut.png", "chelsea.png")

# Photographs of scikit-image as they are: file, box, classes.
PHOTOGRAPHS: tuple[tuple[str, Corners, tuple[int, ...]], ...] = (
    ("chelsea.png", (0, 0, 368, 295), tuple(range(281, 286))),
    ("coffee.png", (166, 14, 424, 290), (504, 967, 968)),
    ("coffee.png", (318, 60, 424, 330), (910,)),
    ("rocket.jpg", (292, 124, 348, 410), (657, 744, 812)),
    ("camera.png", (238, 134, 330, 205), (732, 759)),
)

# Stamps among neighbours and alone, with the box exact and as a person draws it; photographs as they are.
GROUPS = ("crowded, exact", "crowded, jittered", "alone, exact", "alone, jittered", "photograph")

_LONGEST = 400  # pixels; larger stamps are reduced to it
_BLUR = 3.0  # pixels
_JITTER = 0.1  # of the box's side, at most, for each edge


@dataclass(frozen=True)
class Sample:
    """One region. image: (H, W, 3) uint8. classes: any of them is right. group: one of `GROUPS`."""

    name: str
    group: str
    image: NDArray[np.uint8]
    box: Corners
    classes: tuple[int, ...]


def samples(stamps: Path, pictures: Path, copies: int, seed: int) -> Iterator[Sample]:
    """Each stamp on `copies` backgrounds, each with and without neighbours; then the photographs.

    stamps: the folder that holds `animals`. pictures: scikit-image's folder of data.
    """
    rng = np.random.default_rng(seed)
    backgrounds = [Image.open(pictures / name).convert("RGB") for name in BACKGROUNDS]
    names = list(STAMPS)
    for name, classes in STAMPS.items():
        for crowd, count in (("crowded", 2), ("alone", 0)) * copies:
            others = [stamp(stamps, names[number]) for number in rng.integers(0, len(names), count)]
            image, box = _composed(stamp(stamps, name), others, backgrounds[rng.integers(len(backgrounds))], rng)
            yield Sample(name, f"{crowd}, exact", image, box, tuple(classes))
            yield Sample(name, f"{crowd}, jittered", image, _jittered(box, rng), tuple(classes))
    for number, (file, box, classes) in enumerate(PHOTOGRAPHS):
        image = np.asarray(Image.open(pictures / file).convert("RGB"))
        yield Sample(f"{file}-{number}", "photograph", image, box, classes)


def labelled_samples(folder: Path, names: Path) -> Iterator[Sample]:
    """The boxes of the split "calibration" of benchmarks/photographs whose names ImageNet has classes for.

    names: the file of the evidence's names, with the classes of each.
    """
    classes: dict[str, set[int]] = {}
    for row in json.loads(names.read_text(encoding="utf-8"))["names"]:
        for word in (row["name"], row["plural"], *row["synonyms"]):
            classes.setdefault(word, set()).update(row["classes"])
    for photograph in json.loads((folder / "labels.json").read_text(encoding="utf-8")):
        if photograph["split"] != "calibration":
            continue
        image = np.asarray(Image.open(folder / photograph["file"]).convert("RGB"))
        for number, box in enumerate(photograph["boxes"]):
            accepted = set().union(*(classes.get(word, set()) for word in box["accepted"]))
            if accepted:
                name = f"{photograph['file']}-{number}"
                yield Sample(name, "photograph", image, tuple(box["box"]), tuple(sorted(accepted)))


def stamp(folder: Path, name: str) -> Image.Image:
    """A stamp, cut to what is visible of it."""
    image = Image.open(folder / f"{name}.png").convert("RGBA")
    image = image.crop(image.getchannel("A").point(lambda value: 255 if value > 127 else 0).getbbox())
    if max(image.size) > _LONGEST:
        image.thumbnail((_LONGEST, _LONGEST), Image.Resampling.LANCZOS)
    return image


def _composed(
    stamp: Image.Image, others: list[Image.Image], background: Image.Image, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], Corners]:
    """A stamp somewhere in the middle, two others beside it that it may cover, over a blurred part of a photograph."""
    width, height = (round(max(stamp.size) * factor) for factor in rng.uniform(1.6, 3.5, 2))
    part = min(background.size) * rng.uniform(0.5, 1)
    x, y = rng.uniform(0, 1, 2) * (background.width - part, background.height - part)
    image = background.resize((width, height), Image.Resampling.BICUBIC, box=(x, y, x + part, y + part))
    image = image.filter(ImageFilter.GaussianBlur(_BLUR))
    left, top = (
        round(free * where) for free, where in zip(_free(image, stamp), rng.uniform(0.25, 0.75, 2), strict=True)
    )
    for other, side in zip(others, (-1, 1), strict=False):  # none or two
        other.thumbnail((stamp.width * 2, stamp.height * 2))
        gap = rng.uniform(-0.15, 0.3) * stamp.width
        start = left - other.width - gap if side < 0 else left + stamp.width + gap
        image.paste(other, (round(start), round(top + rng.uniform(-0.2, 0.2) * stamp.height)), other)
    image.paste(stamp, (left, top), stamp)
    return np.asarray(image), (left, top, left + stamp.width, top + stamp.height)


def _free(image: Image.Image, stamp: Image.Image) -> tuple[int, int]:
    return image.width - stamp.width, image.height - stamp.height


def _jittered(box: Corners, rng: np.random.Generator) -> Corners:
    """A box as a person draws it: each edge off by up to a tenth of the side."""
    x1, y1, x2, y2 = box
    a, b, c, d = rng.uniform(-_JITTER, _JITTER, 4)
    width, height = x2 - x1, y2 - y1
    return x1 + a * width, y1 + b * height, x2 + c * width, y2 + d * height
