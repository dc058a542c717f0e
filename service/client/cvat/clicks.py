"""CVAT's interaction function: clicks on an object -> its mask, for the "AI tools" of CVAT's window.

cvat-cli function create-native Outline --function-module dynrefer.service.client.cvat.clicks
cvat-cli function run-agent ID --function-module dynrefer.service.client.cvat.clicks
"""

import cvat_sdk.auto_annotation as cvataa
import numpy as np
from cvat_sdk.masks import encode_mask
from numpy.typing import NDArray
from PIL import Image

from dynrefer.model import PointPrompt, bitmap_from_mask
from dynrefer.service.client.client import Client
from dynrefer.service.client.cvat import connected

Pixels = NDArray[np.uint8]


class InteractionFunction:
    """Fulfils `cvat_sdk.auto_annotation.InteractionFunction`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.spec = cvataa.InteractionFunctionSpec(min_pos_points=1, min_neg_points=0)

    def preprocess_image(self, context: cvataa.InteractionFunctionContext, image: Image.Image) -> Pixels:
        """(H, W, 3) uint8 RGB of the rows and columns that CVAT's coordinates are of."""
        return np.asarray(image.convert("RGB"))

    def detect(
        self, context: cvataa.InteractionFunctionContext, pp_image: Pixels, prompts: cvataa.InteractionPrompts
    ) -> list[cvataa.InteractionResultShape]:
        """The mask of what the points are on; none where nothing is found there. Raises `ClientError`."""
        points = [PointPrompt(x, y) for x, y in prompts.pos_points]
        points += [PointPrompt(x, y, positive=False) for x, y in prompts.neg_points]
        (found,) = self._client.describe(pp_image, task="categories", points=[points], top_k=1)
        bitmap = None if found.mask is None else bitmap_from_mask(found.mask)
        if bitmap is None or not bitmap.any():
            return []
        return [cvataa.InteractionResultShape(type="mask", points=encode_mask(bitmap))]


def create(server: str = "", key: str = "") -> InteractionFunction:
    """The function, as `cvat-cli` makes it. server, key: as of `dynrefer.service.client.cvat.create`."""
    return InteractionFunction(connected(server, key))
