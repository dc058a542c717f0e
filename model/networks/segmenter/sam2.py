"""SAM 2 as the segmenter: the classes of transformers behind a local directory, for whoever has the weights.

The image is seen as a whole, stretched to the square that SAM 2 was trained on, and encoded once for all regions of a
batch that point at it. Of the three masks that a prompt gives, the one with the highest predicted IoU is taken, as in
the paper (Ravi et al., 2024, section 4). transformers' own processor needs torchvision; what it does to an image and a
point is little, and is done here: scale to 0..1, subtract the mean, divide by the deviation; a point is scaled as the
image is. Its masks are interpolated to the image's pixels in `segmentation.bitmap_of`, as `post_process_masks` does.

Shapes: S = side of the square in pixels, P = regions of one image, N = points.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import Sam2Config, Sam2Model

from dynrefer.model.device_errors import translate_device_errors
from dynrefer.model.errors import ConfigError, ModelNotFoundError, OutputError, WeightsError, raise_if_stopped
from dynrefer.model.loading import by_library, quiet
from dynrefer.model.model_files import check_file, read_header, read_json_object
from dynrefer.model.segmentation import ImageWindow, PointedRegion, SegmentationSpec, WindowMask
from dynrefer.model.types import Corners

WEIGHTS, CONFIG, PREPROCESSOR = "model.safetensors", "config.json", "preprocessor_config.json"
# What the released weights were trained with, where the directory has no preprocessor_config.json.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MODEL_TYPES = ("sam2", "sam2_video")  # the released directories name the video model, which holds the image model
POSITIVE, NEGATIVE = 1, 0  # labels of points, as transformers' processor writes them


class Sam2Segmenter:
    """A `Segmenter`. network: in evaluation mode, on its device. mean, deviation: of RGB from 0 to 1."""

    def __init__(
        self,
        network: Sam2Model,
        mean: Sequence[float] = MEAN,
        deviation: Sequence[float] = DEVIATION,
    ) -> None:
        self._network = network
        self._mean, self._deviation = (np.asarray(value, dtype=np.float32) for value in (mean, deviation))
        config: Any = network.config  # transformers types its parts as anything
        self.spec = SegmentationSpec(side=int(config.vision_config.backbone_config.image_size[0]), windows=1)

    @classmethod
    def load(cls, directory: Path, device: torch.device) -> "Sam2Segmenter":
        """Read a directory that `save_pretrained` wrote; nothing is fetched.

        Raises `ModelNotFoundError`, `ConfigError` for a directory of another kind of model, `WeightsError`,
        `DeviceMemoryError`.
        """
        if not directory.is_dir():
            raise ModelNotFoundError(
                f"there is no segmenter directory {str(directory)!r}; give embedded, none, or a local directory with "
                "a SAM 2 of transformers."
            )
        given = read_json_object(directory / CONFIG, "configuration of the segmenter")
        if given.get("model_type") not in MODEL_TYPES:
            raise ConfigError(
                f"{str(directory / CONFIG)!r} describes {given.get('model_type')!r:.60}, not a SAM 2 of transformers "
                "(model_type sam2)."
            )
        check_file(directory / WEIGHTS, "weights of the segmenter")
        read_header(directory / WEIGHTS, "weights of the segmenter")
        mean, deviation = _normalisation(directory)
        return cls(_network(directory, device), mean, deviation)

    @torch.inference_mode()
    def segment(self, regions: Sequence[PointedRegion], should_stop: Callable[[], bool]) -> list[WindowMask]:
        """See `Segmenter`. Regions of one image share its encoding."""
        found: dict[int, WindowMask] = {}
        for places in _by_image(regions):
            raise_if_stopped(should_stop)
            window = regions[places[0]].windows[0]
            embeddings = self._network.get_image_embeddings(self._pixels(window.pixels))
            for place in places:
                # One prompt at a time: more of them would have to be padded, which changes the numbers.
                logits = self._best(embeddings, regions[place], window)
                found[place] = WindowMask(window.corners, logits)
        return [found[place] for place in range(len(regions))]

    def _pixels(self, pixels: NDArray[np.uint8]) -> Tensor:
        """(1, 3, S, S) on the device, in the network's type."""
        scaled = (pixels.astype(np.float32) / 255 - self._mean) / self._deviation
        return torch.from_numpy(scaled).permute(2, 0, 1)[None].to(self._network.device, self._network.dtype)

    def _best(self, embeddings: list[Tensor], region: PointedRegion, window: ImageWindow) -> NDArray[np.float16]:
        """The mask of the highest predicted IoU, (S / 4, S / 4) logits. Raises `OutputError` for NaN."""
        outputs = self._network(
            image_embeddings=embeddings, multimask_output=True, **self._prompt(region, window.corners)
        )
        scores = outputs.iou_scores[0, 0].float()  # (3,)
        mask = outputs.pred_masks[0, 0, int(scores.argmax())].float()
        if not (torch.isfinite(scores).all() and torch.isfinite(mask).all()):
            raise OutputError("the segmenter returned NaN or infinity for this region.")
        logits: NDArray[np.float16] = mask.clamp(-1e4, 1e4).cpu().numpy().astype(np.float16)
        return logits

    def _prompt(self, region: PointedRegion, corners: Corners) -> dict[str, Tensor]:
        """Points and box, scaled as the image is; N points."""
        (x1, y1, x2, y2), side = corners, self.spec.side
        scale_x, scale_y = side / (x2 - x1), side / (y2 - y1)
        device, dtype = self._network.device, self._network.dtype
        if region.box is not None:
            left, top, right, bottom = region.box
            box = [(left - x1) * scale_x, (top - y1) * scale_y, (right - x1) * scale_x, (bottom - y1) * scale_y]
            return {"input_boxes": torch.tensor([[box]], device=device, dtype=dtype)}  # (1, 1, 4)
        at = [[(point.x - x1) * scale_x, (point.y - y1) * scale_y] for point in region.points]
        labels = [POSITIVE if point.positive else NEGATIVE for point in region.points]
        return {
            "input_points": torch.tensor([[at]], device=device, dtype=dtype),  # (1, 1, N, 2)
            "input_labels": torch.tensor([[labels]], device=device),  # (1, 1, N)
        }


