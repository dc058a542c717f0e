"""Real pictures for schemathesis: no schema can say which texts are pictures in Base64, so that without this hardly any
request would get beyond its image."""

from typing import Any

import schemathesis
from pydantic import ValidationError

from dynrefer.service.api.schemas import DescribeRequest
from tests.service.conftest import HEIGHT, WIDTH, in_base64, picture

PICTURES = [in_base64(picture(kind)) for kind in ("PNG", "JPEG", "WEBP", "BMP", "GIF")]


@schemathesis.hook
def map_body(context: schemathesis.HookContext, body: Any) -> Any:
    """A good picture, and boxes within it, in every second request that the schema allows; the others as they are."""
    try:
        fields = DescribeRequest.model_validate(body)
    except ValidationError:
        return body
    if fields.image.url is not None or len(str(body)) % 2:
        return body
    boxes = [{**each, "box": [index % WIDTH, 0, WIDTH, HEIGHT]} for index, each in enumerate(body["regions"])]
    kind = len(boxes) % len(PICTURES)
    return {**body, "image": {"base64": PICTURES[kind]}, "regions": boxes, "box_format": "xyxy", "normalized": False}
