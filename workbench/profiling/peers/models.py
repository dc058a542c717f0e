"""The compared models with random weights: pixels and boxes in, the token ids of a caption per box out.

Other models run as their documentation shows: transformers' own class, image processor and `generate`. The image
processor is included in the time, the tokenizer (which takes microseconds) is not.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    Blip2Config,
    Blip2ForConditionalGeneration,
    Florence2Config,
    Florence2ForConditionalGeneration,
    GenerationConfig,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from dynrefer.model.images import Pixels
from dynrefer.model.predictor import DynRefer
from dynrefer.model.types import Corners, RegionQuery, Task
from dynrefer.workbench.profiling.peers.published import PublishedModel
from dynrefer.workbench.profiling.workload import CONTROLS, Workload, random_config, random_model, random_network

IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
FIRST_WORD = 1000  # ids from here on are words in all three vocabularies
Inputs = dict[str, Any]


# Ways to ask a model. Ours: for all its outputs, or for the caption alone. A model that names the region in its prompt
# can encode the image for every region, as its documentation shows, or once for a batch.
ALL, CAPTION, EACH, ONCE, CROP = (
    "all outputs",
    "caption alone",
    "image encoded per region",
    "image encoded once",
    "crop",
)


class RegionModel(Protocol):
    """A model of the comparison. parameters: their number. weight_bytes: of parameters and buffers.

    ways: how it can be asked, the documented one first.
    """

    parameters: int
    weight_bytes: int
    ways: tuple[str, ...]

    def captions(self, image: Pixels, boxes: Sequence[Corners], way: str) -> list[list[int]]:
        """One batch. image: (H, W, 3) uint8 RGB; boxes: xyxy pixels. Returns the new token ids per box."""
        ...

    def image_tokens(self, image: Pixels, box: Corners) -> str:
        """How an image of this size enters the network, in words."""
        ...


def build(
    published: PublishedModel, *, tokens: int, tiny: bool, device: torch.device, dtype: torch.dtype
) -> RegionModel:
    """The model with random weights. tokens: new tokens per caption. tiny: a network for tests."""
    config = {**published.config, **(published.tiny if tiny else {})}
    if published.family == "dynrefer":
        return _OwnModel(config["preset"], tokens, tiny, device, dtype)
    return _Transformers(_FAMILIES[published.family](config), published, tokens, device, dtype)


def parameters_of(published: PublishedModel) -> int:
    """The number of parameters, without making them."""
    meta = torch.device("meta")
    if published.family == "dynrefer":
        return _size(random_network(random_config(published.config["preset"], Workload()), meta, torch.float32))[0]
    family = _FAMILIES[published.family](dict(published.config))
    with meta:
        return _size(family.network._from_config(family.config))[0]  # type: ignore[no-untyped-call]


class _OwnModel:
    ways: tuple[str, ...] = (ALL, CAPTION)

    def __init__(self, preset: str, tokens: int, tiny: bool, device: torch.device, dtype: torch.dtype) -> None:
        work = Workload(tokens=tokens)
        if tiny:
            work = Workload(tags=9, prompts=12, attributes=4, categories=3, tokens=tokens)
        loaded = random_model(random_config(preset, work), work, device, dtype)
        self._model = DynRefer(loaded)
        self.parameters, self.weight_bytes = _size(loaded.network)

    def captions(self, image: Pixels, boxes: Sequence[Corners], way: str) -> list[list[int]]:
        tasks = None if way == ALL else (Task.CAPTION,)
        queries = [RegionQuery(box, tasks=tasks, controls=CONTROLS) for box in boxes]
        results = self._model.run(self._model.prepare(image, queries))
        found = [output["caption"] for result in results for output in result.outputs if "caption" in output]
        return [list(caption.tokens[: caption.length]) for caption in found]

    def image_tokens(self, image: Pixels, box: Corners) -> str:
        return f"{self._model.card.num_views} views of {self._model.card.view_size} x {self._model.card.view_size}"


class _Transformers:
    def __init__(
        self,
        family: "_Florence | _Blip2 | _Qwen",
        published: PublishedModel,
        tokens: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        torch.manual_seed(0)
        with torch.device(device):
            self._network: Any = family.network._from_config(  # type: ignore[no-untyped-call]
                family.config, dtype=dtype
            )
        family.finish(self._network)
        self._network.train(False)
        self._network.requires_grad_(False)
        # Exactly this many, so that every model does the same work; the rest is the model's own.
        self._generation = GenerationConfig(**published.generation, min_new_tokens=tokens, max_new_tokens=tokens)
        self._network.generation_config = self._generation
        self._family, self._device, self._dtype = family, device, dtype
        self._text = published.prompt_tokens
        self.ways = family.ways
        self.parameters, self.weight_bytes = _size(self._network)

    @torch.inference_mode()
    def captions(self, image: Pixels, boxes: Sequence[Corners], way: str) -> list[list[int]]:
        inputs = self._family.inputs(image, boxes, self._text, 1 if way == ONCE else len(boxes))
        inputs = {name: self._on_device(value) for name, value in inputs.items()}
        if way == ONCE:
            inputs = self._family.encode_once(self._network, inputs, len(boxes))
        output = self._network.generate(**inputs, generation_config=self._generation)
        first = 1 if self._network.config.is_encoder_decoder else inputs["input_ids"].shape[1]
        return [row[first:] for row in output.tolist()]

    def image_tokens(self, image: Pixels, box: Corners) -> str:
        return self._family.describe(self._family.inputs(image, [box], self._text, 1))

    def _on_device(self, value: Tensor) -> Tensor:
        return value.to(self._device, self._dtype if value.is_floating_point() else None)


class _Florence:
    """The image at 768 x 768 (both checkpoints' processor); 577 image tokens: 24 x 24 and their mean."""

    network = Florence2ForConditionalGeneration
    ways: tuple[str, ...] = (EACH, ONCE)

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = Florence2Config(**config)
        side = {"height": 768, "width": 768}
        self._processor = CLIPImageProcessorPil(
            size=side, do_center_crop=False, image_mean=IMAGENET_MEAN, image_std=IMAGENET_STD
        )

    def finish(self, network: Any) -> None:
        """All weights have one dtype."""

    def inputs(self, image: Pixels, boxes: Sequence[Corners], text: int, images: int) -> Inputs:
        pixels = self._processor([Image.fromarray(image)] * images, return_tensors="pt").pixel_values
        words = torch.randint(FIRST_WORD, 40_000, (len(boxes), text), generator=_generator())
        words[:, 0], words[:, -1] = 0, 2
        ids = torch.cat([torch.full((len(boxes), 577), self.config.image_token_id), words], dim=1)
        return {"pixel_values": pixels, "input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def encode_once(self, network: Any, inputs: Inputs, regions: int) -> Inputs:
        features = network.get_image_features(inputs.pop("pixel_values"))
        features.pooler_output = features.pooler_output.expand(regions, -1, -1)
        return {**inputs, "mm_encoder_outputs": {"image": features}}

    def describe(self, inputs: Inputs) -> str:
        return _words(inputs, 577)


class _Blip2:
    """The crop of the region at 224 x 224; 32 image tokens."""

    network = Blip2ForConditionalGeneration
    ways: tuple[str, ...] = (CROP,)

    def __init__(self, config: dict[str, Any]) -> None:
        text = config["text_config"]
        self.config = Blip2Config(**{**config, "text_config": AutoConfig.for_model(**text)})
        self._processor = BlipImageProcessorPil(size={"height": 224, "width": 224})

    def finish(self, network: Any) -> None:
        network.qformer.float()  # as transformers loads it
        network.query_tokens.data = network.query_tokens.data.float()

    def inputs(self, image: Pixels, boxes: Sequence[Corners], text: int, images: int) -> Inputs:
        crops = [Image.fromarray(image).crop(box) for box in boxes]
        pixels = self._processor(crops, return_tensors="pt").pixel_values
        words = torch.randint(FIRST_WORD, 30_000, (len(boxes), text), generator=_generator())
        words[:, -1] = 1
        image_token = int(self.config.image_token_index or 0)
        ids = torch.cat([torch.full((len(boxes), self.config.num_query_tokens), image_token), words], dim=1)
        return {"pixel_values": pixels, "input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def encode_once(self, network: Any, inputs: Inputs, regions: int) -> Inputs:
        raise AssertionError("every region is an image of its own")

    def describe(self, inputs: Inputs) -> str:
        return _words(inputs, self.config.num_query_tokens)


class _Qwen:
    """The image at its own size, rounded to multiples of 32 pixels (between 256 and 65,536 pixels squared); a token per
    32 x 32 pixels."""

    network = Qwen3VLForConditionalGeneration
    ways: tuple[str, ...] = (EACH, ONCE)

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = Qwen3VLConfig(**config)
        self._processor = Qwen2VLImageProcessorPil(
            size={"shortest_edge": 65536, "longest_edge": 16777216},
            patch_size=16,
            merge_size=2,
            temporal_patch_size=2,
            image_mean=[0.5] * 3,
            image_std=[0.5] * 3,
        )

    def finish(self, network: Any) -> None:
        """All weights have one dtype."""

    def inputs(self, image: Pixels, boxes: Sequence[Corners], text: int, images: int) -> Inputs:
        found = self._processor([Image.fromarray(image)] * images, return_tensors="pt")
        grid = found.image_grid_thw[:1]
        count = int(grid.prod()) // 4
        words = torch.randint(FIRST_WORD, 150_000, (len(boxes), text), generator=_generator())
        before = words[:, :4]  # <|im_start|>user, the line's end and <|vision_start|>
        before[:, 3] = self.config.vision_start_token_id
        ids = torch.cat([before, torch.full((len(boxes), count), self.config.image_token_id), words[:, 4:]], dim=1)
        return {
            "pixel_values": found.pixel_values,
            "image_grid_thw": grid.expand(len(boxes), 3),
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "mm_token_type_ids": (ids == self.config.image_token_id).int(),
        }

    def encode_once(self, network: Any, inputs: Inputs, regions: int) -> Inputs:
        features = network.model.get_image_features(inputs.pop("pixel_values"), inputs["image_grid_thw"][:1])
        features.pooler_output = _repeat(features.pooler_output, regions)
        features.deepstack_features = [_repeat(each, regions) for each in features.deepstack_features]
        return {**inputs, "mm_encoder_outputs": {"image": features}}

    def describe(self, inputs: Inputs) -> str:
        _, high, wide = inputs["image_grid_thw"][0].tolist()
        return f"{16 * wide} x {16 * high}: {high * wide // 4} tokens"


_FAMILIES: dict[str, Callable[[dict[str, Any]], _Florence | _Blip2 | _Qwen]] = {
    "florence2": _Florence,
    "blip2": _Blip2,
    "qwen3_vl": _Qwen,
}


def _repeat(features: Any, times: int) -> Any:
    """Features of one image -> of as many equal images; one tensor, or one per image."""
    return list(features) * times if isinstance(features, tuple | list) else features.repeat(times, 1)


def _words(inputs: Inputs, tokens: int) -> str:
    high, wide = inputs["pixel_values"].shape[-2:]
    return f"{wide} x {high}: {tokens} tokens"


def _size(network: nn.Module) -> tuple[int, int]:
    parameters = list(network.parameters())
    held = [*parameters, *network.buffers()]
    return sum(each.numel() for each in parameters), sum(each.numel() * each.element_size() for each in held)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def scene(width: int = 640, height: int = 480) -> Pixels:
    """(480, 640, 3) uint8: a drawn scene that needs no file, eight plain shapes on a ground with texture."""
    rng = np.random.default_rng(4)
    ground = Image.fromarray(rng.integers(90, 160, (12, 16, 3), dtype=np.uint8)).resize((width, height))
    pixels = np.array(ground)
    for x1, y1, x2, y2 in BOXES:
        pixels[y1:y2, x1:x2] = rng.integers(0, 256, 3, dtype=np.uint8)
    return pixels


# Eight regions of different sizes and shapes, xyxy pixels of the scene.
BOXES: tuple[tuple[int, int, int, int], ...] = (
    (20, 30, 180, 150),
    (220, 24, 300, 210),
    (330, 40, 450, 130),
    (480, 20, 620, 200),
    (30, 200, 130, 450),
    (160, 250, 290, 330),
    (320, 190, 440, 440),
    (470, 260, 610, 380),
)
