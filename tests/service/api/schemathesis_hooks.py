"""Real images for schemathesis: no schema can say which strings are images in Base64, so that without these hooks
hardly any request would get past its image or within its deadline."""

from typing import Any

import schemathesis
from pydantic import ValidationError

from dynrefer.service.api.prompt_schemas import PROMPTS
from dynrefer.service.api.schemas import DescribeRequest
from tests.service.conftest import HEIGHT, WIDTH, image_bytes, in_base64

PATIENCE_S = 30
IMAGES = [in_base64(image_bytes(kind)) for kind in ("PNG", "JPEG", "WEBP", "BMP", "GIF")]


@schemathesis.hook
def map_headers(context: schemathesis.HookContext, headers: Any) -> Any:
    """No valid deadline that may pass before the answer: it is right to be answered with 504."""
    name = next((name for name in headers or () if name.lower() == "x-request-timeout"), None)
    try:
        short = name is not None and 0 < float(headers[name]) < PATIENCE_S
    except (TypeError, ValueError):
        short = False
    return {**headers, name: str(PATIENCE_S)} if short else headers


@schemathesis.hook
def map_body(context: schemathesis.HookContext, body: Any) -> Any:
    """A valid image, and boxes within it, in every second request that the schema allows; the others unchanged."""
    try:
        fields = DescribeRequest.model_validate(body)
    except ValidationError:
        return body
    if fields.image.url is not None or len(str(body)) % 2:
        return body
    regions = [{name: value for name, value in each.items() if name not in PROMPTS} for each in body["regions"]]
    boxes = [{**each, "box": [index % WIDTH, 0, WIDTH, HEIGHT]} for index, each in enumerate(regions)]
    kind = len(boxes) % len(IMAGES)
    image = [IMAGES[kind], "data:image/png;base64," + IMAGES[kind], IMAGES[kind] + "\n"][len(str(body)) % 3]
    notation = {"box_format": "xyxy", "normalized": False, "coordinates": "pixels"}
    return {**body, "image": {"base64": image}, "regions": boxes, **notation}
