"""Records of the service -> what Hugging Face's client reads, and errors in its form. CPU work, but for errors."""

import base64
import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi import Response
from fastapi.responses import JSONResponse
from PIL import Image

from dynrefer.model import RegionMask, bitmap_from_mask
from dynrefer.service.api.detect_schemas import DetectResponse, FoundRegionOut
from dynrefer.service.api.problems import ToldProblem
from dynrefer.service.api.schemas import DescribeResponse, MaskOut, RegionOut
from dynrefer.service.errors import FieldError, InvalidRequestError

# The client keeps members that its own schema does not know.
FURTHER = {"probability", "phrase", "category", "parent", "caption", "tags", "attributes", "categories"}
_VIEWS = {"views", "view_policy"}
NO_VIEWS: Any = {"caption": _VIEWS, **dict.fromkeys(("tags", "attributes", "categories"), {"__all__": _VIEWS})}
# Where in the payload stands what the service's own document has at a pointer.
PLACES: Mapping[str, str] = {
    "/image/base64": "inputs",
    "/image/url": "inputs",
    "/image": "inputs",
    "/names": "candidate_labels",
    "/vocabulary/categories": "candidate_labels",
    "/max_words": "max_new_tokens",
    "/max_regions": "top_k",
}
# Of all masks of an answer; a thread of the CPU pool writes about 100 million in a second.
MOST_MASK_PIXELS = 500_000_000
# zlib's strategy for runs of equal values, of which masks consist: fast, and small too.
PACKED = {"compress_level": 1, "compress_type": 3}

Write = Callable[[Any], bytes]


def objects_answer(response: DetectResponse) -> bytes:
    """`[{"score", "label", "box": {"xmin", "ymin", "xmax", "ymax"}}]`, whole pixels, and what else is known."""
    return _json([{**_scored(region), "box": _box(region.box)} for region in response.regions])


def segments_answer(response: DetectResponse) -> bytes:
    """`[{"score", "label", "mask"}]`: of each object a PNG of the image's size in Base64, 255 on the object.

    Raises InvalidRequestError where the masks have too many pixels.
    """
    pixels = response.image.width * response.image.height
    if pixels * len(response.regions) > MOST_MASK_PIXELS:
        most = MOST_MASK_PIXELS // pixels
        detail = f"{len(response.regions)} masks of {pixels} pixels each are too many; ask for at most {most}."
        raise InvalidRequestError.at("/max_regions", detail)
    return _json([{**_scored(region), "mask": _png(region.mask)} for region in response.regions if region.mask])


def texts_answer(response: DescribeResponse) -> bytes:
    """`[{"generated_text"}]`, of each region."""
    return _json([{"generated_text": region.caption.text} for region in _described(response)])


def labels_answer(response: DescribeResponse) -> bytes:
    """`[{"label", "score"}]`, the score being the calibrated probability; of several regions a list of such lists."""
    found = [[_label(each) for each in region.categories] for region in _described(response)]
    return _json(found[0] if len(found) == 1 else found)


def problem(told: ToldProblem) -> Response:
    """`{"error"}`: the sentence, or a list of one for each field at fault. The client shows it, with the request id."""
    sentences = [_sentence(each) for each in told.fields] or [told.detail]
    error = sentences[0] if len(sentences) == 1 else sentences
    return JSONResponse({"error": error}, told.kind.status, dict(told.headers))


def _described(response: DescribeResponse) -> Sequence[Any]:
    return [region for region in response.regions if isinstance(region, RegionOut)]


def _label(label: Any) -> dict[str, Any]:
    more = {"level": label.level} if label.level else {}
    return {"label": label.name, "score": label.probability, **more}


def _scored(region: FoundRegionOut) -> dict[str, Any]:
    further = region.model_dump(include=FURTHER, exclude=NO_VIEWS, exclude_none=True)
    return {"score": region.score, "label": region.label, **further}


def _box(box: Sequence[float]) -> dict[str, int]:
    return dict(zip(("xmin", "ymin", "xmax", "ymax"), map(round, box), strict=True))


def _png(mask: MaskOut) -> str:
    bitmap = bitmap_from_mask(RegionMask(mask.size, mask.counts))
    file = io.BytesIO()
    Image.fromarray(bitmap.view("uint8") * 255).save(file, "PNG", **PACKED)
    return base64.b64encode(file.getvalue()).decode()


def _sentence(error: FieldError) -> str:
    """The error's sentence, after the payload's name of the field where the sentence does not say it."""
    known = next((each for each in PLACES if f"{error.pointer}/".startswith(f"{each}/")), "")
    rest = error.pointer.removeprefix(known)
    place = ".".join(part for part in (PLACES.get(known, ""), *rest.split("/")) if part)
    name = place.split(".")[0]
    return error.detail if not place or f"'{name}'" in error.detail else f"{place}: {error.detail}"


def _json(answer: Any) -> bytes:
    return json.dumps(answer, ensure_ascii=False).encode()
