"""The official arithmetic from a box to the vision tower's tokens, written again independently, with other libraries.

The photographs that the official code was recorded on may not be distributed, so the repository compares with what is
computed here on images of its own. `test_reference.py` compares this file with the official numbers: with all of them
where the photographs are (`--goldens` with the complete folder), otherwise with those that need no pixels.

Source: the paper, sections 3.2 and 3.4; the released code (commit 2200c5b).
Shapes: R = regions, V = views, S = side of a view in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
import torch
from imagehash import ImageHash
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask
from torch import Tensor
from torch.nn import functional as F

from tests.recorded.exchanges import IMAGES

Numbers = Sequence[float]
Segmentation = list[list[float]] | dict[str, Any]

STEPS = tuple(step / 10 for step in range(1, 11))
GREY = (9798, 19235, 3735)  # OpenCV's weights of red, green and blue, in units of 2 ** -15
MOST_VIEWS = 4


def rectangle(x1: float, y1: float, x2: float, y2: float) -> Segmentation:
    """A box as a polygon, as the official processor takes it."""
    return [[x1, y1, x2, y1, x2, y2, x1, y2]]


def ellipse(width: int, height: int, box: tuple[int, int, int, int]) -> Segmentation:
    """A compressed run-length mask."""
    drawn = Image.new("L", (width, height))
    ImageDraw.Draw(drawn).ellipse(box, fill=1)
    encoded: dict[str, Any] = coco_mask.encode(np.asfortranarray(np.array(drawn)))
    return encoded | {"counts": encoded["counts"].decode()}


# The regions that are compared: a photograph, as large as those of the goldens, two small ones and a drawing.
REGIONS: dict[str, dict[str, Segmentation]] = {
    "photo_chelsea.jpg": {
        "head": rectangle(180, 40, 520, 380),
        "fractions": rectangle(12.3, 200.7, 301.9, 411.4),
        "polygon": [[400, 60, 610, 110, 590, 300, 470, 330], [330, 200, 360, 180, 350, 240]],
    },
    "photo_coffee.jpg": {
        "left border": rectangle(0, 40, 150, 200),
        "full image": rectangle(0, 0, 384, 256),
        "mask": ellipse(384, 256, (140, 60, 290, 190)),
    },
    "scene_0.png": {"small": rectangle(70, 83, 88, 111), "corner": rectangle(120, 180, 164, 231)},
}
ENLARGED = "photo_chelsea.jpg"
GOLDEN_SIZE = (640, 426)  # of the photograph of the edge cases


def read_image(name: str) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB."""
    with Image.open(IMAGES / name) as image:
        rgb = image.convert("RGB")
        return np.asarray(rgb.resize(GOLDEN_SIZE) if name == ENLARGED else rgb)


def box_of(segmentation: Segmentation) -> list[float]:
    """The box of polygons, at least one pixel wide and high, or of a mask: first and last column and row."""
    if isinstance(segmentation, dict):
        rows, columns = np.nonzero(coco_mask.decode(segmentation))
        return [float(each) for each in (columns.min(), rows.min(), columns.max(), rows.max())]
    points = np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in segmentation])
    (x1, y1), (x2, y2) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    if x1 >= x2 - 1:
        x1, x2 = (x2 - 1, x2) if x2 > 0 else (x1, x1 + 1)
    if y1 >= y2 - 1:
        y1, y2 = (y2 - 1, y2) if y2 > 0 else (y1, y1 + 1)
    return [x1, y1, x2, y2]


def towards(box: Numbers, size: tuple[int, int], t: float) -> list[float]:
    """The box moved towards the whole image, each step rounded to float32."""
    whole = (0, 0, *size)
    return [
        float(np.float32(corner) + np.float32(t) * (np.float32(end) - np.float32(corner)))
        for corner, end in zip(box, whole, strict=True)
    ]


def crop_of(box: Numbers, size: tuple[int, int]) -> list[int]:
    """Corners clipped to the image and truncated to whole pixels; one pixel where nothing would be left."""
    x1, y1, x2, y2 = (
        int(min(max(corner, 0), limit)) for corner, limit in zip(np.array(box, np.float32), size * 2, strict=True)
    )
    x1, y1 = min(x1, size[0] - 1), min(y1, size[1] - 1)
    return [x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)]


def low_frequencies(image: NDArray[np.uint8], crop: Sequence[int]) -> NDArray[np.float64]:
    """(8, 8): OpenCV's grey, a bilinear resize to 224 x 224 without antialiasing, an orthonormal DCT-II."""
    x1, y1, x2, y2 = crop
    grey = (image[y1:y2, x1:x2].astype(np.int64) @ GREY + (1 << 14)) >> 15
    pixels = torch.from_numpy(grey.astype(np.float64))[None, None]
    resized = F.interpolate(pixels, (224, 224), mode="bilinear", align_corners=False, antialias=False)
    found: NDArray[np.float64] = scipy.fft.dctn(resized[0, 0].numpy(), norm="ortho")[:8, :8]
    return found


