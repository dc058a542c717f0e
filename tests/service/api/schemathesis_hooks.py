"""Real images for schemathesis: no schema can say which strings are images in Base64, so that without these hooks
hardly any request would get past its image or within its deadline."""

from typing import Any

import schemathesis
from pydantic import ValidationError

from dynrefer.service.api.converse_schemas import ConverseRequest
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
    if (fields := _read(body)) is None or fields.image.url is not None or len(str(body)) % 2:
        return body
    given = body.get("regions", [])
    regions = [{name: value for name, value in each.items() if name not in PROMPTS} for each in given]
    boxes = [{**each, "box": [index % WIDTH, 0, WIDTH, HEIGHT]} for index, each in enumerate(regions)]
    kind = len(boxes) % len(IMAGES)
    image = [IMAGES[kind], "data:image/png;base64," + IMAGES[kind], IMAGES[kind] + "\n"][len(str(body)) % 3]
    notation = {"box_format": "xyxy", "normalized": False, "coordinates": "pixels"}
    found = {**body, "image": {"base64": image}, "regions": boxes, **notation}
    if isinstance(fields, ConverseRequest):  # no schema can say that turns alternate, or that ids are there
        found["messages"] = [{"role": "user", "content": "What is it?"}]
        found["regions"] = [{**each, "id": f"r{index}"} for index, each in enumerate(boxes)]
        found["max_tokens"] = 1 + found.get("max_tokens", 64) % 256
        if found.get("answers") is not None:
            found["answers"] = ["yes", "no"]
    return found


def _read(body: Any) -> DescribeRequest | ConverseRequest | None:
    """A request about regions that the schema allows."""
    for schema in (DescribeRequest, ConverseRequest):
        try:
            return schema.model_validate(body)
        except ValidationError:
            continue
    return None
