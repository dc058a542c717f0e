"""The image with an answer drawn on it, as a language model that sees can look at it, and its user."""

import io

from dynrefer.model import Annotation, Preview, RegionMask, draw_regions
from dynrefer.service.api.detect_schemas import DetectResponse, FoundRegionOut
from dynrefer.service.api.schemas import DescribeResponse, RegionOut
from dynrefer.service.integrations.mcp.results import LISTS, listed

# Larger images, and those that took a worker longer to decode, are not drawn: the image is decoded once more, in the
# one thread that parses and writes for everybody.
MOST_PIXELS = 1 << 23
MOST_DECODE_MS = 250.0
QUALITY = 85  # of JPEG
LONGEST = 1280  # pixels of the drawn image's longer side: more is cut down by what language models see with


def drawn(image: bytes, answer: DescribeResponse | DetectResponse) -> bytes | None:
    """A JPEG of the upright image with the regions, None where it is too large or hard to decode. CPU work.

    image: the file's bytes, which have been decoded without an error before.
    """
    width, height = answer.image.width, answer.image.height
    if width * height > MOST_PIXELS or answer.timings_ms.get("decode", 0.0) > MOST_DECODE_MS:
        return None
    regions = [each for each in answer.regions if isinstance(each, RegionOut | FoundRegionOut)]
    preview = Preview.of(image, (width, height))
    annotations = [_annotation(each) for each in regions]
    stored = io.BytesIO()
    draw_regions(preview.image(), annotations, size=preview.size, longest=LONGEST).save(stored, "JPEG", quality=QUALITY)
    return stored.getvalue()


def _annotation(region: RegionOut | FoundRegionOut) -> Annotation:
    title: str
    probability: float | None
    lines = {task: listed(labels) for task in LISTS if (labels := getattr(region, task))}
    if isinstance(region, FoundRegionOut):
        title, probability = region.phrase or region.label, region.probability
        lines = {**({} if region.caption is None else {"caption": region.caption.text}), **lines}
    elif region.caption is not None:
        title, probability = region.caption.text, region.caption.probability
    else:
        best = next((getattr(region, task)[0] for task in LISTS if getattr(region, task)), None)
        title, probability = ("", None) if best is None else (best.name, best.probability)
    mask = None if region.mask is None else RegionMask(region.mask.size, region.mask.counts)
    x1, y1, x2, y2 = region.box
    return Annotation((x1, y1, x2, y2), title, probability, tuple(lines.items()), mask)
