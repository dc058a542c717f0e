"""Real pictures for schemathesis: no schema can say which texts are pictures in Base64, so that without this hardly any
request would get beyond its image."""

from typing import Any

import schemathesis

from tests.service.conftest import HEIGHT, WIDTH, in_base64, picture

PICTURES = [in_base64(picture(kind)) for kind in ("PNG", "JPEG", "WEBP", "BMP", "GIF")]


@schemathesis.hook
def map_body(context: schemathesis.HookContext, body: Any) -> Any:
    """A good picture and boxes within it in every second request that is otherwise well formed."""
    if not isinstance(body, dict) or not isinstance(body.get("image"), dict) or len(str(body)) % 2:
        return body
    if set(body["image"]) != {"base64"} or not isinstance(body.get("regions"), list):
        return body
    regions = [each for each in body["regions"] if isinstance(each, dict)]
    boxes = [{**each, "box": [index % WIDTH, 0, WIDTH, HEIGHT]} for index, each in enumerate(regions)]
    kind = len(regions) % len(PICTURES)
    return {**body, "image": {"base64": PICTURES[kind]}, "regions": boxes, "box_format": "xyxy", "normalized": False}
