"""Real images for schemathesis: no schema can say which strings are images in Base64, so that without this hook hardly
any request would get past its image."""

from typing import Any

import schemathesis
from pydantic import ValidationError

from dynrefer.service.api.schemas import DescribeRequest
from tests.service.conftest import HEIGHT, WIDTH, image_bytes, in_base64

IMAGES = [in_base64(image_bytes(kind)) for kind in ("PNG", "JPEG", "WEBP", "BMP", "GIF")]


@schemathesis.hook
def map_body(context: schemathesis.HookContext, body: Any) -> Any:
    """A valid image, and boxes within it, in every second request that the schema allows; the others unchanged."""
    try:
        fields = DescribeRequest.model_validate(body)
    except ValidationError:
        return body
    if fields.image.url is not None or len(str(body)) % 2:
        return body
    boxes = [{**each, "box": [index % WIDTH, 0, WIDTH, HEIGHT]} for index, each in enumerate(body["regions"])]
    kind = len(boxes) % len(IMAGES)
    return {**body, "image": {"base64": IMAGES[kind]}, "regions": boxes, "box_format": "xyxy", "normalized": False}