def bits_of(coefficients: NDArray[Any]) -> NDArray[np.bool_]:
    """(8, 8) -> (64,): what lies above the mean of the 64."""
    bits: NDArray[np.bool_] = (coefficients > coefficients.mean()).ravel()
    return bits


def picks_of(scores: Sequence[float], count: int) -> list[float]:
    """t of the best scores, one after the other; a score that was picked counts as 0 from then on."""
    left, picks = list(scores), []
    for _ in range(count):
        best = int(np.argmax(left))
        left[best] = 0.0
        picks.append(STEPS[best])
    return picks


def scores_of(bits: Sequence[NDArray[np.bool_]]) -> tuple[list[int], list[float]]:
    """Hamming distance of every candidate to the region, and the distance over t; the region's own bits come first."""
    region, *others = (ImageHash(each.reshape(8, 8)) for each in bits)
    hamming = [int(region - other) for other in others]
    return hamming, [distance / t for distance, t in zip(hamming, STEPS, strict=True)]


def view_of(image: NDArray[np.uint8], crop: Sequence[int], side: int) -> NDArray[np.uint8]:
    """(3, S, S) uint8: the crop, then Pillow's bicubic resize."""
    x1, y1, x2, y2 = crop
    part = Image.fromarray(np.ascontiguousarray(image[y1:y2, x1:x2])).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(part).transpose(2, 0, 1)


def in_view(region: Sequence[int], crop: Sequence[int], side: int) -> list[float]:
    """The region's box in a view: relative to the crop, scaled in float32, truncated."""
    scales = [np.float32(side / (crop[axis + 2] - crop[axis])) for axis in (0, 1)]
    return [float(np.trunc(np.float32(region[k] - crop[k % 2]) * scales[k % 2])) for k in range(4)]


def normalised(view: NDArray[np.uint8], mean: Numbers, std: Numbers) -> NDArray[np.float32]:
    """(3, S, S) bytes -> what the network sees, in float32."""
    pixels = view.astype(np.float32) / np.float32(255)
    centred = pixels - np.array(mean, np.float32)[:, None, None]
    values: NDArray[np.float32] = centred / np.array(std, np.float32)[:, None, None]
    return values


@dataclass(frozen=True)
class Processor:
    """The official processor's settings. side: of a view in pixels."""

    mean: Numbers
    std: Numbers
    side: int

    def hashes(self, image: NDArray[np.uint8], box: Numbers) -> dict[str, NDArray[Any]]:
        """Of the region and its ten candidates: `dct8` (11, 8, 8), `bits` (11, 64), `candidate_boxes` (11, 4)."""
        size = (image.shape[1], image.shape[0])
        boxes = [towards(box, size, t) for t in (0.0, *STEPS)]
        dct8 = np.stack([low_frequencies(image, crop_of(each, size)) for each in boxes])
        return {
            "dct8": dct8,
            "bits": np.stack([bits_of(each) for each in dct8]),
            "candidate_boxes": np.array(boxes, np.float32),
        }

    def run(self, image: NDArray[np.uint8], box: Numbers, ratios: Sequence[float]) -> dict[str, Any]:
        """Views at these t, as processor.json has them, and their bytes, `images` (V, 3, S, S)."""
        size = (image.shape[1], image.shape[0])
        boxes = [towards(box, size, t) for t in ratios]
        crops = [crop_of(each, size) for each in boxes]
        views = np.stack([view_of(image, crop, self.side) for crop in crops])
        values = [normalised(view, self.mean, self.std) for view in views]
        grid = np.ix_([0, 8, 64], [0, 8, 64])
        return {
            "selected_ratios": list(ratios),
            "cascade_region_ratios": list(ratios),
            "selected_float_boxes": boxes,
            "integer_crop_boxes": crops,
            "in_view_boxes": [in_view(crops[0], crop, self.side) for crop in crops],
            "view_stats": [statistics(each.astype(np.float64)) for each in values],
            "view_slice_c0_rows0_8_64_cols0_8_64": [each[0][grid].tolist() for each in values],
            "images": views,
        }

    def record(self, key: str, name: str, image: NDArray[np.uint8], segmentation: Segmentation) -> dict[str, Any]:
        """Everything that processor.json says of one region, with its `hashes`."""
        box, size = box_of(segmentation), (image.shape[1], image.shape[0])
        hashes = self.hashes(image, box)
        hamming, scores = scores_of(hashes["bits"])
        flat = hashes["dct8"].reshape(len(hashes["dct8"]), -1)
        least = np.abs(flat - flat.mean(axis=1, keepdims=True)).min(axis=1)
        basic, *candidates = hashes["candidate_boxes"].tolist()
        record = {
            "name": name,
            "seg": segmentation,
            "bbox_from_seq2mask": box,
            "mask_area": int(coco_mask.area(segmentation)) if isinstance(segmentation, dict) else None,
            "key": key,
            "basic_box": basic,
            "candidate_boxes": candidates,
            "weights": list(STEPS),
            "hamming": hamming,
            "score": scores,
            "phash_min_margin": float(least.min()),
            "phash_min_rel_margin": float((least / np.abs(flat).max(axis=1)).min()),
            "size_wh": list(size),
            "hashes": hashes,
        }
        for count in range(1, MOST_VIEWS + 1):
            record[f"num_views_{count}"] = self.run(image, box, (0.0, *picks_of(scores, count - 1)))
        return record

    def edge_case(self, image: NDArray[np.uint8], segmentation: Segmentation, num_views: int) -> dict[str, Any]:
        """What edge_cases.json says of one case."""
        box, size = box_of(segmentation), (image.shape[1], image.shape[0])
        clipped = [min(max(corner, 0.0), float(limit)) for corner, limit in zip(box, size * 2, strict=True)]
        _, scores = scores_of(self.hashes(image, clipped)["bits"])
        run = self.run(image, clipped, (0.0, *picks_of(scores, num_views - 1)))
        sums = [stats["sum"] for stats in run["view_stats"]]
        return {"ratios": run["selected_ratios"], "in_view_boxes": run["in_view_boxes"], "sums": sums}