def _by_image(regions: Sequence[PointedRegion]) -> list[list[int]]:
    """The places of the regions of each image."""
    found: dict[bytes, list[int]] = {}
    for place, region in enumerate(regions):
        found.setdefault(region.windows[0].digest, []).append(place)
    return list(found.values())


def _normalisation(directory: Path) -> tuple[list[float], list[float]]:
    path = directory / PREPROCESSOR
    given = read_json_object(path, "settings of the segmenter's images") if path.exists() else {}
    found = []
    for name, usual in (("image_mean", MEAN), ("image_std", DEVIATION)):
        values = given.get(name, list(usual))
        if not isinstance(values, list) or len(values) != 3 or not all(isinstance(v, int | float) for v in values):
            raise ConfigError(f"{name} in {str(path)!r} must be three numbers.")
        found.append([float(value) for value in values])
    if not all(value > 0 for value in found[1]):
        raise ConfigError(f"image_std in {str(path)!r} must be above 0.")
    return found[0], found[1]


def _network(directory: Path, device: torch.device) -> Sam2Model:
    def load() -> Any:
        config = Sam2Config.from_pretrained(directory, local_files_only=True)
        return Sam2Model.from_pretrained(
            directory,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )

    sentence = f"the segmenter in {str(directory)!r} cannot be read"
    with quiet():
        network, report = by_library(load, WeightsError, sentence)
    for what in ("missing_keys", "mismatched_keys"):
        if report.get(what):
            first = sorted(map(str, report[what]))[0]
            raise WeightsError(f"the weights of the segmenter in {str(directory)!r} do not fit: {what} {first}.")
    loaded: Any = network.eval().requires_grad_(False)
    moved: Sam2Model = translate_device_errors(lambda: loaded.to(device))
    return moved
