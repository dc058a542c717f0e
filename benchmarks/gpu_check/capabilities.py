"""Everything that may be asked beside boxes, on the device and on a CPU: whether both say the same.

The embedded model in float32 is compared number by number, in the type of its use by its words. Released finders and
segmenters are tiny, with random weights: that their code runs on the device and says what it says on a CPU.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from benchmarks.gpu_check.conditions import Conditions
from benchmarks.gpu_check.figures import Figure
from benchmarks.offline import SCENE
from dynrefer.model.arguments import region_queries
from dynrefer.model.errors import ModelError
from dynrefer.model.finding import AskedName, FindQuery
from dynrefer.model.images import Pixels, upright_pixels
from dynrefer.model.masks import RegionMask, bitmap_from_mask
from dynrefer.model.networks.finder.loading import load_finder
from dynrefer.model.networks.segmenter.loading import load_segmenter
from dynrefer.model.predictor import DynRefer
from dynrefer.model.prompts import Polygon, Scribble
from dynrefer.model.types import CaptionWriting, PointPrompt, RegionQuery
from tests.model.networks.finder.tiny_finders import save_grounding_dino, save_owlv2
from tests.model.networks.segmenter.tiny_sam2 import save_tiny_sam2

PHOTOGRAPH = Path(__file__).parents[1] / "photographs" / "tourist.jpg"
# How far a number may lie from the CPU's, and the share of words that must be equal. Of bfloat16 only words count: what
# it rounds away decides between labels that are nearly as likely.
CLOSE, EQUAL_WORDS = 2e-3, {"float32": 1.0, "bfloat16": 0.8}
UNSTABLE = ("timings_ms", "preview")
SNOWMAN = (41.0, 2.0, 117.0, 82.0)  # in the scene, xyxy pixels
POINT = (79.0, 42.0)
OWN_WORDS = {"categories": ["snowman", "pig", "teapot"], "attributes": ["color:red/crimson", "size:large"]}
Ask = Callable[[DynRefer], Any]


@dataclass(frozen=True)
class Difference:
    """Between two answers. words, same: how many strings and whole numbers there are, and are equal. furthest: of the
    other numbers, over their own size where that is above 1; infinity where an answer has another shape."""

    words: int
    same: int
    furthest: float
    example: str = ""

    def __add__(self, other: "Difference") -> "Difference":
        return Difference(
            self.words + other.words,
            self.same + other.same,
            max(self.furthest, other.furthest),
            self.example or other.example,
        )


def compared(found: Any, expected: Any, at: str = "") -> Difference:
    """Two answers as plain data, member by member. at: where they stand in the answer, for the example."""
    if isinstance(found, Mapping) and isinstance(expected, Mapping) and {"size", "counts"} == expected.keys():
        return _masks(found, expected, at)
    if isinstance(found, Mapping) and isinstance(expected, Mapping):
        names = [name for name in expected if name not in UNSTABLE]
        total = Difference(0, 0, 0.0) if found.keys() == expected.keys() else _other(found, expected, at)
        return sum((compared(found.get(name), expected[name], f"{at}/{name}") for name in names), total)
    if isinstance(found, list) and isinstance(expected, list):
        total = Difference(0, 0, 0.0) if len(found) == len(expected) else _other(len(found), len(expected), at)
        pairs = enumerate(zip(found, expected, strict=False))
        return sum((compared(ours, theirs, f"{at}/{place}") for place, (ours, theirs) in pairs), total)
    if isinstance(found, float) and isinstance(expected, float):
        return _numbers(found, expected, at)
    return Difference(1, 1, 0.0) if found == expected else _other(found, expected, at)


def _other(found: Any, expected: Any, at: str) -> Difference:
    return Difference(1, 0, 0.0, f"{at}: {str(found)[:60]} instead of {str(expected)[:60]}")


def _masks(found: Mapping[str, Any], expected: Mapping[str, Any], at: str) -> Difference:
    """By the share of their pixels that only one of them has."""
    if found.keys() != expected.keys() or found["size"] != expected["size"]:
        return _other(found, expected, at)
    ours, theirs = (bitmap_from_mask(RegionMask(tuple(each["size"]), each["counts"])) for each in (found, expected))
    return _numbers(float((ours != theirs).sum() / max(1, theirs.sum())), 0.0, at)


def _numbers(found: float, expected: float, at: str) -> Difference:
    if found == expected or (math.isnan(found) and math.isnan(expected)):
        return Difference(0, 0, 0.0)
    apart = abs(found - expected) / max(1.0, abs(expected))
    apart = apart if math.isfinite(apart) else math.inf
    return Difference(0, 0, apart, f"{at}: {found:g} instead of {expected:g}" if apart > CLOSE else "")


def asked() -> dict[str, Ask]:
    """By name, what is asked of the embedded model."""
    ring = (45.0, 60.0, 80.0, 5.0, 113.0, 60.0, 80.0, 80.0)
    found: dict[str, Ask] = {
        "points": lambda model: model.describe(SCENE, points=[[POINT], [(*POINT, True), (44.0, 5.0, False)]]),
        "polygon, blanked around": lambda model: model.describe(SCENE, [Polygon((ring,))], highlight=True),
        "scribble": lambda model: model.describe(SCENE, [Scribble(((70.0, 30.0, 90.0, 60.0),))]),
        "own words": lambda model: model.describe(SCENE, [SNOWMAN], vocabulary=OWN_WORDS),
        "a named list of words": lambda model: model.describe(PHOTOGRAPH, [(308, 190, 401, 258)], vocabulary="coco"),
        "another language": lambda model: model.describe(PHOTOGRAPH, [(75, 90, 640, 427)], language="de"),
        "explained": lambda model: model.describe(SCENE, [SNOWMAN], explain=True),
        "explained, of a photograph": lambda model: model.describe(PHOTOGRAPH, [(308, 190, 401, 258)], explain=True),
        "three captions": lambda model: model.describe(
            SCENE, [SNOWMAN], "caption", writing=CaptionWriting(num_captions=3)
        ),
        "find names": lambda model: model.detect(SCENE, ["pig", "snowman", "zeppelin"], masks=True, describe="caption"),
        "find by a sentence": lambda model: model.detect(SCENE, phrase="a red snowman beside a pig"),
        "find everything": lambda model: model.detect(PHOTOGRAPH, masks=True),
        "find a name that the describer knows": lambda model: model.detect(SCENE, ["polka-dotted gizmo", "outdoor"]),
    }
    return found


def measure(given: Conditions) -> Iterator[Figure]:
    """The CPU's answers first, then the device's in both types, then the released networks."""
    on_cpu = DynRefer.load("embedded", device="cpu")
    expected = {name: _answer(ask, on_cpu) for name, ask in asked().items()}
    del on_cpu
    for dtype in ("float32", "bfloat16"):
        model = DynRefer.load("embedded", device=given.device, dtype=dtype)
        for name, ask in asked().items():
            yield _figure(f"{name}, {dtype}", dtype, compared(_answer(ask, model), expected[name]))
        if dtype == "float32":
            yield from joined(given, model, expected)
    yield from released(given)


def _answer(ask: Ask, model: DynRefer) -> Any:
    """As plain data; an error as its sentence, so that one does not end the part."""
    try:
        found = ask(model)
        return [each.to_dict() for each in found] if isinstance(found, list) else found.to_dict()
    except (ModelError, RuntimeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"


def _figure(name: str, dtype: str, found: Difference) -> Figure:
    share = found.same / found.words if found.words else 1.0
    ok = share >= EQUAL_WORDS[dtype] and (dtype != "float32" or found.furthest <= CLOSE)
    text = f"{share:.1%} of {found.words} words equal, numbers within {found.furthest:.1e}"
    detail = {"words": found.words, "equal": found.same, "largest_difference": found.furthest}
    return Figure(
        "capabilities", name, text, ok=ok, detail=detail | ({"first": found.example} if found.example else {})
    )


def joined(given: Conditions, model: DynRefer, expected: Mapping[str, Any]) -> Iterator[Figure]:
    """Own words and an explanation in regions that join a continuous batch, as a GPU's service runs them."""
    batch = _joinable(model).continuous()
    if batch is None:
        raise SystemExit("there is no continuous batch on this device.")
    pixels = upright_pixels(SCENE)
    for name in ("own words", "explained"):
        (query,) = _queries(model, name)
        (region,) = model.prepare(pixels, [query])
        batch.admit([region])
        outputs: list[Any] = []
        while not outputs:
            outputs = batch.advance()
        found = [model.finish(region, outputs[0][1]).to_dict()]
        yield _figure(f"{name}, in a continuous batch", "float32", compared(found, expected[name]))