def statistics(values: NDArray[np.float64]) -> dict[str, float]:
    """Of one view's normalised values."""
    return {
        "mean": float(values.mean()),
        "std": float(values.std(ddof=1)),
        "sum": float(values.sum()),
        "sumsq": float((values**2).sum()),
    }


def processor_record(processor: Processor) -> list[dict[str, Any]]:
    """`cases` of a processor.json about our own images."""
    return [
        {
            "file": file,
            "boxes": [
                processor.record(f"case{i}_{j}", name, read_image(file), segmentation)
                for j, (name, segmentation) in enumerate(regions.items())
            ],
        }
        for i, (file, regions) in enumerate(REGIONS.items())
    ]


def vision_tokens(images: Tensor, state: dict[str, Tensor], heads: int, mean: Numbers, std: Numbers) -> Tensor:
    """EVA-CLIP's tower and the norm after it: (N, 3, S, S) uint8 -> tokens (N, 1 + P, C), computed in float64.

    state: the official weights under their official names. heads: of the attention.
    """

    def weight(name: str) -> Tensor:
        return state[f"visual_encoder.{name}"].double()

    def norm(values: Tensor, name: str) -> Tensor:
        return F.layer_norm(values, values.shape[-1:], weight(f"{name}.weight"), weight(f"{name}.bias"), 1e-6)

    def linear(values: Tensor, name: str) -> Tensor:
        return F.linear(values, weight(f"{name}.weight"), weight(f"{name}.bias"))

    pixels = torch.stack([torch.from_numpy(normalised(image, mean, std)) for image in images.numpy()]).double()
    kernel = weight("patch_embed.proj.weight")
    patches = F.conv2d(pixels, kernel, weight("patch_embed.proj.bias"), stride=kernel.shape[-1]).flatten(2)
    tokens = torch.cat((weight("cls_token").expand(len(images), -1, -1), patches.transpose(1, 2)), dim=1)
    tokens = tokens + weight("pos_embed")
    blocks = sorted({key.split(".")[2] for key in state if key.startswith("visual_encoder.blocks.")}, key=int)
    for block in (f"blocks.{number}" for number in blocks):
        bias = weight(f"{block}.attn.q_bias"), weight(f"{block}.attn.v_bias")
        bias_of_all = torch.cat((bias[0], torch.zeros_like(bias[0]), bias[1]))  # keys have none
        joined = F.linear(norm(tokens, f"{block}.norm1"), weight(f"{block}.attn.qkv.weight"), bias_of_all)
        query, key, value = joined.unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        attention = (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1) @ value
        tokens = tokens + linear(attention.transpose(1, 2).flatten(2), f"{block}.attn.proj")
        tokens = tokens + linear(F.gelu(linear(norm(tokens, f"{block}.norm2"), f"{block}.mlp.fc1")), f"{block}.mlp.fc2")
    last = state["ln_vision.weight"].double(), state["ln_vision.bias"].double()
    return F.layer_norm(tokens, tokens.shape[-1:], *last, 1e-5).float()