def _joinable(model: DynRefer) -> DynRefer:
    """The same model, with regions that join at any time on a CPU too."""
    return DynRefer(model._loaded, batching="continuous")


def _queries(model: DynRefer, name: str) -> list[RegionQuery]:
    more = {"own words": {"vocabulary": OWN_WORDS}, "explained": {"explain": True}}[name]
    return region_queries([SNOWMAN], None, (), None, 10, None, **more)


def released(given: Conditions) -> Iterator[Figure]:
    """SAM 2, Grounding DINO in both kinds, and OWLv2."""
    pixels = upright_pixels(SCENE)
    kinds: dict[str, Callable[[Path], None]] = {
        "grounding-dino": save_grounding_dino,
        "mm-grounding-dino": lambda folder: save_grounding_dino(folder, mm=True),
        "owlv2": save_owlv2,
    }
    for name, save in kinds.items():
        folder = given.folder / name
        save(folder)
        found, expected = (_searched(folder, device, pixels) for device in (given.device, "cpu"))
        yield _figure(f"tiny {name}", "float32", compared(found, expected))
    folder = given.folder / "sam2"
    save_tiny_sam2(folder)
    found, expected = (_segmented(folder, device, pixels) for device in (given.device, "cpu"))
    yield _figure("tiny sam2", "float32", compared(found, expected))


def _searched(folder: Path, device: str, pixels: Pixels) -> Any:
    loaded: Any = SimpleNamespace(device=torch.device(device), dtype=torch.float32)
    finder = load_finder(str(folder), folder, loaded)
    assert finder is not None
    query = FindQuery((AskedName("dog"), AskedName("red cup")), threshold=0.0, max_regions=1000, nms=1.0)
    (found,) = finder.find(list(finder.spec.prepare_each(pixels, [query])), lambda: False)
    # By place, so that boxes whose scores differ by rounding stand in the same order.
    order = np.lexsort(np.round(found.boxes, 1).T)
    return {"texts": list(found.texts), "scores": found.scores[order].tolist(), "boxes": found.boxes[order].tolist()}


def _segmented(folder: Path, device: str, pixels: Pixels) -> Any:
    segmenter = load_segmenter(str(folder), folder, torch.device(device))
    assert segmenter is not None
    query = RegionQuery((0.0, 0.0, 1.0, 1.0), points=(PointPrompt(*POINT),))
    (found,) = segmenter.segment(list(segmenter.spec.prepare_each(pixels, [query])), lambda: False)
    return np.asarray(found.logits, np.float64).tolist()
